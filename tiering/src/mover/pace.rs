//! How fast bytes may go to a store.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was not used for longer is not made up for.
const BURST_US: u64 = 1_000_000;

/// Grants bytes at a rate. Time is what a clock tells that never jumps, in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Bytes a second.
    rate: u64,
    /// When everything that was granted will have gone.
    free_us: u64,
}

impl Pace {
    pub(super) fn new(rate: u64) -> Self {
        Self {
            rate: rate.max(1),
            free_us: 0,
        }
    }

    /// Grants `bytes`; how long they have to wait. Those that were granted before go before.
    pub(super) fn take(&mut self, bytes: u64, now_us: u64) -> Duration {
        let begin = self.free_us.max(now_us.saturating_sub(BURST_US));
        let took_us = u128::from(bytes) * 1_000_000 / u128::from(self.rate);
        self.free_us = begin.saturating_add(u64::try_from(took_us).unwrap_or(u64::MAX));
        Duration::from_micros(begin.saturating_sub(now_us))
    }
}

/// The way to a store, which all copies to it share.
#[derive(Debug)]
pub(super) struct Way {
    begun: Instant,
    pace: Option<Mutex<Pace>>,
}

impl Way {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self {
            begun: Instant::now(),
            pace: rate.map(|rate| Mutex::new(Pace::new(rate))),
        }
    }

    /// Waits until so many more bytes may go.
    pub(super) async fn pass(&self, bytes: u64) {
        let Some(pace) = &self.pace else { return };
        let now_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let wait = pace
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(bytes, now_us);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes within `seconds` when everybody always wants more, in parts of `part` bytes.
    fn gone(pace: &mut Pace, from_us: u64, seconds: u64, part: u64) -> u64 {
        let (mut now, mut sent) = (from_us, 0);
        while now < from_us + seconds * 1_000_000 {
            now += pace.take(part, now).as_micros() as u64;
            sent += part;
        }
        sent
    }

    #[test]
    fn what_goes_is_what_the_rate_allows_and_no_more_than_a_second_of_it_is_made_up_for() {
        let mut pace = Pace::new(1_000_000);
        let sent = gone(&mut pace, 5_000_000, 60, 100_000);
        assert!((60_000_000..=61_200_000).contains(&sent), "{sent}");
        // Nobody wants anything for an hour.
        let sent = gone(&mut pace, 3_700_000_000, 10, 100_000);
        assert!((10_000_000..=11_200_000).contains(&sent), "{sent}");
    }

    #[test]
    fn parts_larger_than_a_second_wait_for_their_turn_one_after_the_other() {
        let mut pace = Pace::new(1_000_000);
        let waits = [0; 3].map(|_| pace.take(8_000_000, 10_000_000).as_micros());
        assert_eq!(waits, [0, 7_000_000, 15_000_000]);
        assert_eq!(pace.take(8_000_000, 40_000_000), Duration::ZERO);
    }

    #[test]
    fn numbers_at_their_ends_wait_and_do_not_fail() {
        let mut pace = Pace::new(0);
        pace.take(u64::MAX, u64::MAX);
        assert_eq!(pace.take(u64::MAX, 0), Duration::from_micros(u64::MAX));
    }
}
