//! The invariants as code: reads the index and the hot tier and says what does not hold.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use archive::disk::Disk;
use archive::layout::{SegmentName, segment_path, stream_dir};
use archive::segment::{SegmentReader, scan, verify};
use archive::store::Stores;
use archive::{ArchiveError, FragmentEntry, Sha256, StreamId, StreamNo, Tier, TimeRange, WallTime};
use serde::Serialize;

use crate::copies::CopyState;
use crate::coverage::contribution;
use crate::error::IndexError;
use crate::index::Index;
use crate::rebuild::list_segments;
use crate::rows::{SegmentRow, SegmentState};

/// What is checked; the numbers are those of `docs/lifecycle.md`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Invariant {
    /// 1: what was acknowledged is readable and is what was written.
    Readable,
    /// 3: no row points at bytes that are not there.
    RowsHaveBytes,
    /// 9: missing time has a cause.
    TimeIsAccounted,
    /// 10: sequences have no holes and hashes link.
    ChainHolds,
    /// 11: every file is known.
    FilesAreKnown,
    /// The tables agree with each other.
    TablesAgree,
}

/// Something that does not hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Which invariant is broken.
    pub invariant: Invariant,
    /// What breaks it: a stream, a segment, a file.
    pub object: String,
    /// How.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}: {}: {}; {}",
            self.invariant, self.object, self.what, self.remedy
        )
    }
}

/// How thorough, and beside what.
#[derive(Copy, Clone, Debug, Default)]
pub struct CheckOptions {
    /// Hash every byte of media, not only boxes and footers, and read every table of the index.
    pub deep: bool,
    /// A service is writing meanwhile: what is newer than the index that was opened is no finding.
    pub running: bool,
}

struct Checker<'a> {
    index: &'a Index,
    disk: &'a Disk,
    stores: &'a Stores,
    options: CheckOptions,
    findings: Vec<Finding>,
    /// Segments whose files are not there.
    missing: Vec<(String, SegmentRow)>,
}

/// Checks everything. `progress` is told how many segments were checked of how many.
pub fn check(
    index: &Index,
    disk: &Disk,
    stores: &Stores,
    options: CheckOptions,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<Finding>, IndexError> {
    let mut c = Checker {
        index,
        disk,
        stores,
        options,
        findings: Vec::new(),
        missing: Vec::new(),
    };
    if options.deep {
        index.read_every_table()?;
    }
    let (mut files, unknown) = list_segments(disk)?;
    for path in unknown {
        c.find(
            Invariant::FilesAreKnown,
            path,
            "not a segment".into(),
            "move it away; nothing here deletes it",
        );
    }
    let streams = index.streams();
    let mut total = 0;
    for (no, _) in &streams {
        total += index.count_segments(*no)?;
    }
    let mut done = 0;
    // One stream after the other: the rows of all would not fit into memory.
    for (no, stream) in streams {
        let rows = index.segments_all_states(no, TimeRange::ALL)?;
        c.stream(no, &stream, &rows)?;
        let known: HashMap<u64, &SegmentRow> = rows.iter().map(|r| (r.id.seq, r)).collect();
        // From here on a file is what a kill left on its way into the index, and the next start looks at it; or what
        // a service writes just now.
        let next_seq = match rows.last() {
            Some(row) => row.id.seq + 1,
            None => index.ended(no)?.map_or(0, |ended| ended.next_seq),
        };
        for name in files.remove(&stream).unwrap_or_default() {
            c.file(&stream, &name, &known, next_seq)?;
        }
        for tier in [Tier::Warm, Tier::Cold] {
            c.objects(&stream, tier, &known)?;
        }
        let mut before = None;
        for row in &rows {
            c.segment(&stream, row, &mut before)?;
            done += 1;
            progress(done, total.max(done));
        }
    }
    // No start looks at a stream that the index does not know.
    let next_seq = if options.running { 0 } else { u64::MAX };
    for (stream, names) in files {
        for name in names {
            c.file(&stream, &name, &HashMap::new(), next_seq)?;
        }
    }
    c.missing()?;
    Ok(c.findings)
}

impl Checker<'_> {
    fn find(&mut self, invariant: Invariant, object: impl Into<String>, what: String, remedy: &'static str) {
        self.findings.push(Finding {
            invariant,
            object: object.into(),
            what,
            remedy,
        });
    }

    fn file(
        &mut self,
        stream: &StreamId,
        name: &SegmentName,
        known: &HashMap<u64, &SegmentRow>,
        next_seq: u64,
    ) -> Result<(), IndexError> {
        let path = segment_path(stream, name);
        match known.get(&name.seq) {
            Some(row) if row.epoch == name.epoch && segment_path(stream, &row.name()) == path => {
                if !self.is_expected(row, Tier::Hot)? {
                    self.left_over(Tier::Hot, path);
                }
            }
            Some(row) if self.is_other_generation(stream, row, Tier::Hot, &path)? => {}
            None if name.seq >= next_seq => {}
            _ => self.find(
                Invariant::FilesAreKnown,
                path,
                "the index has no row for it".into(),
                "move it away; if it holds footage that is missing, run `tierline rebuild` first",
            ),
        }
        Ok(())
    }

    /// Whether a copy of the segment stands on the tier, or may.
    fn is_expected(&self, row: &SegmentRow, tier: Tier) -> Result<bool, IndexError> {
        Ok(row.state == SegmentState::Deleting || self.index.copies(row)?.state(tier) != CopyState::Absent)
    }

    /// Whether it is the name of what a segment was before it was thinned, or of what it is about to become, and such a
    /// file may stand there.
    fn is_other_generation(
        &self,
        stream: &StreamId,
        row: &SegmentRow,
        tier: Tier,
        path: &str,
    ) -> Result<bool, IndexError> {
        let Some(thinning) = self.index.thinning(row)? else {
            return Ok(false);
        };
        let other = match thinning.former() {
            Some(copies) if copies.state(tier) == CopyState::Absent => return Ok(false),
            Some(_) => thinning.before.name(),
            None if tier != Tier::Hot => return Ok(false),
            None => thinning.next().name(),
        };
        Ok(segment_path(stream, &other) == path)
    }

    fn left_over(&mut self, tier: Tier, path: String) {
        // Beside a service it may have been put there since the index was opened.
        if !self.options.running {
            self.find(
                Invariant::FilesAreKnown,
                format!("{tier}: {path}"),
                "the index knows of no copy there".into(),
                "move it away; nothing here reads or deletes it",
            );
        }
    }

    /// The objects of a stream in a store against the rows: each has one, and whole copies are what they were.
    fn objects(
        &mut self,
        stream: &StreamId,
        tier: Tier,
        known: &HashMap<u64, &SegmentRow>,
    ) -> Result<(), IndexError> {
        let Some(objects) = self.stores.of(tier) else {
            return Ok(());
        };
        let mut there = HashMap::new();
        let listed = objects.for_each(&stream_dir(stream), |name, len| {
            there.insert(name, len);
        });
        listed.map_err(ArchiveError::from)?;
        for row in known.values() {
            let name = segment_path(stream, &row.name());
            let found = there.remove(&name);
            let state = self.index.copies(row)?.state(tier);
            let wrong = match (state, found) {
                _ if row.state == SegmentState::Deleting => None,
                (CopyState::Whole, None) => Some("the object is missing".to_owned()),
                (CopyState::Whole, Some(len)) if len != row.bytes => {
                    Some(format!("{len} bytes where the index says {}", row.bytes))
                }
                (CopyState::Absent, Some(_)) => {
                    self.left_over(tier, name);
                    continue;
                }
                _ => None,
            };
            if let Some(what) = wrong.filter(|_| !self.options.running) {
                let remedy = "restore it from another copy";
                self.find(Invariant::RowsHaveBytes, format!("{tier}: {name}"), what, remedy);
            }
        }
        for row in known.values() {
            if let Some(thinning) = self.index.thinning(row)? {
                let name = segment_path(stream, &thinning.before.name());
                if self.is_other_generation(stream, row, tier, &name)? {
                    there.remove(&name);
                }
            }
        }
        let mut unknown: Vec<_> = there.into_keys().collect();
        unknown.sort_unstable();
        unknown.into_iter().for_each(|name| self.left_over(tier, name));
        Ok(())
    }

    /// Opens the copy that is read.
    fn open(&self, row: &SegmentRow, path: &str) -> Result<SegmentReader, ArchiveError> {
        match row.tier {
            Tier::Hot => SegmentReader::open(self.disk, path),
            tier => SegmentReader::of_unknown_object(self.stores.expected(tier)?, path),
        }
    }

    /// Sequences, order, accounted time, coverage: what needs no media.
    fn stream(&mut self, no: StreamNo, stream: &StreamId, rows: &[SegmentRow]) -> Result<(), IndexError> {
        const REBUILD: &str = "run `tierline rebuild` and compare";
        let name = stream.to_string();
        let mut last: Option<&SegmentRow> = None;
        let mut hours = std::collections::BTreeMap::new();
        let mut changing = BTreeSet::new();
        for row in rows {
            if let Some(last) = last {
                if row.id.seq != last.id.seq + 1 {
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
            if row.state == SegmentState::Deleting {
                // Counted until its row is gone.
                let mut hour = row.wall_start.hour();
                while hour < row.wall_end {
                    changing.insert(hour);
                    hour = hour.plus_micros(archive::time::HOUR_US);
                }
            }
            if row.state == SegmentState::Sealed {
                for (hour, part) in contribution(&self.index.table(row)?) {
                    hours
                        .entry(hour)
                        .or_insert_with(|| crate::HourCoverage::empty(hour))
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
                    "the fragment at byte {}, {} to {}, was found damaged at {}; readers pass it over",
                    damage.offset,
                    damage.range.from(),
                    damage.range.to(),
                    damage.found
                ),
                "restore the file from a copy, then run `tierline rebuild`",
            );
        }
        self.accounted(no, stream, rows)
    }

    /// From the first to the last instant: recorded, or a gap with a cause, and never both.
    fn accounted(&mut self, no: StreamNo, stream: &StreamId, rows: &[SegmentRow]) -> Result<(), IndexError> {
        let mut spans: Vec<(WallTime, WallTime, bool)> = Vec::new();
        for row in rows.iter().filter(|r| r.state != SegmentState::Deleting) {
            for f in self.index.table(row)? {
                match spans.last_mut() {
                    Some((_, end, _)) if *end == f.wall_start => *end = f.wall_end(),
                    _ => spans.push((f.wall_start, f.wall_end(), true)),
                }
            }
        }
        let Some(end) = self.index.span(no)?.map(|s| s.to()) else {
            return Ok(());
        };
        // What is being deleted explains itself, with the gaps inside it.
        let going: Vec<_> = rows
            .iter()
            .filter(|r| r.state == SegmentState::Deleting)
            .map(SegmentRow::range)
            .collect();
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

    /// The file of one segment against its row; `before` is the sequence and the last hash of the one before it.
    fn segment(
        &mut self,
        stream: &StreamId,
        row: &SegmentRow,
        before: &mut Option<(u64, Sha256)>,
    ) -> Result<(), IndexError> {
        if row.state == SegmentState::Deleting {
            return Ok(());
        }
        let path = segment_path(stream, &row.name());
        let reader = match self.open(row, &path) {
            Ok(reader) => reader,
            Err(e) if e.is_not_found() => {
                self.missing.push((path, row.clone()));
                return Ok(());
            }
            Err(e) => {
                self.find(
                    Invariant::Readable,
                    path,
                    e.to_string(),
                    "see that the disk and the rights to its files are in order",
                );
                return Ok(());
            }
        };
        let entries = self.index.table(row)?;
        if let Err((invariant, what)) = self.media(row, &reader, &entries, before) {
            let remedy = match invariant {
                Invariant::Readable | Invariant::RowsHaveBytes => {
                    "restore the file from a copy; until then readers leave out what does not match"
                }
                _ => "restore the file from a copy; if it is the index that is wrong, run `tierline rebuild`",
            };
            self.find(invariant, path, what, remedy);
        }
        Ok(())
    }

    /// Files that are not there: a service beside us may have deleted or moved them since the index was opened.
    fn missing(&mut self) -> Result<(), IndexError> {
        let missing = std::mem::take(&mut self.missing);
        let now = match self.options.running && !missing.is_empty() {
            true => Some(Index::open_read_only(self.index.db.path())?),
            false => None,
        };
        for (path, row) in missing {
            let known = now
                .as_ref()
                .map_or(Ok(Some(row.clone())), |now| now.segment(row.id))?;
            let is_there = |now: SegmentRow| now.state != SegmentState::Deleting && now.tier == row.tier;
            if known.is_some_and(is_there) {
                self.find(
                    Invariant::RowsHaveBytes,
                    path,
                    "the file is missing".into(),
                    "restore it from a copy",
                );
            }
        }
        Ok(())
    }

    fn media(
        &self,
        row: &SegmentRow,
        reader: &SegmentReader,
        entries: &[FragmentEntry],
        before: &mut Option<(u64, Sha256)>,
    ) -> Result<(), (Invariant, String)> {
        let broken = |e: archive::ArchiveError| (Invariant::Readable, e.to_string());
        let (header, ..) = reader.head().map_err(broken)?;
        let mut link = None;
        let len = reader.len().map_err(broken)?;
        if len < row.bytes || (row.state == SegmentState::Sealed && len != row.bytes) {
            return Err((
                Invariant::RowsHaveBytes,
                format!("{len} bytes where the index says {}", row.bytes),
            ));
        }
        let found: Vec<(FragmentEntry, Sha256)> = match row.state {
            SegmentState::Sealed => {
                let footer = reader.footer().map_err(broken)?;
                let footer =
                    footer.ok_or((Invariant::Readable, "sealed, but without a footer".to_owned()))?;
                if self.options.deep {
                    verify(reader).map_err(broken)?;
                }
                link = footer.origin.as_ref().map(|_| footer.link());
                footer.fragments.into_iter().map(|f| (f.entry, f.leaf)).collect()
            }
            _ => {
                let trust_until = if self.options.deep { 0 } else { u64::MAX };
                if self.options.deep {
                    reader.verify_head().map_err(broken)?;
                }
                let scanned = scan(reader, trust_until).map_err(broken)?;
                let whole: Vec<_> = scanned
                    .fragments
                    .into_iter()
                    .map(|f| (f.row.entry, f.row.leaf))
                    .collect();
                if whole.len() < entries.len() {
                    return Err((
                        Invariant::Readable,
                        format!(
                            "{} of {} fragments are whole: {}",
                            whole.len(),
                            entries.len(),
                            scanned.stopped.unwrap_or_default()
                        ),
                    ));
                }
                whole
            }
        };
        let known: BTreeSet<u64> = entries.iter().map(|e| e.offset).collect();
        if known.len() != entries.len() || row.fragments as usize != entries.len() {
            return Err((
                Invariant::TablesAgree,
                format!(
                    "{} fragments where the segment's row says {}",
                    entries.len(),
                    row.fragments
                ),
            ));
        }
        for (entry, (told, _)) in entries.iter().zip(&found) {
            let told = FragmentEntry {
                notes: Vec::new(),
                ..told.clone()
            };
            if *entry != told {
                return Err((
                    Invariant::TablesAgree,
                    format!("the index and the file tell a fragment differently: {entry:?} against {told:?}"),
                ));
            }
        }
        let head = entries
            .len()
            .checked_sub(1)
            .and_then(|i| found.get(i))
            .map(|f| f.1);
        // The next segment is chained to what was recorded, whatever thinning has left of it.
        if link.or(head) != Some(row.head) {
            return Err((
                Invariant::ChainHolds,
                "its last hash is not the one in the index".into(),
            ));
        }
        let links = before
            .replace((row.id.seq, row.head))
            .filter(|(seq, _)| seq + 1 == row.id.seq)
            .is_none_or(|(_, head)| head == header.prev);
        if !links {
            return Err((
                Invariant::ChainHolds,
                "it does not link to the segment before it".into(),
            ));
        }
        Ok(())
    }
}
