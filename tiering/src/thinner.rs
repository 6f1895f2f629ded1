//! Thins segments whose rule says so: finds what is due, has it written, puts it in the place of what it was, and removes
//! that when the new version is as safe.
//!
//! Invariant: rows are changed by the thread that calls [`Thinner::pass`] alone, which moves and deletes segments too. New
//! versions are written elsewhere, one at a time, and told here; whether they are still wanted is asked then.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant};

use archive::buffer::Pool;
use archive::disk::Disk;
use archive::layout::segment_path;
use archive::segment::{SegmentReader, Thinned, leans, thin, verify};
use archive::store::{Objects, StoreError, Stores};
use archive::{ArchiveError, FragmentEntry, SegmentId, StreamId, StreamNo, Tier, TimeRange, WallTime};
use indexer::{
    Batch, Copies, Index, IndexError, Replacement, SegmentRow, SegmentState, Thinning, ThinningStep,
    with_tables,
};

use crate::locks::{unlocked, was_ours};
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
/// After a failure a segment, or what is left of it, is left alone for so long.
const REST_US: u64 = 600_000_000;
/// Removing what was replaced takes so much of a pass at most: the disk has to be looked at too.
const REMOVING_MAX: Duration = Duration::from_secs(2);

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
    ended: Receiver<Outcome>,
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
            resting: HashMap::new(),
            dense: HashSet::new(),
            fresh: HashMap::new(),
        }
    }

    /// Whether a new version is being written, or waits to be put in place.
    pub fn is_under_way(&self) -> bool {
        self.job.is_some()
    }

    /// Removes what was replaced, looks for what is due, and goes on. An error means that the index failed.
    pub fn pass(&mut self, at: &ThinnerMoment<'_>) -> Result<Vec<Replaced>, IndexError> {
        self.clear(at)?;
        if at.clock_trusted && self.queue.is_empty() {
            self.queue = self.find(at)?;
        }
        self.go_on(at)
    }

    /// Takes in what came of the version that was being written, and begins the next one.
    pub fn go_on(&mut self, at: &ThinnerMoment<'_>) -> Result<Vec<Replaced>, IndexError> {
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

        let (tell, ended) = mpsc::channel();
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
        let thread = std::thread::Builder::new().name("thinning".into());
        let started = thread.spawn(move || {
            let _ = tell.send(work());
        });
        let outcome = started.err().map(|e| {
            Err(ArchiveError::Io {
                op: "start a thread for",
                path: "thinning".into(),
                source: e,
            })
        });
        self.job = Some(Job {
            row: row.clone(),
            ended,
            outcome,
        });
        Ok(())
    }

    /// Puts a new version that was written in the place of what it was, if it is still wanted.
    fn take_in(&mut self, at: &ThinnerMoment<'_>) -> Result<Option<Replaced>, IndexError> {
        let Some(mut job) = self.job.take() else {
            return Ok(None);
        };
        if job.outcome.is_none() {
            job.outcome = match job.ended.try_recv() {
                Ok(outcome) => Some(outcome),
                Err(TryRecvError::Empty) => None,
                // It has panicked: reported where it happened.
                Err(TryRecvError::Disconnected) => Some(Ok(None)),
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

    /// Removes what an earlier process left half done, and what was replaced a grace ago.
    fn clear(&mut self, at: &ThinnerMoment<'_>) -> Result<(), IndexError> {
        let began = Instant::now();
        let all = self.parts.index.thinnings()?;
        // Segments that were deleted have taken it with them.
        let left: HashSet<SegmentId> = all.iter().map(|thinning| thinning.before.id).collect();
        self.fresh.retain(|id, _| left.contains(id));
        for thinning in all {
            let id = thinning.before.id;
            let ours = self.job.as_ref().is_some_and(|job| job.row.id == id);
            if ours || self.rests(id, at) || at.busy.contains(&id) {
                continue;
            }
            match &thinning.step {
                ThinningStep::Begun => self.give_up(&thinning.before)?,
                ThinningStep::Replaced { copies, since } => {
                    if self.is_after_grace(id, *since, at) && at.clock_trusted {
                        self.remove_replaced(&thinning, copies, at)?;
                    }
                }
                // It was decided, and nobody reads them any more.
                ThinningStep::Removing { copies, .. } => self.end_removing(&thinning.before, copies, at)?,
            }
            if began.elapsed() > REMOVING_MAX {
                break;
            }
        }
        Ok(())
    }

    fn remove_replaced(
        &mut self,
        thinning: &Thinning,
        copies: &Copies,
        at: &ThinnerMoment<'_>,
    ) -> Result<(), IndexError> {
        let ThinnerParts {
            index,
            disk,
            stores,
            rules,
            ..
        } = self.parts.clone();
        let id = thinning.before.id;
        let (Some(row), Some((stream, rule))) = (index.segment(id)?, self.rule(&thinning.before)) else {
            return Ok(());
        };
        let now = index.copies(&row)?;
        // Who holds it now may want it as it was.
        if index.held(id.stream, row.range(), at.now)? {
            return Ok(());
        }
        // It must be as safe as what it replaces, as far as the rule still lets it.
        if row.state != SegmentState::Sealed || now.authority < copies.authority.min(rule.last(rules.below()))
        {
            return Ok(());
        }
        if let Err(error) = confirm(&disk, &stores, &stream, &row, &now) {
            self.put_off(&stream, id, &error, at);
            return Ok(());
        }
        // A hold may have been answered meanwhile: this asks once more, in the write that says that they go.
        match index.begin_removing(&thinning.before, at.now)? {
            Some(_) => self.end_removing(&thinning.before, copies, at),
            None => Ok(()),
        }
    }

    /// Removes the copies of which the index says that they go, and forgets them.
    fn end_removing(
        &mut self,
        before: &SegmentRow,
        copies: &Copies,
        at: &ThinnerMoment<'_>,
    ) -> Result<(), IndexError> {
        let ThinnerParts {
            index, disk, stores, ..
        } = self.parts.clone();
        let Some(stream) = index.stream_id(before.id.stream) else {
            return Ok(());
        };
        if let Err(error) = remove_copies(&index, &disk, &stores, &stream, before, copies) {
            self.put_off(&stream, before.id, &error, at);
            return Ok(());
        }
        self.fresh.remove(&before.id);
        let mut batch = Batch::default();
        batch.thinned(before);
        index.commit(batch)
    }

    fn put_off(&mut self, stream: &StreamId, id: SegmentId, error: &ArchiveError, at: &ThinnerMoment<'_>) {
        tracing::error!(
            %stream, segment = id.seq, %error,
            "what a segment was before it was thinned stays for now"
        );
        self.rest(id, at);
    }

    /// Whether readers of what was replaced have had their time, by the wall clock and by the one that never jumps.
    fn is_after_grace(&mut self, id: SegmentId, since: WallTime, at: &ThinnerMoment<'_>) -> bool {
        let since_us = at.now.micros_since(since);
        // What was replaced in the future was replaced by a clock that was wrong: its grace begins when it is found.
        if since_us < 0 {
            self.fresh.entry(id).or_insert(at.monotonic_us);
        }
        let is_over = |us: i128| us >= self.parts.grace.as_micros() as i128;
        let by_wall = since_us < 0 || is_over(since_us.into());
        let begun = self.fresh.get(&id);
        by_wall && begun.is_none_or(|us| is_over(at.monotonic_us.saturating_sub(*us).into()))
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

/// The last look at a new version before what it replaces goes: every byte on the disk, or what the store says of it.
fn confirm(
    disk: &Disk,
    stores: &Stores,
    stream: &StreamId,
    row: &SegmentRow,
    copies: &Copies,
) -> Result<(), ArchiveError> {
    let name = segment_path(stream, &row.name());
    let reader = match copies.authority {
        Tier::Hot => SegmentReader::open(disk, &name)?,
        tier => {
            let Objects { store, runtime, .. } = stores.expected(tier)?;
            if copies.crc64 != 0 {
                runtime.block_on(store.confirm(&name, row.bytes, copies.crc64))?;
                return Ok(());
            }
            // A rebuild has found it, and nobody knows its checksum: it is read.
            SegmentReader::of_unknown_object(&Objects::once(store.clone(), runtime.clone()), &name)?
        }
    };
    reader.distrust_cache()?;
    let found = verify(&reader)?;
    let is_it = found.sealed && found.header.generation == row.generation && reader.len()? == row.bytes;
    if is_it { Ok(()) } else { Err(wrong(name)) }
}

fn wrong(name: String) -> ArchiveError {
    StoreError::Wrong {
        name,
        why: "it is not what was written".to_owned(),
    }
    .into()
}

fn remove_copies(
    index: &Index,
    disk: &Disk,
    stores: &Stores,
    stream: &StreamId,
    row: &SegmentRow,
    copies: &Copies,
) -> Result<(), ArchiveError> {
    let name = segment_path(stream, &row.name());
    for tier in copies.present() {
        if tier == Tier::Hot {
            disk.remove(&name)?;
            continue;
        }
        let Objects { store, runtime, .. } = stores.expected(tier)?;
        let is_ours = || was_ours(index, row);
        runtime.block_on(unlocked(store, &name, is_ours, || store.delete_segment(&name)))?;
    }
    Ok(())
}

/// Removes what is left of a segment as it was before it was thinned. For one that is deleted.
pub(crate) fn remove_former(
    index: &Index,
    disk: &Disk,
    stores: &Stores,
    stream: &StreamId,
    row: &SegmentRow,
) -> Result<Result<(), ArchiveError>, IndexError> {
    let thinning = index.thinning(row)?;
    let left = thinning.as_ref().and_then(|t| Some((&t.before, t.left()?)));
    Ok(left.map_or(Ok(()), |(before, copies)| {
        remove_copies(index, disk, stores, stream, before, copies)
    }))
}
