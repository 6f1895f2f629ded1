//! Segments in an archive class: they are told apart from what can be read, known without being restored, and restored
//! when somebody wants them. Against moto, which has such classes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::layout::{MARKER, outline_path, segment_path};
use archive::seam::Step;
use archive::segment::{Pace, SegmentReader, verify};
use archive::store::{Objects, Store, StoreConfig, Stores};
use archive::{Clock, StreamNo, SystemClock, Tier, WallTime};
use indexer::check::Finding;
use indexer::{
    Fault, FaultKind, Index, IndexOptions, RestoreState, SegmentRow, compare, rebuild, unreadable,
};
use tierline_tiering::scrub::{ScrubConfig, Scrubber};
use tierline_tiering::{Below, Hands, Mover, Restorer, RetentionRule, Rules};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::archive_of_segments::{Archive, ample, deep_check, minute, reap};
use crate::killed::{self, Child};
use crate::servers::{BUCKET, Kind, Server, keys_file};
use crate::steps::{self, Steps};

const BELOW: Below = Below {
    warm: false,
    cold: true,
};
/// How long moto takes over a restore here.
const RESTORE: Duration = Duration::from_secs(2);

/// An archive whose cold tier is `GLACIER`, and which has no other below its disk.
struct Glacier {
    archive: Archive,
    stores: Stores,
    folder: tempfile::TempDir,
    runtime: Runtime,
    /// Its parent's, in a child.
    server: Option<Server>,
}

fn stores(endpoint: &str, folder: &Path, runtime: &Runtime) -> Stores {
    let keys = keys_file(folder);
    let config = StoreConfig {
        endpoint: Some(endpoint.parse().expect("url")),
        allow_http: true,
        credentials_file: Some(keys),
        storage_class: Some("GLACIER".to_owned()),
        ..StoreConfig::at(format!("s3://{BUCKET}/site").parse().expect("url"))
    };
    let cold = Objects {
        store: Store::open(&config).expect("store"),
        cache: None,
        runtime: runtime.handle().clone(),
        turns: Arc::new(Semaphore::new(4)),
    };
    Stores {
        warm: None,
        cold: Some(cold),
    }
}

impl Glacier {
    /// With three segments of ten minutes that have left the disk.
    fn with_segments() -> (Self, StreamNo) {
        Self::with(3)
    }

    /// With so many.
    fn with(count: i64) -> (Self, StreamNo) {
        let (g, stream) = Self::of(count, &[minute(count * 10 + 1), minute(count * 10 + 30)]);
        let rows = g.archive.rows(stream);
        assert!(rows.iter().all(|row| row.tier == Tier::Cold), "{rows:?}");
        assert!(rows.iter().all(|row| !g.archive.file(row).exists()));
        (g, stream)
    }

    /// With three segments of ten minutes as these passes leave them.
    fn after(passes: &[WallTime]) -> (Self, StreamNo) {
        Self::of(3, passes)
    }

    fn of(count: i64, passes: &[WallTime]) -> (Self, StreamNo) {
        let folder = tempfile::tempdir().expect("folder");
        let server = Server::start(Kind::Moto, folder.path());
        server.restores_take(RESTORE);
        let runtime = Runtime::new().expect("runtime");
        let g = Self {
            archive: Archive::new(),
            stores: stores(&server.endpoint(), folder.path(), &runtime),
            folder,
            runtime,
            server: Some(server),
        };
        let stream = g.archive.camera("lobby", 5);
        g.archive.record_many(stream, 0..count);
        let rule = RetentionRule {
            hot: Some(Duration::from_secs(600)),
            ..RetentionRule::default()
        };
        let mut mover = Mover::new(
            g.archive.index.clone(),
            g.archive.disk.clone(),
            g.stores.clone(),
            Rules::with_tiers(vec![rule], BELOW).expect("sound"),
            Duration::from_secs(60),
            g.runtime.handle().clone(),
        );
        for now in passes.iter().copied() {
            let monotonic_us = now.micros_since(minute(0)).unsigned_abs();
            mover.pass(now, true, 0, monotonic_us).expect("pass");
            while mover.moved().under_way + mover.moved().leaving > 0 {
                std::thread::sleep(Duration::from_millis(5));
                mover.go_on(now, true, monotonic_us).expect("pass");
            }
        }
        (g, stream)
    }

    fn cold(&self) -> &Store {
        &self.stores.cold.as_ref().expect("a cold tier").store
    }

    fn name(&self, row: &SegmentRow) -> String {
        let stream = self.archive.index.stream_id(row.id.stream).expect("stream");
        segment_path(&stream, &row.name())
    }

    fn findings(&self) -> Vec<Finding> {
        deep_check(&self.archive.index, &self.archive.disk, &self.stores)
    }

    /// An index made of what stands in the store, and the files that were left out of it.
    fn rebuilt(&self, name: &str) -> (Index, Vec<(String, String)>) {
        let index = Index::open(&self.folder.path().join(name), &IndexOptions::default()).expect("index");
        let made = rebuild(&self.archive.disk, &self.stores, &index, |_| {}).expect("rebuilt");
        (index, made.left_out)
    }

    fn read(&self, row: &SegmentRow) -> Result<(), archive::ArchiveError> {
        let name = self.name(row);
        let reader = SegmentReader::on(Tier::Cold, &self.archive.disk, &self.stores, &name, row.bytes)?;
        verify(&reader).map(drop)
    }

    fn state(&self, row: &SegmentRow) -> Option<RestoreState> {
        let known = self.archive.index.restore_of(row).expect("read");
        known.map(|restore| restore.state)
    }

    /// Notes that somebody wants to read it.
    fn want(&self, row: &SegmentRow) {
        let takes = Duration::from_secs(3600);
        let rows = std::slice::from_ref(row);
        let noted = self.archive.index.want_restores(rows, now(), takes);
        assert!(noted.expect("noted").is_some());
    }

    fn wait_until(&self, row: &SegmentRow, state: RestoreState) {
        let begun = Instant::now();
        while self.state(row) != Some(state) {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "not {state:?}: {:?}",
                self.state(row)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn restorer(&self) -> Restorer {
        self.restorer_of(&self.stores)
    }

    /// Lets the next process see it through.
    fn assert_seen_through(&self, row: &SegmentRow, after: &str) {
        assert!(self.state(row).is_some(), "forgotten after {after}");
        let restorer = self.restorer();
        self.wait_until(row, RestoreState::Ready);
        self.read(row).expect("every byte");
        restorer.stop();
    }

    fn restorer_of(&self, stores: &Stores) -> Restorer {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let restorer = Restorer::start(self.archive.index.clone(), stores, clock);
        restorer.expect("started").expect("needed")
    }

    /// Its stores, with faults before them.
    fn faulty(&self, steps: &Arc<Steps>) -> Stores {
        let mut stores = self.stores.clone();
        if let Some(cold) = &mut stores.cold {
            cold.store = cold.store.clone().with_faults(steps.clone());
        }
        stores
    }
}

fn now() -> WallTime {
    SystemClock::default().wall()
}

#[test]
fn segments_in_an_archive_class_are_checked_and_indexed_anew_without_being_restored() {
    let (g, stream) = Glacier::with_segments();
    let rows = g.archive.rows(stream);
    for row in &rows {
        let error = g.read(row).expect_err("it cannot be read");
        assert!(error.is_archived(), "{error}");
    }
    assert_eq!(g.findings(), []);
    let unread = unreadable(&g.archive.index, &g.stores).expect("asked");
    let names: Vec<_> = rows.iter().map(|row| g.name(row)).collect();
    assert_eq!(unread, names, "it is said what was not read");
    let (anew, left_out) = g.rebuilt("anew");
    assert_eq!(left_out, []);
    let differences = compare(&g.archive.index, &anew).expect("compared");
    assert!(differences.is_empty(), "{differences:?}");

    // Without what stands beside it a segment cannot be indexed: it is named, and the check says so before.
    g.runtime.block_on(async {
        g.cold().delete(&outline_path(&names[2])).await.expect("deleted");
    });
    assert_eq!(g.findings().len(), 1);
    let (_, left_out) = g.rebuilt("again");
    assert_eq!(left_out.len(), 1, "{left_out:?}");
    assert_eq!(left_out[0].0, names[2]);

    // What is deleted leaves nothing behind.
    let rule = RetentionRule {
        max: Some(Duration::from_secs(3600)),
        ..RetentionRule::default()
    };
    let reaper = g.archive.reaper(rule, ample());
    reap(&mut reaper.with_stores(g.stores.clone()), 200);
    assert_eq!(g.archive.rows(stream), []);
    g.runtime.block_on(async {
        for folder in [".index", "default"] {
            let left = g.cold().list(folder, None, 100).await.expect("list");
            assert_eq!(left, []);
        }
    });
}

#[test]
fn a_copy_that_is_made_anew_has_its_outline_beside_it() {
    let (g, stream) = Glacier::after(&[minute(31)]);
    let row = &g.archive.rows(stream)[1];
    let (name, cold) = (g.name(row), g.cold());
    let there = |name: &str| g.runtime.block_on(cold.stat(name)).expect("answer").is_some();
    assert!(there(&name) && there(&outline_path(&name)));
    for name in [&name, &outline_path(&name)] {
        g.runtime.block_on(cold.delete(name)).expect("deleted");
    }
    let marked = cold.put_bytes(MARKER, b"ours".to_vec());
    g.runtime.block_on(marked).expect("marker");
    let mut batch = indexer::Batch::default();
    batch.fault(Fault {
        segment: row.id,
        tier: Tier::Cold,
        kind: FaultKind::Missing,
        found: minute(40),
        lost: false,
    });
    g.archive.index.commit(batch).expect("commit");
    let mut scrubber = Scrubber::new(
        g.archive.index.clone(),
        g.archive.disk.clone(),
        g.stores.clone(),
        ScrubConfig::default(),
        Hands::default(),
        Pace::new(|_| {}),
    );
    scrubber.step(minute(40), 1).expect("index");
    assert!(there(&name), "it is there again");
    assert!(there(&outline_path(&name)), "and can be indexed anew");
}

#[test]
fn a_restore_that_is_wanted_is_seen_through_also_by_the_next_process() {
    let (g, stream) = Glacier::with_segments();
    // It is in no hurry with what is older than this.
    std::thread::sleep(RESTORE);
    let rows = g.archive.rows(stream);
    let (wanted, other) = (&rows[1], &rows[2]);
    g.want(wanted);
    let restorer = g.restorer();
    g.wait_until(wanted, RestoreState::Asked);
    assert!(g.read(wanted).expect_err("not yet").is_archived());
    restorer.stop();
    let g = Glacier {
        archive: g.archive.reopen(),
        ..g
    };
    assert_eq!(
        g.state(wanted),
        Some(RestoreState::Asked),
        "it is known after a restart"
    );
    let restorer = g.restorer();
    g.wait_until(wanted, RestoreState::Ready);
    g.read(wanted).expect("it can be read, every byte");
    assert_eq!(g.state(other), None, "nobody wanted it");
    assert!(g.read(other).expect_err("archived").is_archived());
    // What is gone from the tier is forgotten.
    g.want(other);
    let mut batch = indexer::Batch::default();
    batch.delete(&rows[0]);
    batch.delete(wanted);
    batch.delete(other);
    g.archive.index.commit(batch).expect("deleted");
    assert_eq!(g.archive.index.all_restores().expect("read"), []);
    restorer.stop();
}

/// More than a restore has steps.
const SEGMENTS: i64 = 14;

/// A restore was killed once at each of its steps.
fn assert_every_step_of_a_restore(killed_at: &[String]) {
    println!("{} points: {killed_at:?}", killed_at.len());
    let of = |step: Step| {
        let step = format!("{step:?}");
        killed_at.iter().filter(|at| **at == step).count()
    };
    assert!(
        of(Step::Restore) == 1
            && of(Step::RestoreAsked) == 1
            && of(Step::Commit) == 2
            && of(Step::Committed) == 2,
        "{killed_at:?}"
    );
    assert!((killed_at.len() as i64) < SEGMENTS, "{killed_at:?}");
}

#[test]
fn a_restore_that_is_killed_at_any_step_is_seen_through_by_the_next_process() {
    let (mut g, stream) = Glacier::with(SEGMENTS);
    std::thread::sleep(RESTORE);
    let rows = g.archive.rows(stream);
    let mut killed_at = Vec::new();
    for (at, row) in (1..).zip(&rows) {
        let steps = Arc::new(Steps::default());
        let stores = g.faulty(&steps);
        g.archive = g.archive.faulty(steps.clone());
        g.want(row);
        steps.plan(steps::Fault::Kill, at);
        let (restorer, begun) = (g.restorer_of(&stores), Instant::now());
        while !steps.is_dead() && g.state(row) != Some(RestoreState::Ready) {
            assert!(begun.elapsed() < Duration::from_secs(30), "step {at}");
            std::thread::sleep(Duration::from_millis(20));
        }
        restorer.stop();
        g.archive = g.archive.without_faults();
        let fired = steps.fired().map(|step| format!("{step:?}"));
        g.assert_seen_through(row, &format!("{fired:?}"));
        match fired {
            Some(step) => killed_at.push(step),
            None => break,
        }
    }
    assert_every_step_of_a_restore(&killed_at);
}

const CHILD: &str = "archive_class::the_life_of_a_child";

#[test]
#[ignore = "what a child process of the next test runs"]
fn the_life_of_a_child() {
    let Some(child) = Child::of_somebody() else {
        return;
    };
    let (endpoint, place) = child.told.split_once(' ').expect("two words");
    let steps = Arc::new(Steps::default());
    let folder = child.folder();
    let runtime = Runtime::new().expect("runtime");
    let g = Glacier {
        archive: Archive::with_faults(child.archive(), steps.clone()),
        stores: stores(endpoint, folder.path(), &runtime),
        folder,
        runtime,
        server: None,
    };
    let stream = g.archive.index.streams()[0].0;
    let row = &g.archive.rows(stream)[place.parse::<usize>().expect("a number")];
    g.want(row);
    steps.plan(steps::Fault::RealKill, child.at);
    let restorer = g.restorer_of(&g.faulty(&steps));
    g.wait_until(row, RestoreState::Ready);
    restorer.stop();
}

#[test]
fn a_process_that_is_killed_at_any_step_of_a_restore_leaves_it_to_the_next_one() {
    let (mut g, stream) = Glacier::with(SEGMENTS);
    std::thread::sleep(RESTORE);
    let endpoint = g.server.as_ref().expect("its own").endpoint();
    let rows = g.archive.rows(stream);
    let mut killed_at = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let (at, told) = (place as u64 + 1, format!("{endpoint} {place}"));
        let before = g.archive.close();
        let Some(killed) = killed::kill(CHILD, before.path(), at, &told) else {
            break;
        };
        g.archive = Archive::of(killed.archive());
        g.assert_seen_through(row, &killed.step);
        killed_at.push(killed.step);
    }
    assert_every_step_of_a_restore(&killed_at);
}
