//! An archive that records honest cameras and hostile ones side by side.

use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::disk::Disk;
use archive::{StreamNo, SystemClock};
use indexer::check::{CheckOptions, check};
use indexer::{CameraRow, Index, IndexOptions, SecretUrl, SessionState, StreamConfig, Transport};
use tierline_ingest::{Ingest, IngestConfig};

/// Names a bound that is taken out: a negative control.
pub(crate) const WITHOUT: &str = "TIERLINE_HOSTILE_WITHOUT";

pub(crate) struct Site {
    // Removed last.
    _dir: tempfile::TempDir,
    pub(crate) index: Arc<Index>,
    pub(crate) disk: Disk,
    ingest: Option<Ingest>,
}

/// Everything that waits, waits briefly.
pub(crate) fn config(access_unit_bytes: u64, loopback_allowed: bool) -> IngestConfig {
    let config = IngestConfig {
        segment_duration: Duration::from_secs(4),
        commit_interval: Duration::from_millis(200),
        poll_interval: Duration::from_millis(50),
        no_data: Duration::from_millis(1500),
        no_keyframe: Duration::from_secs(3),
        answer: Duration::from_secs(1),
        access_unit_bytes_max: access_unit_bytes,
        loopback_allowed,
        ..IngestConfig::default()
    };
    match std::env::var(WITHOUT).as_deref() {
        Ok("the bound on access units") => IngestConfig {
            access_unit_bytes_max: u64::MAX,
            ..config
        },
        Ok("the stall timer") => IngestConfig {
            no_data: Duration::from_secs(3600),
            ..config
        },
        Ok("the keyframe timer") => IngestConfig {
            no_keyframe: Duration::from_secs(3600),
            ..config
        },
        _ => config,
    }
}

impl Site {
    pub(crate) fn start(config: IngestConfig) -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let index = Index::open(&dir.path().join("index"), &IndexOptions::default()).expect("index");
        let (index, disk) = (
            Arc::new(index),
            Disk::open(&dir.path().join("hot")).expect("disk"),
        );
        let clock = Arc::new(SystemClock::default());
        let ingest = Ingest::start(config, index.clone(), disk.clone(), clock).expect("start");
        Self {
            _dir: dir,
            index,
            disk,
            ingest: Some(ingest),
        }
    }

    /// Records this camera from now on.
    pub(crate) fn add(&self, id: &str, url: &str, transport: Transport) {
        let stream = StreamConfig {
            name: "main".parse().expect("id"),
            url: SecretUrl::new(url.parse().expect("url")),
            transport,
            enabled: true,
        };
        let row = CameraRow {
            id: id.parse().expect("id"),
            name: id.to_owned(),
            streams: vec![stream],
            priority: 5,
            created: Default::default(),
            removed: None,
            from_config: false,
        };
        self.index.put_camera(&row).expect("put");
    }

    /// The number of a camera's stream, once its session has begun.
    pub(crate) fn stream(&self, id: &str) -> Option<StreamNo> {
        let streams = self.index.streams_of(&id.parse().expect("id"));
        streams.first().map(|(no, _)| *no)
    }

    /// Waits until all of `ids` are recorded.
    pub(crate) fn wait_for(&self, ids: &[&str]) {
        let begin = Instant::now();
        let recorded = |id: &&str| {
            let state = self.stream(id).map(|no| self.index.status(no).state);
            state == Some(SessionState::Recording)
        };
        while !ids.iter().all(recorded) {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "{ids:?} are not recorded"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn stop(&mut self) {
        if let Some(ingest) = self.ingest.take() {
            ingest.stop().expect("stop");
        }
    }

    /// Nothing that is recorded contradicts the index.
    pub(crate) fn assert_whole(&self) {
        let options = CheckOptions {
            deep: true,
            running: false,
        };
        let findings =
            check(&self.index, &self.disk, &Default::default(), options, |_, _| {}).expect("check");
        assert!(findings.is_empty(), "{findings:#?}");
    }
}
