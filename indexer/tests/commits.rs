//! A batch that is committed again, because nobody knows whether it was taken, changes nothing.

use archive::{FragmentEntry, Sha256, StreamId, Tier, TimeRange, WallTime};
use archive::{Gap, GapCause, Note, SegmentId};
use tierline_indexer::{Batch, Index, IndexOptions, SegmentRow, SegmentState};

fn at(seconds: i64) -> WallTime {
    WallTime::from_micros(seconds * 1_000_000)
}

#[test]
fn a_batch_that_is_committed_twice_is_committed_once() {
    let dir = tempfile::tempdir().expect("folder");
    let index = Index::open(&dir.path().join("index"), &IndexOptions::default()).expect("index");
    let id = StreamId {
        tenant: Default::default(),
        camera: "lobby".parse().expect("id"),
        stream: "main".parse().expect("id"),
    };
    let stream = index.ensure_stream(&id).expect("stream");
    let row = SegmentRow {
        id: SegmentId { stream, seq: 0 },
        epoch: index.epoch(),
        wall_start: at(10),
        wall_end: at(12),
        bytes: 8192,
        state: SegmentState::Open,
        tier: Tier::Hot,
        init: Sha256::default(),
        head: Sha256::default(),
        fragments: 1,
        generation: 0,
    };
    let gap = Gap {
        from: at(5),
        to: Some(at(10)),
        cause: GapCause::Unreachable,
    };
    let mut recorded = Batch::default();
    recorded.segment(&row);
    recorded.fragment(
        row.id,
        FragmentEntry {
            offset: 4096,
            len: 100,
            wall_start: at(10),
            wall_duration_us: 2_000_000,
            media_start: 0,
            media_duration: 180_000,
            keyframe: true,
            run_start: true,
            activity: 7,
            notes: vec![Note::Gap {
                from: gap.from,
                to: at(10),
                cause: gap.cause,
            }],
        },
    );
    let mut sealed = Batch::default();
    sealed.seal(&row);
    let seen = || {
        let table = index.fragments(stream, TimeRange::ALL).expect("fragments");
        let minutes = index.coverage(stream, TimeRange::ALL).expect("coverage");
        (table, minutes, index.gaps(stream, TimeRange::ALL).expect("gaps"))
    };
    index.commit(&recorded).expect("commit");
    let once = seen();
    index.commit(&recorded).expect("commit");
    assert_eq!(seen(), once);
    assert_eq!(once.2, [gap]);
    index.commit(&sealed).expect("commit");
    let once = seen();
    assert_eq!(once.0.iter().map(|s| s.fragments.len()).sum::<usize>(), 1);
    index.commit(&sealed).expect("commit");
    assert_eq!(seen(), once);
}
