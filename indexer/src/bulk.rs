//! Fills an empty index with what segments tell, as fast as the database takes it.
//!
//! Recording writes fragment by fragment and turns the rows of a segment into a table when it is sealed; whoever knows
//! all of a segment writes the table at once. Nothing is durable before [`Loader::finish`]: what a crash leaves is no
//! index, and is made anew.

use std::collections::{BTreeMap, HashSet};

use archive::codec::Encoder;
use archive::{FragmentEntry, Gap, GapCause, InitSegment, Note, Sha256, StreamNo, Tier, WallTime};
use rocksdb::{WriteBatch, WriteOptions};

use crate::copies::{Copies, CopyState};
use crate::coverage::{Borders, HourCoverage, Parts, contribution};
use crate::db::{COVERAGE, GAPS, INITS, TABLES, TAIL};
use crate::error::IndexError;
use crate::index::Index;
use crate::keys;
use crate::rows::{self, Incident, Last, SegmentRow, SegmentState};
use crate::thinning::Thinning;

/// So much is given to the database at a time.
const BATCH_BYTES: usize = 1 << 20;

/// Takes segments stream by stream, those of a stream in the order of time.
pub(crate) struct Loader<'a> {
    index: &'a Index,
    out: WriteBatch,
    inits: HashSet<Sha256>,
    /// The stream that is being filled.
    stream: Option<StreamNo>,
    gaps: BTreeMap<WallTime, Gap>,
    hours: BTreeMap<WallTime, HourCoverage>,
    until: WallTime,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(index: &'a Index) -> Self {
        Self {
            index,
            out: WriteBatch::default(),
            inits: HashSet::new(),
            stream: None,
            gaps: BTreeMap::new(),
            hours: BTreeMap::new(),
            until: WallTime::MIN,
        }
    }

    /// Adds a segment with all its fragments and what their notes tell. Where `parts` says what it adds to coverage, it
    /// may come without them, if it is not on the hot tier.
    pub(crate) fn add(
        &mut self,
        row: &SegmentRow,
        entries: &[FragmentEntry],
        copies: Option<&Copies>,
        parts: Option<Parts>,
        init: &InitSegment,
    ) -> Result<(), IndexError> {
        let stream = row.id.stream;
        if self.stream != Some(stream) {
            self.end_stream()?;
            self.stream = Some(stream);
        }
        let (index, out) = (self.index, &mut self.out);
        if self.inits.insert(init.hash) {
            out.put_cf(index.cf(INITS)?, init.hash.0, &init.bytes);
        }
        if row.state == SegmentState::Sealed {
            let tier = copies.map_or(row.tier, Copies::nearest);
            index.put_segment(out, &SegmentRow { tier, ..row.clone() })?;
            // What has left the hot tier tells its fragments itself.
            let is_hot = copies.is_none_or(|copies| copies.state(Tier::Hot) != CopyState::Absent);
            if is_hot {
                index.put_table(out, row, entries)?;
            }
            if let Some(mut copies) = copies.copied() {
                if !is_hot {
                    copies.borders = copies.borders.or_else(|| Borders::of(entries));
                }
                index.put_copies(out, stream, row.wall_start, &copies)?;
            }
            for (hour, part) in parts.unwrap_or_else(|| contribution(entries)) {
                let sum = self
                    .hours
                    .entry(hour)
                    .or_insert_with(|| HourCoverage::empty(hour));
                sum.add(&part);
            }
        } else {
            index.put_segment(out, row)?;
            for entry in entries {
                let mut e = Encoder::default();
                rows::encode_entry(&mut e, entry, &mut Last::default());
                out.put_cf(index.cf(TAIL)?, keys::at(stream, entry.wall_start), e.0);
            }
        }
        for entry in entries {
            self.take_notes(stream, entry)?;
        }
        self.until = row.wall_end;
        // Segments to come begin later, and add to no hour before that.
        let open = self.hours.split_off(&row.wall_end.hour());
        let over = std::mem::replace(&mut self.hours, open);
        self.put_hours(stream, over)?;
        if self.out.size_in_bytes() >= BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    /// Adds gaps and incidents of the stream of the last segment, which are known without its notes.
    pub(crate) fn add_known(&mut self, gaps: &[Gap], incidents: &[Incident]) -> Result<(), IndexError> {
        let Some(stream) = self.stream else { return Ok(()) };
        self.gaps.extend(gaps.iter().map(|gap| (gap.from, *gap)));
        for incident in incidents {
            self.index.put_incident(&mut self.out, stream, incident)?;
        }
        Ok(())
    }

    /// Adds what is left of a segment before it was thinned.
    pub(crate) fn add_former(&mut self, former: &Thinning) -> Result<(), IndexError> {
        former.put(self.index, &mut self.out)
    }

    /// The notes of a fragment are the last word on the gap before it, as when it was recorded.
    fn take_notes(&mut self, stream: StreamNo, entry: &FragmentEntry) -> Result<(), IndexError> {
        let begins = entry.notes.iter().filter_map(|note| match note {
            Note::Gap { from, .. } => Some(*from),
            _ => None,
        });
        let begin = begins.min();
        if begin.is_some() || entry.run_start {
            let later = self.gaps.split_off(&begin.unwrap_or(entry.wall_start));
            let stay = |gap: &Gap| gap.cause == GapCause::Retention;
            self.gaps.extend(later.into_iter().filter(|(_, gap)| stay(gap)));
        }
        for note in &entry.notes {
            if let Note::Gap { from, to, cause } = *note {
                let to = Some(to);
                self.gaps.insert(from, Gap { from, to, cause });
            }
            if let Some(incident) = Incident::of(note, entry.wall_start) {
                self.index.put_incident(&mut self.out, stream, &incident)?;
            }
        }
        Ok(())
    }

    fn put_hours(
        &mut self,
        stream: StreamNo,
        hours: BTreeMap<WallTime, HourCoverage>,
    ) -> Result<(), IndexError> {
        for (hour, row) in hours {
            let cf = self.index.cf(COVERAGE)?;
            self.out.put_cf(cf, keys::at(stream, hour), row.encode());
        }
        Ok(())
    }

    fn end_stream(&mut self) -> Result<(), IndexError> {
        let Some(stream) = self.stream.take() else {
            return Ok(());
        };
        let hours = std::mem::take(&mut self.hours);
        self.put_hours(stream, hours)?;
        for (from, gap) in std::mem::take(&mut self.gaps) {
            let cf = self.index.cf(GAPS)?;
            self.out
                .put_cf(cf, keys::at(stream, from), rows::encode_gap(&gap));
        }
        self.index.live.publish(stream, self.until);
        Ok(())
    }

    fn write(&mut self) -> Result<(), IndexError> {
        let mut o = WriteOptions::default();
        o.disable_wal(true);
        let out = std::mem::take(&mut self.out);
        Ok(self.index.db.write_opt(out, &o)?)
    }

    /// Makes everything durable.
    pub(crate) fn finish(mut self) -> Result<(), IndexError> {
        self.end_stream()?;
        self.write()?;
        for table in TABLES {
            self.index.db.flush_cf(self.index.cf(table)?)?;
        }
        Ok(())
    }
}
