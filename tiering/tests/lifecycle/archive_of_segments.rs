//! An archive whose segments are made by the code that records.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use archive::buffer::Pool;
use archive::disk::Disk;
use archive::layout::segment_path;
use archive::seam::{Faults, Seam};
use archive::segment::{Closing, FragmentBuilder, SegmentHeader, SegmentWriter};
use archive::site_key::SiteKey;
use archive::store::Stores;
use archive::time::SECOND_US;
use archive::{
    Clock, GapCause, InitSegment, Note, SegmentId, StreamId, StreamNo, SystemClock, Tier, TimeRange, WallTime,
};
use indexer::check::{CheckOptions, Finding, check};
use indexer::{
    Batch, CameraRow, Index, IndexOptions, SecretUrl, SegmentRow, SegmentState, StreamConfig, Transport,
    Witness,
};
use tierline_tiering::{Reaper, RetentionRule, Rules, TieringConfig, Worker};
use tokio::runtime::Handle;

use crate::tiers::BELOW;

pub(crate) const MINUTE_US: i64 = 60 * SECOND_US;
pub(crate) const DAY_US: i64 = 24 * 60 * MINUTE_US;

/// Noon, so that a test's first hours are one day's.
pub(crate) fn noon() -> WallTime {
    "2026-11-20T12:00:00Z".parse().expect("time")
}

pub(crate) fn minute(n: i64) -> WallTime {
    noon().plus_micros(n * MINUTE_US)
}

/// Both clocks of a machine, which run and which a test moves on: so many minutes past noon. They never stand still, or
/// who rests after a failure would rest for ever.
#[derive(Default)]
pub(crate) struct TestClock {
    running: SystemClock,
    minutes: AtomicI64,
}

impl TestClock {
    pub(crate) fn set(&self, n: i64) {
        self.minutes.store(n, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn wall(&self) -> WallTime {
        noon().plus_micros(self.monotonic_us() as i64)
    }

    fn monotonic_us(&self) -> u64 {
        let moved = self.minutes.load(Ordering::Relaxed) * MINUTE_US;
        self.running.monotonic_us() + moved.unsigned_abs()
    }
}

/// Waits for what another thread does, a minute at most.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "not in a minute: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) struct Archive {
    dir: tempfile::TempDir,
    pub(crate) disk: Disk,
    pub(crate) index: Arc<Index>,
    pool: Pool,
    init: InitSegment,
}

fn open_index(dir: &Path) -> Arc<Index> {
    Arc::new(Index::open(&dir.join("index"), &IndexOptions::default()).expect("index"))
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self::of(tempfile::tempdir().expect("temporary folder"))
    }

    /// In memory, if there is a file system in it, where a sync costs nothing.
    pub(crate) fn in_memory() -> Self {
        let shm = Path::new("/dev/shm");
        if !shm.is_dir() {
            return Self::new();
        }
        Self::of(tempfile::tempdir_in(shm).expect("temporary folder"))
    }

    /// With its media in `media` and its index in `dir`.
    pub(crate) fn on(dir: tempfile::TempDir, media: &Path) -> Self {
        let index = open_index(dir.path());
        let disk = Disk::open(media).expect("disk");
        Self {
            disk,
            index,
            pool: Pool::new(64),
            init: InitSegment::build(vec![archive::fuzzing::video_track(640, 360)]),
            dir,
        }
    }

    /// The archive that lies in `dir`.
    pub(crate) fn of(dir: tempfile::TempDir) -> Self {
        let media = dir.path().join("media");
        Self::on(dir, &media)
    }

    /// The same with faults between it and its disk.
    pub(crate) fn with_faults(dir: tempfile::TempDir, faults: Arc<dyn Faults>) -> Self {
        let options = IndexOptions {
            seam: Seam::with(faults.clone()),
            ..IndexOptions::default()
        };
        Self {
            disk: Disk::with_faults(&dir.path().join("media"), faults).expect("disk"),
            index: Arc::new(Index::open(&dir.path().join("index"), &options).expect("index")),
            pool: Pool::new(64),
            init: InitSegment::build(vec![archive::fuzzing::video_track(640, 360)]),
            dir,
        }
    }

    /// Lets go of it; its folder. Nobody else may have its index open.
    pub(crate) fn close(self) -> tempfile::TempDir {
        drop(self.index);
        self.dir
    }

    /// What a kill and a start after it make of this archive.
    pub(crate) fn reopen(self) -> Self {
        drop(self.index);
        Self {
            index: open_index(self.dir.path()),
            ..self
        }
    }

    /// The same archive, with faults between it and its disk.
    pub(crate) fn faulty(self, faults: Arc<dyn Faults>) -> Self {
        drop(self.index);
        let options = IndexOptions {
            seam: Seam::with(faults.clone()),
            ..IndexOptions::default()
        };
        Self {
            index: Arc::new(Index::open(&self.dir.path().join("index"), &options).expect("index")),
            disk: Disk::with_faults(self.disk.root(), faults).expect("disk"),
            ..self
        }
    }

    /// And without again, as after a kill.
    pub(crate) fn without_faults(self) -> Self {
        let disk = Disk::open(self.disk.root()).expect("disk");
        Self { disk, ..self }.reopen()
    }

    /// The same footage, with an index that was made anew from it.
    pub(crate) fn rebuilt(&self) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let anew = Self::on(dir, self.disk.root());
        let rebuilt =
            indexer::rebuild(&anew.disk, &Default::default(), &anew.index, |_| {}).expect("rebuild");
        assert!(rebuilt.left_out.is_empty(), "{:?}", rebuilt.left_out);
        anew
    }

    pub(crate) fn camera(&self, id: &str, priority: u8) -> StreamNo {
        let stream = StreamConfig {
            name: "main".parse().expect("id"),
            url: SecretUrl::new("rtsp://camera.test/".parse().expect("URL")),
            transport: Transport::Tcp,
            enabled: true,
        };
        let row = CameraRow {
            id: id.parse().expect("id"),
            name: id.to_owned(),
            streams: vec![stream],
            priority,
            created: noon(),
            removed: None,
            from_config: false,
        };
        self.index.put_camera(&row).expect("camera");
        let id = StreamId {
            tenant: Default::default(),
            camera: row.id,
            stream: "main".parse().expect("id"),
        };
        self.index.ensure_stream(&id).expect("stream")
    }

    /// Records a sealed segment of fragments of 10 s, as long as `minutes`, of about `bytes`.
    pub(crate) fn record(&self, stream: StreamNo, from: WallTime, minutes: i64, bytes: usize) -> SegmentRow {
        let (row, writer) = self.begin(stream, from, minutes, bytes);
        self.seal(row, writer)
    }

    /// Seals what was begun.
    pub(crate) fn seal(&self, mut row: SegmentRow, writer: SegmentWriter) -> SegmentRow {
        let sealed = writer.seal(&self.pool).expect("seal");
        row.bytes = sealed.bytes;
        let mut batch = Batch::default();
        batch.seal(&row);
        self.index.commit(batch).expect("commit");
        SegmentRow {
            state: SegmentState::Sealed,
            ..row
        }
    }

    /// Records small segments of ten minutes each, one after the other from noon on.
    pub(crate) fn record_many(&self, stream: StreamNo, places: std::ops::Range<i64>) {
        places.for_each(|i| {
            self.record(stream, minute(10 * i), 10, 60_000);
        });
    }

    /// The same as [`record`](Self::record), left open.
    pub(crate) fn begin(
        &self,
        stream: StreamNo,
        from: WallTime,
        minutes: i64,
        bytes: usize,
    ) -> (SegmentRow, SegmentWriter) {
        let each = bytes / (minutes * 6) as usize;
        self.begin_with(stream, from, minutes, &|i, fragment| {
            fragment.push_video(i * 900_000, true, &vec![i as u8; each]);
            1
        })
    }

    /// The same with what `fill` puts into each fragment, whose activity it tells.
    pub(crate) fn begin_with(
        &self,
        stream: StreamNo,
        from: WallTime,
        minutes: i64,
        fill: &dyn Fn(i64, &mut FragmentBuilder) -> u8,
    ) -> (SegmentRow, SegmentWriter) {
        let last = self.index.end(stream).expect("end");
        let seq = last.map_or(0, |end| end.next_seq);
        // Where the stream was not recorded, its next fragment says so.
        let missing = last.map(|end| end.wall_end).filter(|end| *end < from);
        let gap = missing.map(|end| Note::Gap {
            from: end,
            to: from,
            cause: GapCause::DiskFull,
        });
        let header = SegmentHeader {
            stream: self.index.stream_id(stream).expect("stream"),
            seq,
            epoch: self.index.epoch(),
            wall_start: from,
            prev: last.map(|end| end.head).unwrap_or_default(),
            init: self.init.hash,
            generation: 0,
        };
        let mut w = SegmentWriter::create(&self.disk, &self.pool, header, &self.init, 0).expect("create");
        let count = minutes * 6;
        let mut fragments: Vec<_> = (0..count)
            .map(|i| {
                let mut b = FragmentBuilder::new(&self.pool, None);
                let activity = fill(i, &mut b);
                let closing = Closing {
                    wall_start: from.plus_micros(i * 10 * SECOND_US),
                    wall_duration_us: 10 * SECOND_US as u32,
                    media_end: Some((i + 1) * 900_000),
                    typical_duration: 900_000,
                    run_start: i == 0,
                    activity,
                    notes: gap.into_iter().filter(|_| i == 0).collect(),
                    clock_offset_us: None,
                    audio_duration: 0,
                };
                b.close(&self.pool, closing)
            })
            .collect();
        let entries = w.append(&mut fragments).expect("append");
        w.sync().expect("sync");
        let row = SegmentRow {
            id: SegmentId { stream, seq },
            epoch: self.index.epoch(),
            wall_start: from,
            wall_end: w.wall_end(),
            bytes: w.bytes(),
            state: SegmentState::Open,
            tier: Tier::Hot,
            init: self.init.hash,
            head: w.head(),
            fragments: w.fragments(),
            generation: 0,
        };
        let mut batch = Batch::default();
        batch.init(&self.init);
        batch.segment(&row);
        entries.into_iter().for_each(|e| batch.fragment(row.id, e));
        self.index.commit(batch).expect("commit");
        (row, w)
    }

    /// Says that these segments are gone, as retention does.
    pub(crate) fn certify(&self, rows: &[SegmentRow]) {
        let witness = Witness {
            key: &key(),
            places: &[],
            archive_time: noon(),
            wall: noon(),
            actor: "a test",
        };
        let gone: Vec<_> = rows.iter().map(|row| (row.clone(), vec![Tier::Hot])).collect();
        self.index.certify(&gone, &witness).expect("certify");
    }

    pub(crate) fn rows(&self, stream: StreamNo) -> Vec<SegmentRow> {
        self.index
            .segments_all_states(stream, TimeRange::ALL)
            .expect("rows")
    }

    pub(crate) fn sequences(&self, stream: StreamNo) -> Vec<u64> {
        self.rows(stream).iter().map(|row| row.id.seq).collect()
    }

    pub(crate) fn file(&self, row: &SegmentRow) -> std::path::PathBuf {
        let stream = self.index.stream_id(row.id.stream).expect("stream");
        self.disk.path(&segment_path(&stream, &row.name()))
    }

    pub(crate) fn reaper(&self, rule: RetentionRule, config: TieringConfig) -> Reaper {
        let rules = Rules::new(vec![rule]).expect("sound");
        Reaper::new(self.index.clone(), self.disk.clone(), rules, config, key()).expect("reaper")
    }

    /// The service's own thread that moves and deletes, which looks twenty times a second.
    pub(crate) fn worker(
        &self,
        clock: Arc<dyn Clock>,
        rule: RetentionRule,
        stores: (Stores, Handle),
    ) -> Worker {
        Worker::start(
            self.index.clone(),
            self.disk.clone(),
            clock,
            Rules::with_tiers(vec![rule], BELOW).expect("sound"),
            TieringConfig {
                interval: Duration::from_millis(50),
                ..quick()
            },
            key(),
            Some(stores),
        )
        .expect("worker")
    }

    /// Every invariant, every byte.
    pub(crate) fn assert_clean(&self) {
        let findings = deep_check(&self.index, &self.disk, &Stores::default());
        assert!(findings.is_empty(), "{findings:#?}");
    }
}

/// What is wrong with an archive that nobody runs: every invariant, every byte.
pub(crate) fn deep_check(index: &Index, disk: &Disk, stores: &Stores) -> Vec<Finding> {
    let options = CheckOptions {
        deep: true,
        running: false,
    };
    check(index, disk, stores, options, |_, _| {}).expect("check")
}

pub(crate) fn key() -> SiteKey {
    SiteKey::from_secret([1; 32])
}

/// Settings that leave alone a disk as full as that of the machine that runs the tests.
pub(crate) fn ample() -> TieringConfig {
    TieringConfig {
        reserve: Some(0),
        low: Some(0),
        floor: Some(0),
        ..TieringConfig::default()
    }
}

/// The same, with a clock that is believed at once.
pub(crate) fn quick() -> TieringConfig {
    TieringConfig {
        clock_confirm: Duration::ZERO,
        ..ample()
    }
}

/// What passes make of the archive when it is `n` minutes past noon.
pub(crate) fn reap(reaper: &mut Reaper, n: i64) {
    // The first may doubt the clock, when it is that of a process.
    for _ in 0..3 {
        reaper
            .pass(minute(n), (n * MINUTE_US).unsigned_abs())
            .expect("pass");
    }
}

pub(crate) fn keep_minutes(hot: u64) -> RetentionRule {
    RetentionRule {
        hot: Some(Duration::from_secs(hot * 60)),
        ..RetentionRule::default()
    }
}
