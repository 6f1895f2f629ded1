//! Fragments whose bytes were found not to be what was written. Their rows and bytes stay as they are; readers
//! pass them over, and timelines tell them as lost.

use archive::codec::{Decoder, Encoder};
use archive::{FragmentEntry, Gap, GapCause, Malformed, SegmentId, StreamNo, TimeRange, WallTime};
use rocksdb::WriteBatch;

use crate::db::DAMAGE;
use crate::error::IndexError;
use crate::index::Index;
use crate::keys;
use crate::rows::{SegmentFragments, SegmentRow};

/// A damaged fragment.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The segment that it is part of.
    pub segment: SegmentId,
    /// Where it begins in the segment, in bytes.
    pub offset: u64,
    /// The footage that is lost with it.
    pub range: TimeRange,
    /// When it was found.
    pub found: WallTime,
    /// Whether it is all of the segment from there on, of which nothing is known any more but its time.
    pub rest: bool,
}

impl Damage {
    /// The damage of `entry` in `segment`.
    pub fn of(segment: SegmentId, entry: &FragmentEntry, found: WallTime) -> Self {
        Self {
            segment,
            offset: entry.offset,
            range: entry.range(),
            found,
            rest: false,
        }
    }

    /// The damage of a segment of which only `fragments` can be told, and none where there are none. `None` when these
    /// are all.
    pub fn of_rest(row: &SegmentRow, fragments: &[FragmentEntry], found: WallTime) -> Option<Self> {
        let last = fragments.last();
        let from = last.map_or(row.wall_start, FragmentEntry::wall_end);
        (fragments.len() < row.fragments as usize).then(|| Self {
            segment: row.id,
            offset: last.map_or(0, |last| last.offset + u64::from(last.len)),
            range: TimeRange::new(from, row.wall_end).unwrap_or(row.range()),
            found,
            rest: true,
        })
    }

    /// Whether it is this fragment's.
    pub fn is_of(&self, segment: SegmentId, entry: &FragmentEntry) -> bool {
        let is_there = match self.rest {
            true => self.offset <= entry.offset,
            false => self.offset == entry.offset,
        };
        self.segment == segment && is_there
    }

    /// What a timeline tells of it.
    pub(crate) fn gap(&self) -> Gap {
        Gap {
            from: self.range.from(),
            to: Some(self.range.to()),
            cause: GapCause::Lost,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::default();
        e.varint(self.segment.seq);
        e.varint(self.offset);
        e.varint(self.range.micros());
        e.wall(self.found);
        if self.rest {
            e.u8(1);
        }
        e.0
    }

    fn decode(stream: StreamNo, at: WallTime, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut d = Decoder(bytes);
        let seq = d.varint()?;
        let damage = Self {
            segment: SegmentId { stream, seq },
            offset: d.varint()?,
            range: TimeRange::starting(at, d.varint()?),
            found: d.wall()?,
            rest: !d.0.is_empty() && d.u8()? == 1,
        };
        d.end()?;
        Ok(damage)
    }

    pub(crate) fn put(&self, index: &Index, out: &mut WriteBatch) -> Result<(), IndexError> {
        let key = keys::at(self.segment.stream, self.range.from());
        out.put_cf(index.cf(DAMAGE)?, key, self.encode());
        Ok(())
    }
}

impl Index {
    /// The damaged fragments that overlap `range`, in order.
    pub fn damage(&self, stream: StreamNo, range: TimeRange) -> Result<Vec<Damage>, IndexError> {
        self.scan(DAMAGE, stream, range, |at, value| {
            let damage = Damage::decode(stream, at, value)?;
            Ok(damage.range.intersect(range).is_some().then_some(damage))
        })
    }

    /// Whether nothing of a segment can be read.
    pub(crate) fn is_lost(&self, row: &SegmentRow) -> Result<bool, IndexError> {
        let key = keys::at(row.id.stream, row.wall_start);
        let Some(bytes) = self.db.get_pinned_cf(self.cf(DAMAGE)?, key)? else {
            return Ok(false);
        };
        let damage = Damage::decode(row.id.stream, row.wall_start, &bytes);
        let damage = damage.map_err(IndexError::bad_row(DAMAGE))?;
        Ok(damage.segment == row.id && damage.rest)
    }

    /// Takes damaged fragments out of what was found in `range`.
    pub(crate) fn pass_over_damage(
        &self,
        stream: StreamNo,
        range: TimeRange,
        found: &mut Vec<SegmentFragments>,
    ) -> Result<(), IndexError> {
        let damage = self.damage(stream, range)?;
        if damage.is_empty() {
            return Ok(());
        }
        for s in found.iter_mut() {
            let id = s.segment.id;
            s.fragments.retain(|e| !damage.iter().any(|d| d.is_of(id, e)));
        }
        found.retain(|s| !s.fragments.is_empty());
        Ok(())
    }

    /// The fragments of a segment that can be read.
    pub(crate) fn readable(&self, row: &SegmentRow) -> Result<Vec<FragmentEntry>, IndexError> {
        let mut entries = self.table(row)?;
        let damage = self.damage(row.id.stream, row.range())?;
        entries.retain(|e| !damage.iter().any(|d| d.is_of(row.id, e)));
        Ok(entries)
    }

    /// Segments in which damage was found, of all streams: the first `count`.
    pub fn damaged_segments(&self, count: usize) -> Result<Vec<SegmentId>, IndexError> {
        let mut found: Vec<SegmentId> = Vec::new();
        let mut it = self.db.raw_iterator_cf(self.cf(DAMAGE)?);
        it.seek_to_first();
        while found.len() < count
            && let Some((key, value)) = it.item()
        {
            let bad = IndexError::bad_row(DAMAGE);
            let (stream, at) = keys::parse_at(key).ok_or_else(|| bad(Malformed("key")))?;
            let damage = Damage::decode(stream, at, value).map_err(bad)?;
            if found.last() != Some(&damage.segment) {
                found.push(damage.segment);
            }
            it.next();
        }
        it.status()?;
        Ok(found)
    }

    /// Forgets the damage of a segment that is deleted, or reads right again.
    pub(crate) fn forget_damage(&self, out: &mut WriteBatch, row: &SegmentRow) -> Result<(), IndexError> {
        for damage in self.damage(row.id.stream, row.range())? {
            if damage.segment == row.id {
                out.delete_cf(self.cf(DAMAGE)?, keys::at(row.id.stream, damage.range.from()));
            }
        }
        Ok(())
    }
}
