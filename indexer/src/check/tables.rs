//! What the tables tell of a stream, against each other: what needs no media.

use std::collections::{BTreeMap, BTreeSet};

use archive::layout::segment_path;
use archive::{FragmentEntry, GapCause, StreamId, StreamNo, TimeRange, WallTime};

use super::{Checker, Invariant};
use crate::certificates::{is_certified, uncertified};
use crate::coverage::{HourCoverage, contribution};
use crate::error::IndexError;
use crate::footers::{fetch_tables, with_tables};
use crate::lent::Loan;
use crate::rows::{SegmentRow, SegmentState};

/// Segments whose tables are fetched at a time.
const GROUP: usize = 256;

/// What the segments of a stream tell of time.
#[derive(Default)]
struct Told {
    /// Recorded times, joined where they meet; each is media.
    spans: Vec<(WallTime, WallTime, bool)>,
    /// Of what is being deleted or cannot be read.
    unknown: Vec<TimeRange>,
}

impl Told {
    fn add(&mut self, entries: &[FragmentEntry]) {
        for f in entries {
            match self.spans.last_mut() {
                Some((_, end, _)) if *end == f.wall_start => *end = f.wall_end(),
                _ => self.spans.push((f.wall_start, f.wall_end(), true)),
            }
        }
    }
}

impl Checker<'_> {
    /// Has the tables of the next segments at hand. What cannot be fetched is asked for one by one.
    fn lend(&self, rows: &[SegmentRow]) -> Result<Vec<Loan>, IndexError> {
        let mut elsewhere = Vec::new();
        for row in rows
            .iter()
            .take(GROUP)
            .filter(|row| row.state == SegmentState::Sealed)
        {
            if self.index.stored_table(row)?.is_none() {
                elsewhere.push(row.clone());
            }
        }
        Ok(fetch_tables(self.index, self.disk, self.stores, &elsewhere, || true).unwrap_or_default())
    }

    /// The fragments of a segment; `None` when neither the index nor the segment tells them.
    fn entries(&self, row: &SegmentRow) -> Result<Option<Vec<FragmentEntry>>, IndexError> {
        match with_tables(self.index, self.disk, self.stores, || self.index.table(row)) {
            Ok(entries) => Ok(Some(entries).filter(|entries| !entries.is_empty())),
            Err(IndexError::Archive(_) | IndexError::Elsewhere(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sequences, order, accounted time, coverage: what needs no media.
    pub(super) fn stream(
        &mut self,
        no: StreamNo,
        stream: &StreamId,
        rows: &[SegmentRow],
    ) -> Result<(), IndexError> {
        const REBUILD: &str = "run `tierline rebuild` and compare";
        let name = stream.to_string();
        let mut last: Option<&SegmentRow> = None;
        let mut hours = BTreeMap::new();
        // Hours of which it is not known what they should be, and times that explain themselves.
        let mut changing = BTreeSet::new();
        let mut told = Told::default();
        let mut _loans = Vec::new();
        for (i, row) in rows.iter().enumerate() {
            if i % GROUP == 0 {
                _loans = self.lend(rows.get(i..).unwrap_or_default())?;
            }
            if let Some(last) = last {
                if row.id.seq != last.id.seq + 1 && !self.is_deleted_between(last, row)? {
                    let what = format!("segment {} is followed by {}", last.id.seq, row.id.seq);
                    self.find(Invariant::ChainHolds, &name, what, REBUILD);
                }
                if row.wall_start < last.wall_end {
                    let what = format!("segment {} overlaps the one before it", row.id.seq);
                    self.find(Invariant::TablesAgree, &name, what, REBUILD);
                }
            }
            last = Some(row);
            if self.index.segment(row.id)?.as_ref() != Some(row) {
                self.find(
                    Invariant::TablesAgree,
                    &name,
                    format!("segment {} is not found by its sequence", row.id.seq),
                    REBUILD,
                );
            }
            // What is being deleted counts until its row is gone; of what cannot be read `segment` says so.
            let entries = match row.state {
                SegmentState::Deleting => None,
                _ => self.entries(row)?,
            };
            let Some(entries) = entries else {
                changing.extend(row.hours());
                told.unknown.push(row.range());
                continue;
            };
            told.add(&entries);
            if row.state == SegmentState::Sealed {
                for (hour, part) in contribution(&entries) {
                    hours
                        .entry(hour)
                        .or_insert_with(|| HourCoverage::empty(hour))
                        .add(&part);
                }
            }
        }
        for (hour, expected) in hours {
            if changing.contains(&hour) {
                continue;
            }
            if self.index.coverage_row(no, hour)? != expected {
                self.find(
                    Invariant::TablesAgree,
                    &name,
                    format!("coverage of {hour} is not what its segments tell"),
                    REBUILD,
                );
            }
        }
        for damage in self.index.damage(no, TimeRange::ALL)? {
            let row = rows.iter().find(|row| row.id == damage.segment);
            self.find(
                Invariant::Readable,
                row.map_or_else(|| name.clone(), |row| segment_path(stream, &row.name())),
                format!(
                    "{} byte {}, {} to {}, was found damaged at {}; readers pass it over",
                    if damage.rest {
                        "all from"
                    } else {
                        "the fragment at"
                    },
                    damage.offset,
                    damage.range.from(),
                    damage.range.to(),
                    damage.found
                ),
                "restore the file from a copy, then run `tierline rebuild`",
            );
        }
        for range in uncertified(self.index, no)? {
            let what = format!(
                "{} to {} was deleted without a certificate",
                range.from(),
                range.to()
            );
            let remedy = "restore the files below `.certificates` from a store, then run `tierline rebuild`";
            self.find(Invariant::DeletionsAreCertified, &name, what, remedy);
        }
        self.accounted(no, stream, told)
    }

    /// Whether segments are missing between two because they were deleted: the first of them was held.
    fn is_deleted_between(&self, before: &SegmentRow, row: &SegmentRow) -> Result<bool, IndexError> {
        let Some(between) = TimeRange::new(before.wall_end, row.wall_start) else {
            return Ok(false);
        };
        if self.index.last_certificate()? > 0 {
            return is_certified(self.index, before, row);
        }
        let gaps = self.index.gap_rows(row.id.stream, between)?;
        Ok(row.id.seq > before.id.seq && gaps.iter().any(|gap| gap.cause == GapCause::Retention))
    }

    /// From the first to the last instant: recorded, or a gap with a cause, and never both.
    fn accounted(&mut self, no: StreamNo, stream: &StreamId, told: Told) -> Result<(), IndexError> {
        let mut spans = told.spans;
        let Some(end) = self.index.span(no)?.map(|s| s.to()) else {
            return Ok(());
        };
        // What is being deleted explains itself, with the gaps inside it.
        let going = told.unknown;
        spans.extend(going.iter().map(|r| (r.from(), r.to(), false)));
        let gaps = self.index.gap_rows(no, TimeRange::ALL)?;
        let gaps = gaps
            .iter()
            .filter(|g| !going.iter().any(|r| r.contains(g.from) && g.from > r.from()));
        spans.extend(gaps.map(|g| (g.from, g.to.unwrap_or(WallTime::MAX), false)));
        spans.sort_unstable();
        let mut at: Option<WallTime> = None;
        for (from, to, media) in spans {
            let what = match at {
                Some(at) if from > at && at < end => {
                    Some(format!("{at} to {from} is neither recorded nor explained"))
                }
                Some(at) if from < at && media => Some(format!(
                    "{from} to {} is recorded twice or both recorded and missing",
                    at.min(to)
                )),
                Some(at) if from < at && from < end => {
                    Some(format!("the gap at {from} overlaps what ends at {at}"))
                }
                _ => None,
            };
            if let Some(what) = what {
                self.find(
                    Invariant::TimeIsAccounted,
                    stream.to_string(),
                    what,
                    "run `tierline rebuild` and compare",
                );
            }
            at = at.max(Some(to));
        }
        Ok(())
    }
}
