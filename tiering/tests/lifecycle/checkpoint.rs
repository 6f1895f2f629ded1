//! The index in a store, and back.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use archive::seam::{Answer, Faults, Step};
use archive::store::Objects;
use archive::time::SECOND_US;
use archive::{Tier, WallTime};
use indexer::{Index, compare, rebuild, rebuild_from};
use tierline_tiering::checkpoint::{fetch, make};

use crate::archive_of_segments::minute;
use crate::tiers::{Tiered, rule};

fn warm(t: &Tiered) -> &Objects {
    t.stores.of(Tier::Warm).expect("warm")
}

fn checkpoint(t: &Tiered, work: &Path, now: WallTime) -> Option<u64> {
    make(&t.archive.index, work, warm(t), 2, now, || true).expect("checkpoint")
}

fn folders(t: &Tiered) -> Vec<String> {
    let (mut folders, objects) = warm(t).folder(".checkpoints").expect("list");
    assert_eq!(objects, Vec::<String>::new());
    folders.sort();
    folders
}

#[test]
fn an_index_that_was_lost_is_made_again_from_a_checkpoint_and_from_what_was_recorded_since() {
    let (t, stream) = Tiered::with_segments(6);
    t.archive.record(stream, minute(64), 10, 60_000);
    let other = t.archive.camera("yard", 5);
    t.archive.record_many(other, 0..3);
    let mut mover = t.mover(&rule());
    t.settle(&mut mover, minute(80));
    t.settle(&mut mover, minute(82));
    // It is open when the index is copied, and sealed afterwards.
    let (open, writer) = t.archive.begin(stream, minute(74), 10, 60_000);
    let dir = tempfile::tempdir().expect("folder");
    assert!(checkpoint(&t, &dir.path().join("work"), minute(83)).is_some_and(|bytes| bytes > 0));
    assert!(!dir.path().join("work").exists());
    t.archive.seal(open, writer);
    t.archive.record(stream, minute(84), 10, 60_000);
    t.archive.record(other, minute(40), 10, 60_000);
    t.settle(&mut mover, minute(100));
    t.settle(&mut mover, minute(102));

    let fetched = dir.path().join("fetched");
    std::fs::create_dir(&fetched).expect("folder");
    let name = fetch(warm(&t), &fetched).expect("fetch");
    assert_eq!(name.as_ref(), folders(&t).first());
    let known = Index::open_read_only(&fetched).expect("index");
    let anew = |name: &str| Index::open(&dir.path().join(name), &Default::default()).expect("index");
    let (a, b) = (anew("a"), anew("b"));
    let (disk, stores) = (&t.archive.disk, &t.stores);
    let from = rebuild_from(Some(&known), disk, stores, &a, |_| {}).expect("rebuild");
    let full = rebuild(disk, stores, &b, |_| {}).expect("rebuild");
    assert_eq!((from.segments, full.segments), (13, 13), "{from:?} {full:?}");
    assert_eq!((from.remembered, full.remembered), (10, 0));
    assert_eq!((&from.left_out, &full.left_out), (&vec![], &vec![]));
    assert_eq!(compare(&t.archive.index, &a).expect("compare"), []);
    assert_eq!(compare(&t.archive.index, &b).expect("compare"), []);
    assert_eq!(compare(&a, &b).expect("compare"), []);
    assert!(a.epoch() == b.epoch());
}

#[test]
fn a_checkpoint_that_never_came_to_its_end_or_was_damaged_is_none() {
    let (t, _) = Tiered::with_segments(3);
    let dir = tempfile::tempdir().expect("folder");
    let work = dir.path().join("work");
    let second = |n: i64| minute(200).plus_micros(n * SECOND_US);
    assert!(checkpoint(&t, &work, second(0)).is_some());
    let first = folders(&t)[0].clone();
    // Killed before each file.
    let mut kills = 0i64;
    loop {
        let left = Cell::new(kills);
        let go_on = || {
            let left_now = left.get();
            left.set(left_now.saturating_sub(1));
            left_now > 0
        };
        let made = make(&t.archive.index, &work, warm(&t), 9, second(1 + kills), go_on).expect("checkpoint");
        let into = tempfile::tempdir().expect("folder");
        let found = fetch(warm(&t), into.path()).expect("fetch");
        if made.is_some() {
            assert!(found > Some(first));
            break;
        }
        assert_eq!(found, Some(first.clone()), "after {kills} files");
        kills += 1;
    }
    assert!(kills > 3);
    assert_eq!(
        folders(&t).len(),
        2,
        "what was left half done went with the next one"
    );
    for n in [500, 501] {
        assert!(checkpoint(&t, &work, second(n)).is_some());
    }
    let two = folders(&t);
    assert_eq!(two.len(), 2, "and older ones too");
    // The newest is not what was put there.
    let mut names = Vec::new();
    warm(&t)
        .for_each(&two[1], |name, _| names.push(name))
        .expect("list");
    let sst = names.iter().find(|name| name.ends_with(".sst")).expect("a file");
    let path = t.root(Tier::Warm).join(sst);
    let mut bytes = std::fs::read(&path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("write");
    let into = tempfile::tempdir().expect("folder");
    assert_eq!(fetch(warm(&t), into.path()).expect("fetch"), Some(two[0].clone()));
    assert!(Index::open_read_only(into.path()).is_ok());
}

/// Fails whatever puts a manifest there.
#[derive(Debug)]
struct NoManifests;

impl Faults for NoManifests {
    fn at(&self, step: Step, path: &Path) -> Answer {
        if step == Step::Put && path.ends_with("manifest") {
            return Answer::Fail(28);
        }
        Answer::GoOn
    }
}

#[test]
fn checkpoints_that_never_come_to_their_end_do_not_pile_up() {
    let (t, _) = Tiered::with_segments(3);
    let dir = tempfile::tempdir().expect("folder");
    let work = dir.path().join("work");
    let second = |n: i64| minute(200).plus_micros(n * SECOND_US);
    assert!(checkpoint(&t, &work, second(0)).is_some());
    let sound = folders(&t);
    let mut full = warm(&t).clone();
    full.store = full.store.clone().with_faults(Arc::new(NoManifests));
    for n in 1..6 {
        make(&t.archive.index, &work, &full, 2, second(n), || true).expect_err("full");
    }
    let left = folders(&t);
    assert_eq!(
        left.len(),
        2,
        "the whole one, and what the last attempt left: {left:?}"
    );
    assert_eq!(left[0], sound[0]);
}
