//! Segments that give way to thinner versions of themselves: what is under way, and what is left of those before.
//!
//! One row a segment, from before a file of the new version may exist until nothing of the old one does. In between,
//! one commit puts the new version in the place of the old one, so that readers see one of the two.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use archive::codec::{Decoder, Encoder};
use archive::time::HOUR_US;
use archive::{FragmentEntry, Malformed, Note, StreamNo, Tier, TimeRange, WallTime};
use rocksdb::WriteBatch;

use crate::copies::Copies;
use crate::coverage::{HourCoverage, contribution};
use crate::db::{COPIES, COVERAGE, INCIDENTS, RESTORES, THINNING};
use crate::error::IndexError;
use crate::index::Index;
use crate::keys;
use crate::rows::{Incident, IncidentKind, SegmentRow, SegmentState};

/// Stands behind a row whose copies are going.
const REMOVING: u8 = 1;

/// A segment that is being thinned, or was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thinning {
    /// The segment before it was thinned.
    pub before: SegmentRow,
    /// How far it is.
    pub step: ThinningStep,
}

/// How far thinning a segment is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum ThinningStep {
    /// A file of the next generation may stand on the hot tier; nobody reads it.
    Begun,
    /// The next generation is what counts. Of the one before there may be these copies still, which nobody reads but who
    /// began to before.
    Replaced {
        /// Of the segment before it was thinned.
        copies: Copies,
        /// Since when.
        since: WallTime,
    },
    /// The same, and the copies of the one before are going: no hold that was answered covers the segment, and who puts
    /// one from here on is told that it comes too late for them.
    Removing {
        /// Of the segment before it was thinned.
        copies: Copies,
        /// Since when the next generation is what counts.
        since: WallTime,
    },
}

/// A segment and the thinner version that takes its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replacement {
    /// As it is in the index.
    pub before: SegmentRow,
    /// Where it lies.
    pub copies: Copies,
    /// The same with its next generation, whole and durable on the hot tier.
    pub after: SegmentRow,
    /// Of the new version, with their notes.
    pub entries: Vec<FragmentEntry>,
    /// Now.
    pub at: WallTime,
}

impl Thinning {
    /// The copies of the segment as it was, as long as they may be read.
    pub fn former(&self) -> Option<&Copies> {
        match &self.step {
            ThinningStep::Begun | ThinningStep::Removing { .. } => None,
            ThinningStep::Replaced { copies, .. } => Some(copies),
        }
    }

    /// The copies of the segment as it was of which something may be left.
    pub fn left(&self) -> Option<&Copies> {
        match &self.step {
            ThinningStep::Begun => None,
            ThinningStep::Replaced { copies, .. } | ThinningStep::Removing { copies, .. } => Some(copies),
        }
    }

    /// What the file is called that may stand on the hot tier while thinning is under way.
    pub fn next(&self) -> SegmentRow {
        SegmentRow {
            generation: self.before.generation.saturating_add(1),
            tier: Tier::Hot,
            ..self.before.clone()
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::default();
        let mut piece = |bytes: Vec<u8>| {
            e.varint(bytes.len() as u64);
            e.bytes(&bytes);
        };
        piece(self.before.encode());
        if let ThinningStep::Replaced { copies, since } | ThinningStep::Removing { copies, since } =
            &self.step
        {
            piece(copies.encode());
            e.wall(*since);
        }
        if let ThinningStep::Removing { .. } = &self.step {
            e.u8(REMOVING);
        }
        e.0
    }

    pub(crate) fn decode(stream: StreamNo, wall_start: WallTime, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut d = Decoder(bytes);
        let len = d.varint_u32()? as usize;
        let before = SegmentRow::decode(stream, wall_start, d.bytes(len)?)?;
        if before.generation == u8::MAX {
            return Err(Malformed("a generation that none can follow"));
        }
        let step = if d.0.is_empty() {
            ThinningStep::Begun
        } else {
            let len = d.varint_u32()? as usize;
            let (copies, since) = (Copies::decode(d.bytes(len)?)?, d.wall()?);
            match d.0.is_empty() {
                true => ThinningStep::Replaced { copies, since },
                false if d.u8()? == REMOVING => ThinningStep::Removing { copies, since },
                false => return Err(Malformed("unknown step of thinning")),
            }
        };
        d.end()?;
        Ok(Self { before, step })
    }

    pub(crate) fn put(&self, index: &Index, out: &mut WriteBatch) -> Result<(), IndexError> {
        let key = keys::at(self.before.id.stream, self.before.wall_start);
        out.put_cf(index.cf(THINNING)?, key, self.encode());
        Ok(())
    }
}

/// While it is held, a thinner version is put in the place of a segment.
struct Replacing<'a>(&'a Index);

impl<'a> Replacing<'a> {
    fn begin(index: &'a Index) -> Self {
        index.replacing.fetch_add(1, Ordering::AcqRel);
        Self(index)
    }
}

impl Drop for Replacing<'_> {
    fn drop(&mut self) {
        self.0.replacing.fetch_add(1, Ordering::AcqRel);
    }
}

impl Index {
    /// What `read` gives when no segment was replaced meanwhile: rows and tables of one version each. A commit that
    /// replaces one takes as long as a sync; what was read beside it is read once more.
    pub(crate) fn consistently<T>(
        &self,
        mut read: impl FnMut() -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        loop {
            let seen = self.replacing.load(Ordering::Acquire);
            let found = read();
            if seen.is_multiple_of(2) && self.replacing.load(Ordering::Acquire) == seen {
                return found;
            }
            std::thread::yield_now();
        }
    }

    /// What is under way with a segment, of whichever generation `row` tells.
    pub fn thinning(&self, row: &SegmentRow) -> Result<Option<Thinning>, IndexError> {
        let (stream, at) = (row.id.stream, row.wall_start);
        let bytes = self.db.get_pinned_cf(self.cf(THINNING)?, keys::at(stream, at))?;
        let found = bytes
            .map(|bytes| Thinning::decode(stream, at, &bytes))
            .transpose();
        found.map_err(IndexError::bad_row(THINNING))
    }

    /// All that is under way; few, since each goes when a grace is over.
    pub fn thinnings(&self) -> Result<Vec<Thinning>, IndexError> {
        let mut found = Vec::new();
        let mut it = self.db.raw_iterator_cf(self.cf(THINNING)?);
        it.seek_to_first();
        while let Some((key, value)) = it.item() {
            let bad = IndexError::bad_row(THINNING);
            let (stream, at) = keys::parse_at(key).ok_or_else(|| bad(Malformed("key")))?;
            found.push(Thinning::decode(stream, at, value).map_err(bad)?);
            it.next();
        }
        it.status()?;
        Ok(found)
    }

    /// The end of the last segment of a stream that was replaced since the index was opened: who keeps what was read
    /// before reads it again when this changes.
    pub fn replaced_until(&self, stream: StreamNo) -> Option<WallTime> {
        let replaced = self.replaced.read();
        let replaced = replaced.unwrap_or_else(PoisonError::into_inner);
        replaced.get(&stream).copied()
    }

    /// Puts a thinner version in the place of a segment, in one synced write. False, and nothing is changed, when it is
    /// not any more what it was, or is held: a hold that was answered before this returns is kept.
    pub fn replace(&self, r: &Replacement) -> Result<bool, IndexError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = self.segment(r.before.id)?.as_ref() == Some(&r.before);
        if !is_same || self.held(r.before.id.stream, r.before.range(), r.at)? {
            return Ok(false);
        }
        let mut out = WriteBatch::default();
        self.put_replaced(&mut out, r)?;
        let _replacing = Replacing::begin(self);
        self.write(out)?;
        self.note_replaced(&r.after);
        Ok(true)
    }

    /// Begins to remove the copies of a segment as it was before it was thinned, and returns the row that says so, durable;
    /// `None`, and nothing is changed, when the segment is held at `now`, is being deleted, or has no such copies.
    ///
    /// This is the only way in which they begin to go: holds change under the same lock.
    pub fn begin_removing(&self, before: &SegmentRow, now: WallTime) -> Result<Option<Thinning>, IndexError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(thinning) = self.thinning(before)? else {
            return Ok(None);
        };
        let (copies, since) = match thinning.step {
            ThinningStep::Begun => return Ok(None),
            ThinningStep::Removing { .. } => return Ok(Some(thinning)),
            ThinningStep::Replaced { copies, since } => (copies, since),
        };
        let row = self.segment(before.id)?;
        if row.is_none_or(|row| row.state != SegmentState::Sealed)
            || self.held(before.id.stream, before.range(), now)?
        {
            return Ok(None);
        }
        let going = Thinning {
            step: ThinningStep::Removing { copies, since },
            ..thinning
        };
        let mut out = WriteBatch::default();
        going.put(self, &mut out)?;
        self.write(out)?;
        Ok(Some(going))
    }

    /// Segments of which the version before they were thinned is going: it is too late to hold that.
    pub(crate) fn originals_going(&self) -> Result<Vec<SegmentRow>, IndexError> {
        let all = self.thinnings()?.into_iter();
        let going = all.filter(|t| matches!(t.step, ThinningStep::Removing { .. }));
        Ok(going.map(|t| t.before).collect())
    }

    fn put_replaced(&self, out: &mut WriteBatch, r: &Replacement) -> Result<(), IndexError> {
        let (stream, key) = (r.after.id.stream, keys::at(r.after.id.stream, r.after.wall_start));
        self.put_segment(out, &r.after)?;
        self.put_table(out, &r.after, &r.entries)?;
        out.delete_cf(self.cf(COPIES)?, key);
        out.delete_cf(self.cf(RESTORES)?, key);
        self.forget_damage(out, &r.before)?;
        let thinning = Thinning {
            before: r.before.clone(),
            step: ThinningStep::Replaced {
                copies: r.copies,
                since: r.at,
            },
        };
        thinning.put(self, out)?;
        // Losses have the time of the fragment that tells of them now.
        for incident in self.incidents(stream, r.before.range())? {
            if matches!(incident.kind, IncidentKind::PacketsLost { .. }) {
                out.delete_cf(self.cf(INCIDENTS)?, incident.key(stream));
            }
        }
        for entry in &r.entries {
            for note in &entry.notes {
                let told = Incident::of(note, entry.wall_start);
                if let Some(lost) = told.filter(|_| matches!(note, Note::PacketsLost { .. })) {
                    self.put_incident(out, stream, &lost)?;
                }
            }
        }
        for hour in r.after.hours() {
            let row = self.covered_with(hour, r)?;
            out.put_cf(self.cf(COVERAGE)?, keys::at(stream, hour), row.encode());
        }
        Ok(())
    }

    /// An hour of a stream with the new version of one of its segments.
    fn covered_with(&self, hour: WallTime, r: &Replacement) -> Result<HourCoverage, IndexError> {
        let mut row = HourCoverage::empty(hour);
        let range = TimeRange::starting(hour, HOUR_US.unsigned_abs());
        for segment in self.segments(r.after.id.stream, range)? {
            if segment.state != SegmentState::Sealed {
                continue;
            }
            if segment.id != r.after.id {
                row.add(&self.part(&segment, hour)?);
            } else if let Some(part) = contribution(&r.entries).get(&hour) {
                row.add(part);
            }
        }
        Ok(row)
    }

    /// Tells those who ask [`replaced_until`](Self::replaced_until).
    fn note_replaced(&self, row: &SegmentRow) {
        let replaced = self.replaced.write();
        let mut replaced = replaced.unwrap_or_else(PoisonError::into_inner);
        let until = replaced.entry(row.id.stream).or_insert(row.wall_end);
        *until = row.wall_end.max(*until);
    }
}
