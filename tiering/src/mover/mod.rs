//! Moves sealed segments down the tiers: finds what is due, carries it out, and tells the index of each step before
//! and after it is taken.
//!
//! Invariant: rows are changed by the thread that calls [`Mover::pass`] alone, which deletes segments too. Copies are
//! made elsewhere and tell here what came of them.

mod copy;
mod find;
mod outline;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use archive::disk::Disk;
use archive::layout::segment_path;
use archive::store::{Objects, StoreError, Stores};
use archive::time::SECOND_US;
use archive::{SegmentId, StreamId, Tier, WallTime};
use indexer::{Batch, Copies, Event, Index, IndexError, Moved, SegmentRow};
use tokio::runtime::Handle;

use self::copy::{Copied, Origin};
use self::find::{Cursors, Due, Search};
use crate::plan::{Goal, Moment, Progress, progress};
use crate::rules::Rules;

/// Copies that are made at a time.
const COPIES_MAX: usize = 4;
/// A copy that takes longer, and longer than its bytes at this rate, has failed.
const COPY_MAX: Duration = Duration::from_secs(120);
const COPY_BYTES_A_SECOND_MIN: u64 = 100_000;
/// Copies that are removed in one pass.
const EVICTIONS_MAX: usize = 128;
/// After a failure a segment waits this long, and twice as long after each further one, up to the second.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// A store that was away is asked again after so long at the latest.
const STORE_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Removing copies from stores takes so much of a pass at most: the disk has to be looked at too.
const EVICTING_MAX: Duration = Duration::from_secs(2);

/// Moves segments. All its methods block.
pub struct Mover {
    index: Arc<Index>,
    disk: Disk,
    stores: Stores,
    rules: Rules,
    grace: Duration,
    runtime: Handle,
    cursors: Cursors,
    under_way: HashMap<SegmentId, Making>,
    /// Segments that somebody else has in hand.
    spared: HashSet<SegmentId>,
    ended: (Sender<Copied>, Receiver<Copied>),
    /// Segments that have failed.
    pauses: HashMap<SegmentId, Pause>,
    /// Stores that have not answered.
    resting: HashMap<Tier, Pause>,
    moved: Moved,
}

/// A copy that is being made.
struct Making {
    row: SegmentRow,
    copies: Copies,
    to: Tier,
}

/// How long something that has failed is left alone.
#[derive(Default)]
struct Pause {
    failures: u32,
    until_us: u64,
}

impl Pause {
    /// Twice as long as the last time.
    fn longer(&mut self, max: Duration, monotonic_us: u64) -> Duration {
        let wait = PAUSE_FIRST.saturating_mul(1 << self.failures.min(16)).min(max);
        self.failures += 1;
        self.until_us = monotonic_us.saturating_add(wait.as_micros() as u64);
        wait
    }
}

impl Mover {
    /// Takes up where the last process ended: what it left half done is found again in the index.
    pub fn new(
        index: Arc<Index>,
        disk: Disk,
        stores: Stores,
        rules: Rules,
        grace: Duration,
        runtime: Handle,
    ) -> Self {
        Self {
            index,
            disk,
            stores,
            rules,
            grace,
            runtime,
            cursors: Cursors::default(),
            under_way: HashMap::new(),
            spared: HashSet::new(),
            ended: mpsc::channel(),
            pauses: HashMap::new(),
            resting: HashMap::new(),
            moved: Moved::default(),
        }
    }

    /// What was done so far.
    pub fn moved(&self) -> Moved {
        Moved {
            under_way: self.under_way.len() as u64,
            ..self.moved
        }
    }

    /// Segments that are being copied: they must not be deleted meanwhile.
    pub fn busy(&self) -> HashSet<SegmentId> {
        self.under_way.keys().copied().collect()
    }

    /// Leaves these segments alone until told otherwise.
    pub fn spare(&mut self, segments: HashSet<SegmentId>) {
        self.spared = segments;
    }

    /// Removes what is not needed any more and begins new copies. `short` bytes are missing on the disk of the hot
    /// tier. Failures are logged and tried again; an error means that the index failed.
    pub fn pass(
        &mut self,
        now: WallTime,
        clock_trusted: bool,
        short: u64,
        monotonic_us: u64,
    ) -> Result<(), IndexError> {
        self.take_in(now, monotonic_us)?;
        let mut at = self.moment(now, clock_trusted);
        at.pressed = short > 0;
        // What an age asks for goes anyhow; what is only pressed, up to what is needed.
        let mut freed = 0;
        let mut due = self.due(&at, &[Goal::OffHot], monotonic_us)?;
        at.pressed = false;
        due.retain(|due| {
            let aged = is_aged(&self.rules, &self.index, due, &at);
            let goes = aged || freed < short;
            freed += if goes { due.row.bytes } else { 0 };
            goes
        });
        due.truncate(EVICTIONS_MAX);
        self.evict(due, monotonic_us)?;
        let due = self.due(&at, &[Goal::OffWarm], monotonic_us)?;
        self.evict(due, monotonic_us)?;
        self.note_unreplicated(&at)?;
        self.begin(&at, monotonic_us)
    }

    fn moment(&self, now: WallTime, clock_trusted: bool) -> Moment {
        Moment {
            now,
            clock_trusted,
            grace: self.grace,
            pressed: false,
        }
    }

    /// What is due and not under way, resting or on a store that rests.
    fn due(&mut self, at: &Moment, goals: &[Goal], monotonic_us: u64) -> Result<Vec<Due>, IndexError> {
        let (under_way, spared) = (&self.under_way, &self.spared);
        let (pauses, resting) = (&self.pauses, &self.resting);
        let rests = |pause: Option<&Pause>| pause.is_some_and(|pause| pause.until_us > monotonic_us);
        let skip = |row: &SegmentRow, progress: Progress| {
            let tier = match progress {
                Progress::Copy(tier) | Progress::Evict(tier) => Some(tier),
                Progress::Reached | Progress::Waits => None,
            };
            let store = tier.and_then(|tier| resting.get(&tier));
            under_way.contains_key(&row.id)
                || spared.contains(&row.id)
                || rests(pauses.get(&row.id))
                || rests(store)
        };
        let search = Search {
            index: &self.index,
            rules: &self.rules,
            at,
            skip: &skip,
        };
        self.cursors.due(&search, goals)
    }

    /// Takes in what came of copies since, and begins others in their places.
    pub fn go_on(&mut self, now: WallTime, clock_trusted: bool, monotonic_us: u64) -> Result<(), IndexError> {
        if !self.take_in(now, monotonic_us)? {
            return Ok(());
        }
        let at = self.moment(now, clock_trusted);
        self.begin(&at, monotonic_us)
    }

    /// Whether there was something.
    fn take_in(&mut self, now: WallTime, monotonic_us: u64) -> Result<bool, IndexError> {
        let mut batch = Batch::default();
        let before = self.under_way.len();
        while let Ok(copied) = self.ended.1.try_recv() {
            let Some(making) = self.under_way.remove(&copied.segment) else {
                continue;
            };
            match copied.outcome {
                Ok(crc64) => {
                    let mut copies = making.copies;
                    copies.crc64 = crc64;
                    match copies.after(Event::Copied(making.to), now) {
                        Ok(copies) => batch.copies(&making.row, copies),
                        Err(error) => tracing::error!(%error, "a copy was made that is not wanted"),
                    }
                    self.pauses.remove(&copied.segment);
                    self.resting.remove(&making.to);
                    self.moved.copies += 1;
                    self.moved.bytes += making.row.bytes;
                }
                Err(error) => self.failed(copied.segment, "copy", making.to, &error, monotonic_us),
            }
        }
        self.commit(batch)?;
        Ok(self.under_way.len() < before)
    }

    fn commit(&self, batch: Batch) -> Result<(), IndexError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.index.commit(batch)
    }

    fn failed(&mut self, segment: SegmentId, what: &str, tier: Tier, error: &StoreError, monotonic_us: u64) {
        self.moved.failures += 1;
        let stream = self.name(segment).map_or_else(String::new, |s| s.to_string());
        // What is wrong with the store is no segment's fault, and said once.
        if error.is_passing() {
            let pause = self.resting.entry(tier).or_default();
            if pause.until_us <= monotonic_us {
                let wait = pause.longer(STORE_PAUSE_MAX, monotonic_us);
                tracing::warn!(
                    %stream, segment = segment.seq, %tier, %error, again_in_s = wait.as_secs(),
                    "cannot {what} segments: footage stays where it is"
                );
            }
            return;
        }
        let wait = self
            .pauses
            .entry(segment)
            .or_default()
            .longer(PAUSE_MAX, monotonic_us);
        tracing::error!(
            %stream, segment = segment.seq, %tier, %error, again_in_s = wait.as_secs(),
            "cannot {what} a segment: footage stays where it is"
        );
    }

    fn name(&self, segment: SegmentId) -> Option<StreamId> {
        self.index.stream_id(segment.stream)
    }

    /// Removes copies: said in the index before, done, seen to be gone, said in the index.
    fn evict(&mut self, due: Vec<Due>, monotonic_us: u64) -> Result<(), IndexError> {
        let began = Instant::now();
        let mut begun = Batch::default();
        let mut doomed = Vec::new();
        for due in due {
            let Progress::Evict(tier) = due.progress else {
                continue;
            };
            if began.elapsed() > EVICTING_MAX {
                break;
            }
            let Ok(copies) = due.copies.after(Event::DeletionBegun(tier), due.copies.since) else {
                continue;
            };
            // The last look at the copy that counts, before the one that it replaces goes.
            if let Err(error) = self.confirm(&due.row, &due.copies) {
                self.failed(
                    due.row.id,
                    "confirm the copy of",
                    copies.authority,
                    &error,
                    monotonic_us,
                );
                continue;
            }
            begun.copies(&due.row, copies);
            doomed.push((due.row, copies, tier));
        }
        self.commit(begun)?;
        let mut ended = Batch::default();
        for (row, copies, tier) in doomed {
            match self.remove(&row, tier) {
                Ok(()) => {
                    if let Ok(copies) = copies.after(Event::Deleted(tier), copies.since) {
                        ended.copies(&row, copies);
                    }
                    self.moved.evictions += 1;
                }
                Err(error) => self.failed(row.id, "evict", tier, &error, monotonic_us),
            }
            if began.elapsed() > 2 * EVICTING_MAX {
                break;
            }
        }
        self.commit(ended)
    }

    /// Fails unless the store has the authority of a segment as it was verified.
    fn confirm(&self, row: &SegmentRow, copies: &Copies) -> Result<(), StoreError> {
        let (Some(stream), tier) = (self.name(row.id), copies.authority) else {
            return Ok(());
        };
        if tier == Tier::Hot {
            return Ok(());
        }
        let name = segment_path(&stream, &row.name());
        let Objects { store, runtime, .. } = self.stores.expected(tier)?;
        runtime
            .block_on(store.confirm(&name, row.bytes, copies.crc64))
            .map(drop)
    }

    fn remove(&self, row: &SegmentRow, tier: Tier) -> Result<(), StoreError> {
        let Some(stream) = self.name(row.id) else {
            return Ok(());
        };
        remove_copy(
            &self.disk,
            &self.stores,
            &segment_path(&stream, &row.name()),
            tier,
        )
    }

    /// Begins copies while there is room for more.
    fn begin(&mut self, at: &Moment, monotonic_us: u64) -> Result<(), IndexError> {
        let found = self.due(at, &[Goal::Copied, Goal::Cooled], monotonic_us)?;
        let (left, found): (Vec<_>, Vec<_>) =
            (found.into_iter()).partition(|due| matches!(due.progress, Progress::Evict(_)));
        self.evict(left, monotonic_us)?;
        let mut batch = Batch::default();
        let mut begun = Vec::new();
        for due in found {
            if self.under_way.len() + begun.len() >= COPIES_MAX {
                break;
            }
            let Progress::Copy(to) = due.progress else {
                continue;
            };
            let Ok(copies) = due.copies.after(Event::CopyBegun(to), at.now) else {
                continue;
            };
            batch.copies(&due.row, copies);
            begun.push(Making {
                row: due.row,
                copies,
                to,
            });
        }
        self.commit(batch)?;
        for making in begun {
            self.start(making, monotonic_us);
        }
        Ok(())
    }

    /// How old the oldest sealed footage is that lies on the disk alone, whether or not it can be copied just now.
    fn note_unreplicated(&mut self, at: &Moment) -> Result<(), IndexError> {
        let search = Search {
            index: &self.index,
            rules: &self.rules,
            at,
            skip: &|_, _| false,
        };
        let found = self.cursors.due(&search, &[Goal::Copied])?;
        let age_us = found
            .first()
            .map_or(0, |due| at.now.micros_since(due.row.wall_end).max(0));
        self.moved.unreplicated_s = (age_us / SECOND_US).unsigned_abs();
        Ok(())
    }

    fn start(&mut self, making: Making, monotonic_us: u64) {
        let segment = making.row.id;
        let (Some(stream), Some(to)) = (self.name(segment), self.stores.of(making.to).cloned()) else {
            return;
        };
        let name = segment_path(&stream, &making.row.name());
        // The nearest copy is read: the hot one costs nobody else anything.
        let origin = match self.origin(&making, &name) {
            Ok(origin) => origin,
            Err(error) => return self.failed(segment, "read", making.to, &error, monotonic_us),
        };
        let known = (making.copies.crc64 != 0).then_some(making.copies.crc64);
        let ended = self.ended.0.clone();
        let bytes = making.row.bytes;
        self.under_way.insert(segment, making);
        let limit = COPY_MAX + Duration::from_secs(bytes / COPY_BYTES_A_SECOND_MIN);
        self.runtime.spawn(async move {
            let what = || format!("copy {name}");
            let making = tokio::spawn({
                let name = name.clone();
                async move { copy::copy(origin, &to.store, &name, known).await }
            });
            let stop = making.abort_handle();
            // Whatever becomes of it is told, or its place would be taken for ever.
            let outcome = match tokio::time::timeout(limit, making).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(e)) => Err(StoreError::Away {
                    what: what(),
                    why: e.to_string(),
                }),
                Err(_) => {
                    stop.abort();
                    Err(StoreError::Away {
                        what: what(),
                        why: format!("it took more than {} s", limit.as_secs()),
                    })
                }
            };
            let _ = ended.send(Copied { segment, outcome });
        });
    }

    fn origin(&self, making: &Making, name: &str) -> Result<Origin, StoreError> {
        match making.copies.nearest() {
            Tier::Hot => Origin::file(&self.disk, name, making.row.bytes),
            tier => Ok(Origin::object(
                self.stores.expected(tier)?.store.clone(),
                name,
                making.row.bytes,
            )),
        }
    }
}

/// Removes the copy of a segment that lies on `tier`, and looks that it is gone.
pub(crate) fn remove_copy(disk: &Disk, stores: &Stores, name: &str, tier: Tier) -> Result<(), StoreError> {
    if tier == Tier::Hot {
        return disk.remove(name).map_err(|e| StoreError::Content(Arc::new(e)));
    }
    let Objects { store, runtime, .. } = stores.expected(tier)?;
    runtime.block_on(store.delete_segment(name))
}

/// Whether a copy is to go from the hot tier even if there is space.
fn is_aged(rules: &Rules, index: &Index, due: &Due, at: &Moment) -> bool {
    let rule = index
        .stream_id(due.row.id.stream)
        .and_then(|stream| rules.rule_for(&stream));
    rule.is_some_and(|rule| {
        let progress = progress(
            Goal::OffHot,
            rule,
            rules.below(),
            due.row.wall_end,
            &due.copies,
            at,
        );
        matches!(progress, Progress::Evict(_))
    })
}
