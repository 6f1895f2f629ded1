//! A share of the machine's processors, smaller than all of it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Where control groups that share out processor time are mounted, by version.
const V1: &str = "/sys/fs/cgroup/cpu";
const V2: &str = "/sys/fs/cgroup";
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
            println!("skipped: no control groups here: {error}");
            return None;
        }
        let this = Self {
            group,
            root,
            version_1,
        };
        if this.set(Some(1.0)).is_err() {
            println!("skipped: control groups here do not share out processor time");
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
