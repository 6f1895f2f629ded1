//! Synthetic index rows: what a camera that records for months leaves behind, without its media.
#![allow(dead_code, reason = "each bench uses its part")]

use archive::mp4::VIDEO_TRACK_ID;
use archive::time::SECOND_US;
use archive::{
    Epoch, FragmentEntry, Gap, GapCause, InitSegment, SegmentId, Sha256, StreamId, StreamNo, Tier, Timescale,
    Track, TrackKind, WallTime,
};
use indexer::{Batch, Index, SegmentRow, SegmentState};

use crate::report::{Dice, Failure};

/// Wall time from one segment's beginning to the next one's, on average.
pub(crate) const SEGMENT_US: i64 = 600 * SECOND_US;
/// Fragments of a segment: GOPs of 2 s.
pub(crate) const FRAGMENTS: i64 = 300;
/// A gap stands behind every so many segments, about one in 16 hours.
const SEGMENTS_PER_GAP: u64 = 97;
/// 2026-01-01T00:00:00Z.
const ORIGIN_US: i64 = 1_767_225_600 * SECOND_US;
const VIDEO_TICKS: u32 = 90_000;

/// What a stream recorded: every row follows from the stream's number and the segment's.
#[derive(Debug)]
pub(crate) struct Footage {
    inits: Vec<InitSegment>,
}

impl Footage {
    pub(crate) fn new() -> Self {
        let sizes = [
            (1920, 1080),
            (1280, 720),
            (2560, 1440),
            (3840, 2160),
            (640, 360),
            (704, 576),
        ];
        Self {
            inits: sizes.map(|(width, height)| init(width, height)).into(),
        }
    }

    pub(crate) fn inits(&self) -> &[InitSegment] {
        &self.inits
    }

    /// When segment `seq` begins. Segments begin at keyframes, which is not every ten minutes to the microsecond.
    pub(crate) fn start(&self, stream: StreamNo, seq: u64) -> WallTime {
        let phase = dice(stream, u64::MAX)
            .below(SEGMENT_US.unsigned_abs())
            .cast_signed();
        let late = dice(stream, seq)
            .below(2 * SECOND_US.unsigned_abs())
            .cast_signed();
        WallTime::from_micros(ORIGIN_US + phase + seq.cast_signed() * SEGMENT_US + late)
    }

    /// The gap behind segment `seq`, if there is one.
    pub(crate) fn gap(&self, stream: StreamNo, seq: u64) -> Option<Gap> {
        let mut dice = dice(stream, !seq);
        let to = self.start(stream, seq + 1);
        (dice.below(SEGMENTS_PER_GAP) == 0).then(|| {
            let us = SECOND_US + dice.below(40 * SECOND_US.unsigned_abs()).cast_signed();
            Gap {
                from: to.plus_micros(-us),
                to: Some(to),
                cause: GapCause::SessionLost,
            }
        })
    }

    /// Segment `seq`, sealed.
    pub(crate) fn segment(&self, stream: StreamNo, seq: u64) -> SegmentRow {
        let wall_start = self.start(stream, seq);
        let wall_end = self
            .gap(stream, seq)
            .map_or_else(|| self.start(stream, seq + 1), |gap| gap.from);
        let mut dice = dice(stream, seq);
        let mut head = [0; 32];
        head.chunks_exact_mut(8)
            .for_each(|part| part.copy_from_slice(&dice.roll().to_be_bytes()));
        // A camera keeps its parameters for weeks.
        let init = (u64::from(stream.0) + seq / 4000) as usize % self.inits.len();
        SegmentRow {
            id: SegmentId { stream, seq },
            epoch: Epoch((seq / 2000) as u32 + 1),
            wall_start,
            wall_end,
            bytes: (28_000 + dice.below(4_700)) * 4096,
            state: SegmentState::Sealed,
            tier: Tier::Hot,
            init: self.inits.get(init).map_or(Sha256::default(), |init| init.hash),
            head: Sha256(head),
            fragments: FRAGMENTS as u32,
            generation: 0,
        }
    }

    /// The fragments of a segment, which fill its span.
    pub(crate) fn fragments(&self, row: &SegmentRow) -> Vec<FragmentEntry> {
        let (stream, span) = (row.id.stream, row.range().micros().cast_signed());
        let mut dice = dice(stream, row.id.seq ^ 1 << 40);
        let run_start = row.id.seq > 0 && self.gap(stream, row.id.seq - 1).is_some();
        let media = row.wall_start.micros_since(WallTime::from_micros(ORIGIN_US));
        let ticks = |us: i64| us / 100 * i64::from(VIDEO_TICKS) / 10_000;
        let mut block = 1;
        (0..FRAGMENTS)
            .map(|i| {
                let (from, to) = (span * i / FRAGMENTS, span * (i + 1) / FRAGMENTS);
                let len = (380_000 + dice.below(60_000)) as u32;
                let media_start = ticks(media + from).unsigned_abs();
                let entry = FragmentEntry {
                    offset: block * 4096,
                    len,
                    wall_start: row.wall_start.plus_micros(from),
                    wall_duration_us: (to - from) as u32,
                    media_start,
                    media_duration: (ticks(media + to).unsigned_abs() - media_start) as u32,
                    keyframe: true,
                    run_start: run_start && i == 0,
                    activity: 32 + dice.below(64) as u8,
                    notes: Vec::new(),
                };
                block += u64::from(len).div_ceil(4096);
                entry
            })
            .collect()
    }

    /// Puts a segment into the index as recording does: fragment by fragment, then sealed.
    pub(crate) fn record(&self, index: &Index, stream: StreamNo, seq: u64) -> Result<(), Failure> {
        let row = self.segment(stream, seq);
        let mut batch = Batch::default();
        batch.segment(&SegmentRow {
            state: SegmentState::Open,
            ..row.clone()
        });
        self.fragments(&row)
            .into_iter()
            .for_each(|entry| batch.fragment(row.id, entry));
        index.commit(batch)?;
        let mut batch = Batch::default();
        batch.seal(&row);
        if let Some(gap) = self.gap(stream, seq) {
            batch.gap(stream, gap);
        }
        Ok(index.commit(batch)?)
    }
}

/// Numbers that belong to one segment of a stream.
fn dice(stream: StreamNo, seq: u64) -> Dice {
    Dice(Dice(u64::from(stream.0) << 44 ^ seq).roll())
}

/// The stream `main` of a numbered camera.
pub(crate) fn stream_id(number: u32) -> Result<StreamId, Failure> {
    Ok(StreamId {
        tenant: Default::default(),
        camera: format!("cam{number:04}").parse()?,
        stream: "main".parse()?,
    })
}

/// An init segment of the right shape and size, with parameter sets that decode nothing.
fn init(width: u16, height: u16) -> InitSegment {
    let timescale = Timescale::new(VIDEO_TICKS);
    InitSegment::build(vec![Track {
        id: VIDEO_TRACK_ID,
        kind: TrackKind::Video,
        timescale: timescale.unwrap_or_else(|| unreachable!("it is not 0")),
        codec: "avc1.4d401f".into(),
        width,
        height,
        channels: 0,
        sample_entry: archive::fuzzing::h264_entry(width, height).into(),
    }])
}
