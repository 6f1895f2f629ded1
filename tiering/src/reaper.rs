//! One pass: read, decide, delete, and look at the space that is left.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::disk::Disk;
use archive::site_key::SiteKey;
use archive::store::Stores;
use archive::time::SECOND_US;
use archive::units::format_duration;
use archive::{SegmentId, Tier, WallTime};
use indexer::{
    ARCHIVE_TIME as MARK, Batch, CLOCK_DOUBT as DOUBT, Cause, Index, IndexError, Ledger, Place, SegmentRow,
    Witness,
};

use crate::archive_time::{ArchiveTime, ClockEvent, Reading};
use crate::clearing::Clearing;
use crate::config::TieringConfig;
use crate::gather::Gathered;
use crate::policy::{Input, Reason, Verdict, decide};
use crate::progress::Progress;
use crate::removal::{self, Doomed, Removed};
use crate::rules::{RetentionRule, Rules};
use crate::shed::Shedding;
use crate::totals::Totals;

/// How often it is kept.
const MARK_INTERVAL_US: i64 = 600 * SECOND_US;
/// Who deletes, in certificates.
const ACTOR: &str = "retention";
/// Rows forgotten in one commit: recording waits for a commit to end.
const FORGET_ROWS: usize = 32;

/// Deletes what the rules and the disk ask for, a pass at a time. All its methods block, but hardly for stores.
pub struct Reaper {
    index: Arc<Index>,
    disk: Disk,
    clearing: Clearing,
    key: SiteKey,
    /// The tiers, for certificates.
    places: Vec<Place>,
    ledger: Ledger,
    /// Why what this process began to delete goes.
    reasons: HashMap<SegmentId, Reason>,
    /// Of what began to go, what could not be removed when it was tried last.
    resisting: HashSet<SegmentId>,
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
    /// nobody but this reaper may delete segments. `key` signs what it certifies.
    pub fn new(
        index: Arc<Index>,
        disk: Disk,
        rules: Rules,
        config: TieringConfig,
        key: SiteKey,
    ) -> Result<Self, IndexError> {
        let marked = index.mark(MARK)?;
        let doubted = index.mark(DOUBT)?.is_some_and(|at| at > WallTime::MIN);
        let time = ArchiveTime::new(marked, config.clock_confirm);
        let places = removal::places(&Stores::default());
        Ok(Self {
            clearing: Clearing::new(index.clone(), disk.clone(), Stores::default()),
            index,
            disk,
            key,
            places,
            ledger: Ledger::default(),
            reasons: HashMap::new(),
            resisting: HashSet::new(),
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
        self.places = removal::places(&stores);
        self.clearing = Clearing::new(self.index.clone(), self.disk.clone(), stores);
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

    /// Whether objects are being removed. What came of that is taken in by the next pass.
    pub fn is_under_way(&self) -> bool {
        !self.clearing.under_way().is_empty()
    }

    /// Whether objects that were being removed are gone, or resist, so that the next pass has something to do.
    pub fn take_in(&mut self) -> Result<bool, IndexError> {
        self.clearing.take_in(Duration::ZERO)
    }

    /// One pass at the time that both clocks tell. Returns whether there is more to delete right now.
    ///
    /// Files that cannot be removed are logged and tried again in the next pass; an error means that the
    /// index failed.
    pub fn pass(&mut self, wall: WallTime, monotonic_us: u64) -> Result<bool, IndexError> {
        let started = Instant::now();
        let reading = self.read_clock(wall, monotonic_us)?;
        self.resisting = self.finish(self.begun()?, reading.now, wall)?;

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
        let busy = self.busy.clone();
        let mut gathered = Gathered::read(&self.index, &self.rules, &mut self.totals, busy, reading.now)?;
        let leaving = self.leaving(&mut gathered)?;
        let free_soon = free.saturating_add(leaving);
        let (verdicts, more) = self.verdicts(&mut gathered, reading, free_soon, at.reserve)?;
        let doomed = self.begin(&gathered, &verdicts, reading.now)?;
        let resisting = self.finish(doomed, reading.now, wall)?;
        self.resisting.extend(resisting);

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
        // What waits for a store says itself when there is more to do.
        Ok(more && self.room() > 0)
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

    /// What is going is over no quota a second time, and what does not resist is free soon. Returns the bytes by which it
    /// frees the disk.
    fn leaving(&self, gathered: &mut Gathered) -> Result<u64, IndexError> {
        let mut freed = 0;
        for one in self.begun()? {
            gathered.discount(one.row.id.stream, one.row.bytes);
            if one.tiers.contains(&Tier::Hot) && !self.resisting.contains(&one.row.id) {
                freed += one.row.bytes;
            }
        }
        Ok(freed)
    }

    /// How many deletions may begin beside those that wait for a store.
    fn room(&self) -> usize {
        let under_way = self.clearing.under_way().len();
        self.config.deletions_max.saturating_sub(under_way)
    }

    /// What to delete in this pass, and whether that is all that fits into one.
    fn verdicts(
        &mut self,
        gathered: &mut Gathered,
        reading: Reading,
        free: u64,
        reserve: u64,
    ) -> Result<(Vec<Verdict>, bool), IndexError> {
        let room = self.room();
        if room == 0 {
            return Ok((Vec::new(), true));
        }
        let decision = loop {
            let decision = decide(&Input {
                now: reading.now,
                clock_trusted: reading.trusted,
                rules: &self.rules,
                streams: &gathered.views,
                free,
                reserve,
                deletions_max: room,
            });
            if decision.starved.is_empty() {
                break decision;
            }
            for stream in decision.starved {
                gathered.widen(&self.index, stream)?;
            }
        };
        let full = decision.delete.len() >= room;
        Ok((decision.delete, full))
    }

    /// From here on nobody reads these segments any more, whatever happens. What came under a hold since it was decided
    /// stays.
    fn begin(
        &mut self,
        gathered: &Gathered,
        verdicts: &[Verdict],
        now: WallTime,
    ) -> Result<Vec<Doomed>, IndexError> {
        let (mut doomed, mut reasons) = (Vec::new(), HashMap::new());
        for verdict in verdicts {
            let Some((stream, row)) = gathered.row(verdict.stream, &verdict.segment) else {
                continue;
            };
            reasons.insert(row.id, verdict.reason);
            let cause = Cause {
                reason: verdict.reason.as_str().to_owned(),
                rule: self
                    .rules
                    .rule_for(&stream)
                    .map(RetentionRule::text)
                    .unwrap_or_default(),
            };
            doomed.push((row, cause));
        }
        let begun = self.index.begin_deletion(&doomed, now)?;
        let reason = |row: &SegmentRow| Some((row.id, *reasons.get(&row.id)?));
        self.reasons.extend(begun.iter().filter_map(reason));
        self.doomed(begun.into_iter())
    }

    /// Deletions that an earlier pass or process has begun.
    fn begun(&self) -> Result<Vec<Doomed>, IndexError> {
        self.doomed(self.index.deletions()?.into_iter().map(|(row, _)| row))
    }

    fn doomed(&self, rows: impl Iterator<Item = SegmentRow>) -> Result<Vec<Doomed>, IndexError> {
        let mut doomed = Vec::new();
        for row in rows {
            let Some(stream) = self.index.stream_id(row.id.stream) else {
                continue;
            };
            doomed.push(Doomed {
                stream,
                reason: self.reasons.get(&row.id).copied(),
                tiers: self.index.copies(&row)?.present().collect(),
                row,
            });
        }
        Ok(doomed)
    }

    /// Removes the copies of segments that are marked, certifies that they are gone, and forgets their rows. Returns those that
    /// resist; others may wait for a store.
    fn finish(
        &mut self,
        doomed: Vec<Doomed>,
        now: WallTime,
        wall: WallTime,
    ) -> Result<HashSet<SegmentId>, IndexError> {
        let answers = self.clearing.answers(&doomed)?;
        let removed = removal::remove_files(&self.disk, doomed, answers, now);
        let Removed {
            gone,
            resisting,
            failed,
        } = removed;
        self.progress.failed += failed;
        if gone.is_empty() {
            return Ok(resisting);
        }
        let witness = Witness {
            key: &self.key,
            places: &self.places,
            archive_time: now,
            wall,
            actor: ACTOR,
        };
        let told: Vec<_> = gone
            .iter()
            .map(|one| (one.row.clone(), one.tiers.clone()))
            .collect();
        self.index.certify(&told, &witness)?;
        match self.ledger.append(&self.index, &self.disk) {
            Ok(()) => {}
            Err(IndexError::Archive(e)) => {
                tracing::error!(error = %e, "deletion certificates cannot be written beside the footage: tried again in the next pass");
                self.progress.failed += gone.len() as u64;
                return Ok(resisting);
            }
            Err(e) => return Err(e),
        }
        for group in gone.chunks(FORGET_ROWS) {
            let mut batch = Batch::default();
            group.iter().for_each(|one| batch.delete(&one.row));
            self.index.commit(batch)?;
        }
        for one in &gone {
            self.totals.forget(&one.row);
            self.reasons.remove(&one.row.id);
            self.progress.count(one.reason, one.row.bytes);
        }
        log(&gone);
        Ok(resisting)
    }
}

fn log(gone: &[Doomed]) {
    for reason in [Some(Reason::Age), Some(Reason::Quota), Some(Reason::Space), None] {
        let of = || gone.iter().filter(|one| one.reason == reason);
        let segments = of().count();
        if segments > 0 {
            let bytes: u64 = of().map(|one| one.row.bytes).sum();
            let reason = reason.map_or("resumed", Reason::as_str);
            tracing::info!(segments, bytes, reason, "segments deleted");
        }
    }
}
