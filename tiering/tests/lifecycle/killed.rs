//! The life of an archive in a process of its own, which is killed for good at one of its steps.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::{Builder, TempDir};

use crate::steps::KILLED_AT;

/// A child that is still there after this has met something that it waits for in vain.
const LIFE_MAX: Duration = Duration::from_secs(120);
const WORK: &str = "TIERLINE_CHILD_WORK";
const TEMPLATE: &str = "TIERLINE_CHILD_TEMPLATE";
const AT: &str = "TIERLINE_CHILD_AT";
const TOLD: &str = "TIERLINE_CHILD_TOLD";
/// The folder of the archive in that of its child.
const ARCHIVE: &str = "archive";

/// What its parent says to a child.
pub(crate) struct Child {
    work: PathBuf,
    template: PathBuf,
    /// The step at which it is to be killed.
    pub(crate) at: u64,
    /// Whatever else it has to know.
    pub(crate) told: String,
}

impl Child {
    /// This process, if somebody is its parent.
    pub(crate) fn of_somebody() -> Option<Self> {
        let work = std::env::var_os(WORK).map(PathBuf::from)?;
        std::thread::spawn(|| {
            std::thread::sleep(LIFE_MAX);
            eprintln!("a child is not over after {LIFE_MAX:?}");
            std::process::exit(1);
        });
        let var = |name| std::env::var(name).expect("its parent says it");
        Some(Self {
            work,
            template: PathBuf::from(var(TEMPLATE)),
            at: var(AT).parse().expect("a number"),
            told: var(TOLD),
        })
    }

    /// A folder that its parent removes.
    pub(crate) fn folder(&self) -> TempDir {
        tempfile::tempdir_in(&self.work).expect("folder")
    }

    /// Its archive, a copy of its parent's.
    pub(crate) fn archive(&self) -> TempDir {
        let mut at = Builder::new();
        let dir = at.prefix(ARCHIVE).rand_bytes(0).tempdir_in(&self.work);
        let dir = dir.expect("folder");
        copy_folder(&self.template, dir.path());
        dir
    }
}

/// What a child that was killed left behind.
pub(crate) struct Killed {
    /// At which step that was.
    pub(crate) step: String,
    /// What it had printed.
    pub(crate) said: String,
    work: TempDir,
}

impl Killed {
    /// A copy of its archive.
    pub(crate) fn archive(&self) -> TempDir {
        fork(&self.work.path().join(ARCHIVE))
    }
}

/// Lets a child live as the ignored test `life` says, on a copy of an archive that nobody has open, and be killed at a
/// step, counted from 1. None when it came to its end before.
pub(crate) fn kill(life: &str, template: &Path, at: u64, told: &str) -> Option<Killed> {
    let work = tempfile::tempdir().expect("folder");
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", life, "--ignored", "--nocapture"])
        .env(WORK, work.path())
        .env(TEMPLATE, template)
        .env(AT, at.to_string())
        .env(TOLD, told)
        .output()
        .expect("a child");
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    let Some(step) = said.lines().find_map(|line| line.strip_prefix(KILLED_AT)) else {
        assert!(child.status.success(), "{child:?}");
        assert!(said.contains("1 passed"), "nobody lived: {said}");
        return None;
    };
    assert_eq!(child.status.signal(), Some(Signal::KILL.as_raw()), "{child:?}");
    let step = step.to_owned();
    Some(Killed { step, said, work })
}

/// A copy of an archive's folder.
pub(crate) fn fork(folder: &Path) -> TempDir {
    let dir = tempfile::tempdir().expect("folder");
    copy_folder(folder, dir.path());
    dir
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("folder");
    for entry in std::fs::read_dir(from).expect("entries") {
        let entry = entry.expect("entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}
