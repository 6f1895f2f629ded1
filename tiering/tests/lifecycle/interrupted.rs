//! A deletion has three steps: mark, remove the file, remove the row. A kill between any two of them, and
//! between any two segments, is made up for by the next start.

use archive::StreamNo;
use indexer::check::{CheckOptions, Invariant, check};
use indexer::{Batch, SegmentRow, SegmentState};
use tierline_tiering::{RetentionRule, TieringConfig};

use crate::archive_of_segments::{Archive, ample, keep_minutes, minute};
use crate::full_disk::SmallDisk;

fn recorded() -> (Archive, StreamNo) {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    a.record_many(lobby, 0..15);
    (a, lobby)
}

fn mark(a: &Archive, rows: &[SegmentRow]) {
    let mut batch = Batch::default();
    for row in rows {
        batch.segment(&SegmentRow {
            state: SegmentState::Deleting,
            ..row.clone()
        });
    }
    a.index.commit(batch).expect("commit");
}

#[test]
fn a_kill_at_any_point_leaves_a_clean_archive_and_the_next_start_finishes() {
    // Seven are marked; of them the first `removed` lost their files and the first `forgotten` their rows.
    for (removed, forgotten) in [(0, 0), (1, 0), (4, 0), (7, 0), (7, 2), (7, 6)] {
        let (a, lobby) = recorded();
        let rows = a.rows(lobby);
        mark(&a, &rows[..7]);
        rows[..removed]
            .iter()
            .for_each(|row| std::fs::remove_file(a.file(row)).expect("remove"));
        let mut batch = Batch::default();
        a.certify(&rows[..forgotten]);
        rows[..forgotten].iter().for_each(|row| batch.delete(row));
        a.index.commit(batch).expect("commit");

        let a = a.reopen();
        a.assert_clean();
        // So early that no rule asks for any deletion: what was begun is finished all the same.
        let mut reaper = a.reaper(keep_minutes(600), ample());
        reaper.pass(minute(150), 0).expect("pass");
        assert_eq!(
            a.sequences(lobby),
            (7..15).collect::<Vec<u64>>(),
            "{removed} {forgotten}"
        );
        assert!(rows[..7].iter().all(|row| !a.file(row).exists()));
        let p = reaper.progress();
        assert_eq!((p.resumed.segments, p.age.segments), (7 - forgotten as u64, 0));
        a.assert_clean();
    }
}

#[test]
fn a_deletion_for_space_that_is_interrupted_deletes_no_more_than_one_that_is_not() {
    // Ten segments of 4 MiB on 64 MiB: the reserve is missing about 8 MiB.
    let config = TieringConfig {
        reserve: Some(32 << 20),
        ..ample()
    };
    for interrupted in [false, true] {
        let dir = tempfile::tempdir().expect("temporary folder");
        let media = dir.path().join("media");
        let Some(_disk) = SmallDisk::mount(&media, 64 << 20) else {
            return;
        };
        let mut a = Archive::on(dir, &media);
        let lobby = a.camera("lobby", 5);
        (0..10).for_each(|i| {
            a.record(lobby, minute(i), 1, 4 << 20);
        });
        if interrupted {
            mark(&a, &a.rows(lobby)[..3]);
            a = a.reopen();
        }
        let mut reaper = a.reaper(RetentionRule::default(), config.clone());
        reaper.pass(minute(10), 0).expect("pass");
        assert_eq!(a.sequences(lobby), (3..10).collect::<Vec<u64>>());
        a.assert_clean();
    }
}

#[test]
fn what_is_marked_is_not_read_any_more() {
    let (a, lobby) = recorded();
    let rows = a.rows(lobby);
    mark(&a, &rows[..7]);
    let seen = a
        .index
        .segments(lobby, archive::TimeRange::ALL)
        .expect("segments");
    assert_eq!(seen.first().map(|row| row.id.seq), Some(7));
    let found = a.index.seek(lobby, minute(0)).expect("seek").expect("a fragment");
    assert_eq!(found.segment.seq, 7);
}

#[test]
fn files_without_a_row_are_left_alone() {
    let (a, lobby) = recorded();
    let rows = a.rows(lobby);
    let stray = a.file(&rows[0]).with_file_name("notes.txt");
    std::fs::write(&stray, "not ours").expect("write");
    a.reaper(keep_minutes(10), ample())
        .pass(minute(1000), 0)
        .expect("pass");
    assert_eq!(a.rows(lobby).len(), 0);
    assert_eq!(std::fs::read_to_string(&stray).expect("read"), "not ours");
}

#[test]
fn a_file_that_comes_back_after_all_of_its_stream_was_deleted_is_named() {
    let (a, lobby) = recorded();
    let rows = a.rows(lobby);
    let media = std::fs::read(a.file(&rows[14])).expect("read");
    a.reaper(keep_minutes(10), ample())
        .pass(minute(1000), 0)
        .expect("pass");
    assert_eq!(a.rows(lobby), []);
    a.assert_clean();
    let file = a.file(&rows[14]);
    std::fs::create_dir_all(file.parent().expect("folder")).expect("folder");
    std::fs::write(&file, media).expect("write");
    let findings = check(
        &a.index,
        &a.disk,
        &Default::default(),
        CheckOptions::default(),
        |_, _| {},
    )
    .expect("check");
    let found: Vec<_> = findings.iter().map(|f| f.invariant).collect();
    assert_eq!(found, [Invariant::FilesAreKnown]);
}
