//! The real archive: recorded into, killed, started, imported into and reaped, all on disk.

use std::ffi::OsString;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use archive::buffer::Pool;
use archive::disk::Disk;
use archive::{GapCause, StreamNo, WallTime};
use indexer::check::{CheckOptions, check};
use indexer::{CameraRow, Index, IndexOptions};
use ingest::import::{Import, Importer};
use ingest::{IngestConfig, IngestError, Recording, Steps, Submit, recover, seal_left_open};
use tierline_tiering::{Reaper, RetentionRule, Rules, TieringConfig};

use crate::clip;
use crate::operation::Story;

pub(crate) const STREAMS: usize = 2;

/// Memory, if there is a file system in it: syncs and power cuts are the business of other tests.
pub(crate) fn fast_dir() -> PathBuf {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() {
        shm.to_owned()
    } else {
        std::env::temp_dir()
    }
}

pub(crate) struct Real {
    dir: tempfile::TempDir,
    pub(crate) disk: Disk,
    pool: Pool,
    config: IngestConfig,
    rules: Rules,
    tiering: TieringConfig,
    running: Option<Running>,
}

/// What a process holds.
struct Running {
    recordings: Vec<Recording>,
    steps: Steps,
    reaper: Reaper,
    index: Arc<Index>,
}

fn us(us: i64) -> Duration {
    Duration::from_micros(us.unsigned_abs())
}

impl Real {
    pub(crate) fn new(story: &Story) -> Self {
        let dir = tempfile::tempdir_in(fast_dir()).expect("folder");
        let disk = Disk::open(&dir.path().join("media")).expect("disk");
        let rule = RetentionRule {
            hot: Some(us(story.hot_us)),
            ..RetentionRule::default()
        };
        Self {
            dir,
            disk,
            pool: Pool::new(64),
            config: IngestConfig {
                segment_duration: us(story.segment_us),
                segment_bytes_max: story.segment_bytes,
                ..IngestConfig::default()
            },
            rules: Rules::new(vec![rule]).expect("sound"),
            tiering: TieringConfig {
                reserve: Some(0),
                low: Some(0),
                floor: Some(0),
                clock_confirm: us(story.confirm_us),
                ..TieringConfig::default()
            },
            running: None,
        }
    }

    fn index_dir(&self) -> PathBuf {
        self.dir.path().join("index")
    }

    /// Opens the index and brings the files in order, as every start does.
    fn open(&self) -> Arc<Index> {
        let index = Index::open(&self.index_dir(), &IndexOptions::default()).expect("index");
        let found = recover(&self.disk, &index).expect("recover");
        assert_eq!(found.damaged, 0, "{found:?}");
        let again = recover(&self.disk, &index).expect("recover");
        assert_eq!(
            (again.fragments, again.adopted, again.set_aside),
            (0, 0, 0),
            "recovered twice"
        );
        seal_left_open(&self.disk, &index, &self.pool, &found.unsealed).expect("seal");
        Arc::new(index)
    }

    pub(crate) fn start(&mut self, now: WallTime) {
        let index = self.open();
        let (submit, steps) = Steps::new(
            self.config.clone(),
            index.clone(),
            self.disk.clone(),
            self.pool.clone(),
        );
        let resume = |i: usize| {
            let id = clip::stream_id(i);
            let mut r = Recording::resume(index.clone(), submit.clone(), self.pool.clone(), &id, now)
                .expect("resume");
            r.begin_gap(now, GapCause::Connecting);
            r
        };
        let recordings = (0..STREAMS).map(resume).collect();
        let reaper = Reaper::new(
            index.clone(),
            self.disk.clone(),
            self.rules.clone(),
            self.tiering.clone(),
            archive::site_key::SiteKey::from_secret([1; 32]),
        );
        self.running = Some(Running {
            recordings,
            steps,
            reaper: reaper.expect("reaper"),
            index,
        });
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("a process")
    }

    pub(crate) fn index(&self) -> &Arc<Index> {
        &self.running.as_ref().expect("a process").index
    }

    pub(crate) fn recording(&mut self, stream: usize) -> &mut Recording {
        self.running().recordings.get_mut(stream).expect("a stream")
    }

    pub(crate) fn no(&self, stream: usize) -> StreamNo {
        self.index()
            .stream_no(&clip::stream_id(stream))
            .expect("stream")
            .expect("known")
    }

    pub(crate) fn commit(&mut self) {
        self.running().steps.commit().expect("commit");
    }

    pub(crate) fn reap(&mut self, wall: WallTime, mono_us: u64) {
        while self.running().reaper.pass(wall, mono_us).expect("pass") {}
    }

    /// Everything is dropped, nothing sealed or committed.
    pub(crate) fn kill(&mut self) {
        self.running = None;
    }

    /// The files of the next commit are written, its rows never are.
    pub(crate) fn kill_before_rows(&mut self) {
        let (index, saved) = (self.index_dir(), self.dir.path().join("saved"));
        copy(&index, &saved);
        self.commit();
        self.kill();
        std::fs::remove_dir_all(&index).expect("remove");
        std::fs::rename(saved, index).expect("rename");
    }

    pub(crate) fn stop(&mut self, now: WallTime) {
        let mut running = self.running.take().expect("a process");
        for r in &mut running.recordings {
            r.stop(now, GapCause::ServiceStopped);
        }
        running.steps.finish().expect("finish");
    }

    /// What `tierline import` does, with nothing else running. Returns whether all of the file was taken.
    pub(crate) fn import(&mut self, stream: usize, start: WallTime, file: Vec<u8>, now: WallTime) -> bool {
        let index = self.open();
        let no = index.ensure_stream(&clip::stream_id(stream)).expect("stream");
        let (submit, steps) = Steps::new(
            self.config.clone(),
            index.clone(),
            self.disk.clone(),
            self.pool.clone(),
        );
        let Ok(mut importer) = Importer::resume(&index, self.pool.clone(), no, start, now) else {
            return false;
        };
        let mut import = Import::new(Cursor::new(file), start).expect("a file");
        let hand_in = |submit: &Submit, f| {
            submit
                .fragment(no, f, std::time::Duration::ZERO)
                .map_err(|_| IngestError::Import("refused".into()))
        };
        let all = importer.file(&mut import, |f| hand_in(&submit, f)).is_ok();
        submit.gaps(no, importer.gaps());
        submit.close(no);
        steps.finish().expect("finish");
        all
    }

    /// Every invariant, every byte; and an index made from the media alone tells the same.
    pub(crate) fn findings(&self, rebuild: bool) -> Vec<String> {
        let options = CheckOptions {
            deep: true,
            running: false,
        };
        let found = check(self.index(), &self.disk, &Default::default(), options, |_, _| {}).expect("check");
        let mut found: Vec<String> = found.iter().map(ToString::to_string).collect();
        if rebuild {
            let dir = tempfile::tempdir_in(fast_dir()).expect("folder");
            let anew = Index::open(dir.path(), &IndexOptions::default()).expect("index");
            let rebuilt = indexer::rebuild(&self.disk, &Default::default(), &anew, |_| {}).expect("rebuild");
            found.extend(
                rebuilt
                    .left_out
                    .iter()
                    .map(|(path, why)| format!("left out: {path}: {why}")),
            );
            let differ = indexer::compare(self.index(), &anew).expect("compare");
            found.extend(
                differ
                    .iter()
                    .map(|d| format!("rebuilt: {}: {}", d.stream, d.what)),
            );
        }
        found
    }

    pub(crate) fn enrol(&self) {
        for i in 0..STREAMS {
            let id = clip::stream_id(i).camera;
            let row = CameraRow {
                name: id.to_string(),
                id,
                streams: vec![],
                priority: 5,
                created: WallTime::MIN,
                removed: None,
                from_config: false,
            };
            self.index().put_camera(&row).expect("camera");
        }
    }
}

/// Copies the index as a kill at this instant would leave it: again, when its background work came in between.
fn copy(from: &Path, to: &Path) {
    let files = || -> std::io::Result<Vec<(OsString, u64)>> {
        let entries =
            std::fs::read_dir(from)?.map(|e| e.and_then(|e| Ok((e.file_name(), e.metadata()?.len()))));
        let mut files = entries.collect::<Result<Vec<_>, _>>()?;
        files.sort_unstable();
        Ok(files)
    };
    let attempt = || -> std::io::Result<bool> {
        let before = files()?;
        std::fs::create_dir(to)?;
        for (name, _) in &before {
            std::fs::copy(from.join(name), to.join(name))?;
        }
        Ok(files()? == before)
    };
    while !attempt().unwrap_or(false) {
        let _ = std::fs::remove_dir_all(to);
        std::thread::sleep(Duration::from_millis(2));
    }
}
