//! One step of one segment that waits for a store or a disk, and runs where nobody else waits for it.

use std::sync::Arc;
use std::time::Duration;

use archive::layout::segment_path;
use archive::store::StoreError;
use archive::{SegmentId, Tier};
use indexer::{Copies, SegmentRow};

use super::copy::{Origin, copy};
use super::{Mover, limits};
use crate::locks::{unlocked, was_ours};

/// A copy that takes longer, and longer than its bytes at this rate, has failed.
const COPY_MAX: Duration = Duration::from_secs(120);
const COPY_BYTES_A_SECOND_MIN: u64 = 100_000;
/// A copy that was told to end takes no longer over a part that is on its way, and over taking back what it began.
const ENDING_MAX: Duration = Duration::from_secs(180);
/// Looking at a copy or removing one takes no longer.
const LEAVE_MAX: Duration = Duration::from_secs(60);

/// What is being done to a segment.
pub(super) struct Job {
    pub(super) row: SegmentRow,
    pub(super) copies: Copies,
    pub(super) doing: Doing,
}

/// A step that takes time.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Doing {
    /// A copy is being made.
    Copying(Tier),
    /// The copy that counts is looked at once more, before this one goes.
    Confirming(Tier),
    /// A copy is being removed.
    Removing(Tier),
}

/// What came of it.
pub(super) struct Ended {
    pub(super) segment: SegmentId,
    /// Of a copy the CRC-64/NVME of all its bytes.
    pub(super) outcome: Result<u64, StoreError>,
}

impl Job {
    pub(super) fn is_copy(&self) -> bool {
        matches!(self.doing, Doing::Copying(_))
    }

    /// Whether there is more space on the hot tier when it is done.
    pub(super) fn frees_hot(&self) -> bool {
        matches!(
            self.doing,
            Doing::Confirming(Tier::Hot) | Doing::Removing(Tier::Hot)
        )
    }

    /// What it is called in messages, and the tier that it waits for.
    pub(super) fn of(&self) -> (&'static str, Tier) {
        match self.doing {
            Doing::Copying(tier) => ("copy", tier),
            Doing::Confirming(_) => ("confirm the copies of", self.copies.authority),
            Doing::Removing(tier) => ("evict", tier),
        }
    }
}

impl Mover {
    /// Begins what the index was told of.
    pub(super) fn start(&mut self, job: Job, monotonic_us: u64) {
        let segment = job.row.id;
        let Some(stream) = self.name(segment) else { return };
        let name = segment_path(&stream, &job.row.name());
        let begun = match job.doing {
            Doing::Copying(to) => self.start_copy(&job, to, name),
            Doing::Confirming(_) => self.start_confirming(&job, name),
            Doing::Removing(tier) => self.start_removing(&job, tier, name),
        };
        match begun {
            Ok(()) => drop(self.under_way.insert(segment, job)),
            Err(error) => {
                let (what, tier) = job.of();
                self.failed(segment, what, tier, &error, monotonic_us);
            }
        }
    }

    fn start_copy(&self, job: &Job, to: Tier, name: String) -> Result<(), StoreError> {
        let store = self.stores.expected(to)?.store.clone();
        let way = self
            .ways
            .get(&to)
            .cloned()
            .unwrap_or_else(|| Arc::new(super::Way::new(None)));
        // The nearest copy is read: the hot one costs nobody else anything.
        let origin = match job.copies.nearest() {
            Tier::Hot => Origin::file(&self.disk, &name, job.row.bytes, way)?,
            tier => {
                let from = self.stores.expected(tier)?.store.clone();
                Origin::object(from, &name, job.row.bytes, way)
            }
        };
        let known = (job.copies.crc64 != 0).then_some(job.copies.crc64);
        let allowed = limits(&self.stores, to);
        // The others that are on their way take their part of the rate.
        let paced = allowed.map_or(0, |limits| {
            let all = job.row.bytes.saturating_mul(limits.copies as u64);
            all.checked_div(limits.rate.unwrap_or(0)).unwrap_or(0)
        });
        let seconds = job.row.bytes / COPY_BYTES_A_SECOND_MIN + 2 * paced;
        let limit = COPY_MAX + Duration::from_secs(seconds);
        let what = format!("copy {name}");
        let origin = origin.within(limit);
        let work = async move { copy(origin, &store, &name, known).await };
        // Whoever is cut off leaves parts in the store: that is for what hangs although it was told to end.
        self.spawn(job.row.id, limit + ENDING_MAX, what, work);
        Ok(())
    }

    /// Fails unless the store has the authority of a segment as it was verified.
    fn start_confirming(&self, job: &Job, name: String) -> Result<(), StoreError> {
        let (bytes, crc64) = (job.row.bytes, job.copies.crc64);
        let store = match job.copies.authority {
            // It is on its own disk.
            Tier::Hot => None,
            tier => Some(self.stores.expected(tier)?.store.clone()),
        };
        let work = {
            let name = name.clone();
            async move {
                if let Some(store) = store {
                    store.confirm(&name, bytes, crc64).await?;
                }
                Ok(0)
            }
        };
        self.spawn(job.row.id, LEAVE_MAX, format!("look at {name}"), work);
        Ok(())
    }

    fn start_removing(&self, job: &Job, tier: Tier, name: String) -> Result<(), StoreError> {
        let segment = job.row.id;
        let what = format!("remove {name}");
        if tier == Tier::Hot {
            let disk = self.disk.clone();
            let removed = move || disk.remove(&name).map_err(|e| StoreError::Content(Arc::new(e)));
            let work = async move {
                let removed = tokio::task::spawn_blocking(removed).await;
                removed
                    .map_err(|e| gave_up("remove a file", e.to_string()))?
                    .map(|()| 0)
            };
            self.spawn(segment, LEAVE_MAX, what, work);
        } else {
            let store = self.stores.expected(tier)?.store.clone();
            let (index, row) = (self.index.clone(), job.row.clone());
            // Another whole copy stays, and has a lock of its own where it is held.
            let work = async move {
                let is_ours = || was_ours(&index, &row);
                let removed = unlocked(&store, &name, is_ours, || store.delete_segment(&name)).await;
                removed.map(|()| 0)
            };
            self.spawn(segment, LEAVE_MAX, what, work);
        }
        Ok(())
    }

    /// Runs `work`, and tells what came of it whatever that is, or its place would be taken for ever.
    fn spawn(
        &self,
        segment: SegmentId,
        limit: Duration,
        what: String,
        work: impl Future<Output = Result<u64, StoreError>> + Send + 'static,
    ) {
        let ended = self.ended.0.clone();
        self.runtime.spawn(async move {
            let work = tokio::spawn(work);
            let stop = work.abort_handle();
            let outcome = match tokio::time::timeout(limit, work).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(e)) => Err(gave_up(&what, e.to_string())),
                Err(_) => {
                    stop.abort();
                    Err(gave_up(&what, format!("it took more than {} s", limit.as_secs())))
                }
            };
            let _ = ended.send(Ended { segment, outcome });
        });
    }
}

fn gave_up(what: &str, why: String) -> StoreError {
    StoreError::Away {
        what: what.to_owned(),
        why,
    }
}
