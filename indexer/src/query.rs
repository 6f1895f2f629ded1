//! Reading the media tables.

use archive::codec::Decoder;
use archive::time::{HOUR_US, SECOND_US};
use archive::{FragmentEntry, FragmentRef, Gap, SegmentId, StreamNo, TimeRange, WallTime};
use rocksdb::{DBRawIterator, ReadOptions, Snapshot};

use crate::coverage::{HourCoverage, contribution};
use crate::damage::Damage;
use crate::db::{COVERAGE, FRAGMENTS, GAPS, INCIDENTS, META, SEGMENTS, SEQUENCES, TAIL};
use crate::error::IndexError;
use crate::index::Index;
use crate::keys;
use crate::rows::{self, Ended, Incident, Last, SegmentFragments, SegmentRow, SegmentState};
use crate::timeline::{self, Timeline};

/// The recorded instants around a time.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Nearest {
    /// The last recorded instant at or before it.
    pub before: Option<WallTime>,
    /// The first recorded instant at or after it.
    pub after: Option<WallTime>,
}

/// Segments of ranges up to this are read from the last to the first. The first begins before the range and is sought
/// backwards: to go on forwards from there, every level has to be sought once more. Many rows are read faster forwards.
const BACKWARDS_US_MAX: u64 = 600 * SECOND_US.unsigned_abs();

impl Index {
    /// An iterator over the keys of one stream.
    fn iter(&self, table: &'static str, stream: StreamNo) -> Result<DBRawIterator<'_>, IndexError> {
        let o = Self::stream_bounds(stream);
        Ok(self.db.raw_iterator_cf_opt(self.cf(table)?, o))
    }

    pub(crate) fn stream_bounds(stream: StreamNo) -> ReadOptions {
        let mut o = ReadOptions::default();
        o.set_iterate_lower_bound(stream.0.to_be_bytes().to_vec());
        if let Some(next) = stream.0.checked_add(1) {
            o.set_iterate_upper_bound(next.to_be_bytes().to_vec());
        }
        o
    }

    /// Rows of `stream` from the last at or before `range.from` to the last before `range.to`.
    pub(crate) fn scan<T>(
        &self,
        table: &'static str,
        stream: StreamNo,
        range: TimeRange,
        decode: impl FnMut(WallTime, &[u8]) -> Result<Option<T>, archive::Malformed>,
    ) -> Result<Vec<T>, IndexError> {
        Self::scan_with(self.iter(table, stream)?, (table, stream), range, decode)
    }

    fn scan_with<T>(
        mut it: DBRawIterator<'_>,
        (table, stream): (&'static str, StreamNo),
        range: TimeRange,
        mut decode: impl FnMut(WallTime, &[u8]) -> Result<Option<T>, archive::Malformed>,
    ) -> Result<Vec<T>, IndexError> {
        let bad = IndexError::bad_row(table);
        it.seek_for_prev(keys::at(stream, range.from()));
        if !it.valid() {
            it.status()?;
            it.seek_to_first();
        }
        let mut found = Vec::new();
        while let Some((key, value)) = it.item() {
            let (_, at) =
                keys::parse_at(key.get(..12).unwrap_or(key)).ok_or_else(|| bad(archive::Malformed("key")))?;
            if at >= range.to() && at > range.from() {
                break;
            }
            found.extend(decode(at, value).map_err(&bad)?);
            it.next();
        }
        it.status()?;
        Ok(found)
    }

    /// The segments that overlap `range`, in order, less those whose deletion has begun.
    pub fn segments(&self, stream: StreamNo, range: TimeRange) -> Result<Vec<SegmentRow>, IndexError> {
        let mut found = self.segments_all_states(stream, range)?;
        found.retain(|row| row.state != SegmentState::Deleting);
        Ok(found)
    }

    /// The segments that overlap `range`, in order, whatever their state.
    pub fn segments_all_states(
        &self,
        stream: StreamNo,
        range: TimeRange,
    ) -> Result<Vec<SegmentRow>, IndexError> {
        let overlapping = |at, value: &[u8]| {
            let row = SegmentRow::decode(stream, at, value)?;
            Ok(row.range().intersect(range).is_some().then_some(row))
        };
        if range.micros() > BACKWARDS_US_MAX {
            return self.scan(SEGMENTS, stream, range, overlapping);
        }
        let bad = IndexError::bad_row(SEGMENTS);
        let last = range.to().plus_micros(-1).max(range.from());
        let mut it = self.iter(SEGMENTS, stream)?;
        it.seek_for_prev(keys::at(stream, last));
        let mut found = Vec::new();
        while let Some((key, value)) = it.item() {
            let (_, at) = keys::parse_at(key).ok_or_else(|| bad(archive::Malformed("key")))?;
            found.extend(overlapping(at, value).map_err(&bad)?);
            if at <= range.from() {
                break;
            }
            it.prev();
        }
        it.status()?;
        found.reverse();
        Ok(found)
    }

    /// How many segments a stream has, whatever their state.
    pub(crate) fn count_segments(&self, stream: StreamNo) -> Result<usize, IndexError> {
        let mut it = self.iter(SEGMENTS, stream)?;
        it.seek_to_first();
        let mut count = 0;
        while it.valid() {
            count += 1;
            it.next();
        }
        it.status()?;
        Ok(count)
    }

    /// A segment by its sequence.
    pub fn segment(&self, id: SegmentId) -> Result<Option<SegmentRow>, IndexError> {
        let Some(start) = self.db.get_pinned_cf(self.cf(SEQUENCES)?, keys::sequence(id))? else {
            return Ok(None);
        };
        let start = <[u8; 8]>::try_from(&*start)
            .map_err(|_| IndexError::bad_row(SEQUENCES)(archive::Malformed("time")))?;
        let start = WallTime::from_micros(i64::from_be_bytes(start));
        let row = self
            .db
            .get_pinned_cf(self.cf(SEGMENTS)?, keys::at(id.stream, start))?;
        let row = row
            .map(|row| SegmentRow::decode(id.stream, start, &row))
            .transpose();
        row.map_err(IndexError::bad_row(SEGMENTS))
    }

    /// The segment of a stream that was begun last.
    pub fn last_segment(&self, stream: StreamNo) -> Result<Option<SegmentRow>, IndexError> {
        let mut it = self.iter(SEGMENTS, stream)?;
        it.seek_to_last();
        it.status()?;
        let Some((key, value)) = it.item() else {
            return Ok(None);
        };
        let at = keys::parse_at(key).map_or(WallTime::MIN, |k| k.1);
        SegmentRow::decode(stream, at, value)
            .map(Some)
            .map_err(IndexError::bad_row(SEGMENTS))
    }

    /// The segment of a stream that begins last before `at`.
    pub(crate) fn segment_before(
        &self,
        stream: StreamNo,
        at: WallTime,
    ) -> Result<Option<SegmentRow>, IndexError> {
        let mut it = self.iter(SEGMENTS, stream)?;
        it.seek_for_prev(keys::at(stream, at.plus_micros(-1)));
        it.status()?;
        let Some((key, value)) = it.item() else {
            return Ok(None);
        };
        let start = keys::parse_at(key).map_or(WallTime::MIN, |k| k.1);
        SegmentRow::decode(stream, start, value)
            .map(Some)
            .map_err(IndexError::bad_row(SEGMENTS))
    }

    /// The first `count` segments of a stream that begin at `from` or later, in order, whatever their state.
    pub fn segments_from(
        &self,
        stream: StreamNo,
        from: WallTime,
        count: usize,
    ) -> Result<Vec<SegmentRow>, IndexError> {
        let mut it = self.iter(SEGMENTS, stream)?;
        it.seek(keys::at(stream, from));
        let mut found = Vec::new();
        while found.len() < count
            && let Some((key, value)) = it.item()
        {
            let at = keys::parse_at(key).map_or(WallTime::MIN, |k| k.1);
            found.push(SegmentRow::decode(stream, at, value).map_err(IndexError::bad_row(SEGMENTS))?);
            it.next();
        }
        it.status()?;
        Ok(found)
    }

    /// Where a stream ends: sequences are not used twice, the chain goes on, and wall time does not run backwards,
    /// even when its last segments were deleted, or all of them. `None` when it never recorded.
    pub fn end(&self, stream: StreamNo) -> Result<Option<Ended>, IndexError> {
        let last = self.last_segment(stream)?.as_ref().map(Ended::of);
        Ok(match (last, self.ended(stream)?) {
            (Some(last), Some(ended)) => Some(last.later(ended)),
            (last, ended) => last.or(ended),
        })
    }

    /// Where the deleted segments of a stream ended.
    pub(crate) fn ended(&self, stream: StreamNo) -> Result<Option<Ended>, IndexError> {
        let Some(bytes) = self.db.get_cf(self.cf(META)?, Ended::key(stream))? else {
            return Ok(None);
        };
        Ended::decode(&bytes).map(Some).map_err(IndexError::bad_row(META))
    }

    /// Every segment that is not sealed, of all streams: open, or given up.
    pub fn unsealed(&self) -> Result<Vec<SegmentRow>, IndexError> {
        let mut found = Vec::new();
        for (stream, _) in self.streams() {
            let mut it = self.iter(TAIL, stream)?;
            it.seek_to_first();
            while let Some((_, at)) = it.key().and_then(keys::parse_at) {
                let Some(row) = self
                    .segments_all_states(stream, TimeRange::starting(at, 1))?
                    .pop()
                else {
                    it.next();
                    continue;
                };
                it.seek(keys::at(stream, row.wall_end));
                found.push(row);
            }
            it.status()?;
        }
        Ok(found)
    }

    /// The fragments of unsealed segments that begin in `range`.
    pub(crate) fn tail(&self, stream: StreamNo, range: TimeRange) -> Result<Vec<FragmentEntry>, IndexError> {
        self.scan(TAIL, stream, range, tail_entry(range))
    }

    /// All fragments of a segment. [`IndexError::Elsewhere`] when only the segment itself tells them, and nobody has lent
    /// its table; none when all of it is known to be lost.
    pub fn table(&self, row: &SegmentRow) -> Result<Vec<FragmentEntry>, IndexError> {
        let at_hand = |row| -> Result<Option<Vec<FragmentEntry>>, IndexError> {
            Ok(match self.stored_table(row)? {
                Some(entries) => Some(entries),
                None => self.lent_table(row)?,
            })
        };
        if let Some(entries) = at_hand(row)? {
            return Ok(entries);
        }
        if row.state != SegmentState::Sealed {
            let entries = self.tail(row.id.stream, row.range())?;
            if entries.len() >= row.fragments as usize {
                return Ok(entries);
            }
            // The segment was sealed in between, and its fragments moved.
            if let Some(entries) = at_hand(row)? {
                return Ok(entries);
            }
        }
        match self.is_lost(row)? {
            true => Ok(Vec::new()),
            false => Err(IndexError::Elsewhere(vec![row.clone()])),
        }
    }

    /// The table of a sealed segment, where the index has it.
    pub(crate) fn stored_table(&self, row: &SegmentRow) -> Result<Option<Vec<FragmentEntry>>, IndexError> {
        let key = keys::at(row.id.stream, row.wall_start);
        let bytes = self.db.get_pinned_cf(self.cf(FRAGMENTS)?, key)?;
        let table = bytes.map(|bytes| rows::decode_table(&bytes)).transpose();
        table.map_err(IndexError::bad_row(FRAGMENTS))
    }

    /// The segments that overlap `range`, in order, each with those of its fragments that do. Only what is
    /// durable and not known to be damaged. [`IndexError::Elsewhere`] names all tables that are not at hand.
    pub fn fragments(&self, stream: StreamNo, range: TimeRange) -> Result<Vec<SegmentFragments>, IndexError> {
        let mut found = self.consistently(|| self.all_fragments(stream, range))?;
        self.pass_over_damage(stream, range, &mut found)?;
        Ok(found)
    }

    fn all_fragments(&self, stream: StreamNo, range: TimeRange) -> Result<Vec<SegmentFragments>, IndexError> {
        let mut found = Vec::new();
        let mut elsewhere = Vec::new();
        for segment in self.segments(stream, range)? {
            let mut fragments = match self.table(&segment) {
                Ok(fragments) => fragments,
                Err(IndexError::Elsewhere(rows)) => {
                    elsewhere.extend(rows);
                    continue;
                }
                Err(e) => return Err(e),
            };
            let inside = segment.wall_start >= range.from() && segment.wall_end <= range.to();
            if !inside {
                fragments.retain(|f| f.range().intersect(range).is_some());
            }
            if !fragments.is_empty() {
                found.push(SegmentFragments { segment, fragments });
            }
        }
        match elsewhere.is_empty() {
            true => Ok(found),
            false => Err(IndexError::Elsewhere(elsewhere)),
        }
    }

    /// The fragment that contains `at`, else the first after it.
    pub fn seek(&self, stream: StreamNo, at: WallTime) -> Result<Option<FragmentRef>, IndexError> {
        self.consistently(|| self.find(stream, at))
    }

    fn find(&self, stream: StreamNo, at: WallTime) -> Result<Option<FragmentRef>, IndexError> {
        let mut it = self.iter(SEGMENTS, stream)?;
        it.seek_for_prev(keys::at(stream, at));
        if !it.valid() {
            it.status()?;
            it.seek_to_first();
        }
        while let Some((key, value)) = it.item() {
            let start = keys::parse_at(key).map_or(WallTime::MIN, |k| k.1);
            let row = SegmentRow::decode(stream, start, value).map_err(IndexError::bad_row(SEGMENTS))?;
            if row.wall_end > at && row.state != SegmentState::Deleting {
                let entry = self.readable(&row)?.into_iter().find(|f| f.wall_end() > at);
                if let Some(entry) = entry {
                    return Ok(Some(FragmentRef {
                        segment: row.id,
                        entry,
                    }));
                }
            }
            it.next();
        }
        it.status()?;
        Ok(None)
    }

    /// The recorded instants around `at`. Where the table of a segment is not at hand it counts as recorded throughout.
    pub fn nearest(&self, stream: StreamNo, at: WallTime) -> Result<Nearest, IndexError> {
        let after = match self.seek(stream, at) {
            Err(IndexError::Elsewhere(rows)) => rows.first().map(|row| row.wall_start.max(at)),
            found => found?.map(|f| f.entry.wall_start.max(at)),
        };
        let mut it = self.iter(SEGMENTS, stream)?;
        it.seek_for_prev(keys::at(stream, at));
        let mut before = None;
        while let (None, Some((key, value))) = (before, it.item()) {
            let start = keys::parse_at(key).map_or(WallTime::MIN, |k| k.1);
            let row = SegmentRow::decode(stream, start, value).map_err(IndexError::bad_row(SEGMENTS))?;
            if row.state != SegmentState::Deleting {
                let mut known = match self.readable(&row) {
                    Err(IndexError::Elsewhere(_)) => vec![row.range()],
                    entries => entries?.iter().map(FragmentEntry::range).collect(),
                };
                known.retain(|range| range.from() <= at);
                before = known.last().map(|range| range.to().min(at));
            }
            it.prev();
        }
        it.status()?;
        Ok(Nearest { before, after })
    }

    /// From the first to the last recorded instant.
    pub fn span(&self, stream: StreamNo) -> Result<Option<TimeRange>, IndexError> {
        let mut it = self.iter(SEGMENTS, stream)?;
        it.seek_to_first();
        let from = it.key().and_then(keys::parse_at).map(|k| k.1);
        it.status()?;
        let to = self.last_segment(stream)?.map(|row| row.wall_end);
        Ok(from.zip(to).and_then(|(from, to)| TimeRange::new(from, to)))
    }

    /// The gaps that overlap `range`, in order; those made by deletions and by damage too.
    pub fn gaps(&self, stream: StreamNo, range: TimeRange) -> Result<Vec<Gap>, IndexError> {
        let mut gaps = self.gap_rows(stream, range)?;
        let damage = self.damage(stream, range)?;
        if !damage.is_empty() {
            gaps.extend(damage.iter().map(Damage::gap));
            gaps.sort_by_key(|gap| gap.from);
        }
        Ok(gaps)
    }

    pub(crate) fn gap_rows(&self, stream: StreamNo, range: TimeRange) -> Result<Vec<Gap>, IndexError> {
        self.scan(GAPS, stream, range, |from, value| {
            let gap = rows::decode_gap(from, value)?;
            let span = TimeRange::new(from, gap.to.unwrap_or(WallTime::MAX));
            Ok(span.is_some_and(|s| s.intersect(range).is_some()).then_some(gap))
        })
    }

    /// The gap that begins at `at`.
    pub(crate) fn gap_at(&self, stream: StreamNo, at: WallTime) -> Result<Option<Gap>, IndexError> {
        let row = self.db.get_pinned_cf(self.cf(GAPS)?, keys::at(stream, at))?;
        row.map(|row| rows::decode_gap(at, &row))
            .transpose()
            .map_err(IndexError::bad_row(GAPS))
    }

    /// The gap that begins last before `at`.
    pub fn gap_before(&self, stream: StreamNo, at: WallTime) -> Result<Option<Gap>, IndexError> {
        let mut it = self.iter(GAPS, stream)?;
        it.seek_for_prev(keys::at(stream, at.plus_micros(-1)));
        it.status()?;
        let Some((key, value)) = it.item() else {
            return Ok(None);
        };
        let from = keys::parse_at(key).map_or(WallTime::MIN, |k| k.1);
        rows::decode_gap(from, value)
            .map(Some)
            .map_err(IndexError::bad_row(GAPS))
    }

    /// What happened in `range` that is no gap, in order.
    pub fn incidents(&self, stream: StreamNo, range: TimeRange) -> Result<Vec<Incident>, IndexError> {
        self.scan(INCIDENTS, stream, range, |at, value| {
            Incident::decode(at, value).map(|i| range.contains(at).then_some(i))
        })
    }

    /// Presence and activity by minute of the whole hours that overlap `range`, those without media left out.
    /// One instant's truth: a segment that is sealed meanwhile counts once.
    pub fn coverage(&self, stream: StreamNo, range: TimeRange) -> Result<Vec<HourCoverage>, IndexError> {
        let last = range.to().plus_micros(-1).max(range.from()).hour();
        let hours = TimeRange::new(range.from().hour(), last.plus_micros(HOUR_US)).unwrap_or(range);
        let at = Moment {
            index: self,
            snapshot: self.db.snapshot(),
        };
        let mut found = at.scan(COVERAGE, stream, hours, |hour, value| {
            HourCoverage::decode(hour, value).map(|row| (hour >= hours.from()).then_some(row))
        })?;
        let open = at.scan(SEGMENTS, stream, hours, |start, value| {
            let row = SegmentRow::decode(stream, start, value)?;
            let counts = !matches!(row.state, SegmentState::Sealed | SegmentState::Deleting);
            Ok((counts && row.range().intersect(hours).is_some()).then_some(row))
        })?;
        for segment in open {
            for (hour, part) in contribution(&at.tail(stream, segment.range())?) {
                if hour < hours.from() || hour >= hours.to() {
                    continue;
                }
                match found.binary_search_by_key(&hour, |row| row.hour) {
                    Ok(i) => found.iter_mut().skip(i).take(1).for_each(|row| row.add(&part)),
                    Err(i) => found.insert(i, part),
                }
            }
        }
        Ok(found)
    }

    /// Runs and gaps in `range`.
    pub fn timeline(&self, stream: StreamNo, range: TimeRange) -> Result<Timeline, IndexError> {
        Ok(timeline::build(
            range,
            &self.segments(stream, range)?,
            self.gaps(stream, range)?,
        ))
    }
}

/// The index as it is at one instant, whatever is committed meanwhile.
struct Moment<'a> {
    index: &'a Index,
    snapshot: Snapshot<'a>,
}

impl Moment<'_> {
    fn scan<T>(
        &self,
        table: &'static str,
        stream: StreamNo,
        range: TimeRange,
        decode: impl FnMut(WallTime, &[u8]) -> Result<Option<T>, archive::Malformed>,
    ) -> Result<Vec<T>, IndexError> {
        let o = Index::stream_bounds(stream);
        let it: DBRawIterator<'_> = self.snapshot.raw_iterator_cf_opt(self.index.cf(table)?, o);
        Index::scan_with(it, (table, stream), range, decode)
    }

    fn tail(&self, stream: StreamNo, range: TimeRange) -> Result<Vec<FragmentEntry>, IndexError> {
        self.scan(TAIL, stream, range, tail_entry(range))
    }
}

/// Reads the rows of fragments that begin in `range`.
fn tail_entry(
    range: TimeRange,
) -> impl FnMut(WallTime, &[u8]) -> Result<Option<FragmentEntry>, archive::Malformed> {
    move |at, value| {
        let entry = rows::decode_entry(&mut Decoder(value), &mut Last::default())?;
        Ok((at >= range.from()).then_some(entry))
    }
}
