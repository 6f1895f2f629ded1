//! Moves sealed segments down the tiers: finds what is due, carries it out, and tells the index of each step before
//! and after it is taken.
//!
//! Invariant: rows are changed by the thread that calls [`Mover::tick`] alone, which deletes segments too. Copies are
//! made elsewhere and tell here what came of them.

mod copy;
mod find;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use archive::disk::Disk;
use archive::layout::segment_path;
use archive::store::{Objects, StoreError, Stores};
use archive::time::SECOND_US;
use archive::{SegmentId, StreamId, Tier, WallTime};
use indexer::{Batch, Copies, Event, Index, IndexError, Moved, SegmentRow};
use tokio::runtime::Handle;

use self::copy::{Copied, Origin};
use self::find::{Cursors, Due};
use crate::plan::{Moment, Progress};
use crate::rules::Rules;

/// Copies that are made at a time.
const COPIES_MAX: usize = 4;
/// Copies that are removed in one tick.
const EVICTIONS_MAX: usize = 128;
/// After a failure a segment waits this long, and twice as long after each further one, up to the second.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(300);

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
    ended: (Sender<Copied>, Receiver<Copied>),
    pauses: HashMap<SegmentId, Pause>,
    moved: Moved,
}

/// A copy that is being made.
struct Making {
    row: SegmentRow,
    copies: Copies,
    to: Tier,
}

/// A segment that has failed before.
struct Pause {
    failures: u32,
    until_us: u64,
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
            ended: mpsc::channel(),
            pauses: HashMap::new(),
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
        let mut at = Moment {
            now,
            clock_trusted,
            grace: self.grace,
            pressed: false,
        };
        let due = self
            .cursors
            .evictions(&self.index, &self.rules, &at, EVICTIONS_MAX)?;
        self.evict(due, monotonic_us)?;
        if short > 0 {
            at.pressed = true;
            let mut due = self
                .cursors
                .evictions(&self.index, &self.rules, &at, EVICTIONS_MAX)?;
            due.sort_unstable_by_key(|due| due.row.wall_end);
            let mut freed = 0;
            due.retain(|due| {
                let needed = freed < short;
                freed += due.row.bytes;
                needed
            });
            self.evict(due, monotonic_us)?;
        }
        self.begin(&at, monotonic_us)
    }

    /// Takes in what came of copies since, and begins others in their places.
    pub fn go_on(&mut self, now: WallTime, clock_trusted: bool, monotonic_us: u64) -> Result<(), IndexError> {
        if !self.take_in(now, monotonic_us)? {
            return Ok(());
        }
        let at = Moment {
            now,
            clock_trusted,
            grace: self.grace,
            pressed: false,
        };
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
                Ok((len, crc64)) => {
                    let mut copies = making.copies;
                    copies.crc64 = crc64;
                    match copies.after(Event::Copied(making.to), now) {
                        Ok(copies) => batch.copies(&making.row, copies),
                        Err(error) => tracing::error!(%error, "a copy was made that is not wanted"),
                    }
                    self.pauses.remove(&copied.segment);
                    self.moved.copies += 1;
                    self.moved.bytes += len;
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
        let pause = self.pauses.entry(segment).or_insert(Pause {
            failures: 0,
            until_us: 0,
        });
        let wait = PAUSE_FIRST
            .saturating_mul(1 << pause.failures.min(16))
            .min(PAUSE_MAX);
        pause.failures += 1;
        pause.until_us = monotonic_us.saturating_add(wait.as_micros() as u64);
        self.moved.failures += 1;
        tracing::warn!(
            stream = %self.name(segment).map_or_else(String::new, |s| s.to_string()), segment = segment.seq, %tier,
            %error, again_in_s = wait.as_secs(), "cannot {what} a segment: footage stays where it is"
        );
    }

    fn name(&self, segment: SegmentId) -> Option<StreamId> {
        self.index.stream_id(segment.stream)
    }

    fn pauses(&self, segment: SegmentId, monotonic_us: u64) -> bool {
        self.pauses
            .get(&segment)
            .is_some_and(|pause| pause.until_us > monotonic_us)
    }

    /// Removes copies: said in the index before, done, seen to be gone, said in the index.
    fn evict(&mut self, mut due: Vec<Due>, monotonic_us: u64) -> Result<(), IndexError> {
        due.retain(|due| !self.under_way.contains_key(&due.row.id) && !self.pauses(due.row.id, monotonic_us));
        let mut begun = Batch::default();
        let mut doomed = Vec::new();
        for due in due {
            let Progress::Evict(tier) = due.progress else {
                continue;
            };
            if let Ok(copies) = due.copies.after(Event::DeletionBegun(tier), due.copies.since) {
                begun.copies(&due.row, copies);
                doomed.push((due.row, copies, tier));
            }
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
        }
        self.commit(ended)
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
        let found = self.cursors.copies(&self.index, &self.rules, at)?;
        let oldest = found.iter().map(|due| due.row.wall_end).min();
        let age_us = oldest.map_or(0, |end| at.now.micros_since(end).max(0));
        self.moved.unreplicated_s = (age_us / SECOND_US).unsigned_abs();
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
            if self.under_way.contains_key(&due.row.id) || self.pauses(due.row.id, monotonic_us) {
                continue;
            }
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
        self.under_way.insert(segment, making);
        self.runtime.spawn(async move {
            let outcome = copy::copy(origin, &to.store, &name, known).await;
            let _ = ended.send(Copied { segment, outcome });
        });
    }

    fn origin(&self, making: &Making, name: &str) -> Result<Origin, StoreError> {
        match making.copies.nearest() {
            Tier::Hot => Origin::file(&self.disk, name),
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
    runtime.block_on(store.delete(name))
}
