//! A segment gives way to a thinner version while it waits for its turn to leave the disk, or while its last copy is
//! looked at: what was decided about the one before is void.

use std::collections::HashSet;
use std::time::Duration;

use archive::{SegmentId, StreamNo, Tier};
use indexer::SegmentRow;
use tierline_tiering::{Mover, RetentionRule, Thinner};

use crate::archive_of_segments::{MINUTE_US, minute};
use crate::holds::hold;
use crate::thinning::{moment, original, record, settle, thinner};
use crate::tiers::{BELOW, Tiered};

/// Of each of three cameras; together more than leave the disk at a time.
const SEGMENTS: i64 = 12;

fn rule() -> RetentionRule {
    RetentionRule {
        hot: Some(Duration::from_secs(600)),
        thin_after: Some(Duration::from_secs(600)),
        ..RetentionRule::default()
    }
}

/// Segments of which the first 32 are leaving the disk and the others wait. The streams of the first and the last camera.
fn leaving() -> (Tiered, [StreamNo; 2], Mover) {
    let t = Tiered::new();
    let streams = ["a", "b", "c"].map(|camera| t.archive.camera(camera, 5));
    streams.iter().for_each(|no| record(&t.archive, *no, 0..SEGMENTS));
    let mut mover = t.mover(&rule());
    t.settle(&mut mover, minute(140));
    mover
        .pass(minute(142), true, 0, (142 * MINUTE_US).unsigned_abs())
        .expect("pass");
    assert_eq!(mover.moved().leaving, 36);
    assert_eq!(mover.busy().len(), 32);
    (t, [streams[0], streams[2]], mover)
}

/// Has the first segment thinned that is due and not held.
fn thin_one(t: &Tiered, busy: &HashSet<SegmentId>) -> (Thinner, SegmentRow) {
    let mut thinner = thinner(&t.archive, rule(), &t.stores, BELOW);
    let at = moment(minute(142), busy);
    let mut replaced = thinner.pass(&at).expect("pass");
    while replaced.is_empty() {
        std::thread::sleep(Duration::from_millis(2));
        replaced = thinner.go_on(&at).expect("pass");
    }
    let (_, after) = replaced.remove(0);
    (thinner, after)
}

/// All goes its way to the end, and of each segment the version that counts is there.
fn assert_nothing_is_lost(t: &Tiered, after: &SegmentRow, mover: &mut Mover, thinner: &mut Thinner) {
    let (stream, seq) = (after.id.stream, after.id.seq);
    // What was begun goes on without another look at what is due.
    while mover.moved().under_way + mover.moved().leaving > 0 {
        std::thread::sleep(Duration::from_millis(5));
        let monotonic_us = (142 * MINUTE_US).unsigned_abs();
        mover.go_on(minute(142), true, monotonic_us).expect("pass");
    }
    let row = &t.archive.rows(stream)[seq as usize];
    assert_eq!(row.generation, 1, "the thinner version still counts");
    assert!(t.file(row, Tier::Hot).exists());
    assert_eq!(t.findings(), []);
    mover.look_again(stream, row.wall_start).expect("marks");
    for m in [144, 146, 148] {
        t.settle(mover, minute(m));
        for (_, after) in settle(thinner, minute(m)).expect("passes") {
            mover
                .look_again(after.id.stream, after.wall_start)
                .expect("marks");
        }
        assert_eq!(t.findings(), []);
    }
    assert!(t.file(row, Tier::Warm).exists(), "it goes down like any other");
    assert!(!t.file(&original(row), Tier::Warm).exists());
}

#[test]
fn one_that_waited_to_leave_and_was_thinned_is_not_taken_for_what_it_was() {
    for tell in [true, false] {
        let (t, [_, last], mut mover) = leaving();
        for (camera, minutes) in [("a", 120), ("b", 120), ("c", 110)] {
            let hold = hold(camera, camera, minute(0), minute(minutes));
            t.archive.index.put_hold(&hold).expect("hold");
        }
        let busy = mover.busy();
        let (mut thinner, after) = thin_one(&t, &busy);
        assert_eq!((after.id.stream, after.id.seq), (last, 11));
        if tell {
            mover.look_again(last, after.wall_start).expect("marks");
            assert_eq!(mover.moved().leaving, 35);
        }
        assert_nothing_is_lost(&t, &after, &mut mover, &mut thinner);
    }
}

#[test]
fn one_that_was_changed_while_its_copy_was_looked_at_stays() {
    let (t, [first, _], mut mover) = leaving();
    // Nobody says that it is under way.
    let (mut thinner, after) = thin_one(&t, &HashSet::new());
    assert_eq!((after.id.stream, after.id.seq), (first, 0));
    assert_nothing_is_lost(&t, &after, &mut mover, &mut thinner);
}
