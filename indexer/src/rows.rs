//! Rows of the media tables and how they are written.

use archive::codec::{Decoder, Encoder};
use archive::fragment::BLOCK_BYTES;
use archive::layout::SegmentName;
use archive::time::HOUR_US;
use archive::{
    Epoch, FragmentEntry, Gap, GapCause, Malformed, Note, SegmentId, Sha256, StreamNo, Tier, TimeRange,
    WallTime,
};

use crate::keys;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// What a segment is going through.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum SegmentState {
    /// Being written.
    Open,
    /// Complete and immutable.
    Sealed,
    /// Its file failed to sync and is never written again; what was acknowledged in it stays readable.
    Poisoned,
    /// Its deletion has begun; nobody reads it any more.
    Deleting,
}

/// One segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentRow {
    /// Stream and sequence.
    pub id: SegmentId,
    /// Which opening of the archive wrote it.
    pub epoch: Epoch,
    /// When its first fragment begins.
    pub wall_start: WallTime,
    /// When its last durable fragment ends.
    pub wall_end: WallTime,
    /// Durable bytes of its file.
    pub bytes: u64,
    /// What it is going through.
    pub state: SegmentState,
    /// Where it is read from.
    pub tier: Tier,
    /// Its init segment.
    pub init: Sha256,
    /// The leaf of its last durable fragment as it was recorded: what the next segment is chained to.
    pub head: Sha256,
    /// How many durable fragments it has.
    pub fragments: u32,
    /// How often it was thinned; 0 as it was recorded.
    pub generation: u8,
}

impl SegmentRow {
    /// The wall time from its first to its last instant; gaps may lie inside.
    pub fn range(&self) -> TimeRange {
        let us = self.wall_end.micros_since(self.wall_start).max(0).unsigned_abs();
        TimeRange::starting(self.wall_start, us)
    }

    /// The hours that it touches, by when they begin.
    pub(crate) fn hours(&self) -> impl Iterator<Item = WallTime> + use<> {
        let end = self.wall_end;
        let next = |hour: &WallTime| Some(hour.plus_micros(HOUR_US));
        std::iter::successors(Some(self.wall_start.hour()), next).take_while(move |hour| *hour < end)
    }

    /// What its file is called.
    pub fn name(&self) -> SegmentName {
        SegmentName {
            start: self.wall_start,
            seq: self.id.seq,
            epoch: self.epoch,
            generation: self.generation,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::default();
        e.varint(self.id.seq);
        e.varint(self.epoch.0.into());
        e.varint(self.range().micros());
        e.varint(self.bytes / BLOCK);
        e.u8(self.state as u8 | (self.tier as u8) << 4);
        e.varint(self.fragments.into());
        e.hash(&self.init);
        e.hash(&self.head);
        // A program that knows of no thinning refuses the row.
        if self.generation > 0 {
            e.u8(self.generation);
        }
        e.0
    }

    pub(crate) fn decode(stream: StreamNo, wall_start: WallTime, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut d = Decoder(bytes);
        let id = SegmentId {
            stream,
            seq: d.varint()?,
        };
        if id.seq == u64::MAX {
            return Err(Malformed("a sequence that none can follow"));
        }
        let epoch = Epoch(d.varint_u32()?);
        let wall_end = TimeRange::starting(wall_start, d.varint()?).to();
        let bytes = d
            .varint()?
            .checked_mul(BLOCK)
            .ok_or(Malformed("segment too large"))?;
        let flags = d.u8()?;
        let state = match flags & 0xf {
            0 => SegmentState::Open,
            1 => SegmentState::Sealed,
            2 => SegmentState::Poisoned,
            3 => SegmentState::Deleting,
            _ => return Err(Malformed("unknown segment state")),
        };
        let tier = match flags >> 4 {
            0 => Tier::Hot,
            1 => Tier::Warm,
            2 => Tier::Cold,
            _ => return Err(Malformed("unknown tier")),
        };
        let fragments = d.varint_u32()?;
        let (init, head) = (d.hash()?, d.hash()?);
        let generation = if d.0.is_empty() { 0 } else { d.u8()? };
        d.end()?;
        Ok(Self {
            id,
            epoch,
            wall_start,
            wall_end,
            bytes,
            state,
            tier,
            init,
            head,
            fragments,
            generation,
        })
    }
}

/// A segment with those of its fragments that were asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentFragments {
    /// The segment.
    pub segment: SegmentRow,
    /// In order. Entries from the index carry no notes: gaps and incidents have tables of their own.
    pub fragments: Vec<FragmentEntry>,
}

/// What the next entry is written as a difference to.
#[derive(Default)]
pub(crate) struct Last {
    block: u64,
    wall_end: i64,
    media_end: u64,
}

impl Last {
    fn advance(&mut self, e: &FragmentEntry) {
        self.block = (e.offset + u64::from(e.len)).div_ceil(BLOCK);
        self.wall_end = e.wall_end().micros();
        self.media_end = e.media_start.saturating_add(u64::from(e.media_duration));
    }
}

pub(crate) fn encode_entry(e: &mut Encoder, f: &FragmentEntry, last: &mut Last) {
    e.varint((f.offset / BLOCK).saturating_sub(last.block));
    e.varint(f.len.into());
    e.zigzag(f.wall_start.micros() - last.wall_end);
    e.varint(f.wall_duration_us.into());
    e.zigzag(f.media_start.wrapping_sub(last.media_end) as i64);
    e.varint(f.media_duration.into());
    e.u8(u8::from(f.keyframe) | u8::from(f.run_start) << 1);
    e.u8(f.activity);
    last.advance(f);
}

pub(crate) fn decode_entry(d: &mut Decoder<'_>, last: &mut Last) -> Result<FragmentEntry, Malformed> {
    const TOO_LARGE: Malformed = Malformed("number too large");
    let block = last.block.checked_add(d.varint()?).ok_or(TOO_LARGE)?;
    let offset = block.checked_mul(BLOCK).ok_or(TOO_LARGE)?;
    let len = d.varint_u32()?;
    let wall_start = WallTime::from_micros(last.wall_end.checked_add(d.zigzag()?).ok_or(TOO_LARGE)?);
    let wall_duration_us = d.varint_u32()?;
    let media_start = last.media_end.wrapping_add(d.zigzag()? as u64);
    let media_duration = d.varint_u32()?;
    let flags = d.u8()?;
    let activity = d.u8()?;
    let (keyframe, run_start) = (flags & 1 != 0, flags & 2 != 0);
    offset.checked_add(len.into()).ok_or(TOO_LARGE)?;
    let entry = FragmentEntry {
        offset,
        len,
        wall_start,
        wall_duration_us,
        media_start,
        media_duration,
        keyframe,
        run_start,
        activity,
        notes: Vec::new(),
    };
    last.advance(&entry);
    Ok(entry)
}

/// The table of a sealed segment.
pub(crate) fn encode_table(entries: &[FragmentEntry]) -> Vec<u8> {
    let mut e = Encoder::default();
    let mut last = Last::default();
    e.varint(entries.len() as u64);
    entries.iter().for_each(|f| encode_entry(&mut e, f, &mut last));
    e.0
}

pub(crate) fn decode_table(bytes: &[u8]) -> Result<Vec<FragmentEntry>, Malformed> {
    let mut d = Decoder(bytes);
    let mut last = Last::default();
    let count = d.varint()?;
    let mut entries = Vec::with_capacity(count.min(4096) as usize);
    for _ in 0..count {
        entries.push(decode_entry(&mut d, &mut last)?);
    }
    d.end()?;
    Ok(entries)
}

pub(crate) fn encode_gap(gap: &Gap) -> Vec<u8> {
    let mut e = Encoder::default();
    e.u8(gap.cause as u8);
    e.varint(
        gap.to
            .map_or(0, |to| to.micros_since(gap.from).max(0).unsigned_abs() + 1),
    );
    e.0
}

pub(crate) fn decode_gap(from: WallTime, bytes: &[u8]) -> Result<Gap, Malformed> {
    let mut d = Decoder(bytes);
    let cause = GapCause::from_code(d.u8()?).ok_or(Malformed("unknown gap cause"))?;
    let to = d
        .varint()?
        .checked_sub(1)
        .map(|us| TimeRange::starting(from, us).to());
    d.end()?;
    Ok(Gap { from, to, cause })
}

/// Where a stream ends, which is kept when its segments are deleted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// The sequence of the next segment.
    pub next_seq: u64,
    /// The leaf that it is chained to.
    pub head: Sha256,
    /// It begins here or later.
    pub wall_end: WallTime,
}

impl Ended {
    /// Where a stream ends whose last segment this is.
    pub(crate) fn of(row: &SegmentRow) -> Self {
        Self {
            next_seq: row.id.seq + 1,
            head: row.head,
            wall_end: row.wall_end,
        }
    }

    /// The later one of two ends of a stream.
    pub(crate) fn later(self, other: Self) -> Self {
        if other.next_seq > self.next_seq {
            other
        } else {
            self
        }
    }

    pub(crate) fn key(stream: StreamNo) -> String {
        format!("ended.{}", stream.0)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::default();
        e.u64(self.next_seq);
        e.hash(&self.head);
        e.wall(self.wall_end);
        e.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut d = Decoder(bytes);
        let ended = Self {
            next_seq: d.u64()?,
            head: d.hash()?,
            wall_end: d.wall()?,
        };
        d.end()?;
        Ok(ended)
    }
}

/// Something that happened to a stream that is no gap.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Incident {
    /// When, on the stream's wall time.
    pub at: WallTime,
    /// What.
    pub kind: IncidentKind,
}

/// What happened.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum IncidentKind {
    /// The host's wall clock moved by `by_us`.
    ClockStep {
        /// Positive when it was set forward.
        by_us: i64,
    },
    /// RTP packets were lost; pictures may be damaged.
    PacketsLost {
        /// How many, at least.
        packets: u32,
    },
    /// A segment's file failed and was given up.
    Poisoned {
        /// Which segment.
        seq: u64,
    },
    /// A segment's bytes were found to be damaged; it is kept aside.
    Quarantined {
        /// Which segment.
        seq: u64,
    },
    /// Footage of a segment can be read from none of its copies.
    Lost {
        /// Which segment.
        seq: u64,
    },
}

impl Incident {
    /// What a note of the fragment that begins at `begin` tells, if that is no gap.
    pub(crate) fn of(note: &Note, begin: WallTime) -> Option<Self> {
        let (at, kind) = match *note {
            Note::Gap { .. } => return None,
            Note::ClockStep { at, by_us } => (at, IncidentKind::ClockStep { by_us }),
            Note::PacketsLost { packets } => (begin, IncidentKind::PacketsLost { packets }),
        };
        Some(Self { at, kind })
    }

    /// Several kinds may meet in one instant.
    pub(crate) fn key(&self, stream: StreamNo) -> Vec<u8> {
        let mut key = keys::at(stream, self.at).to_vec();
        key.extend(self.encode().first());
        key
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::default();
        match self.kind {
            IncidentKind::ClockStep { by_us } => {
                e.u8(1);
                e.zigzag(by_us);
            }
            IncidentKind::PacketsLost { packets } => {
                e.u8(2);
                e.varint(packets.into());
            }
            IncidentKind::Poisoned { seq } => {
                e.u8(3);
                e.varint(seq);
            }
            IncidentKind::Quarantined { seq } => {
                e.u8(4);
                e.varint(seq);
            }
            IncidentKind::Lost { seq } => {
                e.u8(5);
                e.varint(seq);
            }
        }
        e.0
    }

    pub(crate) fn decode(at: WallTime, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut d = Decoder(bytes);
        let kind = match d.u8()? {
            1 => IncidentKind::ClockStep { by_us: d.zigzag()? },
            2 => IncidentKind::PacketsLost {
                packets: d.varint_u32()?,
            },
            3 => IncidentKind::Poisoned { seq: d.varint()? },
            4 => IncidentKind::Quarantined { seq: d.varint()? },
            5 => IncidentKind::Lost { seq: d.varint()? },
            _ => return Err(Malformed("unknown incident")),
        };
        d.end()?;
        Ok(Self { at, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_a_thinned_segment_is_a_byte_longer_and_reads_back() {
        let id = SegmentId {
            stream: StreamNo(7),
            seq: 52_560,
        };
        let row = |generation| SegmentRow {
            id,
            epoch: Epoch(300),
            wall_start: WallTime::from_micros(1_800_000_000_000_000),
            wall_end: WallTime::from_micros(1_800_000_600_000_000),
            bytes: 128 << 20,
            state: SegmentState::Sealed,
            tier: Tier::Cold,
            init: Sha256([7; 32]),
            head: Sha256([8; 32]),
            fragments: 300,
            generation,
        };
        let (plain, thinned) = (row(0).encode(), row(1).encode());
        assert_eq!(thinned.len(), plain.len() + 1);
        assert!(thinned.len() + 12 <= 100, "{} bytes", thinned.len());
        for (row, bytes) in [(row(0), plain), (row(1), thinned)] {
            assert_eq!(SegmentRow::decode(id.stream, row.wall_start, &bytes), Ok(row));
        }
    }

    #[test]
    fn tables_read_back() {
        let at = |i: i64| WallTime::from_micros(1_700_000_000_000_000 + i * 2_000_000);
        let entries: Vec<_> = (0..300)
            .map(|i| FragmentEntry {
                offset: 4096 + i as u64 * 1_052_672,
                len: 1_050_000 + i as u32,
                wall_start: at(i),
                wall_duration_us: 2_000_000,
                media_start: 180_000 * i as u64,
                media_duration: 180_000,
                keyframe: true,
                run_start: i % 100 == 0,
                activity: i as u8,
                notes: vec![],
            })
            .collect();
        let bytes = encode_table(&entries);
        assert_eq!(decode_table(&bytes).as_deref(), Ok(&entries[..]));
        assert!(bytes.len() < 300 * 18, "{} bytes", bytes.len());
    }
}
