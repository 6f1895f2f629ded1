//! When to try a camera again.

use std::time::Duration;

/// The shortest wait.
const SHORTEST: Duration = Duration::from_secs(1);
/// Waits double until they lie between half of this and this.
///
/// A camera that reboots takes a minute or two; footage is lost for as long as nobody asks again.
pub const LONGEST: Duration = Duration::from_secs(20);
/// The same for a camera that refused the credentials: many lock an account that is tried too often, and
/// whoever changes the credentials here starts over at once.
pub const LONGEST_LOCKED: Duration = Duration::from_secs(120);
/// A session that recorded this long was good: the next failure starts over.
const GOOD_AFTER: Duration = Duration::from_secs(60);

/// Waits between attempts: 1 to 2 s, then twice that, up to 10 to 20 s, for ever.
///
/// The upper half of each wait is random, so that cameras behind one switch do not come back together.
#[derive(Debug, Default, Clone)]
pub struct Backoff {
    doublings: u32,
}

impl Backoff {
    /// How long to wait after a failure, at most `longest`. `random` is uniform over all `u64`.
    pub fn next_wait(&mut self, random: u64, longest: Duration) -> Duration {
        let shortest = SHORTEST.saturating_mul(1 << self.doublings).min(longest / 2);
        if shortest < longest / 2 {
            self.doublings += 1;
        }
        let spread_us = (u128::from(random) * shortest.as_micros()) >> 64;
        shortest + Duration::from_micros(u64::try_from(spread_us).unwrap_or(0))
    }

    /// Says that a session ended after it had recorded for `good`.
    pub fn recorded_for(&mut self, good: Duration) {
        if good >= GOOD_AFTER {
            self.doublings = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_one_second_to_twenty_and_go_on_for_ever() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..7).map(|_| backoff.next_wait(0, LONGEST).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10, 10]);
        for i in 0..100_000u64 {
            let wait = backoff.next_wait(i.wrapping_mul(0x9e37_79b9_7f4a_7c15), LONGEST);
            assert!((10..20).contains(&wait.as_secs()), "{wait:?}");
        }
    }

    #[test]
    fn a_wait_is_spread_over_its_upper_half() {
        assert_eq!(Backoff::default().next_wait(0, LONGEST), Duration::from_secs(1));
        assert_eq!(
            Backoff::default().next_wait(u64::MAX / 2, LONGEST),
            Duration::from_micros(1_499_999)
        );
        assert!(Backoff::default().next_wait(u64::MAX, LONGEST) < Duration::from_secs(2));
    }

    #[test]
    fn only_a_good_session_starts_over() {
        let mut backoff = Backoff { doublings: 3 };
        backoff.recorded_for(Duration::from_secs(59));
        assert_eq!(backoff.next_wait(0, LONGEST), Duration::from_secs(8));
        backoff.recorded_for(Duration::from_secs(60));
        assert_eq!(backoff.next_wait(0, LONGEST), Duration::from_secs(1));
    }

    #[test]
    fn a_camera_that_refuses_the_credentials_is_asked_less_and_less() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8)
            .map(|_| backoff.next_wait(0, LONGEST_LOCKED).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.next_wait(0, LONGEST), Duration::from_secs(10));
    }
}
