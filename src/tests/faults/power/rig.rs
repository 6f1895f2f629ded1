//! nbdkit with a volatile cache, as a file by FUSE, as a loop device, with a real file system on it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starting a program of the rig, and mounting, takes a fraction of this.
const READY_MAX: Duration = Duration::from_secs(10);

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    fn mebibytes(self) -> u64 {
        match self {
            Self::Ext4 => 192,
            Self::Xfs => 320,
        }
    }

    /// A file with an empty file system in it.
    fn format(self, image: &Path) {
        let file = File::create(image).expect("an image");
        file.set_len(self.mebibytes() << 20).expect("an image");
        let mut command = Command::new(format!("mkfs.{}", self.name()));
        match self {
            Self::Ext4 => command.args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]),
            Self::Xfs => command.args(["-q", "-f"]),
        };
        assert!(command.arg(image).status().expect("mkfs").success());
    }
}

/// Why there can be no rig here, if there cannot.
fn what_is_missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root may mount file systems".to_owned());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        if !Path::new(device).exists() {
            return Some(format!("there is no {device}"));
        }
    }
    for program in [
        "nbdkit",
        "nbdfuse",
        "mkfs.ext4",
        "mkfs.xfs",
        "losetup",
        "fusermount3",
    ] {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output();
        if !found.is_ok_and(|output| output.status.success()) {
            return Some(format!("there is no {program}: tools/setup.sh test installs it"));
        }
    }
    None
}

/// Loud, because a run without a rig proves nothing; a failure where there must be one.
pub(crate) fn can_run() -> bool {
    match what_is_missing() {
        None => true,
        Some(what) => {
            let what = format!("no power was cut and no disk failed, because {what}");
            assert!(std::env::var_os("TIERLINE_REQUIRE_RIGS").is_none(), "{what}");
            println!("SKIPPED: {what}");
            false
        }
    }
}

/// Disks that are going to lose their power.
pub(crate) struct Rig {
    folder: tempfile::TempDir,
    disks: Vec<&'static str>,
    programs: Vec<Child>,
    /// To be undone, the last first.
    mounted: Vec<PathBuf>,
    loops: Vec<String>,
    fused: Vec<PathBuf>,
}

impl Rig {
    /// Disks with a file system each, mounted, whose power fails at one of the first `writes` writes after
    /// [`arm`](Self::arm).
    pub(crate) fn new(file_system: FileSystem, disks: &[&'static str], seed: u64, writes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut rig = Self {
            folder,
            disks: disks.to_vec(),
            programs: Vec::new(),
            mounted: Vec::new(),
            loops: Vec::new(),
            fused: Vec::new(),
        };
        for disk in disks {
            file_system.format(&rig.path(&format!("{disk}.base")));
        }
        let socket = rig.path("socket");
        let mut nbdkit = Command::new("nbdkit");
        nbdkit.args(["-f", "-U"]).arg(&socket).arg("python");
        nbdkit.arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/tests/faults/power/device.py"
        ));
        nbdkit.env("RIG", rig.folder.path()).env("DISKS", disks.join(","));
        nbdkit
            .env("SEED", seed.to_string())
            .env("WRITES", writes.to_string());
        rig.spawn(nbdkit);
        wait_for("nbdkit", || socket.exists());
        for disk in disks {
            let file = rig.path(&format!("{disk}.fuse"));
            File::create(&file).expect("a file to mount at");
            let mut nbdfuse = Command::new("nbdfuse");
            nbdfuse.arg(&file);
            nbdfuse.arg(format!("nbd+unix:///{disk}?socket={}", socket.display()));
            rig.spawn(nbdfuse);
            rig.fused.push(file.clone());
            wait_for("nbdfuse", || fs::metadata(&file).is_ok_and(|m| m.len() > 0));
            rig.mount(&file, &rig.path(disk));
        }
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where a disk is mounted.
    pub(crate) fn mount_point(&self, disk: &str) -> PathBuf {
        self.path(disk)
    }

    /// Outside the disks.
    pub(crate) fn account(&self) -> PathBuf {
        self.path("account")
    }

    /// There when the power has failed.
    pub(crate) fn cut(&self) -> PathBuf {
        self.path("cut")
    }

    fn spawn(&mut self, mut command: Command) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.programs.push(command.spawn().expect("a program of the rig"));
    }

    fn mount(&mut self, image: &Path, at: &Path) {
        let mut device = String::new();
        // Somebody else may take the same free device first.
        wait_for("a loop device", || {
            let output = Command::new("losetup").args(["-f", "--show"]).arg(image).output();
            let output = output.expect("losetup");
            device = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            output.status.success()
        });
        self.loops.push(device.clone());
        fs::create_dir_all(at).expect("a folder");
        let output = Command::new("mount")
            .arg(&device)
            .arg(at)
            .output()
            .expect("mount");
        assert!(
            output.status.success(),
            "the file system did not survive: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.mounted.push(at.to_owned());
    }

    /// Waits for something that takes no longer than the rig does to start.
    pub(crate) fn wait_for(&self, what: &str, ready: impl FnMut() -> bool) {
        wait_for(what, ready);
    }

    /// From now on writes count.
    pub(crate) fn arm(&self) {
        File::create(self.path("armed")).expect("a mark");
    }

    /// After the cut: mounts what the disks kept where they were before. Says what the cut was like.
    pub(crate) fn restore(&mut self) -> String {
        self.take_down();
        for disk in self.disks.clone() {
            let (image, at) = (self.path(&format!("{disk}.after")), self.path(disk));
            self.mount(&image, &at);
        }
        fs::read_to_string(self.cut()).expect("a cut")
    }

    /// Mounts the disks anew, so that nothing is left of them in memory.
    pub(crate) fn remount(&mut self) {
        for (device, at) in self.loops.iter().zip(&self.mounted) {
            run(Command::new("umount").arg(at));
            let status = Command::new("mount").arg(device).arg(at).status();
            assert!(
                status.expect("mount").success(),
                "the file system did not survive"
            );
        }
    }

    fn take_down(&mut self) {
        for at in self.mounted.drain(..).rev() {
            run(Command::new("umount").arg("--lazy").arg(at));
        }
        for device in self.loops.drain(..).rev() {
            run(Command::new("losetup").arg("-d").arg(device));
        }
        for file in self.fused.drain(..).rev() {
            run(Command::new("fusermount3").args(["-u", "-z"]).arg(file));
        }
        for mut program in self.programs.drain(..).rev() {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.take_down();
    }
}

fn run(command: &mut Command) {
    let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < READY_MAX, "{what} does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
}
