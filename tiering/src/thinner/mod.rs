//! Thins segments whose rule says so: finds what is due, has it written, puts it in the place of what it was, and removes
//! that when the new version is as safe.
//!
//! Invariant: rows are changed by the thread that calls [`Thinner::pass`] alone, which moves and deletes segments too. New
//! versions are written elsewhere, one at a time, and told here; whether they are still wanted is asked then.

mod former;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use archive::buffer::Pool;
use archive::disk::Disk;
use archive::layout::segment_path;
use archive::segment::{SegmentReader, Thinned, leans, thin};
use archive::store::Stores;
use archive::{ArchiveError, FragmentEntry, SegmentId, StreamId, StreamNo, Tier, TimeRange, WallTime};
use indexer::{
    Batch, Index, IndexError, Replacement, SegmentRow, SegmentState, Thinning, ThinningStep, with_tables,
};

use self::former::Former;
pub(crate) use self::former::remove_former;
use crate::aside::{Aside, Done};
use crate::rules::{RetentionRule, Rules};
use crate::thinning::{Due, due, may_thin, spared};

/// Segments of one stream that are looked up at a time.
const DUE_MAX: usize = 16;
/// Rows read at a time.
const PAGE_ROWS: usize = 64;
/// Segments of one stream that are left alone without holding up those behind them.
const PASSED_OVER_MAX: usize = 8192;
/// Slabs that are kept between segments.
const POOL_SLABS: usize = 256;
/// Who stops waits for so long for a version that is being written, which may be read from a store: what that runs on is
/// about to go.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// After a failure a segment, or what is left of it, is left alone for so long.
const REST_US: u64 = 600_000_000;

/// What a thinner works on.
#[derive(Clone)]
pub struct ThinnerParts {
    /// The index.
    pub index: Arc<Index>,
    /// The hot tier, where new versions are written.
    pub disk: Disk,
    /// The others.
    pub stores: Stores,
    /// Sound rules.
    pub rules: Rules,
    /// Between the moment from which a new version is read, and the removal of what it was.
    pub grace: Duration,
}

/// Thins segments. All its methods block; what takes long runs on a thread of its own.
pub struct Thinner {
    parts: ThinnerParts,
    pool: Pool,
    /// Segments that begin before have been thinned, or never will be.
    cursors: HashMap<StreamNo, WallTime>,
    queue: VecDeque<SegmentRow>,
    job: Option<Job>,
    former: Option<Former>,
    /// Segments that are left alone, and until when.
    resting: HashMap<SegmentId, u64>,
    /// Segments of which too little would go, or that would have to be restored first.
    dense: HashSet<SegmentId>,
    /// When segments were replaced, by a clock that never jumps, as long as copies of what they were are left.
    fresh: HashMap<SegmentId, u64>,
}

/// A new version that is being written.
struct Job {
    row: SegmentRow,
    work: Aside<Outcome>,
    /// What came of it, while it waits to be put in place.
    outcome: Option<Outcome>,
}

type Outcome = Result<Option<Thinned>, ArchiveError>;

/// What the index tells of a segment that is to be thinned.
struct Told {
    entries: Vec<FragmentEntry>,
    /// Times that keep all their pictures.
    spared: Vec<TimeRange>,
    /// The segment behind it, and how that begins.
    next: Option<(SegmentRow, FragmentEntry)>,
}

impl Told {
    fn read(index: &Index, row: &SegmentRow, spares: Option<(u8, Duration)>) -> Result<Self, IndexError> {
        let spared = match spares {
            Some((level, around)) => {
                let before = row.wall_start.minus(around);
                let range = TimeRange::new(before, row.wall_end.plus(around)).unwrap_or(row.range());
                let rows = index.fragments(row.id.stream, range)?;
                let entries: Vec<_> = rows.into_iter().flat_map(|row| row.fragments).collect();
                spared(&entries, level, around)
            }
            None => Vec::new(),
        };
        let next = index.segments_from(row.id.stream, row.wall_start.plus_micros(1), 1)?;
        let next = match next.into_iter().find(|next| next.id.seq == row.id.seq + 1) {
            Some(next) => index.table(&next)?.into_iter().next().map(|entry| (next, entry)),
            None => None,
        };
        Ok(Self {
            entries: index.table(row)?,
            spared,
            next,
        })
    }
}

impl Drop for Thinner {
    fn drop(&mut self) {
        if let Some(job) = self.job.take().filter(|job| job.outcome.is_none()) {
            job.work.look_for(END_PATIENCE);
        }
    }
}

/// What one pass rests on.
#[derive(Copy, Clone, Debug)]
pub struct ThinnerMoment<'a> {
    /// The time by which ages are judged.
    pub now: WallTime,
    /// Whether ages may be believed.
    pub clock_trusted: bool,
    /// On a clock that never jumps.
    pub monotonic_us: u64,
    /// Segments that are being copied: they are not replaced meanwhile.
    pub busy: &'a HashSet<SegmentId>,
}

/// A segment before and after.
pub type Replaced = (SegmentRow, SegmentRow);

impl Thinner {
    /// Takes up where the last process ended: what it left half done is found again in the index.
    pub fn new(parts: ThinnerParts) -> Self {
        Self {
            parts,
            pool: Pool::new(POOL_SLABS),
            cursors: HashMap::new(),
            queue: VecDeque::new(),
            job: None,
            former: None,
            resting: HashMap::new(),
            dense: HashSet::new(),
            fresh: HashMap::new(),
        }
    }

    /// Whether a new version is being written, or waits to be put in place, or what one has replaced is being removed.
    pub fn is_under_way(&self) -> bool {
        self.job.is_some() || self.former.is_some()
    }

    /// Removes what was replaced, looks for what is due, and goes on. An error means that the index failed.
    pub fn pass(&mut self, at: &ThinnerMoment<'_>) -> Result<Vec<Replaced>, IndexError> {
        self.clear(at)?;
        if at.clock_trusted && self.queue.is_empty() {
            self.queue = self.find(at)?;
        }
        self.go_on(at)
    }

    /// Takes in what came of the version that was being written, and begins the next one; and so with what was replaced.
    pub fn go_on(&mut self, at: &ThinnerMoment<'_>) -> Result<Vec<Replaced>, IndexError> {
        if self.former.is_some() {
            self.clear(at)?;
        }
        let replaced = self.take_in(at)?.into_iter().collect();
        while self.job.is_none()
            && at.clock_trusted
            && let Some(row) = self.queue.pop_front()
        {
            self.begin(&row, at)?;
        }
        Ok(replaced)
    }

    fn rests(&self, segment: SegmentId, at: &ThinnerMoment<'_>) -> bool {
        self.resting
            .get(&segment)
            .is_some_and(|until| *until > at.monotonic_us)
    }

    fn rest(&mut self, segment: SegmentId, at: &ThinnerMoment<'_>) {
        self.resting.retain(|_, until| *until > at.monotonic_us);
        self.resting
            .insert(segment, at.monotonic_us.saturating_add(REST_US));
    }

    /// For the log.
    fn name(&self, row: &SegmentRow) -> String {
        let stream = self.parts.index.stream_id(row.id.stream);
        stream.map_or_else(String::new, |stream| stream.to_string())
    }

    fn rule(&self, row: &SegmentRow) -> Option<(StreamId, &RetentionRule)> {
        let stream = self.parts.index.stream_id(row.id.stream)?;
        let rule = self.parts.rules.rule_for(&stream)?;
        Some((stream, rule))
    }

    /// What is due, the oldest footage first.
    fn find(&mut self, at: &ThinnerMoment<'_>) -> Result<VecDeque<SegmentRow>, IndexError> {
        let mut found = Vec::new();
        for (no, id) in self.parts.index.streams() {
            let rule = self.parts.rules.rule_for(&id).cloned();
            if let Some(rule) = rule.filter(|rule| rule.thin_after.is_some()) {
                self.find_of(no, &rule, at, &mut found)?;
            }
        }
        found.sort_by_key(|row: &SegmentRow| row.wall_end);
        Ok(found.into())
    }

    fn find_of(
        &mut self,
        stream: StreamNo,
        rule: &RetentionRule,
        at: &ThinnerMoment<'_>,
        found: &mut Vec<SegmentRow>,
    ) -> Result<(), IndexError> {
        let index = &self.parts.index;
        let held = index.held_ranges(stream, at.now)?;
        let mut from = self.cursors.get(&stream).copied().unwrap_or(WallTime::MIN);
        let mut all_done = true;
        let (mut wanted, mut passed_over) = (0, 0);
        loop {
            let rows = index.segments_from(stream, from, PAGE_ROWS)?;
            let mut more = rows.len() == PAGE_ROWS;
            for row in rows {
                if let Some(hold) = held.iter().find(|held| held.intersect(row.range()).is_some()) {
                    // All that begin before its end are held too, and may be many.
                    all_done = false;
                    from = row.wall_start.plus_micros(1).max(hold.to());
                    more = true;
                    break;
                }
                let is_written = row.state == SegmentState::Open && row.epoch == index.epoch();
                match due(rule, &row, is_written, at.now) {
                    Due::Later => return Ok(()),
                    Due::Never => {}
                    Due::Now if self.dense.contains(&row.id) => {}
                    Due::Now => {
                        all_done = false;
                        if self.rests(row.id, at) || !may_thin(index, &row, at.now)? {
                            passed_over += 1;
                        } else {
                            wanted += 1;
                            found.push(row.clone());
                        }
                    }
                }
                from = row.wall_start.plus_micros(1);
                if all_done {
                    self.dense.remove(&row.id);
                    self.cursors.insert(stream, from);
                }
                if wanted == DUE_MAX || passed_over == PASSED_OVER_MAX {
                    return Ok(());
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Says that a segment is about to be thinned, and has it done.
    fn begin(&mut self, row: &SegmentRow, at: &ThinnerMoment<'_>) -> Result<(), IndexError> {
        let ThinnerParts {
            index, disk, stores, ..
        } = self.parts.clone();
        // What was found may have gone since, or may be on its way.
        let is_same = index.segment(row.id)?.is_some_and(|now| is_same(&now, row));
        let Some((stream, rule)) = self.rule(row).filter(|_| is_same) else {
            return Ok(());
        };
        if index.thinning(row)?.is_some() || !may_thin(&index, row, at.now)? {
            return Ok(());
        }
        let (keep, spares) = (rule.thin_keep.unwrap_or_default().0, rule.spares());
        let tier = index.copies(row)?.nearest();
        // What would have to be restored first is left where it costs little.
        if stores
            .of(tier)
            .is_some_and(|objects| objects.store.restoring().is_some())
        {
            self.dense.insert(row.id);
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.thinning(Thinning {
            before: row.clone(),
            step: ThinningStep::Begun,
        });
        index.commit(batch)?;

        let (pool, now, of) = (self.pool.clone(), at.now, row.clone());
        let work = move || -> Outcome {
            let told = || Told::read(&index, &of, spares);
            let told = with_tables(&index, &disk, &stores, told).map_err(IndexError::into_archive)?;
            let open = |row: &SegmentRow, tier| {
                let name = segment_path(&stream, &row.name());
                SegmentReader::on(tier, &disk, &stores, &name, row.bytes)
            };
            // Without a segment behind it, it is not known what that needs.
            let leaned_on = match told.next {
                Some((next, first)) => leans(&first, &open(&next, next.tier)?.samples(&first)?),
                None => true,
            };
            let how = archive::segment::Thinning {
                keep,
                spared: &told.spared,
                leaned_on,
                at: now,
            };
            thin(&disk, &pool, open(&of, tier)?, told.entries.into(), &how)
        };
        self.job = Some(Job {
            row: row.clone(),
            work: Aside::begin_thread("thinning", work),
            outcome: None,
        });
        Ok(())
    }

    /// Puts a new version that was written in the place of what it was, if it is still wanted.
    fn take_in(&mut self, at: &ThinnerMoment<'_>) -> Result<Option<Replaced>, IndexError> {
        let Some(mut job) = self.job.take() else {
            return Ok(None);
        };
        if job.outcome.is_none() {
            job.outcome = match job.work.look() {
                Done::With(outcome) => Some(outcome),
                Done::NotYet => None,
                Done::Lost => Some(Err(ArchiveError::Io {
                    op: "thin",
                    path: format!("segment {}", job.row.id.seq).into(),
                    source: std::io::Error::other("its thread has ended early"),
                })),
            };
        }
        let waits = matches!(job.outcome, Some(Ok(Some(_)))) && at.busy.contains(&job.row.id);
        let Some(outcome) = job.outcome.take_if(|_| !waits) else {
            self.job = Some(job);
            return Ok(None);
        };
        let row = job.row;
        match outcome {
            Ok(Some(thinned)) => return self.replace(&row, thinned, at),
            Ok(None) => {
                self.dense.insert(row.id);
            }
            Err(error) => {
                tracing::error!(
                    stream = self.name(&row), segment = row.id.seq, %error, again_in_s = REST_US / 1_000_000,
                    "a segment cannot be thinned: it stays as it is"
                );
                self.rest(row.id, at);
            }
        }
        self.give_up(&row)?;
        Ok(None)
    }

    fn replace(
        &mut self,
        row: &SegmentRow,
        thinned: Thinned,
        at: &ThinnerMoment<'_>,
    ) -> Result<Option<Replaced>, IndexError> {
        let index = &self.parts.index;
        let current = index.segment(row.id)?.filter(|now| is_same(now, row));
        let current = match current {
            Some(current) if at.clock_trusted && may_thin(index, &current, at.now)? => current,
            // It is being deleted, or must not be thinned any more.
            _ => {
                self.give_up(row)?;
                return Ok(None);
            }
        };
        if thinned.sealed.head != current.head {
            tracing::error!(
                stream = self.name(row),
                segment = row.id.seq,
                "the thinned version is of another segment: it is thrown away"
            );
            self.rest(row.id, at);
            self.give_up(row)?;
            return Ok(None);
        }
        let after = SegmentRow {
            bytes: thinned.sealed.bytes,
            fragments: thinned.entries.len() as u32,
            generation: thinned.header.generation,
            tier: Tier::Hot,
            ..current.clone()
        };
        let replacement = Replacement {
            copies: index.copies(&current)?,
            before: current.clone(),
            after: after.clone(),
            entries: thinned.entries,
            at: at.now,
        };
        if !index.replace(&replacement)? {
            self.give_up(row)?;
            return Ok(None);
        }
        self.fresh.insert(row.id, at.monotonic_us);
        let (pictures, kept) = thinned.pictures;
        tracing::info!(
            stream = self.name(row),
            segment = row.id.seq,
            before = current.bytes,
            after = after.bytes,
            pictures,
            kept,
            "a segment was thinned"
        );
        Ok(Some((current, after)))
    }

    /// Removes what thinning a segment may have left, and forgets that it was begun.
    fn give_up(&self, row: &SegmentRow) -> Result<(), IndexError> {
        let ThinnerParts { index, disk, .. } = &self.parts;
        let Some(thinning) = index.thinning(row)?.filter(|t| t.step == ThinningStep::Begun) else {
            return Ok(());
        };
        let Some(stream) = index.stream_id(row.id.stream) else {
            return Ok(());
        };
        // A file that resists keeps its row, and is removed by a later pass.
        if let Err(error) = disk.remove(&segment_path(&stream, &thinning.next().name())) {
            tracing::error!(%error, "what thinning has left cannot be removed");
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.thinned(row);
        index.commit(batch)
    }
}

/// Whether a row tells of the same bytes as when it was read before, wherever they lie.
fn is_same(now: &SegmentRow, before: &SegmentRow) -> bool {
    let tier = now.tier;
    *now == SegmentRow {
        tier,
        ..before.clone()
    }
}
