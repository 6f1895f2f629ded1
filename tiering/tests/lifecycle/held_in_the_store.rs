//! The service locks what is held in a bucket with object lock, and unlocks it when nothing holds it any more.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use archive::Tier;
use archive::layout::{MARKER, segment_path};
use archive::segment::Pace;
use indexer::{Hold, Release};
use tierline_tiering::scrub::{ScrubConfig, Scrubber};
use tierline_tiering::{Hands, RetentionRule};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::archive_of_segments::{DAY_US, TestClock, minute, wait_until};
use crate::holds::hold;
use crate::locks::Locked;
use crate::servers::Kind;
use crate::tiers::rule;

#[test]
fn what_is_held_is_locked_in_its_bucket_as_long_as_a_hold_lasts() {
    locks_follow_holds(Kind::Minio);
}

#[test]
fn the_same_on_a_server_that_has_archive_classes_as_well() {
    locks_follow_holds(Kind::Moto);
}

fn locks_follow_holds(kind: Kind) {
    let (l, stream) = Locked::on(kind, 3);
    let index = &l.archive.index;
    let clock = Arc::new(TestClock::default());
    clock.set(60);
    let worker = l.worker(&l.archive, clock.clone(), RetentionRule::default());
    wait_until("copies", || l.is_in(stream, Tier::Warm));
    assert_eq!(l.locked(stream, Tier::Warm), [0; 0], "nothing is held");

    let case = hold("case", "lobby", minute(15), minute(35));
    index.put_hold(&case).expect("hold");
    let until = Hold {
        until: Some(minute(80)),
        ..hold("incident", "lobby", minute(0), minute(5))
    };
    index.put_hold(&until).expect("hold");
    wait_until("locks on what lies there", || {
        l.locked(stream, Tier::Warm) == [0, 1, 2]
    });

    // Both of these come to the store later, and one of them is held.
    l.archive.record_many(stream, 3..5);
    wait_until("copies", || l.is_in(stream, Tier::Warm));
    clock.set(62);
    wait_until("a lock on what came later", || {
        l.locked(stream, Tier::Warm) == [0, 1, 2, 3]
    });

    let release = Release {
        at: minute(62),
        by: "guard desk".into(),
        reason: "case closed".into(),
    };
    index.release_hold(&case.id, &release).expect("release");
    wait_until("no locks after a release", || l.locked(stream, Tier::Warm) == [0]);
    clock.set(82);
    wait_until("no lock after the last day", || {
        l.locked(stream, Tier::Warm) == [0; 0]
    });
    worker.stop().expect("stop");
    assert_eq!(l.archive.sequences(stream), [0, 1, 2, 3, 4]);
}

#[test]
fn held_footage_takes_its_lock_along_to_the_next_tier() {
    let (l, stream) = Locked::with_segments(2);
    l.archive
        .index
        .put_hold(&hold("case", "lobby", minute(0), minute(5)))
        .expect("hold");
    let clock = Arc::new(TestClock::default());
    clock.set(25);
    let worker = l.worker(&l.archive, clock.clone(), rule());
    wait_until("copies", || l.is_in(stream, Tier::Warm));
    clock.set(27);
    wait_until("a lock", || l.locked(stream, Tier::Warm) == [0]);
    clock.set(60);
    wait_until("copies", || l.is_in(stream, Tier::Cold));
    clock.set(62);
    wait_until("a lock there", || l.locked(stream, Tier::Cold) == [0]);
    worker.stop().expect("stop");
}

/// What is held is gone from its store, although it was locked there: somebody with the keys has put a marker before it.
#[test]
fn an_object_that_is_made_anew_is_locked_again_if_it_is_held() {
    let (l, stream) = Locked::with_segments(2);
    let index = &l.archive.index;
    index
        .put_hold(&hold("case", "lobby", minute(0), minute(5)))
        .expect("hold");
    l.move_at(&[minute(21)]);
    std::fs::write(l.archive.disk.path(MARKER), "ours").expect("marker");
    let warm = &l.stores.warm.as_ref().expect("warm").store;
    let marked = warm.put_bytes(MARKER, b"ours".to_vec());
    l.runtime.block_on(marked).expect("marker");
    let rows = l.archive.rows(stream);
    l.lock(&rows[0], Tier::Warm);
    let id = index.stream_id(stream).expect("stream");
    for row in &rows {
        let name = segment_path(&id, &row.name());
        l.mc(&["rm", &format!("it/locked/warm/{name}")]);
    }
    assert_eq!(l.locked(stream, Tier::Warm), [0; 0]);
    let mut scrubber = Scrubber::new(
        index.clone(),
        l.archive.disk.clone(),
        l.stores.clone(),
        ScrubConfig::default(),
        Hands::default(),
        Pace::new(|_| {}),
    );
    while scrubber
        .step(minute(60).plus_micros(2 * DAY_US), 1)
        .expect("index")
    {}
    assert_eq!(scrubber.scrubbed().repaired, 2);
    assert_eq!(l.locked(stream, Tier::Warm), [0]);
}

/// Nothing else is in a bucket of this name.
const BUCKET: &str = "without-object-lock";

/// Of which stores it is said that holds cannot be put there.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "store" {
            self.0.lock().expect("a lock").push(format!("{value:?}"));
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        of.target().ends_with("tiering::locking")
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_bucket_without_object_lock_is_told_of_once_and_holds_bind_there_as_well() {
    let log = Log::default();
    // Of the whole process: the thread that says it is not this one.
    tracing::subscriber::set_global_default(log.clone()).expect("the only one");
    // Other tests have stores without object lock too.
    let said = || {
        let mut said = log.0.lock().expect("a lock").clone();
        said.retain(|store| store.contains(BUCKET));
        said
    };
    for (n, kind) in (1..).zip([Kind::Minio, Kind::Versity]) {
        let (mut l, stream) = Locked::without_lock(kind, 4);
        l.mc(&["mb", &format!("it/{BUCKET}")]);
        l.use_bucket(BUCKET);
        let index = &l.archive.index;
        let clock = Arc::new(TestClock::default());
        clock.set(45);
        let keep = RetentionRule {
            max: Some(Duration::from_secs(3600)),
            ..RetentionRule::default()
        };
        let worker = l.worker(&l.archive, clock.clone(), keep);
        wait_until("copies", || l.is_in(stream, Tier::Warm));
        index
            .put_hold(&hold("case", "lobby", minute(0), minute(5)))
            .expect("hold");
        wait_until("a word of it", || said().len() == n);
        index
            .put_hold(&hold("other", "lobby", minute(15), minute(18)))
            .expect("hold");
        clock.set(200);
        wait_until("deletions", || l.archive.sequences(stream) == [0, 1]);
        let passes = worker.progress().passes;
        wait_until("passes", || worker.progress().passes > passes + 3);
        assert!(!worker.has_failed() && worker.progress().failed == 0);
        worker.stop().expect("stop");
        assert_eq!(said().len(), n, "{kind:?}: {:?}", said());
        assert_eq!(l.archive.sequences(stream), [0, 1]);
    }
}
