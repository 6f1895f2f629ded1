//! What a machine leaves behind in its stores binds the next one: holds, and certificates of what was deleted.

use std::sync::Arc;
use std::time::Duration;

use archive::store::Objects;
use archive::{Tier, TimeRange};
use indexer::{CERTIFICATES_FOLDER, HOLDS_FOLDER, Index, Release, rebuild};
use tierline_tiering::RetentionRule;

use crate::archive_of_segments::{Archive, TestClock, deep_check, minute, wait_until};
use crate::holds::hold;
use crate::locks::Locked;

/// What lies in a folder of a store.
fn names(objects: &Objects, folder: &str) -> Vec<String> {
    let mut names = Vec::new();
    objects
        .for_each(folder, |name, _| names.push(name))
        .expect("list");
    names
}

fn certificates(index: &Index) -> Vec<String> {
    let all = 1..=index.last_certificate().expect("last");
    all.map(|number| index.certificate(number).expect("read").expect("there"))
        .collect()
}

#[test]
fn holds_and_certificates_come_back_from_the_stores_of_a_lost_machine_and_bind_the_next_one() {
    let (l, stream) = Locked::with_segments(6);
    let warm = l.stores.warm.as_ref().expect("warm");
    let keep = RetentionRule {
        max: Some(Duration::from_secs(3600)),
        ..RetentionRule::default()
    };
    let lost = &l.archive.index;
    let old = hold("old", "lobby", minute(0), minute(5));
    lost.put_hold(&old).expect("hold");
    lost.put_hold(&hold("case", "lobby", minute(21), minute(22)))
        .expect("hold");
    let clock = Arc::new(TestClock::default());
    clock.set(60);
    let worker = l.worker(&l.archive, clock.clone(), keep.clone());
    let holds = || names(warm, HOLDS_FOLDER);
    wait_until("both holds in the store", || {
        holds() == [".holds/case.1.json", ".holds/old.1.json"]
    });
    let release = Release {
        at: minute(60),
        by: "guard desk".into(),
        reason: "no case".into(),
    };
    lost.release_hold(&old.id, &release).expect("release");
    wait_until("the release in the store", || {
        holds().contains(&".holds/old.2.json".to_owned())
    });

    let stored = || lost.certificates_stored(Tier::Warm).expect("read");
    clock.set(101);
    wait_until("deletions", || l.archive.sequences(stream) == [2, 4, 5]);
    wait_until("a certificate in the store", || stored() > 0);
    l.archive.record(stream, minute(230), 10, 60_000);
    clock.set(171);
    wait_until("more deletions", || l.archive.sequences(stream) == [2, 6]);
    // They go there once an hour.
    clock.set(232);
    wait_until("all certificates in the store", || {
        Some(stored()) == lost.last_certificate().ok()
    });
    assert!(names(warm, CERTIFICATES_FOLDER).len() >= 2);
    wait_until("copies", || l.is_in(stream, Tier::Warm));
    worker.stop().expect("stop");

    let next = Archive::new();
    let rebuilt = rebuild(&next.disk, &l.stores, &next.index, |_| {}).expect("rebuild");
    assert_eq!(rebuilt.left_out, []);
    assert_eq!(next.sequences(stream), [2, 6]);
    let found = deep_check(&next.index, &next.disk, &l.stores);
    assert_eq!(found, [], "the chain of certificates too");
    assert_eq!(certificates(&next.index), certificates(lost));
    assert_eq!(next.index.holds().expect("holds"), lost.holds().expect("holds"));
    let gaps = |index: &Index| index.gaps(stream, TimeRange::ALL).expect("gaps");
    assert_eq!(gaps(&next.index), gaps(lost), "what was deleted is told as that");

    clock.set(305);
    let worker = l.worker(&next, clock, keep);
    wait_until("deletions", || next.sequences(stream) == [2]);
    let passes = worker.progress().passes;
    wait_until("passes", || worker.progress().passes > passes + 3);
    worker.stop().expect("stop");
    assert_eq!(next.sequences(stream), [2], "what is held stays");
    let left = l.mc(&["ls", "--recursive", "it/locked/warm/default"]);
    assert_eq!(left.lines().count(), 1, "{left}");
}
