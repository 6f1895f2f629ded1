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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_waited_for_twice_as_long_as_the_last_up_to_a_bound() {
        let (mut pause, max) = (Pause::default(), Duration::from_secs(60));
        let waits: Vec<u64> = (0..40).map(|_| pause.longer(max, 0).as_secs()).collect();
        assert_eq!(waits[..6], [2, 4, 8, 16, 32, 60]);
        assert!(waits[6..].iter().all(|wait| *wait == 60));
    }

    #[test]
    fn it_lasts_from_the_failure_on_also_at_the_end_of_the_clock() {
        let mut pause = Pause::default();
        assert!(!pause.lasts(0));
        pause.longer(Duration::from_secs(60), 1_000_000);
        assert!(pause.lasts(2_999_999) && !pause.lasts(3_000_000));
        pause.longer(Duration::from_secs(60), u64::MAX - 1);
        assert!(pause.lasts(u64::MAX - 1));
    }
}
