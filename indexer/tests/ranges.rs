//! What overlaps a range does not depend on how the rows are read: from its end where it is short, else from its start.

use archive::{Epoch, SegmentId, Sha256, StreamId, StreamNo, Tier, TimeRange, WallTime};
use tierline_indexer::{Batch, Index, IndexOptions, SegmentRow, SegmentState};

fn at(seconds: u64) -> WallTime {
    WallTime::from_micros((seconds * 1_000_000).cast_signed())
}

fn segment(stream: StreamNo, seq: u64, from: u64, to: u64) -> SegmentRow {
    SegmentRow {
        id: SegmentId { stream, seq },
        epoch: Epoch(1),
        wall_start: at(from),
        wall_end: at(to),
        bytes: 8192,
        state: SegmentState::Poisoned,
        tier: Tier::Hot,
        init: Sha256::default(),
        head: Sha256::default(),
        fragments: 1,
        generation: 0,
    }
}

#[test]
fn a_range_finds_its_segments_however_short_it_is() {
    let dir = tempfile::tempdir().expect("folder");
    let index = Index::open(&dir.path().join("index"), &IndexOptions::default()).expect("index");
    let streams: Vec<StreamNo> = ["barn", "lobby", "yard"]
        .map(|camera| StreamId {
            tenant: Default::default(),
            camera: camera.parse().expect("id"),
            stream: "main".parse().expect("id"),
        })
        .iter()
        .map(|id| index.ensure_stream(id).expect("stream"))
        .collect();
    // One stream between two others; the second segment follows at once, gaps of 30 and 700 s follow, and short ones.
    let spans = [
        (1000, 1600),
        (1600, 1900),
        (1930, 1990),
        (2690, 2700),
        (2700, 2702),
        (2710, 3000),
    ];
    let mut batch = Batch::default();
    for stream in &streams {
        for (seq, (from, to)) in (0..).zip(spans) {
            batch.segment(&segment(*stream, seq, from, to));
        }
    }
    index.commit(&batch).expect("commit");
    let stream = streams[1];
    for from in (900..3100).step_by(10).map(at) {
        for seconds in [0, 1, 10, 60, 599, 600, 601, 2000] {
            let range = TimeRange::starting(from, seconds * 1_000_000);
            let expected: Vec<_> = (0..)
                .zip(spans)
                .map(|(seq, (from, to))| segment(stream, seq, from, to))
                .filter(|row| row.range().intersect(range).is_some())
                .collect();
            assert_eq!(
                index.segments(stream, range).expect("read"),
                expected,
                "{range:?}"
            );
        }
    }
}
