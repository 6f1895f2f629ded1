//! The archive that is damaged: recorded by the service itself, killed twice, with an open segment.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use archive::SystemClock;
use archive::buffer::Pool;
use archive::disk::Disk;
use http_api::{HttpConfig, HttpState};
use indexer::{Index, IndexOptions};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::Source;
use crate::rig::{Site, farm};

/// Cameras in the archive.
const CAMERAS: usize = 2;

/// An archive whose service was killed. Its folders are the original, never changed.
pub(crate) struct Recorded {
    pub(crate) site: Site,
    /// Every file of footage and index with its bytes.
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
}

impl Recorded {
    /// Records for some 20 seconds: sealed segments, tables on disk and rows that are only in the log.
    pub(crate) fn new() -> Self {
        let farm = farm(CAMERAS);
        let mut site = Site::new(&farm, CAMERAS);
        let cameras = site.cameras();
        for seconds in [9, 7] {
            let service = site.start();
            service.wait_until_durable(&cameras, Duration::from_secs(30));
            std::thread::sleep(Duration::from_secs(seconds));
            service.kill();
        }
        let mut files = Vec::new();
        read_all(&site.data_dir, &mut files);
        files.sort_unstable();
        Self { site, files }
    }

    /// A copy to be damaged.
    pub(crate) fn copy(&self) -> Copy {
        let folder = tempfile::tempdir().expect("a folder");
        copy_all(&self.site.data_dir, &folder.path().join("data"));
        let config = fs::read_to_string(self.site.path("site.toml")).expect("a configuration");
        let original = format!("{:?}", self.site.data_dir);
        let config = config.replace(&original, &format!("{:?}", folder.path().join("data")));
        fs::write(folder.path().join("site.toml"), config).expect("a configuration");
        Copy { folder }
    }
}

/// A copy of the archive.
pub(crate) struct Copy {
    folder: TempDir,
}

impl Copy {
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("site.toml")
    }

    pub(crate) fn hot(&self) -> PathBuf {
        self.folder.path().join("data/hot")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.folder.path().join("data/index")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Serves it from within this process: after a recovery, as a start does, or as it is. Opening the index
    /// comes before `between`, everything else behind it.
    pub(crate) fn serve(&self, recover: bool, between: impl FnOnce()) -> Result<Served, String> {
        let runtime = Runtime::new().expect("a runtime");
        let index = Index::open(&self.index(), &IndexOptions::default()).map_err(|e| e.to_string())?;
        let disk = Disk::open(&self.hot()).map_err(|e| e.to_string())?;
        between();
        if recover {
            let recovered = ingest::recover(&disk, &index).map_err(|e| e.to_string())?;
            ingest::seal_left_open(&disk, &index, &Pool::new(64), &recovered.unsealed)
                .map_err(|e| e.to_string())?;
        }
        let index = Arc::new(index);
        let (ready, is_ready) = watch::channel(true);
        let state = HttpState {
            index: Arc::clone(&index),
            disk,
            stores: Default::default(),
            clock: Arc::new(SystemClock::default()),
            ready: is_ready,
            incident_age: Arc::new(|_| None),
            camera_url_allowed: Arc::new(|_| Ok(())),
        };
        let config = HttpConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..HttpConfig::default()
        };
        let inside = runtime.enter();
        let server = http_api::start(&config, state).map_err(|e| e.to_string())?;
        drop(inside);
        Ok(Served {
            source: Source(server.local_addr()),
            server: Some(server),
            runtime,
            _ready: ready,
        })
    }
}

/// A service within this process.
pub(crate) struct Served {
    pub(crate) source: Source,
    server: Option<http_api::Server>,
    runtime: Runtime,
    _ready: watch::Sender<bool>,
}

impl Served {
    /// Ends it; the index is closed afterwards.
    pub(crate) fn stop(mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.shutdown());
        }
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

/// Files keep their holes out: what is set aside behind an open segment is copied as it reads.
fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_all(&path, &to);
        } else {
            fs::copy(&path, &to).expect("a copy");
        }
    }
}

fn read_all(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_all(&path, files);
        } else {
            let bytes = fs::read(&path).expect("a file");
            files.push((path, bytes));
        }
    }
}
