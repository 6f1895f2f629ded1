//! Copies that are wrong are found, and made anew from others.

use std::path::Path;
use std::time::Duration;

use archive::layout::MARKER;
use archive::segment::Pace;
use archive::{GapCause, StreamNo, Tier, TimeRange, WallTime};
use indexer::{Batch, Copies, CopyState, Damage, Event, Fault, FaultKind, IncidentKind, SegmentRow};
use tierline_tiering::scrub::{ScrubConfig, Scrubber};
use tierline_tiering::{Hands, RetentionRule};

use crate::archive_of_segments::{DAY_US, MINUTE_US, minute};
use crate::tiers::{Tiered, rule};

/// Two hours after the first segment began: they lie on hot and warm, as [`site`] leaves them.
fn begin() -> WallTime {
    minute(120)
}

fn days(n: i64) -> WallTime {
    begin().plus_micros(n * DAY_US)
}

/// Footage stays on the disk and has a copy on the warm tier.
fn site(segments: i64) -> (Tiered, StreamNo) {
    site_by(segments, &RetentionRule::default(), &[minute(110)])
}

fn site_by(segments: i64, rule: &RetentionRule, passes: &[WallTime]) -> (Tiered, StreamNo) {
    let (t, stream) = Tiered::with_segments(segments);
    for tier in [Tier::Warm, Tier::Cold] {
        let objects = t.stores.of(tier).expect("store");
        let marked = objects.store.put_bytes(MARKER, b"ours".to_vec());
        t.runtime.block_on(marked).expect("marker");
    }
    std::fs::write(t.archive.disk.path(MARKER), "ours").expect("marker");
    let mut mover = t.mover(rule);
    passes.iter().for_each(|now| t.settle(&mut mover, *now));
    (t, stream)
}

fn scrubber(t: &Tiered, hands: &Hands) -> Scrubber {
    let config = ScrubConfig {
        cold: Duration::from_secs(90 * 24 * 3600),
        ..ScrubConfig::default()
    };
    Scrubber::new(
        t.archive.index.clone(),
        t.archive.disk.clone(),
        t.stores.clone(),
        config,
        hands.clone(),
        Pace::new(|_| {}),
    )
}

/// Steps until nothing is due.
fn settle(scrubber: &mut Scrubber, now: WallTime) {
    let monotonic_us = now.micros_since(begin()).max(0).unsigned_abs() + 1;
    for _ in 0..10_000 {
        if !scrubber.step(now, monotonic_us).expect("index") {
            return;
        }
    }
    panic!("it never comes to an end");
}

fn flip(path: &Path, at: usize) -> Vec<u8> {
    let sound = std::fs::read(path).expect("read");
    let mut wrong = sound.clone();
    wrong[at] ^= 0x10;
    std::fs::write(path, wrong).expect("write");
    sound
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_default()
}

fn assert_sound(t: &Tiered) {
    assert_eq!(t.findings(), []);
    assert_eq!(t.archive.index.faults(10).expect("faults"), []);
    assert_eq!(t.archive.index.damaged_segments(10).expect("damage"), []);
    assert!(t.archive.disk.list(".repair").expect("list").is_empty());
}

#[test]
fn whatever_is_wrong_with_a_copy_is_found_within_a_period_and_made_anew_from_another() {
    let (t, stream) = site(8);
    assert_eq!(t.tiers(stream), ["hw"; 8]);
    let rows = t.archive.rows(stream);
    let path = |i: usize, tier| t.file(&rows[i], tier);
    let fragment = t.archive.index.table(&rows[0]).expect("table")[7].offset as usize;
    let mut sound = Vec::new();
    let harm = [
        (Tier::Hot, fragment + 3000),
        (Tier::Warm, fragment + 3001),
        (Tier::Hot, 20),
        (Tier::Warm, rows[3].bytes as usize - 30),
    ];
    for (i, (tier, at)) in harm.into_iter().enumerate() {
        sound.push((path(i, tier), flip(&path(i, tier), at)));
    }
    for (i, tier) in [(4, Tier::Hot), (5, Tier::Warm)] {
        sound.push((path(i, tier), read(&path(i, tier))));
        std::fs::remove_file(path(i, tier)).expect("remove");
    }
    for (i, tier) in [(6, Tier::Hot), (7, Tier::Warm)] {
        let whole = read(&path(i, tier));
        std::fs::write(path(i, tier), &whole[..whole.len() - 8192]).expect("cut");
        sound.push((path(i, tier), whole));
    }
    let mut scrubber = scrubber(&t, &Hands::default());
    settle(&mut scrubber, begin());
    assert_eq!(scrubber.scrubbed().found, 0, "nothing is due yet");
    settle(&mut scrubber, days(2));
    assert_eq!(scrubber.scrubbed().repaired, 4, "what a look at lengths tells");
    settle(&mut scrubber, days(16));
    assert_eq!(scrubber.scrubbed().repaired, 6, "and what lies on the disk");
    settle(&mut scrubber, days(46));
    assert_eq!(scrubber.scrubbed().repaired, 8);
    for (path, bytes) in sound {
        assert!(read(&path) == bytes, "{}", path.display());
    }
    assert_eq!(t.tiers(stream), ["hw"; 8]);
    for row in &rows {
        let copies = t.archive.index.copies(row).expect("copies");
        assert_eq!(copies.authority, Tier::Warm);
    }
    assert_sound(&t);
    // What lies on the tiers, by the last sweep over each.
    let told = scrubber.scrubbed();
    let day = |age: Option<u64>| age.map(|s| s / (24 * 3600));
    assert_eq!(told.oldest_s.map(day), [Some(0), Some(0), Some(0)]);
    assert!(told.bytes > 0 && told.passed_over == 0);
}

#[test]
fn a_copy_that_counts_gives_way_to_one_that_is_right_until_it_is_made_anew() {
    let (t, stream) = site_by(3, &rule(), &[minute(30), minute(64)]);
    let all = t.tiers(stream);
    assert!(all.iter().all(|on| on == "wc"), "{all:?}");
    let rows = t.archive.rows(stream);
    let sound = flip(&t.file(&rows[1], Tier::Cold), 30_000);
    let mut scrubber = scrubber(&t, &Hands::default());
    settle(&mut scrubber, days(60));
    assert_eq!(scrubber.scrubbed().repaired, 1);
    assert!(read(&t.file(&rows[1], Tier::Cold)) == sound);
    let copies = t.archive.index.copies(&rows[1]).expect("copies");
    assert_eq!(copies.authority, Tier::Cold, "the coldest counts again");
    assert_sound(&t);
}

#[test]
fn copies_that_are_wrong_in_different_places_make_one_that_is_right() {
    let (t, stream) = site(1);
    let row = &t.archive.rows(stream)[0];
    let fragments = t.archive.index.table(row).expect("table");
    let sound = flip(&t.file(row, Tier::Hot), fragments[3].offset as usize + 2500);
    flip(&t.file(row, Tier::Warm), fragments[9].offset as usize + 2500);
    let mut scrubber = scrubber(&t, &Hands::default());
    settle(&mut scrubber, days(16));
    settle(&mut scrubber, days(46));
    settle(&mut scrubber, days(47));
    assert!(read(&t.file(row, Tier::Hot)) == sound && read(&t.file(row, Tier::Warm)) == sound);
    assert_sound(&t);
}

#[test]
fn a_copy_that_is_wrong_itself_is_never_what_another_is_made_of() {
    let (t, stream) = site(1);
    let row = &t.archive.rows(stream)[0];
    let fragments = t.archive.index.table(row).expect("table");
    let file = t.file(row, Tier::Hot);
    let sound = flip(&file, fragments[3].offset as usize + 2500);
    std::fs::remove_file(t.file(row, Tier::Warm)).expect("remove");
    let mut scrubber = scrubber(&t, &Hands::default());
    settle(&mut scrubber, days(2));
    assert!(!t.file(row, Tier::Warm).exists(), "an object of wrong bytes");
    assert_eq!(scrubber.scrubbed().repaired, 0);
    assert_eq!(
        t.archive
            .index
            .damage(stream, TimeRange::ALL)
            .expect("damage")
            .len(),
        1
    );
    std::fs::write(&file, &sound).expect("write");
    settle(&mut scrubber, days(16));
    settle(&mut scrubber, days(18));
    assert!(read(&t.file(row, Tier::Warm)) == sound);
    assert_sound(&t);
}

#[test]
fn what_no_copy_has_is_told_as_lost_and_is_found_again_when_somebody_brings_it_back() {
    let (t, stream) = Tiered::with_segments(3);
    std::fs::write(t.archive.disk.path(MARKER), "ours").expect("marker");
    let index = &t.archive.index;
    let rows = t.archive.rows(stream);
    let fragments = index.table(&rows[0]).expect("table");
    let sound = flip(&t.file(&rows[0], Tier::Hot), fragments[5].offset as usize + 2500);
    let gone = read(&t.file(&rows[2], Tier::Hot));
    std::fs::remove_file(t.file(&rows[2], Tier::Hot)).expect("remove");
    let mut scrubber = scrubber(&t, &Hands::default());
    settle(&mut scrubber, days(16));
    let lost = || {
        let gaps = index.gaps(stream, TimeRange::ALL).expect("gaps");
        gaps.into_iter()
            .filter(|gap| gap.cause == GapCause::Lost)
            .collect::<Vec<_>>()
    };
    assert_eq!(lost().len(), 1 + rows[2].fragments as usize);
    assert_eq!(lost()[0].from, fragments[5].wall_start);
    let readable = index.fragments(stream, TimeRange::ALL).expect("fragments");
    let readable: usize = readable.iter().map(|s| s.fragments.len()).sum();
    assert_eq!(readable, 60 - 1 + 60, "the rest is served");
    let incidents = index.incidents(stream, TimeRange::ALL).expect("incidents");
    let kinds: Vec<_> = incidents.iter().map(|i| i.kind).collect();
    assert_eq!(
        kinds,
        [IncidentKind::Lost { seq: 0 }, IncidentKind::Lost { seq: 2 }]
    );
    assert_eq!(t.archive.rows(stream).len(), 3, "nothing is removed silently");
    assert!(index.faults(10).expect("faults").iter().all(|fault| fault.lost));
    settle(&mut scrubber, days(20));
    assert_eq!(
        index.incidents(stream, TimeRange::ALL).expect("incidents").len(),
        2
    );

    std::fs::write(t.file(&rows[0], Tier::Hot), sound).expect("write");
    std::fs::write(t.file(&rows[2], Tier::Hot), gone).expect("write");
    settle(&mut scrubber, days(40));
    assert_eq!(lost(), []);
    assert_sound(&t);
}

/// Leaves the copy of `row` on the warm tier as a kill after the first `steps` of a repair does.
fn interrupt(t: &Tiered, row: &SegmentRow, steps: usize) {
    let mut copies: Copies = t.archive.index.copies(row).expect("copies");
    let mut batch = Batch::default();
    batch.fault(Fault {
        segment: row.id,
        tier: Tier::Warm,
        kind: FaultKind::Damaged,
        found: begin(),
        lost: false,
    });
    t.archive.index.commit(batch).expect("commit");
    let all = [
        Event::Trusted(Tier::Hot),
        Event::DeletionBegun(Tier::Warm),
        Event::Deleted(Tier::Warm),
        Event::CopyBegun(Tier::Warm),
    ];
    for step in all.into_iter().take(steps) {
        copies = copies.after(step, begin()).expect("allowed");
    }
    let mut batch = Batch::default();
    batch.copies(row, copies);
    t.archive.index.commit(batch).expect("commit");
    match copies.state(Tier::Warm) {
        CopyState::Whole => {}
        CopyState::Deleting => drop(flip(&t.file(row, Tier::Warm), 9000)),
        _ => std::fs::write(t.file(row, Tier::Warm), "half of it").expect("write"),
    }
}

#[test]
fn a_repair_that_was_interrupted_is_ended_by_the_next_process() {
    for steps in [2, 4] {
        let (t, stream) = site(2);
        let row = &t.archive.rows(stream)[0];
        let sound = read(&t.file(row, Tier::Warm));
        interrupt(&t, row, steps);
        let left = t.archive.disk.path(".repair/half_a_file");
        std::fs::create_dir_all(left.parent().expect("folder")).expect("folder");
        std::fs::write(&left, "half").expect("write");
        settle(&mut scrubber(&t, &Hands::default()), begin());
        assert!(read(&t.file(row, Tier::Warm)) == sound, "after {steps} steps");
        assert_eq!(t.tiers(stream), ["hw", "hw"]);
        assert_sound(&t);
    }
}

#[test]
fn copies_that_nothing_can_mend_keep_no_other_from_being_mended() {
    const LOST: i64 = 257;
    let t = Tiered::new();
    let (first, second) = (t.archive.camera("first", 5), t.archive.camera("second", 5));
    for tier in [Tier::Warm, Tier::Cold] {
        let objects = t.stores.of(tier).expect("store");
        let marked = objects.store.put_bytes(MARKER, b"ours".to_vec());
        t.runtime.block_on(marked).expect("marker");
    }
    std::fs::write(t.archive.disk.path(MARKER), "ours").expect("marker");
    t.archive.record_many(second, 0..2);
    t.settle(&mut t.mover(&RetentionRule::default()), minute(110));
    for i in 0..LOST {
        t.archive.record(first, minute(i), 1, 60_000);
    }
    let index = &t.archive.index;
    let fault = |row: &SegmentRow, tier| Fault {
        segment: row.id,
        tier,
        kind: FaultKind::Missing,
        found: begin(),
        lost: false,
    };
    let mut batch = Batch::default();
    for row in t.archive.rows(first) {
        std::fs::remove_file(t.file(&row, Tier::Hot)).expect("removed");
        batch.fault(fault(&row, Tier::Hot));
    }
    let rows = t.archive.rows(second);
    std::fs::remove_file(t.file(&rows[0], Tier::Warm)).expect("removed");
    batch.fault(fault(&rows[0], Tier::Warm));
    index.commit(batch).expect("commit");
    let mut scrubber = scrubber(&t, &Hands::default());
    let mut minutes = (0..9).map(|m| begin().plus_micros(m * MINUTE_US + m));
    for now in minutes.by_ref().take(5) {
        settle(&mut scrubber, now);
    }
    let damaged = index.damaged_segments(1000).expect("damage").len();
    assert_eq!(damaged, LOST as usize, "what is lost is damaged");
    // Somebody read this one when its disk did not answer for a moment.
    let entry = &index.table(&rows[1]).expect("table")[3];
    let mut batch = Batch::default();
    batch.damage(Damage::of(rows[1].id, entry, begin()));
    index.commit(batch).expect("commit");
    for now in minutes {
        settle(&mut scrubber, now);
    }
    assert!(t.file(&rows[0], Tier::Warm).exists());
    assert_eq!(index.fault(rows[0].id, Tier::Warm).expect("fault"), None);
    let damage = index.damage(second, TimeRange::ALL).expect("damage");
    assert_eq!(damage, [], "and what reads right is no damage any more");
    let told = scrubber.scrubbed();
    assert_eq!((told.faults, told.lost), (LOST as u64, LOST as u64));
}

#[test]
fn a_copy_that_a_reader_found_wrong_is_mended_at_once() {
    let (t, stream) = site(2);
    let row = &t.archive.rows(stream)[1];
    let sound = flip(&t.file(row, Tier::Hot), 40_000);
    t.archive.index.suspects().add(row.id, Tier::Hot);
    settle(&mut scrubber(&t, &Hands::default()), begin());
    assert!(read(&t.file(row, Tier::Hot)) == sound);
    assert_sound(&t);
}

#[test]
fn a_disk_or_a_store_that_is_not_there_is_no_reason_to_believe_that_its_copies_are_gone() {
    for tier in [Tier::Hot, Tier::Warm] {
        let (t, stream) = site(2);
        let row = &t.archive.rows(stream)[0];
        let root = t.file(row, tier);
        let root = root.ancestors().nth(6).expect("root");
        let aside = root.with_extension("unmounted");
        std::fs::rename(root, &aside).expect("moved");
        std::fs::create_dir(root).expect("what is mounted over");
        let mut scrubber = scrubber(&t, &Hands::default());
        // It would be asked again and again, as time goes by.
        for step in 0..50 {
            scrubber.step(days(60), 1 + step).expect("index");
        }
        assert_eq!(t.archive.index.faults(10).expect("faults"), [], "{tier}");
        std::fs::remove_dir(root).expect("unmounted");
        std::fs::rename(&aside, root).expect("mounted");
        // A store that was away is left alone for a moment.
        std::thread::sleep(Duration::from_millis(1100));
        assert_sound(&t);
    }
}

#[test]
fn how_far_a_sweep_is_outlives_the_process() {
    let (t, _) = site(6);
    let hands = Hands::default();
    let mut first = scrubber(&t, &hands);
    // Each step is far enough behind the one before that it is kept.
    for step in 0..9 {
        first.step(days(16), 1 + step * 20_000_000).expect("index");
    }
    let before = first.scrubbed().bytes;
    assert!(before > 0);
    let mut second = scrubber(&t, &hands);
    settle(&mut second, days(16));
    let bytes: u64 = t.archive.rows(StreamNo(1)).iter().map(|row| row.bytes).sum();
    assert_eq!(before + second.scrubbed().bytes, bytes);
}

#[test]
fn objects_that_no_row_knows_are_told_and_stay() {
    let (t, stream) = site(2);
    let rows = t.archive.rows(stream);
    let strange = t.file(&rows[0], Tier::Warm).with_file_name("59-59Z.77.1.mp4");
    std::fs::write(&strange, b"what is this").expect("write");
    let hands = Hands::default();
    let mut scrubber = scrubber(&t, &hands);
    settle(&mut scrubber, days(2));
    let told = t.archive.index.orphans().first(10);
    assert_eq!(told.len(), 1, "{told:?}");
    let (tier, orphan) = &told[0];
    assert!(
        orphan.name.ends_with("59-59Z.77.1.mp4") && orphan.bytes == 12,
        "{orphan:?}"
    );
    assert_eq!((*tier, orphan.found), (Tier::Warm, days(2)));
    settle(&mut scrubber, days(4));
    let again = t.archive.index.orphans().first(10);
    assert_eq!(again[0].1.found, days(2), "the first time counts");
    assert!(strange.exists());
    std::fs::remove_file(strange).expect("removed");
    settle(&mut scrubber, days(6));
    assert_eq!(t.archive.index.orphans().count(), 0);
    assert_sound(&t);
}
