//! One pass: read, decide, delete, and look at the space that is left.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::disk::Disk;
use archive::layout::segment_path;
use archive::store::Stores;
use archive::time::{HOUR_US, SECOND_US};
use archive::units::format_duration;
use archive::{ArchiveError, SegmentId, StreamId, Tier, WallTime};
use indexer::{Batch, Index, IndexError, SegmentRow, SegmentState};

use crate::archive_time::{ArchiveTime, ClockEvent, Reading};
use crate::config::TieringConfig;
use crate::gather::{self, Gathered};
use crate::mover::remove_copy;
use crate::policy::{Input, Reason, decide};
use crate::progress::Progress;
use crate::rules::Rules;
use crate::shed::Shedding;
use crate::thinner::remove_former;
use crate::totals::Totals;

/// Where the last trusted time is kept over restarts.
const MARK: &str = "archive_time";
/// Later than never while the clock is doubted.
const DOUBT: &str = "clock_doubt";
/// How often it is kept.
const MARK_INTERVAL_US: i64 = 600 * SECOND_US;
/// Removing takes so much of a pass at most, where stores are slow: the disk has to be looked at too.
const REMOVING_MAX: Duration = Duration::from_secs(5);
/// Rows forgotten in one commit: recording waits for a commit to end.
const FORGET_ROWS: usize = 32;
/// Folders of hours that ended less than this ago stay, empty or not: recording may be about to use them.
const FOLDER_REST_US: i64 = 2 * HOUR_US;

/// Deletes what the rules and the disk ask for, a pass at a time. All its methods block.
pub struct Reaper {
    index: Arc<Index>,
    disk: Disk,
    stores: Stores,
    /// Segments that are being copied.
    busy: HashSet<SegmentId>,
    rules: Rules,
    config: TieringConfig,
    time: ArchiveTime,
    marked: Option<WallTime>,
    /// Whether the index says that the clock is doubted.
    doubted: bool,
    totals: Totals,
    shedding: Shedding,
    progress: Progress,
}

impl Reaper {
    /// Takes up where the last process ended. Segments that it left open must have been sealed before, and
    /// nobody but this reaper may delete segments.
    pub fn new(
        index: Arc<Index>,
        disk: Disk,
        rules: Rules,
        config: TieringConfig,
    ) -> Result<Self, IndexError> {
        let marked = index.mark(MARK)?;
        let doubted = index.mark(DOUBT)?.is_some_and(|at| at > WallTime::MIN);
        let time = ArchiveTime::new(marked, config.clock_confirm);
        Ok(Self {
            index,
            disk,
            stores: Stores::default(),
            busy: HashSet::new(),
            rules,
            time: if doubted { time.in_doubt() } else { time },
            doubted,
            config,
            marked,
            totals: Totals::default(),
            shedding: Shedding::default(),
            progress: Progress::default(),
        })
    }

    /// Deletes what lies in these stores too.
    pub fn with_stores(mut self, stores: Stores) -> Self {
        self.stores = stores;
        self
    }

    /// Leaves these segments alone until told otherwise.
    pub fn spare(&mut self, busy: HashSet<SegmentId>) {
        self.busy = busy;
    }

    /// Takes in that a segment has given way to a thinner version of itself.
    pub fn replaced(&mut self, before: &SegmentRow, after: &SegmentRow) {
        self.totals.replace(before, after);
        self.progress.thinned.segments += 1;
        self.progress.thinned.bytes += before.bytes.saturating_sub(after.bytes);
    }

    /// What was done so far.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// One pass at the time that both clocks tell. Returns whether there is more to delete right now.
    ///
    /// Files that cannot be removed are logged and tried again in the next pass; an error means that the
    /// index failed.
    pub fn pass(&mut self, wall: WallTime, monotonic_us: u64) -> Result<bool, IndexError> {
        let started = Instant::now();
        let reading = self.read_clock(wall, monotonic_us)?;
        let begun = gather::begun(&self.index)?;
        self.finish(
            begun
                .into_iter()
                .map(|(stream, row)| (stream, row, None))
                .collect(),
            reading.now,
        )?;

        // Only now: what was begun would be counted as missing, and deleted once more.
        let (free, total) = match self.disk.space() {
            Ok(space) => space,
            Err(e) => {
                tracing::error!(error = %e, "the disk cannot be asked for its space: nothing more is deleted");
                self.progress.failed += 1;
                return Ok(false);
            }
        };
        let at = self.config.thresholds(total);
        let mut gathered = Gathered::read(&self.index, &self.rules, &mut self.totals, self.busy.clone())?;
        let (doomed, more) = self.doomed(&mut gathered, reading, free, at.reserve)?;
        self.mark_deleting(&doomed)?;
        self.finish(doomed, reading.now)?;

        let (free, total) = self.disk.space().unwrap_or((free, total));
        let before = self.shedding.below();
        let below = self
            .shedding
            .observe(free, &at, &gathered.priorities, more, monotonic_us);
        self.index.set_shed_below(below);
        if below > before {
            tracing::error!(
                shed_below = below,
                free,
                "the disk is full: cameras below this priority are not recorded"
            );
        } else if below < before {
            tracing::warn!(
                shed_below = below,
                free,
                "there is space again: more cameras are recorded"
            );
        }
        let p = &mut self.progress;
        (p.free_bytes, p.total_bytes, p.reserve_bytes) = (free, total, at.reserve);
        (p.shed_below, p.clock_doubted, p.archive_time) = (below, !reading.trusted, reading.now);
        p.passes += 1;
        p.last_pass_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(more)
    }

    fn read_clock(&mut self, wall: WallTime, monotonic_us: u64) -> Result<Reading, IndexError> {
        let reading = self.time.observe(wall, monotonic_us);
        match reading.event {
            Some(ClockEvent::Jumped { by_us }) => tracing::error!(
                by_s = by_us / SECOND_US,
                confirm = format_duration(self.config.clock_confirm),
                "the clock has jumped: nothing is deleted for its age until it has run steadily"
            ),
            Some(ClockEvent::Returned) => {
                tracing::warn!("the clock is back where it was: deletion by age goes on")
            }
            Some(ClockEvent::Confirmed) => {
                tracing::warn!("the clock is believed now: deletion by age goes on")
            }
            None => {}
        }
        if self.doubted == reading.trusted {
            let mark = if reading.trusted {
                WallTime::MIN
            } else {
                WallTime::MAX
            };
            self.index.set_mark(DOUBT, mark)?;
            self.doubted = !reading.trusted;
        }
        let due = |at: WallTime| reading.now.micros_since(at).abs() >= MARK_INTERVAL_US;
        if reading.trusted && self.marked.is_none_or(due) {
            self.index.set_mark(MARK, reading.now)?;
            self.marked = Some(reading.now);
        }
        Ok(reading)
    }

    /// What to delete in this pass, and whether that is all that fits into one.
    fn doomed(
        &mut self,
        gathered: &mut Gathered,
        reading: Reading,
        free: u64,
        reserve: u64,
    ) -> Result<(Vec<Doomed>, bool), IndexError> {
        let decision = loop {
            let decision = decide(&Input {
                now: reading.now,
                clock_trusted: reading.trusted,
                rules: &self.rules,
                streams: &gathered.views,
                free,
                reserve,
                deletions_max: self.config.deletions_max,
            });
            if decision.starved.is_empty() {
                break decision;
            }
            for stream in decision.starved {
                gathered.widen(&self.index, stream)?;
            }
        };
        let full = decision.delete.len() >= self.config.deletions_max;
        let row = |v: crate::policy::Verdict| {
            let (stream, row) = gathered.row(v.stream, &v.segment)?;
            Some((stream, row, Some(v.reason)))
        };
        Ok((decision.delete.into_iter().filter_map(row).collect(), full))
    }

    /// From here on nobody reads these segments any more, whatever happens.
    fn mark_deleting(&self, doomed: &[Doomed]) -> Result<(), IndexError> {
        if doomed.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for (_, row, _) in doomed {
            batch.segment(&SegmentRow {
                state: SegmentState::Deleting,
                ..row.clone()
            });
        }
        self.index.commit(batch)
    }

    /// Removes the files of segments that are marked, and then their rows.
    fn finish(&mut self, doomed: Vec<Doomed>, now: WallTime) -> Result<(), IndexError> {
        let mut by_folder: BTreeMap<String, Vec<(String, Doomed)>> = BTreeMap::new();
        for one in doomed {
            let path = segment_path(&one.0, &one.1.name());
            let folder = path
                .rsplit_once('/')
                .map_or(String::new(), |(folder, _)| folder.to_owned());
            by_folder.entry(folder).or_default().push((path, one));
        }
        let mut gone = Vec::new();
        let mut folders = BTreeSet::new();
        let mut stuck = BTreeSet::new();
        // In the order of time for each stream: if one resists, those after it have to wait.
        let begun = Instant::now();
        for (folder, members) in by_folder {
            // The rest is found again by the next pass.
            if begun.elapsed() > REMOVING_MAX {
                break;
            }
            let stream = members.first().map(|(_, (stream, ..))| stream.clone());
            if stream.as_ref().is_some_and(|s| stuck.contains(s)) {
                continue;
            }
            let paths: Vec<&str> = members.iter().map(|(path, _)| path.as_str()).collect();
            if let Err(e) = self.remove_all(&members, &paths)? {
                tracing::error!(error = %e, "segments cannot be deleted: tried again in the next pass");
                self.progress.failed += members.len() as u64;
                stuck.extend(stream);
                continue;
            }
            let rested = |row: &SegmentRow| now.micros_since(row.wall_start.hour()) >= FOLDER_REST_US;
            if members.iter().all(|(_, (_, row, _))| rested(row)) {
                folders.insert(folder);
            }
            gone.extend(members.into_iter().map(|(_, one)| one));
        }
        self.remove_empty(&folders);
        for group in gone.chunks(FORGET_ROWS) {
            let mut batch = Batch::default();
            group.iter().for_each(|(_, row, _)| batch.delete(row));
            self.index.commit(batch)?;
        }
        for (_, row, reason) in &gone {
            self.totals.forget(row);
            self.progress.count(*reason, row.bytes);
        }
        log(&gone);
        Ok(())
    }

    /// Removes every copy of segments, which are seen to be gone when this returns.
    fn remove_all(
        &self,
        members: &[(String, Doomed)],
        paths: &[&str],
    ) -> Result<Result<(), ArchiveError>, IndexError> {
        for (path, (stream, row, _)) in members {
            if let Err(e) = remove_former(&self.index, &self.disk, &self.stores, stream, row)? {
                return Ok(Err(e));
            }
            for tier in self.index.copies(row)?.present() {
                if tier != Tier::Hot
                    && let Err(e) = remove_copy(&self.disk, &self.stores, path, tier)
                {
                    return Ok(Err(e.into()));
                }
            }
        }
        Ok(self.disk.remove_all(paths))
    }

    /// Removes folders of hours, and of the days above them, where nothing is left in them.
    fn remove_empty(&self, folders: &BTreeSet<String>) {
        for hour in folders {
            let day = hour.rsplit_once('/').map(|(day, _)| day);
            for folder in [Some(hour.as_str()), day].into_iter().flatten() {
                match self.disk.remove_if_empty(folder) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(e) => {
                        tracing::warn!(error = %e, "an empty folder stays");
                        break;
                    }
                }
            }
        }
    }
}

/// A segment to delete, and why; without a reason when its deletion was begun before.
type Doomed = (StreamId, SegmentRow, Option<Reason>);

fn log(gone: &[Doomed]) {
    for reason in [Some(Reason::Age), Some(Reason::Quota), Some(Reason::Space), None] {
        let of = || gone.iter().filter(|(.., r)| *r == reason);
        let segments = of().count();
        if segments > 0 {
            let bytes: u64 = of().map(|(_, row, _)| row.bytes).sum();
            let reason = reason.map_or("resumed", Reason::as_str);
            tracing::info!(segments, bytes, reason, "segments deleted");
        }
    }
}
