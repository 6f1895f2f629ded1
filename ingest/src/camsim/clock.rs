//! The one clock of a simulated farm, in 90 kHz ticks since it started.

use std::time::{Duration, Instant, SystemTime};

use super::clip::TICKS_PER_SECOND;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Maps between monotonic time, ticks and the wall clock that sender reports state.
#[derive(Debug, Clone, Copy)]
pub(super) struct FarmClock {
    started: Instant,
    started_wall: SystemTime,
}

impl FarmClock {
    /// A clock that stands at 0 ticks at `started`, which was `started_wall` in wall time.
    pub(super) fn new(started: Instant, started_wall: SystemTime) -> Self {
        Self {
            started,
            started_wall,
        }
    }

    /// Ticks at `at`, rounded down.
    pub(super) fn ticks(&self, at: Instant) -> i64 {
        let nanos = at.saturating_duration_since(self.started).as_nanos();
        (nanos * u128::from(TICKS_PER_SECOND) / NANOS_PER_SECOND) as i64
    }

    /// The first instant at which `ticks` have passed.
    pub(super) fn instant(&self, ticks: i64) -> Instant {
        let ticks = u128::from(ticks.max(0).unsigned_abs());
        let nanos = (ticks * NANOS_PER_SECOND).div_ceil(u128::from(TICKS_PER_SECOND));
        self.started + Duration::from_nanos(nanos as u64)
    }

    /// Wall time at `at`.
    pub(super) fn wall(&self, at: Instant) -> SystemTime {
        self.started_wall + at.saturating_duration_since(self.started)
    }
}
