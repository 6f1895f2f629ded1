//! Changes of the media tables, collected and committed as one synced write.

use std::borrow::Borrow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use archive::codec::Encoder;
use archive::{
    FragmentEntry, Gap, GapCause, InitSegment, Note, SegmentId, StreamNo, Tier, TimeRange, WallTime,
};
use rocksdb::WriteBatch;

use crate::copies::{Copies, CopyState};
use crate::coverage::{Borders, HourCoverage, Parts, contribution};
use crate::damage::Damage;
use crate::db::{
    COPIES, COVERAGE, FRAGMENTS, GAPS, INCIDENTS, INITS, META, RESTORES, SEGMENTS, SEQUENCES, TAIL, THINNING,
};
use crate::error::IndexError;
use crate::faults::Fault;
use crate::index::Index;
use crate::keys;
use crate::rows::{self, Ended, Incident, Last, SegmentRow, SegmentState};
use crate::thinning::{Thinning, ThinningStep};

#[derive(Clone)]
enum Change {
    Segment(SegmentRow),
    Fragment(SegmentId, FragmentEntry),
    Seal(SegmentRow),
    Delete(SegmentRow),
    Copies(SegmentRow, Copies),
    Gap(StreamNo, Gap),
    Lasting(StreamNo, Vec<Gap>),
    Incident(StreamNo, Incident),
    Init(InitSegment),
    Damage(Damage),
    Mended(SegmentRow),
    Fault(Fault),
    FaultGone(SegmentId, Tier),
    Thinning(Thinning),
    Thinned(SegmentRow),
}

/// Coverage rows that a commit changes; several segments may meet in one hour.
type Hours = BTreeMap<(StreamNo, WallTime), HourCoverage>;

/// Gap rows that a commit changes, by where they begin; `None` forgets one.
type Gaps = BTreeMap<(StreamNo, WallTime), Option<Gap>>;

/// Changes that become durable together or not at all.
#[derive(Clone, Default)]
pub struct Batch {
    changes: Vec<Change>,
}

impl Batch {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds or replaces a segment. Its bytes up to `row.bytes` are durable.
    pub fn segment(&mut self, row: &SegmentRow) {
        self.changes.push(Change::Segment(row.clone()));
    }

    /// Adds a durable fragment to an unsealed segment, with the gaps and incidents among its notes.
    pub fn fragment(&mut self, segment: SegmentId, entry: FragmentEntry) {
        self.changes.push(Change::Fragment(segment, entry));
    }

    /// Makes a segment sealed: the rows of its fragments become one table. They are committed before.
    pub fn seal(&mut self, row: &SegmentRow) {
        self.changes.push(Change::Seal(row.clone()));
    }

    /// Says where the copies of a sealed segment are; it is read from the nearest from now on.
    pub fn copies(&mut self, row: &SegmentRow, copies: Copies) {
        self.changes.push(Change::Copies(row.clone(), copies));
    }

    /// Forgets a segment whose bytes are gone, and says so in the gaps.
    pub fn delete(&mut self, row: &SegmentRow) {
        self.changes.push(Change::Delete(row.clone()));
    }

    /// Adds or replaces the gap that begins at `gap.from`.
    pub fn gap(&mut self, stream: StreamNo, gap: Gap) {
        self.changes.push(Change::Gap(stream, gap));
    }

    /// Tells the whole of the gap in progress, in pieces in order: rows from its beginning on that are none of
    /// them are forgotten.
    pub fn gap_in_progress(&mut self, stream: StreamNo, pieces: Vec<Gap>) {
        self.changes.push(Change::Lasting(stream, pieces));
    }

    /// Adds an incident.
    pub fn incident(&mut self, stream: StreamNo, incident: Incident) {
        self.changes.push(Change::Incident(stream, incident));
    }

    /// Says that a fragment is damaged: from then on readers pass it over.
    pub fn damage(&mut self, damage: Damage) {
        self.changes.push(Change::Damage(damage));
    }

    /// Says that all of a segment reads right again: what was damaged in it is forgotten.
    pub fn mended(&mut self, row: &SegmentRow) {
        self.changes.push(Change::Mended(row.clone()));
    }

    /// Adds or replaces what is wrong with a copy.
    pub fn fault(&mut self, fault: Fault) {
        self.changes.push(Change::Fault(fault));
    }

    /// Forgets what was wrong with a copy.
    pub fn fault_gone(&mut self, segment: SegmentId, tier: Tier) {
        self.changes.push(Change::FaultGone(segment, tier));
    }

    /// Says that a segment is about to be thinned, or what is left of the one that it was.
    pub fn thinning(&mut self, thinning: Thinning) {
        self.changes.push(Change::Thinning(thinning));
    }

    /// Forgets that a segment was thinned, or was about to be: nothing is left to be removed.
    pub fn thinned(&mut self, row: &SegmentRow) {
        self.changes.push(Change::Thinned(row.clone()));
    }

    /// Adds an init segment.
    pub fn init(&mut self, init: &InitSegment) {
        self.changes.push(Change::Init(init.clone()));
    }
}

impl Index {
    /// Commits a batch: one synced write, after which waiting readers are told.
    /// After an error nothing of it may be acknowledged; where the disk was full, the same batch may be
    /// committed again, whether or not anything of it was written.
    pub fn commit(&self, batch: impl Borrow<Batch>) -> Result<(), IndexError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = WriteBatch::default();
        let mut durable: BTreeMap<StreamNo, WallTime> = BTreeMap::new();
        let mut deleted = Vec::new();
        let mut hours = BTreeMap::new();
        let mut gaps = Gaps::new();
        for change in &batch.borrow().changes {
            match change {
                Change::Segment(row) => self.put_segment(&mut out, row)?,
                Change::Fragment(segment, entry) => {
                    durable.insert(segment.stream, entry.wall_end());
                    self.put_fragment(&mut out, *segment, entry, &mut gaps)?;
                }
                Change::Seal(row) => self.put_sealed(&mut out, row, &mut hours)?,
                Change::Delete(row) => deleted.push(row.clone()),
                Change::Copies(row, copies) => {
                    let copies = self.without_table(&mut out, row, *copies)?;
                    self.put_copies(&mut out, row.id.stream, row.wall_start, &copies)?;
                    let tier = copies.nearest();
                    self.put_segment(&mut out, &SegmentRow { tier, ..row.clone() })?;
                }
                Change::Gap(stream, gap) => {
                    gaps.insert((*stream, gap.from), Some(*gap));
                }
                Change::Lasting(stream, pieces) => {
                    if let Some(first) = pieces.first() {
                        self.forget_gaps(*stream, first.from, &mut gaps)?;
                    }
                    gaps.extend(pieces.iter().map(|gap| ((*stream, gap.from), Some(*gap))));
                }
                Change::Incident(stream, i) => self.put_incident(&mut out, *stream, i)?,
                Change::Damage(damage) => damage.put(self, &mut out)?,
                Change::Mended(row) => self.forget_damage(&mut out, row)?,
                Change::Fault(fault) => fault.put(self, &mut out)?,
                Change::FaultGone(segment, tier) => {
                    out.delete_cf(self.cf(META)?, Fault::key(*segment, *tier));
                }
                Change::Thinning(thinning) => thinning.put(self, &mut out)?,
                Change::Thinned(row) => {
                    out.delete_cf(self.cf(THINNING)?, keys::at(row.id.stream, row.wall_start));
                }
                Change::Init(init) => out.put_cf(self.cf(INITS)?, init.hash.0, &init.bytes),
            }
        }
        for ((stream, from), gap) in gaps {
            let (cf, key) = (self.cf(GAPS)?, keys::at(stream, from));
            match gap {
                Some(gap) => out.put_cf(cf, key, rows::encode_gap(&gap)),
                None => out.delete_cf(cf, key),
            }
        }
        for ((stream, hour), row) in hours {
            out.put_cf(self.cf(COVERAGE)?, keys::at(stream, hour), row.encode());
        }
        self.put_deleted(&mut out, &deleted)?;
        self.write(out)?;
        for (stream, until) in durable {
            self.live.publish(stream, until);
        }
        Ok(())
    }

    pub(crate) fn put_segment(&self, out: &mut WriteBatch, row: &SegmentRow) -> Result<(), IndexError> {
        if row.state == SegmentState::Deleting {
            self.note_deletion(out, row)?;
        }
        out.put_cf(
            self.cf(SEGMENTS)?,
            keys::at(row.id.stream, row.wall_start),
            row.encode(),
        );
        out.put_cf(
            self.cf(SEQUENCES)?,
            keys::sequence(row.id),
            row.wall_start.micros().to_be_bytes(),
        );
        Ok(())
    }

    fn put_fragment(
        &self,
        out: &mut WriteBatch,
        segment: SegmentId,
        entry: &FragmentEntry,
        gaps: &mut Gaps,
    ) -> Result<(), IndexError> {
        let stream = segment.stream;
        let mut e = Encoder::default();
        rows::encode_entry(&mut e, entry, &mut Last::default());
        out.put_cf(self.cf(TAIL)?, keys::at(stream, entry.wall_start), e.0);
        self.reconcile_gaps(stream, entry, gaps)?;
        for note in &entry.notes {
            if let Note::Gap { from, to, cause } = *note {
                let gap = Gap {
                    from,
                    to: Some(to),
                    cause,
                };
                gaps.insert((stream, from), Some(gap));
            }
            if let Some(incident) = Incident::of(note, entry.wall_start) {
                self.put_incident(out, stream, &incident)?;
            }
        }
        Ok(())
    }

    /// The notes of a fragment are the last word on the gap before it: rows written while the gap lasted
    /// that they do not confirm are forgotten, also those that a clock that was wrong put behind the fragment.
    fn reconcile_gaps(
        &self,
        stream: StreamNo,
        entry: &FragmentEntry,
        gaps: &mut Gaps,
    ) -> Result<(), IndexError> {
        let begins = entry.notes.iter().filter_map(|n| match n {
            Note::Gap { from, .. } => Some(*from),
            _ => None,
        });
        let begin = begins.min();
        if begin.is_none() && !entry.run_start {
            return Ok(());
        }
        self.forget_gaps(stream, begin.unwrap_or(entry.wall_start), gaps)
    }

    /// Forgets the rows of gaps that begin at `begin` or later, those of the commit in progress too.
    fn forget_gaps(&self, stream: StreamNo, begin: WallTime, gaps: &mut Gaps) -> Result<(), IndexError> {
        let told = TimeRange::new(begin, WallTime::MAX).unwrap_or(TimeRange::ALL);
        for gap in self.gap_rows(stream, told)? {
            if gap.from >= begin && gap.cause != GapCause::Retention {
                gaps.insert((stream, gap.from), None);
            }
        }
        for (_, gap) in gaps.range_mut((stream, begin)..=(stream, WallTime::MAX)) {
            *gap = None;
        }
        Ok(())
    }

    pub(crate) fn put_incident(
        &self,
        out: &mut WriteBatch,
        stream: StreamNo,
        i: &Incident,
    ) -> Result<(), IndexError> {
        out.put_cf(self.cf(INCIDENTS)?, i.key(stream), i.encode());
        Ok(())
    }

    fn put_sealed(
        &self,
        out: &mut WriteBatch,
        row: &SegmentRow,
        hours: &mut Hours,
    ) -> Result<(), IndexError> {
        let stream = row.id.stream;
        // Committed again: the rows of its fragments are in its table already.
        if self
            .segment(row.id)?
            .is_some_and(|row| row.state == SegmentState::Sealed)
        {
            return Ok(());
        }
        let entries = self.tail(stream, row.range())?;
        let sealed = SegmentRow {
            state: SegmentState::Sealed,
            ..row.clone()
        };
        self.put_segment(out, &sealed)?;
        self.put_table(out, &sealed, &entries)?;
        for entry in &entries {
            out.delete_cf(self.cf(TAIL)?, keys::at(stream, entry.wall_start));
        }
        for (hour, part) in contribution(&entries) {
            match hours.entry((stream, hour)) {
                Entry::Occupied(mut e) => e.get_mut().add(&part),
                Entry::Vacant(e) => e.insert(self.coverage_row(stream, hour)?).add(&part),
            }
        }
        Ok(())
    }

    pub(crate) fn put_table(
        &self,
        out: &mut WriteBatch,
        row: &SegmentRow,
        entries: &[FragmentEntry],
    ) -> Result<(), IndexError> {
        out.put_cf(
            self.cf(FRAGMENTS)?,
            keys::at(row.id.stream, row.wall_start),
            rows::encode_table(entries),
        );
        Ok(())
    }

    /// The copies of a segment, whose table goes when the last copy on the hot tier has gone: its own footer tells it.
    fn without_table(
        &self,
        out: &mut WriteBatch,
        row: &SegmentRow,
        mut copies: Copies,
    ) -> Result<Copies, IndexError> {
        if copies.borders.is_none() {
            copies.borders = self.copies(row)?.borders;
        }
        if copies.state(Tier::Hot) == CopyState::Absent
            && let Some(entries) = self.stored_table(row)?
        {
            copies.borders = Borders::of(&entries);
            out.delete_cf(self.cf(FRAGMENTS)?, keys::at(row.id.stream, row.wall_start));
        }
        Ok(copies)
    }

    pub(crate) fn coverage_row(&self, stream: StreamNo, hour: WallTime) -> Result<HourCoverage, IndexError> {
        match self
            .db
            .get_pinned_cf(self.cf(COVERAGE)?, keys::at(stream, hour))?
        {
            Some(bytes) => HourCoverage::decode(hour, &bytes).map_err(IndexError::bad_row(COVERAGE)),
            None => Ok(HourCoverage::empty(hour)),
        }
    }

    /// What a sealed segment adds to an hour, whether or not its table is in the index.
    pub(crate) fn part(&self, row: &SegmentRow, hour: WallTime) -> Result<HourCoverage, IndexError> {
        if let Some(entries) = self.stored_table(row)? {
            let part = contribution(&entries).remove(&hour);
            return Ok(part.unwrap_or_else(|| HourCoverage::empty(hour)));
        }
        let borders = self.copies(row)?.borders;
        Ok(Borders::part(
            borders,
            row.range(),
            &self.coverage_row(row.id.stream, hour)?,
        ))
    }

    /// What a sealed segment adds to each hour that it touches.
    pub(crate) fn parts(&self, row: &SegmentRow) -> Result<Parts, IndexError> {
        let part = |hour| Ok((hour, self.part(row, hour)?));
        row.hours().map(part).collect()
    }

    fn put_deleted(&self, out: &mut WriteBatch, rows: &[SegmentRow]) -> Result<(), IndexError> {
        let mut hours: BTreeSet<(StreamNo, WallTime)> = BTreeSet::new();
        let mut ends: BTreeMap<StreamNo, Ended> = BTreeMap::new();
        for row in rows {
            let stream = row.id.stream;
            let key = keys::at(stream, row.wall_start);
            out.delete_cf(self.cf(SEGMENTS)?, key);
            out.delete_cf(self.cf(COPIES)?, key);
            out.delete_cf(self.cf(RESTORES)?, key);
            out.delete_cf(self.cf(FRAGMENTS)?, key);
            out.delete_cf(self.cf(SEQUENCES)?, keys::sequence(row.id));
            self.forget_damage(out, row)?;
            // What was only begun may still leave a file.
            if let Some(thinning) = self.thinning(row)?
                && thinning.step != ThinningStep::Begun
            {
                out.delete_cf(self.cf(THINNING)?, key);
            }
            self.forget_deletion(out, row)?;
            // What happened since the segment before it explains nothing that is left.
            let before = self.segment_before(stream, row.wall_start)?;
            out.delete_range_cf(
                self.cf(INCIDENTS)?,
                keys::at(stream, before.map_or(WallTime::MIN, |before| before.wall_end)),
                keys::at(stream, row.wall_end),
            );
            // One that was never sealed has neither. The tail is not read otherwise: it is full of
            // fragments that were deleted from it when their segments were sealed.
            let is_sealed = self.copies(row)?.borders.is_some()
                || self.db.get_pinned_cf(self.cf(FRAGMENTS)?, key)?.is_some();
            if !is_sealed {
                for entry in self.tail(stream, row.range())? {
                    out.delete_cf(self.cf(TAIL)?, keys::at(stream, entry.wall_start));
                }
            }
            ends.entry(stream)
                .and_modify(|last| *last = last.later(Ended::of(row)))
                .or_insert(Ended::of(row));
            hours.extend(row.hours().map(|hour| (stream, hour)));
        }
        for (stream, end) in ends {
            // What was held went later than what follows it.
            let end = self.ended(stream)?.map_or(end, |known| known.later(end));
            out.put_cf(self.cf(META)?, Ended::key(stream), end.encode());
        }
        self.put_retention_gaps(out, rows)?;
        for (stream, hour) in hours {
            let mut row = HourCoverage::empty(hour);
            let range = TimeRange::starting(hour, archive::time::HOUR_US.unsigned_abs());
            for segment in self.segments(stream, range)? {
                let gone = rows.iter().any(|r| r.id == segment.id);
                if !gone && segment.state == SegmentState::Sealed {
                    row.add(&self.part(&segment, hour)?);
                }
            }
            let key = keys::at(stream, hour);
            if row == HourCoverage::empty(hour) {
                out.delete_cf(self.cf(COVERAGE)?, key);
            } else {
                out.put_cf(self.cf(COVERAGE)?, key, row.encode());
            }
        }
        Ok(())
    }

    /// What was deleted becomes a gap, joined to the deleted time before and behind it; gaps inside are swallowed by it.
    fn put_retention_gaps(&self, out: &mut WriteBatch, deleted: &[SegmentRow]) -> Result<(), IndexError> {
        let cf = self.cf(GAPS)?;
        let mut open: BTreeMap<StreamNo, Gap> = BTreeMap::new();
        for row in deleted {
            let stream = row.id.stream;
            let meets = |g: &Gap| g.cause == GapCause::Retention && g.to == Some(row.wall_start);
            let joined = match open.get(&stream).copied().filter(meets) {
                Some(gap) => Some(gap),
                None => self.gap_before(stream, row.wall_start)?.filter(meets),
            };
            let behind = self.gap_at(stream, row.wall_end)?;
            let behind = behind.filter(|g| g.cause == GapCause::Retention);
            if let Some(behind) = behind {
                out.delete_cf(cf, keys::at(stream, behind.from));
            }
            let gap = Gap {
                from: joined.map_or(row.wall_start, |g| g.from),
                to: behind.map_or(Some(row.wall_end), |g| g.to),
                cause: GapCause::Retention,
            };
            for inside in self.gap_rows(stream, row.range())? {
                if inside.from > row.wall_start {
                    out.delete_cf(cf, keys::at(stream, inside.from));
                }
            }
            out.put_cf(cf, keys::at(stream, gap.from), rows::encode_gap(&gap));
            open.insert(stream, gap);
        }
        Ok(())
    }
}
