//! The time by which ages are judged: the wall clock, held against one that never jumps.

use std::time::Duration;

use archive::WallTime;
use archive::time::{HOUR_US, SECOND_US};

/// The wall clock may gain or lose this much in an hour: slewing moves it by 1.8 s, a leap second by 1 s.
const DRIFT_US_MAX: i64 = 60 * SECOND_US;
/// How far the wall clock may be ahead of the last known time at the start: an ordinary restart.
const DOWNTIME_US_MAX: i64 = HOUR_US;
/// The same after a process that doubted the clock: an hour ahead is what a mistaken summer time makes.
const DOUBTED_US_MAX: i64 = HOUR_US / 2;

#[derive(Copy, Clone, Debug)]
struct Anchor {
    wall: WallTime,
    monotonic_us: u64,
}

impl Anchor {
    /// What the wall clock should say if it ran on from here.
    fn expected(self, monotonic_us: u64) -> WallTime {
        let elapsed = monotonic_us.saturating_sub(self.monotonic_us);
        self.wall.plus_micros(i64::try_from(elapsed).unwrap_or(i64::MAX))
    }

    fn elapsed_us(self, monotonic_us: u64) -> u64 {
        monotonic_us.saturating_sub(self.monotonic_us)
    }
}

/// What happened to the clock.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum ClockEvent {
    /// It is off by `by_us` from where it should be: deletion by age pauses.
    Jumped {
        /// Positive when it is ahead.
        by_us: i64,
    },
    /// It went back to where it was expected.
    Returned,
    /// It ran steadily since it jumped for as long as is asked for, and is believed from now on.
    Confirmed,
}

/// The time of one pass.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    /// The time by which minimum ages are judged. While the clock is not trusted, the earlier of what it
    /// says and what it should say, so that no footage seems older than it is.
    pub now: WallTime,
    /// Whether the clock may be believed; otherwise nothing is deleted for its age.
    pub trusted: bool,
    /// What changed since the last reading.
    pub event: Option<ClockEvent>,
}

/// Judges the wall clock. A jump of more than a minute against the monotonic clock, or of more than an hour
/// over a restart, is believed only after the clock ran steadily for the time to confirm. A restart begins
/// that time anew.
#[derive(Clone, Debug)]
pub struct ArchiveTime {
    known: Option<WallTime>,
    /// How far the wall clock may be ahead of `known` at the start.
    ahead_us_max: i64,
    confirm_us: u64,
    anchor: Option<Anchor>,
    /// The clock as it runs since it jumped.
    jumped: Option<Anchor>,
}

impl ArchiveTime {
    /// `known` is the last trusted time before the start; without it the first reading is trusted.
    pub fn new(known: Option<WallTime>, confirm: Duration) -> Self {
        Self {
            known,
            ahead_us_max: DOWNTIME_US_MAX,
            confirm_us: u64::try_from(confirm.as_micros()).unwrap_or(u64::MAX),
            anchor: None,
            jumped: None,
        }
    }

    /// The last process ended while it doubted the clock: less is explained by having been away.
    #[must_use]
    pub fn in_doubt(self) -> Self {
        Self {
            ahead_us_max: DOUBTED_US_MAX,
            ..self
        }
    }

    /// Takes what both clocks say at one instant.
    pub fn observe(&mut self, wall: WallTime, monotonic_us: u64) -> Reading {
        let here = Anchor { wall, monotonic_us };
        let (anchor, ahead_us_max) = match self.anchor {
            Some(anchor) => (anchor, DRIFT_US_MAX),
            None => {
                let wall = self.known.unwrap_or(wall);
                (Anchor { wall, monotonic_us }, self.ahead_us_max)
            }
        };
        let first = self.anchor.is_none();
        self.anchor = Some(anchor);
        let expected = anchor.expected(monotonic_us);
        let by_us = wall.micros_since(expected);
        if (-DRIFT_US_MAX..=ahead_us_max).contains(&by_us) {
            // Held for an hour, so that many small steps do not add up unseen.
            if first || anchor.elapsed_us(monotonic_us) >= HOUR_US.unsigned_abs() {
                self.anchor = Some(here);
            }
            let event = self.jumped.take().map(|_| ClockEvent::Returned);
            return Reading {
                now: wall,
                trusted: true,
                event,
            };
        }
        let doubt = Reading {
            now: wall.min(expected),
            trusted: false,
            event: None,
        };
        let steady = |j: &Anchor| wall.micros_since(j.expected(monotonic_us)).abs() <= DRIFT_US_MAX;
        match self.jumped.filter(steady) {
            Some(jumped) if jumped.elapsed_us(monotonic_us) >= self.confirm_us => {
                self.anchor = Some(here);
                self.jumped = None;
                Reading {
                    now: wall,
                    trusted: true,
                    event: Some(ClockEvent::Confirmed),
                }
            }
            Some(_) => doubt,
            None => {
                self.jumped = Some(here);
                Reading {
                    event: Some(ClockEvent::Jumped { by_us }),
                    ..doubt
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_US: i64 = 24 * HOUR_US;

    fn at(us: i64) -> WallTime {
        WallTime::from_micros(1_800_000_000_000_000 + us)
    }

    fn day() -> Duration {
        Duration::from_secs(86_400)
    }

    #[test]
    fn a_clock_that_jumps_a_month_ahead_is_believed_only_after_a_steady_day() {
        let mut time = ArchiveTime::new(None, day());
        assert_eq!(
            time.observe(at(0), 0),
            Reading {
                now: at(0),
                trusted: true,
                event: None
            }
        );
        let jump = 30 * DAY_US;
        let r = time.observe(at(jump + 10), 10);
        assert_eq!(
            r,
            Reading {
                now: at(10),
                trusted: false,
                event: Some(ClockEvent::Jumped { by_us: jump })
            }
        );
        let r = time.observe(at(jump + DAY_US), DAY_US.unsigned_abs());
        assert_eq!((r.now, r.trusted, r.event), (at(DAY_US), false, None));
        let later = DAY_US + 10;
        let r = time.observe(at(jump + later), later.unsigned_abs());
        assert_eq!(
            (r.now, r.trusted, r.event),
            (at(jump + later), true, Some(ClockEvent::Confirmed))
        );
    }

    #[test]
    fn a_clock_that_comes_back_is_believed_at_once() {
        let mut time = ArchiveTime::new(None, day());
        time.observe(at(0), 0);
        assert!(!time.observe(at(-2 * HOUR_US), 5).trusted);
        let r = time.observe(at(20), 20);
        assert_eq!((r.trusted, r.event), (true, Some(ClockEvent::Returned)));
    }

    #[test]
    fn a_clock_set_back_makes_footage_younger_and_never_older() {
        let mut time = ArchiveTime::new(None, day());
        time.observe(at(0), 0);
        let r = time.observe(at(-DAY_US), 5);
        assert_eq!((r.now, r.trusted), (at(-DAY_US), false));
    }

    #[test]
    fn a_jump_over_a_restart_is_a_jump_too_and_an_ordinary_restart_is_not() {
        let mut time = ArchiveTime::new(Some(at(0)), day());
        assert!(time.observe(at(20 * 60 * SECOND_US), 0).trusted);
        for wrong in [30 * DAY_US, 2 * HOUR_US, -HOUR_US] {
            let mut time = ArchiveTime::new(Some(at(0)), day());
            let r = time.observe(at(wrong), 7);
            assert_eq!((r.now, r.trusted), (at(wrong.min(0)), false));
        }
    }

    #[test]
    fn a_restart_does_not_forgive_a_clock_that_is_an_hour_ahead() {
        let mut time = ArchiveTime::new(Some(at(0)), day()).in_doubt();
        assert!(!time.observe(at(HOUR_US), 0).trusted);
        assert!(!time.observe(at(HOUR_US + 10), 10).trusted);
        let mut time = ArchiveTime::new(Some(at(0)), day()).in_doubt();
        assert!(time.observe(at(30 * SECOND_US), 0).trusted);
    }

    #[test]
    fn a_clock_that_keeps_jumping_is_never_believed() {
        let mut time = ArchiveTime::new(None, day());
        time.observe(at(0), 0);
        for i in 1..100 {
            let elapsed = i * 6 * HOUR_US;
            assert!(
                !time
                    .observe(at(elapsed + i * 3 * HOUR_US), elapsed.unsigned_abs())
                    .trusted
            );
        }
    }

    proptest! {
        /// The sum of what the wall clock gained while it was trusted stays within a minute an hour.
        #[test]
        fn many_small_steps_do_not_add_up(steps in proptest::collection::vec(-50i64..50, 1..400)) {
            let mut time = ArchiveTime::new(None, day());
            time.observe(at(0), 0);
            let (mut gained, mut elapsed) = (0, 0);
            for step in steps {
                elapsed += 10 * SECOND_US;
                gained += step * SECOND_US;
                let r = time.observe(at(elapsed + gained), elapsed.unsigned_abs());
                let hours = elapsed / HOUR_US + 1;
                prop_assert!(r.now <= at(elapsed + hours * DRIFT_US_MAX));
            }
        }
    }

    /// What a host's clock does over years, looked at every ten minutes.
    fn clock_moves() -> impl Strategy<Value = i64> {
        prop_oneof![
            20 => Just(0),
            2 => prop_oneof![Just(SECOND_US), Just(-SECOND_US), -30 * SECOND_US..30 * SECOND_US],
            1 => prop_oneof![Just(HOUR_US), Just(-HOUR_US), Just(30 * DAY_US), Just(-30 * DAY_US)],
        ]
    }

    proptest! {
        /// A time to judge by is never ahead of the truth by more than small steps add up to, unless the clock
        /// ran steadily for the time to confirm since it moved last.
        #[test]
        fn years_of_steps_make_nothing_older_than_it_is(
            moves in prop::collection::vec((clock_moves(), prop_oneof![1..1000_i64, 1000..30_000_i64]), 1..200),
        ) {
            let pass_us = 600 * SECOND_US;
            let mut time = ArchiveTime::new(None, day());
            let (mut true_us, mut off_us, mut steady_us) = (0_i64, 0_i64, 0_i64);
            // By how much a trusted clock may be ahead.
            let mut believed_us = 0_i64;
            time.observe(at(0), 0);
            for (by_us, passes) in moves {
                off_us += by_us;
                if by_us.abs() <= DRIFT_US_MAX {
                    believed_us += by_us.abs();
                } else {
                    steady_us = 0;
                }
                for _ in 0..passes.min(300) {
                    true_us += pass_us;
                    steady_us += pass_us;
                    let r = time.observe(at(true_us + off_us), true_us.unsigned_abs());
                    if r.trusted && steady_us > DAY_US {
                        believed_us = believed_us.max(off_us);
                    }
                    let ahead_us = r.now.micros_since(at(true_us));
                    prop_assert!(ahead_us <= believed_us.max(0) + 2 * DRIFT_US_MAX, "{ahead_us} after {true_us}");
                }
            }
        }
    }
}
