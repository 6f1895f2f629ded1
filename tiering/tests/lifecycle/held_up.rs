//! A segment that fails, or waits for something of its own, holds up no other; and a store that is away is asked for one
//! segment, not for all.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use archive::time::SECOND_US;
use archive::{StreamNo, Tier};
use tierline_tiering::RetentionRule;

use crate::archive_of_segments::minute;
use crate::tiers::{Tiered, rule};

/// Takes the file of a segment away, so that it cannot be copied.
fn put_aside(t: &Tiered, stream: StreamNo, segment: usize) -> (PathBuf, PathBuf) {
    let file = t.file(&t.archive.rows(stream)[segment], Tier::Hot);
    let aside = file.with_extension("aside");
    std::fs::rename(&file, &aside).expect("moved");
    (file, aside)
}

/// Ten minutes on the disk, and no age on the tier below.
fn on_the_disk() -> RetentionRule {
    RetentionRule { warm: None, ..rule() }
}

fn nearest(t: &Tiered, stream: StreamNo) -> Vec<Tier> {
    t.archive.rows(stream).iter().map(|row| row.tier).collect()
}

#[test]
fn many_that_cannot_be_copied_keep_no_other_on_the_disk() {
    let (t, stream) = Tiered::with_segments(24);
    (0..20).for_each(|i| drop(put_aside(&t, stream, i)));
    let mut mover = t.mover(&rule());
    // Each pass tries a few, and what has failed once is left alone for two seconds.
    for tenths in 0..12 {
        t.settle(&mut mover, minute(240).plus_micros(tenths * SECOND_US / 10));
    }
    t.settle(&mut mover, minute(252));
    assert_eq!(nearest(&t, stream)[..20], [Tier::Hot; 20]);
    assert_eq!(nearest(&t, stream)[20..], [Tier::Warm; 4]);
}

#[test]
fn one_that_cannot_be_copied_keeps_no_other_on_the_warm_tier() {
    let (t, stream) = Tiered::with_segments(4);
    put_aside(&t, stream, 1);
    let mut mover = t.mover(&rule());
    for m in [40, 60, 100, 102] {
        t.settle(&mut mover, minute(m));
    }
    assert_eq!(
        nearest(&t, stream),
        [Tier::Cold, Tier::Hot, Tier::Cold, Tier::Cold]
    );
    let rows = t.archive.rows(stream);
    let on_warm: Vec<bool> = rows.iter().map(|row| t.file(row, Tier::Warm).exists()).collect();
    assert_eq!(on_warm, [false; 4]);
}

#[test]
fn the_grace_of_one_that_was_copied_late_keeps_no_other_on_the_disk() {
    let (t, stream) = Tiered::with_segments(3);
    let (file, aside) = put_aside(&t, stream, 0);
    let mut mover = t.mover(&on_the_disk());
    let seconds = |s: i64| minute(45).plus_micros(s * SECOND_US);
    t.settle(&mut mover, seconds(0));
    std::fs::rename(aside, file).expect("moved");
    t.settle(&mut mover, seconds(30));
    assert_eq!(t.tiers(stream), ["hw", "hw", "hw"]);
    t.settle(&mut mover, seconds(70));
    assert_eq!(t.tiers(stream), ["hw", "w", "w"]);
    t.settle(&mut mover, seconds(100));
    assert_eq!(t.tiers(stream), ["w", "w", "w"]);
    assert_eq!(t.findings(), []);
}

#[test]
fn a_store_that_confirms_nothing_is_not_asked_for_every_segment_that_is_to_leave_the_disk() {
    let (t, stream) = Tiered::with_segments(40);
    let mut mover = t.mover(&on_the_disk());
    t.settle(&mut mover, minute(401));
    t.steps.stores_away.store(true, Ordering::Release);
    t.settle(&mut mover, minute(420));
    let failures = mover.moved().failures;
    // As many as are asked at a time.
    assert!((1..=32).contains(&failures), "{failures} failures");
    t.settle(&mut mover, minute(420));
    assert_eq!(mover.moved().failures, failures, "it rests");
    t.steps.stores_away.store(false, Ordering::Release);
    for m in [421, 422, 423] {
        t.settle(&mut mover, minute(m));
    }
    assert_eq!(t.tiers(stream), ["w"; 40]);
}
