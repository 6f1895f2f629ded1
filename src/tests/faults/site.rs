//! Where an archive lies: the folders that a run works on, and what belongs to them but outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use archive::disk::Disk;
use archive::seam::{Faults, Seam};
use archive::{ArchiveError, WallTime};
use indexer::{Index, IndexError, IndexOptions};
use serde::{Deserialize, Serialize};

/// The folders of an archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Site {
    pub(crate) index: PathBuf,
    pub(crate) hot: PathBuf,
    /// Outside: what was told.
    pub(crate) account: PathBuf,
}

impl Site {
    /// All of it in one folder.
    pub(crate) fn within(folder: &Path) -> Self {
        Self {
            index: folder.join("index"),
            hot: folder.join("hot"),
            account: folder.join("account"),
        }
    }

    pub(crate) fn open_index(&self, faults: Option<Arc<dyn Faults>>) -> Result<Index, IndexError> {
        let options = IndexOptions {
            cache_bytes: 1 << 20,
            seam: faults.map_or_else(Seam::default, Seam::with),
        };
        Index::open(&self.index, &options)
    }

    pub(crate) fn open_disk(&self, faults: Option<Arc<dyn Faults>>) -> Result<Disk, ArchiveError> {
        match faults {
            Some(faults) => Disk::with_faults(&self.hot, faults),
            None => Disk::open(&self.hot),
        }
    }
}

/// Copies a folder with everything in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("a name");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&from, &to),
            false => drop(fs::copy(from, to).expect("a copy")),
        }
    }
}

/// Memory that a campaign may take.
const MEMORY_MIN: u64 = 1 << 30;

/// When the `n`th process on an archive runs: each an hour after the one before.
pub(crate) fn start_of(n: i64) -> WallTime {
    let first: WallTime = "2026-11-20T06:00:00Z".parse().expect("a time");
    first.plus_micros(n * archive::time::HOUR_US)
}

/// A folder in memory, where there is one: what matters here is the order of steps and not the disk.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    let made = match free >= MEMORY_MIN {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a folder")
}
