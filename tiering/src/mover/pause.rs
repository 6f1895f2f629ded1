//! What has failed is left alone for a while.

use std::time::Duration;

/// After a failure something waits this long, and twice as long after each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(2);

/// How long something that has failed is left alone.
#[derive(Default)]
pub(super) struct Pause {
    failures: u32,
    until_us: u64,
}

impl Pause {
    /// Twice as long as the last time, up to `max`.
    pub(super) fn longer(&mut self, max: Duration, monotonic_us: u64) -> Duration {
        let wait = PAUSE_FIRST.saturating_mul(1 << self.failures.min(16)).min(max);
        self.failures += 1;
        self.until_us = monotonic_us.saturating_add(wait.as_micros() as u64);
        wait
    }

    /// Whether it is not over.
    pub(super) fn lasts(&self, monotonic_us: u64) -> bool {
        self.until_us > monotonic_us
    }
}
