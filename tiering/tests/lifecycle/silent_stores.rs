//! A store that takes connections and never says anything holds up nobody who decides.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::store::{Objects, Store, StoreConfig, Stores};
use archive::{StreamId, SystemClock, Tier};
use indexer::{Batch, Copies, Event, SegmentRow, Thinning, ThinningStep};
use tierline_tiering::{Below, RetentionRule, Rules, Worker};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::archive_of_segments::{Archive, MINUTE_US, ample, key, minute};
use crate::holds::hold;

const BELOW: Below = Below {
    warm: true,
    cold: true,
};

/// Two stores that never answer, and what they need to go on doing so.
struct Silent {
    stores: Stores,
    runtime: Runtime,
    _keys: tempfile::TempDir,
}

impl Silent {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("address");
        std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
        Self::at(address)
    }

    /// Nobody listens there any more.
    fn refusing() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self::at(listener.local_addr().expect("address"))
    }

    fn at(address: std::net::SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let keys = folder.path().join("keys");
        std::fs::write(&keys, "aws_access_key_id = a\naws_secret_access_key = b\n").expect("keys");
        let runtime = Runtime::new().expect("runtime");
        let objects = |prefix: &str| {
            let config = StoreConfig {
                endpoint: Some(format!("http://{address}").parse().expect("url")),
                allow_http: true,
                credentials_file: Some(keys.clone()),
                ..StoreConfig::at(format!("s3://silent/{prefix}").parse().expect("url"))
            };
            Some(Objects {
                store: Store::open(&config).expect("store"),
                cache: None,
                runtime: runtime.handle().clone(),
                turns: Arc::new(Semaphore::new(4)),
            })
        };
        let stores = Stores {
            warm: objects("warm"),
            cold: objects("cold"),
        };
        Self {
            stores,
            runtime,
            _keys: folder,
        }
    }

    fn worker(&self, a: &Archive, rule: RetentionRule) -> Worker {
        let stores = (self.stores.clone(), self.runtime.handle().clone());
        a.worker(Arc::new(SystemClock::default()), rule, stores)
    }

    fn end(self, worker: Worker) {
        self.runtime.shutdown_background();
        worker.stop().expect("stop");
    }
}

/// For six seconds no pass takes two.
fn assert_passes_go_on(worker: &Worker) {
    let (mut passes, mut longest, mut last) = (0, Duration::ZERO, Instant::now());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        let now = worker.progress().passes;
        if now > passes {
            (passes, last) = (now, Instant::now());
        }
        longest = longest.max(last.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("{passes} passes, at most {longest:?} without one");
    assert!(longest < Duration::from_secs(2), "{longest:?} without a pass");
    assert!(passes > 10, "{passes} passes");
}

/// On the disk and in the warm store.
fn copied(a: &Archive, row: &SegmentRow) -> Copies {
    let copies = a.index.copies(row).expect("copies");
    let events = [Event::CopyBegun(Tier::Warm), Event::Copied(Tier::Warm)];
    events.into_iter().fold(copies, |copies, event| {
        copies.after(event, minute(100)).expect("allowed")
    })
}

fn set_copied(a: &Archive, row: &SegmentRow) {
    let mut batch = Batch::default();
    batch.copies(row, copied(a, row));
    a.index.commit(batch).expect("commit");
}

#[test]
fn passes_go_on_while_holds_and_certificates_wait_for_a_store_that_never_answers() {
    let silent = Silent::new();
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    a.record_many(lobby, 0..2);
    a.index
        .put_hold(&hold("case", "lobby", minute(0), minute(1)))
        .expect("hold");
    a.certify(&a.rows(lobby));
    let worker = silent.worker(&a, RetentionRule::default());
    assert_passes_go_on(&worker);
    silent.end(worker);
}

#[test]
fn passes_and_other_deletions_go_on_while_some_wait_for_a_store_that_never_answers() {
    let silent = Silent::new();
    let a = Archive::new();
    let (lobby, yard, gate) = (a.camera("lobby", 5), a.camera("yard", 5), a.camera("gate", 5));
    a.record_many(lobby, 0..3);
    a.record_many(yard, 0..3);
    a.rows(lobby).iter().for_each(|row| set_copied(&a, row));
    // Something is left of what it was before it was thinned.
    let held = a.record(gate, minute(0), 10, 60_000);
    a.index
        .put_hold(&hold("case", "gate", minute(0), minute(1)))
        .expect("hold");
    let copies = copied(&a, &held);
    let step = ThinningStep::Removing {
        copies,
        since: minute(1),
    };
    let mut batch = Batch::default();
    batch.thinning(Thinning { before: held, step });
    a.index.commit(batch).expect("commit");

    let day = Some(Duration::from_secs(24 * 3600));
    let rule = RetentionRule {
        hot: day,
        warm: day,
        max: day,
        ..RetentionRule::default()
    };
    let worker = silent.worker(&a, rule);
    assert_passes_go_on(&worker);
    assert_eq!(a.sequences(yard), [] as [u64; 0], "on the disk alone");
    assert_eq!(a.sequences(lobby), [0, 1, 2], "their objects may be there");
    assert!(a.rows(lobby).iter().all(|row| a.file(row).exists()));
    assert_eq!(a.index.thinnings().expect("rows").len(), 1);
    silent.end(worker);
}

/// A camera of two streams over its quota by half a segment, whose oldest has a copy in a store: a pass, and how often
/// after it.
fn over_quota(silent: &Silent, mut after_each: impl FnMut(&mut tierline_tiering::Reaper, bool)) {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    let sub = StreamId {
        stream: "sub".parse().expect("id"),
        ..a.index.stream_id(lobby).expect("stream")
    };
    let sub = a.index.ensure_stream(&sub).expect("stream");
    a.record_many(lobby, 0..3);
    a.record_many(sub, 1..3);
    let rows = a.rows(lobby);
    rows.iter().for_each(|row| set_copied(&a, row));
    let used: u64 = rows.iter().chain(&a.rows(sub)).map(|row| row.bytes).sum();
    // One has to go, and the first of `lobby` is the oldest.
    let rule = RetentionRule {
        quota: Some(used - rows[0].bytes / 2),
        ..RetentionRule::default()
    };
    let rules = Rules::with_tiers(vec![rule], BELOW).expect("sound");
    let reaper = tierline_tiering::Reaper::new(a.index.clone(), a.disk.clone(), rules, ample(), key());
    let mut reaper = reaper.expect("reaper").with_stores(silent.stores.clone());
    for pass in 0..8 {
        let more = reaper
            .pass(minute(200), (200 * MINUTE_US + pass).unsigned_abs())
            .expect("pass");
        after_each(&mut reaper, more);
    }
    assert_eq!(a.sequences(sub).len(), 2, "what is going makes room enough");
    assert_eq!(a.index.deletions().expect("rows").len(), 1);
}

#[test]
fn what_waits_for_a_store_to_go_is_not_missing_a_second_time() {
    let silent = Silent::new();
    over_quota(&silent, |reaper, more| assert!(!more && reaper.is_under_way()));
    silent.runtime.shutdown_background();
}

#[test]
fn what_a_store_refuses_to_let_go_is_over_no_quota_a_second_time() {
    let silent = Silent::refusing();
    let mut failed = 0;
    over_quota(&silent, |reaper, _| {
        let begun = Instant::now();
        while reaper.is_under_way() && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
            reaper.take_in().expect("index");
        }
        failed = reaper.progress().failed;
    });
    assert!(failed >= 3, "it was tried again and again: {failed}");
    silent.runtime.shutdown_background();
}
