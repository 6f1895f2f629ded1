//! Locks that holds have left in a bucket with object lock keep nothing that may go, and those of others keep what they
//! are on.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use archive::layout::segment_path;
use archive::store::{Objects, Store, StoreConfig, Stores};
use archive::{StreamNo, Tier, TimeRange, WallTime};
use indexer::{Cause, CopyState, Release, SegmentRow};
use tierline_tiering::{Mover, RetentionRule, Rules, Worker};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::archive_of_segments::{Archive, TestClock, keep_minutes, minute, quick, reap};
use crate::holds::hold;
use crate::servers::{BUCKET, KEY, Kind, SECRET, Server, keys_file, program};
use crate::tiers::{BELOW, rule};

/// An archive with two tiers below its own in one bucket, which has object lock.
pub(crate) struct Locked {
    pub(crate) archive: Archive,
    pub(crate) stores: Stores,
    pub(crate) runtime: Runtime,
    server: Server,
    folder: tempfile::TempDir,
}

impl Locked {
    pub(crate) fn with_segments(count: i64) -> (Self, StreamNo) {
        Self::on(Kind::Minio, count)
    }

    pub(crate) fn on(kind: Kind, count: i64) -> (Self, StreamNo) {
        let (mut l, stream) = Self::without_lock(kind, count);
        l.mc(&["mb", "--with-lock", "it/locked"]);
        l.use_bucket("locked");
        (l, stream)
    }

    /// In a bucket that has no object lock.
    pub(crate) fn without_lock(kind: Kind, count: i64) -> (Self, StreamNo) {
        let folder = tempfile::tempdir().expect("folder");
        let server = Server::start(kind, folder.path());
        let runtime = Runtime::new().expect("runtime");
        let mut l = Self {
            archive: Archive::new(),
            stores: Stores::default(),
            runtime,
            server,
            folder,
        };
        l.use_bucket(BUCKET);
        let stream = l.archive.camera("lobby", 5);
        l.archive.record_many(stream, 0..count);
        (l, stream)
    }

    pub(crate) fn use_bucket(&mut self, bucket: &str) {
        self.stores = Stores {
            warm: Some(self.objects(bucket, "warm")),
            cold: Some(self.objects(bucket, "cold")),
        };
    }

    /// The server's own client.
    pub(crate) fn mc(&self, args: &[&str]) -> String {
        let host = (self.server.endpoint()).replace("http://", &format!("http://{KEY}:{SECRET}@"));
        let output = Command::new(program("mc"))
            .arg("--config-dir")
            .arg(self.folder.path().join("mc"))
            .args(args)
            .env("MC_HOST_it", host)
            .output()
            .expect("mc");
        assert!(output.status.success(), "mc {args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn objects(&self, bucket: &str, prefix: &str) -> Objects {
        let keys = keys_file(self.folder.path());
        let config = StoreConfig {
            endpoint: Some(self.server.endpoint().parse().expect("url")),
            allow_http: true,
            credentials_file: Some(keys),
            ..StoreConfig::at(format!("s3://{bucket}/{prefix}").parse().expect("url"))
        };
        Objects {
            store: Store::open(&config).expect("store"),
            cache: None,
            runtime: self.runtime.handle().clone(),
            turns: Arc::new(Semaphore::new(4)),
        }
    }

    /// Passes of a mover until nothing is under way any more.
    pub(crate) fn move_at(&self, times: &[WallTime]) {
        let mut mover = Mover::new(
            self.archive.index.clone(),
            self.archive.disk.clone(),
            self.stores.clone(),
            Rules::with_tiers(vec![rule()], BELOW).expect("sound"),
            Duration::from_secs(60),
            self.runtime.handle().clone(),
        );
        for now in times {
            let monotonic_us = now.micros_since(minute(0)).unsigned_abs();
            mover.pass(*now, true, 0, monotonic_us).expect("pass");
            while mover.moved().under_way + mover.moved().leaving > 0 {
                std::thread::sleep(Duration::from_millis(5));
                mover.go_on(*now, true, monotonic_us).expect("pass");
            }
        }
    }

    /// The service's own thread, by a clock that the test moves on.
    pub(crate) fn worker(&self, archive: &Archive, clock: Arc<TestClock>, rule: RetentionRule) -> Worker {
        archive.worker(clock, rule, (self.stores.clone(), self.runtime.handle().clone()))
    }

    /// Whether a tier has copies of all segments.
    pub(crate) fn is_in(&self, stream: StreamNo, tier: Tier) -> bool {
        let rows = self.archive.rows(stream);
        let state = |row| self.archive.index.copies(row).expect("copies").state(tier);
        rows.iter().all(|row| state(row) == CopyState::Whole)
    }

    /// Of which segments the server says that their objects on a tier are under a legal hold.
    pub(crate) fn locked(&self, stream: StreamNo, tier: Tier) -> Vec<u64> {
        let told = self.mc(&["legalhold", "info", "--recursive", &format!("it/locked/{tier}")]);
        let on: Vec<&str> = told
            .lines()
            .filter(|line| line.contains("[    ON    ]"))
            .collect();
        let id = self.archive.index.stream_id(stream).expect("stream");
        let rows = self.archive.rows(stream).into_iter();
        let rows = rows.filter(|row| {
            on.iter()
                .any(|line| line.ends_with(&segment_path(&id, &row.name())))
        });
        let locked: Vec<u64> = rows.map(|row| row.id.seq).collect();
        assert_eq!(locked.len(), on.len(), "and of nothing else: {told}");
        locked
    }

    /// Locks the copies of a segment on a tier, as the worker does for a hold.
    pub(crate) fn lock(&self, row: &SegmentRow, tier: Tier) {
        let stream = self.archive.index.stream_id(row.id.stream).expect("stream");
        let store = &self.stores.of(tier).expect("tier").store;
        let name = segment_path(&stream, &row.name());
        assert!(
            self.runtime
                .block_on(store.legal_hold(&name, true))
                .expect("locked")
        );
    }

    fn states(&self, row: &SegmentRow) -> [CopyState; 3] {
        let copies = self.archive.index.copies(row).expect("copies");
        Tier::ALL.map(|tier| copies.state(tier))
    }
}

#[test]
fn footage_whose_hold_has_ended_goes_although_its_copy_is_still_locked() {
    let (l, stream) = Locked::with_segments(4);
    let a = &l.archive;
    a.index
        .put_hold(&hold("case", "lobby", minute(0), minute(20)))
        .expect("hold");
    l.move_at(&[minute(42)]);
    let rows = a.rows(stream);
    rows[..2].iter().for_each(|row| l.lock(row, Tier::Warm));
    // Nobody came to lift the locks before the deletion began.
    let release = Release {
        at: minute(100),
        by: "guard desk".into(),
        reason: "case closed".into(),
    };
    a.index
        .release_hold(&"case".parse().expect("id"), &release)
        .expect("release");
    let mut reaper = a.reaper(keep_minutes(60), quick()).with_stores(l.stores.clone());
    reap(&mut reaper, 200);
    assert_eq!(a.sequences(stream), [0; 0], "{:?}", reaper.progress());
    assert_eq!(reaper.progress().failed, 0);
    let left = l.mc(&["ls", "--recursive", "--versions", "it/locked"]);
    assert_eq!(left.trim(), "", "not a version, and not a marker");
}

#[test]
fn held_footage_leaves_the_warm_tier_for_the_cold_one_although_its_copy_is_locked() {
    let (l, stream) = Locked::with_segments(1);
    let a = &l.archive;
    a.index
        .put_hold(&hold("case", "lobby", minute(0), minute(20)))
        .expect("hold");
    l.move_at(&[minute(11)]);
    l.lock(&a.rows(stream)[0], Tier::Warm);
    l.move_at(&[minute(42), minute(44), minute(46), minute(48)]);
    use CopyState::{Absent, Whole};
    assert_eq!(l.states(&a.rows(stream)[0]), [Absent, Absent, Whole]);
    let left = l.mc(&["ls", "--recursive", "--versions", "it/locked/warm"]);
    assert_eq!(left.trim(), "");
}

#[test]
fn a_lock_of_somebody_else_stays_and_so_does_what_it_is_on() {
    let (l, stream) = Locked::with_segments(2);
    let a = &l.archive;
    l.move_at(&[minute(42)]);
    let rows = a.rows(stream);
    l.lock(&rows[0], Tier::Warm);
    let cause = Cause {
        reason: "age".into(),
        rule: String::new(),
    };
    let doomed: Vec<_> = rows.iter().map(|row| (row.clone(), cause.clone())).collect();
    a.index.begin_deletion(&doomed, minute(100)).expect("begin");
    let mut reaper = a.reaper(keep_minutes(60), quick()).with_stores(l.stores.clone());
    reap(&mut reaper, 200);
    let left = a.index.segments_all_states(stream, TimeRange::ALL).expect("rows");
    assert!(left.iter().any(|row| row.id.seq == 0), "{left:?}");
    assert!(reaper.progress().failed > 0);
}
