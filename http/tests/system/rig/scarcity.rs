//! A share of what the machine has: of its processors, of its disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where control groups that share out processor time are mounted, by version.
const V1: &str = "/sys/fs/cgroup/cpu";
const V2: &str = "/sys/fs/cgroup";
/// Where those that share out disks are.
const BLOCK: &str = "/sys/fs/cgroup/blkio";
/// The time that a quota is about, in microseconds.
const PERIOD_US: u64 = 100_000;

/// A control group of its own. It is removed when this is dropped; its members go back to where all are.
#[derive(Debug)]
pub(crate) struct SmallCpu {
    group: PathBuf,
    root: PathBuf,
    version_1: bool,
}

impl SmallCpu {
    /// A group without members and limits. `None` where that is not allowed.
    pub(crate) fn new() -> Option<Self> {
        let version_1 = fs::exists(format!("{V1}/cpu.cfs_quota_us")).unwrap_or(false)
            || fs::exists(format!("{V1}/cgroup.procs")).unwrap_or(false);
        let root = PathBuf::from(if version_1 { V1 } else { V2 });
        let group = root.join(format!("tierline-test-{}", std::process::id()));
        if let Err(error) = fs::create_dir(&group) {
            super::skipped(format_args!("no control groups here: {error}"));
            return None;
        }
        let this = Self {
            group,
            root,
            version_1,
        };
        if this.set(Some(1.0)).is_err() {
            super::skipped("control groups here do not share out processor time");
            return None;
        }
        Some(this)
    }

    fn set(&self, cores: Option<f64>) -> std::io::Result<()> {
        let quota = cores.map(|cores| ((PERIOD_US as f64 * cores) as u64).max(1000));
        if self.version_1 {
            let quota = quota.map_or("-1".to_owned(), |quota| quota.to_string());
            fs::write(self.group.join("cpu.cfs_quota_us"), quota)
        } else {
            let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
            fs::write(self.group.join("cpu.max"), format!("{quota} {PERIOD_US}"))
        }
    }

    /// Puts a process and its threads into the group.
    pub(crate) fn hold(&self, pid: u32) {
        fs::write(self.group.join("cgroup.procs"), pid.to_string()).expect("a process in the group");
    }

    /// From now on its members get so many cores together, or all there are.
    pub(crate) fn limit(&self, cores: Option<f64>) {
        self.set(cores).expect("a quota");
    }
}

impl Drop for SmallCpu {
    fn drop(&mut self) {
        for pid in fs::read_to_string(self.group.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
        {
            let _ = fs::write(self.root.join("cgroup.procs"), pid);
        }
        if fs::remove_dir(&self.group).is_err() {
            let _ = Command::new("rmdir").arg(&self.group).status();
        }
    }
}

/// The processor time that a process has used.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks = fields
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// A disk that takes fewer bytes a second than it could: a control group of version 1, removed like the other.
#[derive(Debug)]
pub(crate) struct SlowDisk {
    group: PathBuf,
    device: String,
}

impl SlowDisk {
    /// A group for the disk that holds `folder`, with no limit yet. `None` where that is not allowed.
    pub(crate) fn new(folder: &Path) -> Option<Self> {
        let device = fs::metadata(folder).expect("a folder").dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        // Of a partition the whole disk is what is limited; the last four bits are its number on most.
        let device = format!("{major}:{}", minor & !15);
        let group = PathBuf::from(format!("{BLOCK}/tierline-test-{}", std::process::id()));
        if let Err(error) = fs::create_dir(&group) {
            super::skipped(format_args!("no control groups for disks here: {error}"));
            return None;
        }
        let this = Self { group, device };
        if let Err(error) = this.set(1 << 40) {
            super::skipped(format_args!("this disk cannot be limited: {error}"));
            return None;
        }
        Some(this)
    }

    fn set(&self, bytes: u64) -> std::io::Result<()> {
        let line = format!("{} {bytes}", self.device);
        fs::write(self.group.join("blkio.throttle.write_bps_device"), line)
    }

    /// Puts a process and its threads into the group.
    pub(crate) fn hold(&self, pid: u32) {
        fs::write(self.group.join("cgroup.procs"), pid.to_string()).expect("a process in the group");
    }

    /// From now on its members write so many bytes a second together; 0 is no limit.
    pub(crate) fn limit(&self, bytes: u64) {
        self.set(bytes).expect("a limit");
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let _ = self.set(0);
        for pid in fs::read_to_string(self.group.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
        {
            let _ = fs::write(format!("{BLOCK}/cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.group);
    }
}

/// The bytes that a process has written to disks.
pub(crate) fn written(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).expect("a number")
}
