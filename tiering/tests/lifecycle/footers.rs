//! What has left the disk is told by its own footer, and the index forgets the fragments.

use std::time::Duration;

use archive::layout::MARKER;
use archive::segment::Pace;
use archive::{FragmentEntry, GapCause, StreamNo, Tier, TimeRange};
use indexer::{Batch, Cause, Index, IndexError, compare, fetch_tables, rebuild, with_tables};
use tierline_tiering::scrub::{ScrubConfig, Scrubber};
use tierline_tiering::{Hands, RetentionRule};

use crate::archive_of_segments::{DAY_US, minute};
use crate::tiers::{Tiered, rule};

/// So many segments, which lie on the warm tier alone, and the tables that they had on the disk.
fn moved(segments: i64) -> (Tiered, StreamNo, Vec<Vec<FragmentEntry>>) {
    let (t, stream) = Tiered::with_segments(segments);
    let rows = t.archive.rows(stream);
    let tables = rows.iter().map(|row| t.archive.index.table(row).expect("table"));
    let tables = tables.collect();
    let mut mover = t.mover(&warm_for_ever());
    for n in [0, 2] {
        t.settle(&mut mover, minute(10 * segments + 60 + n));
    }
    assert_eq!(t.tiers(stream), vec!["w"; segments as usize]);
    (t, stream, tables)
}

fn warm_for_ever() -> RetentionRule {
    RetentionRule {
        warm: None,
        cold: Some(Duration::ZERO),
        ..rule()
    }
}

/// Marks the tiers, as a start does.
fn marked(t: &Tiered) {
    for tier in [Tier::Warm, Tier::Cold] {
        let objects = t.stores.of(tier).expect("store");
        let marked = objects.store.put_bytes(MARKER, b"ours".to_vec());
        t.runtime.block_on(marked).expect("marker");
    }
    std::fs::write(t.archive.disk.path(MARKER), "ours").expect("marker");
}

/// Looks at everything, as a service that has just begun does.
fn scrub(t: &Tiered) {
    let mut scrubber = Scrubber::new(
        t.archive.index.clone(),
        t.archive.disk.clone(),
        t.stores.clone(),
        ScrubConfig::default(),
        Hands::default(),
        Pace::new(|_| {}),
    );
    let now = minute(120).plus_micros(DAY_US);
    while scrubber.step(now, DAY_US.unsigned_abs()).expect("index") {}
}

fn cause() -> Cause {
    Cause {
        reason: "age".to_owned(),
        rule: "the first".to_owned(),
    }
}

fn is_elsewhere<T>(found: &Result<T, IndexError>, segments: usize) -> bool {
    matches!(found, Err(IndexError::Elsewhere(rows)) if rows.len() == segments)
}

fn anew(t: &Tiered) -> (tempfile::TempDir, Index) {
    let dir = tempfile::tempdir().expect("folder");
    let index = Index::open(&dir.path().join("anew"), &Default::default()).expect("index");
    let rebuilt = rebuild(&t.archive.disk, &t.stores, &index, |_| {}).expect("rebuild");
    assert_eq!(rebuilt.left_out, []);
    (dir, index)
}

#[test]
fn tables_leave_the_index_with_the_last_copy_on_the_disk_and_are_told_by_the_footers() {
    let (t, stream, tables) = moved(6);
    let (index, disk, stores) = (&t.archive.index, &t.archive.disk, &t.stores);
    let rows = t.archive.rows(stream);
    for row in &rows {
        assert!(is_elsewhere(&index.table(row), 1));
    }
    let inside = TimeRange::new(minute(15), minute(35)).expect("range");
    assert!(
        is_elsewhere(&index.fragments(stream, inside), 3),
        "all are named at once"
    );
    assert!(is_elsewhere(&index.seek(stream, minute(15)), 1));
    // What needs no fragments is told by the index alone.
    let span = TimeRange::new(minute(0), minute(60)).expect("range");
    assert_eq!(
        index.timeline(stream, span).expect("timeline").runs[0].range,
        span
    );
    assert_eq!(
        index.coverage(stream, span).expect("coverage")[0].recorded_ms,
        [60_000; 60]
    );

    for (row, table) in rows.iter().zip(&tables) {
        assert_eq!(
            &with_tables(index, disk, stores, || index.table(row)).expect("table"),
            table
        );
    }
    let found = with_tables(index, disk, stores, || index.seek(stream, minute(15))).expect("seek");
    assert_eq!(found.expect("a fragment").entry, tables[1][30]);
    assert_eq!(t.findings(), []);
    let (_dir, anew) = anew(&t);
    assert_eq!(compare(index, &anew).expect("compare"), []);
    assert!(is_elsewhere(
        &anew.table(&anew.segments(stream, span).expect("rows")[0]),
        1
    ));
}

#[test]
fn coverage_stays_right_when_segments_go_whose_tables_the_index_does_not_have() {
    let (t, stream) = Tiered::with_segments(0);
    // Segments meet within a minute, over a gap or without one.
    let second = |s: i64| minute(0).plus_micros(s * 1_000_000);
    for (from, minutes) in [(0, 10), (620, 5), (920, 1), (985, 30), (2790, 12)] {
        t.archive.record(stream, second(from), minutes, 60_000);
    }
    let mut mover = t.mover(&warm_for_ever());
    for n in [70, 72] {
        t.settle(&mut mover, minute(n));
    }
    let (index, rows) = (&t.archive.index, t.archive.rows(stream));
    assert!(
        rows.iter().all(|row| is_elsewhere(&index.table(row), 1)),
        "{rows:?}"
    );
    let all = TimeRange::ALL;
    for gone in 1..=rows.len() {
        let going = &rows[gone - 1..gone];
        let doomed: Vec<_> = going.iter().map(|row| (row.clone(), cause())).collect();
        let begun = index.begin_deletion(&doomed, minute(90)).expect("begun");
        assert_eq!(begun.len(), 1);
        t.archive.certify(going);
        for row in going {
            std::fs::remove_file(t.file(row, Tier::Warm)).expect("removed");
        }
        let mut batch = Batch::default();
        going.iter().for_each(|row| batch.delete(row));
        index.commit(batch).expect("commit");
        let dir = tempfile::tempdir().expect("folder");
        let anew = Index::open(dir.path(), &Default::default()).expect("index");
        rebuild(&t.archive.disk, &t.stores, &anew, |_| {}).expect("rebuild");
        let there = |index: &Index| index.coverage(stream, all).expect("coverage");
        assert_eq!(there(index), there(&anew), "{gone} are gone");
    }
}

#[test]
fn a_segment_whose_footer_is_damaged_tells_its_fragments_itself_and_the_one_copy_that_is_right_counts() {
    let (t, stream, tables) = moved(2);
    let (index, disk, stores) = (&t.archive.index, &t.archive.disk, &t.stores);
    let rows = t.archive.rows(stream);
    let path = t.file(&rows[0], Tier::Warm);
    let mut bytes = std::fs::read(&path).expect("read");
    let last = tables[0].last().expect("a fragment");
    let footer = (last.offset + u64::from(last.len)).next_multiple_of(4096) as usize;
    bytes[footer + 300] ^= 1;
    std::fs::write(&path, bytes).expect("write");
    let table = with_tables(index, disk, stores, || index.table(&rows[0])).expect("table");
    assert_eq!(table, tables[0]);
    // Another segment under its name is none of its copies.
    std::fs::copy(t.file(&rows[0], Tier::Warm), t.file(&rows[1], Tier::Warm)).expect("copy");
    let error = fetch_tables(index, disk, stores, &rows[1..], || true).expect_err("another one");
    assert!(matches!(error, IndexError::Archive(_)), "{error}");
    assert_eq!(index.suspects().take(), Some((rows[1].id, Tier::Warm)));
}

#[test]
fn what_can_still_be_told_of_a_segment_that_was_cut_short_is_served_and_the_rest_is_lost() {
    let (t, stream, tables) = moved(2);
    let (index, disk, stores) = (&t.archive.index, &t.archive.disk, &t.stores);
    marked(&t);
    let rows = t.archive.rows(stream);
    let path = t.file(&rows[0], Tier::Warm);
    let whole = std::fs::read(&path).expect("read");
    let cut = tables[0][40].offset as usize + 1000;
    std::fs::write(&path, &whole[..cut]).expect("write");
    let all = TimeRange::new(minute(0), minute(20)).expect("range");
    let read = || with_tables(index, disk, stores, || index.fragments(stream, all));
    let left = read().expect("the rest");
    assert_eq!(left[0].fragments, tables[0][..40]);
    scrub(&t);
    let lost = |index: &Index| {
        let mut gaps = index.gaps(stream, all).expect("gaps");
        gaps.retain(|gap| gap.cause == GapCause::Lost);
        gaps.iter().map(|gap| (gap.from, gap.to)).collect::<Vec<_>>()
    };
    let from = tables[0][40].wall_start;
    assert_eq!(lost(index), [(from, Some(minute(10)))]);
    assert_eq!(read().expect("the rest")[0].fragments, tables[0][..40]);
    // It comes back, but for one fragment.
    let mut bytes = whole.clone();
    bytes[tables[0][7].offset as usize + 1500] ^= 1;
    std::fs::write(&path, bytes).expect("write");
    scrub(&t);
    let seventh = &tables[0][7];
    assert_eq!(lost(index), [(seventh.wall_start, Some(seventh.wall_end()))]);
    std::fs::write(&path, whole).expect("write");
    scrub(&t);
    assert_eq!(lost(index), []);
    assert_eq!(t.findings(), []);
}

#[test]
fn a_segment_that_is_gone_from_everywhere_is_lost_as_a_whole_and_the_rest_is_served() {
    let (t, stream, tables) = moved(3);
    let (index, disk, stores) = (&t.archive.index, &t.archive.disk, &t.stores);
    marked(&t);
    let rows = t.archive.rows(stream);
    std::fs::remove_file(t.file(&rows[1], Tier::Warm)).expect("removed");
    let all = TimeRange::new(minute(0), minute(30)).expect("range");
    let read = || with_tables(index, disk, stores, || index.fragments(stream, all));
    let error = read().expect_err("one is missing");
    assert!(
        matches!(&error, IndexError::Archive(e) if e.is_not_found()),
        "{error}"
    );

    scrub(&t);
    let left = read().expect("the rest");
    let left: Vec<_> = left.into_iter().map(|s| s.fragments).collect();
    assert_eq!(left, [tables[0].clone(), tables[2].clone()]);
    let gaps = index.gaps(stream, all).expect("gaps");
    let lost: Vec<_> = gaps.iter().filter(|gap| gap.cause == GapCause::Lost).collect();
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].from, lost[0].to), (minute(10), Some(minute(20))));
}
