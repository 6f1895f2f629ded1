//! What the worker has done, for metrics and the API.

use archive::WallTime;

use crate::policy::Reason;

/// Segments deleted for one reason since the start.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Deleted {
    /// How many.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Counters and the state after the last pass.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Deleted for their age.
    pub age: Deleted,
    /// Deleted for their camera's quota.
    pub quota: Deleted,
    /// Deleted to make space.
    pub space: Deleted,
    /// Deletions that an earlier process had begun.
    pub resumed: Deleted,
    /// Segments that were thinned, and the bytes that they are smaller by.
    pub thinned: Deleted,
    /// Files that could not be removed; each attempt counts.
    pub failed: u64,
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Bytes of the disk.
    pub total_bytes: u64,
    /// Bytes that are to be free.
    pub reserve_bytes: u64,
    /// Cameras of a priority below this are not recorded; 0 when all are.
    pub shed_below: u8,
    /// Whether deletion by age pauses because the wall clock has jumped.
    pub clock_doubted: bool,
    /// The time by which ages are judged.
    pub archive_time: WallTime,
    /// Passes so far.
    pub passes: u64,
    /// How long the last pass took, in microseconds.
    pub last_pass_us: u64,
}

impl Progress {
    /// The counter of a reason.
    pub fn of(&self, reason: Reason) -> Deleted {
        match reason {
            Reason::Age => self.age,
            Reason::Quota => self.quota,
            Reason::Space => self.space,
        }
    }

    pub(crate) fn count(&mut self, reason: Option<Reason>, bytes: u64) {
        let counter = match reason {
            Some(Reason::Age) => &mut self.age,
            Some(Reason::Quota) => &mut self.quota,
            Some(Reason::Space) => &mut self.space,
            None => &mut self.resumed,
        };
        counter.segments += 1;
        counter.bytes += bytes;
    }
}
