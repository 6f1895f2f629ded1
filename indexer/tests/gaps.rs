//! What the gap rows say once the media after a gap is there.

use archive::{
    FragmentEntry, Gap, GapCause, Note, SegmentId, Sha256, StreamId, StreamNo, Tier, TimeRange, WallTime,
};
use tierline_indexer::{Batch, Index, IndexOptions, SegmentRow, SegmentState};

fn at(seconds: i64) -> WallTime {
    WallTime::from_micros(seconds * 1_000_000)
}

fn gap(from: i64, to: Option<i64>, cause: GapCause) -> Gap {
    let (from, to) = (at(from), to.map(at));
    Gap { from, to, cause }
}

struct Site {
    _dir: tempfile::TempDir,
    index: Index,
    stream: StreamNo,
}

fn site() -> Site {
    let dir = tempfile::tempdir().expect("folder");
    let index = Index::open(&dir.path().join("index"), &IndexOptions::default()).expect("index");
    let id = StreamId {
        tenant: Default::default(),
        camera: "lobby".parse().expect("id"),
        stream: "main".parse().expect("id"),
    };
    let stream = index.ensure_stream(&id).expect("stream");
    Site {
        _dir: dir,
        index,
        stream,
    }
}

impl Site {
    /// A segment of one fragment of two seconds.
    fn record(&self, batch: &mut Batch, seq: u64, from: i64, notes: Vec<Note>) {
        let id = SegmentId {
            stream: self.stream,
            seq,
        };
        batch.segment(&SegmentRow {
            id,
            epoch: self.index.epoch(),
            wall_start: at(from),
            wall_end: at(from + 2),
            bytes: 8192,
            state: SegmentState::Open,
            tier: Tier::Hot,
            init: Sha256::default(),
            head: Sha256::default(),
            fragments: 1,
            generation: 0,
        });
        let entry = FragmentEntry {
            offset: 4096,
            len: 100,
            wall_start: at(from),
            wall_duration_us: 2_000_000,
            media_start: 0,
            media_duration: 180_000,
            keyframe: true,
            run_start: true,
            activity: 0,
            notes,
        };
        batch.fragment(id, entry);
    }

    fn commit(&self, fill: impl FnOnce(&mut Batch)) {
        let mut batch = Batch::default();
        fill(&mut batch);
        self.index.commit(batch).expect("commit");
    }

    fn gaps(&self) -> Vec<Gap> {
        self.index.gaps(self.stream, TimeRange::ALL).expect("gaps")
    }
}

fn note(gap: Gap) -> Note {
    Note::Gap {
        from: gap.from,
        to: gap.to.expect("closed"),
        cause: gap.cause,
    }
}

#[test]
fn rows_told_by_a_clock_that_went_back_do_not_outlive_the_gap() {
    let s = site();
    s.commit(|b| s.record(b, 0, 0, vec![]));
    s.commit(|b| {
        b.gap(s.stream, gap(2, Some(3600), GapCause::SessionLost));
        b.gap(s.stream, gap(3600, None, GapCause::Unreachable));
    });
    let true_gap = gap(2, Some(10), GapCause::SessionLost);
    s.commit(|b| s.record(b, 1, 10, vec![note(true_gap)]));
    assert_eq!(s.gaps(), [true_gap]);
}

#[test]
fn rows_of_the_same_commit_do_not_outlive_the_gap_either() {
    let s = site();
    s.commit(|b| s.record(b, 0, 0, vec![]));
    let joined = gap(2, Some(10), GapCause::DiskError);
    s.commit(|b| {
        b.gap(s.stream, gap(2, Some(4), GapCause::SessionLost));
        b.gap(s.stream, gap(4, Some(10), GapCause::DiskError));
        s.record(b, 1, 10, vec![note(joined)]);
        b.gap(s.stream, gap(12, None, GapCause::NoData));
    });
    assert_eq!(s.gaps(), [joined, gap(12, None, GapCause::NoData)]);
}
