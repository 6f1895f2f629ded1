//! A file system that is soon full.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What else lies on the disk.
const BALLAST: &str = "ballast";
/// The ballast grows by so much at a time, and at last by one page.
const STEPS: [usize; 2] = [1 << 20, 4096];

/// A file system of its own in memory. It is unmounted when this is dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of `mebibytes` at `folder`, which is made. `None` where that is not allowed.
    pub(crate) fn mount(folder: PathBuf, mebibytes: u32) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            super::skipped("only root may mount a small file system");
            return None;
        }
        fs::create_dir(&folder).expect("a folder");
        let mut command = Command::new("mount");
        command.args([
            "-t",
            "tmpfs",
            "-o",
            &format!("size={mebibytes}m"),
            "tierline-test",
        ]);
        let output = command.arg(&folder).output().expect("mount");
        if !output.status.success() {
            super::skipped(super::lines(&output));
            return None;
        }
        Some(Self(folder))
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// Takes all the space that is left; how many bytes that were.
    pub(crate) fn fill(&self) -> u64 {
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.0.join(BALLAST))
            .expect("ballast");
        for step in STEPS {
            let piece = vec![0; step];
            loop {
                match ballast.write(&piece) {
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::StorageFull => break,
                    Err(e) => panic!("ballast: {e}"),
                }
            }
        }
        ballast.metadata().expect("ballast").len()
    }

    /// Gives back what [`fill`](Self::fill) took.
    pub(crate) fn relieve(&self) {
        fs::remove_file(self.0.join(BALLAST)).expect("ballast");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open keeps it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
