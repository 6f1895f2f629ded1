//! How recording and moving keep up: ingest and tiering tell it, the API shows it. In memory only.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use archive::{StreamNo, WallTime};

use crate::forecast::Forecast;

/// Upper bounds of the durable lag's buckets, in milliseconds: even steps where it normally lies, so that a
/// median can be read off to a hundredth.
const BOUNDS_MS: [u64; 29] = [
    50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 550, 600, 650, 700, 750, 800, 850, 900, 950, 1000, 1250,
    1500, 2000, 2500, 3000, 5000, 10_000, 30_000, 120_000,
];

/// How many fragments became durable how long after their last sample was sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lags {
    /// Upper bound in seconds and count, not added up; the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// Their sum in seconds.
    pub sum: f64,
    /// How many in all.
    pub count: u64,
}

/// How recording keeps up at this moment.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Keeping {
    /// The share of its time, 0 to 1, that the sessions' thread works.
    pub busy: f32,
    /// How late samples are read: the median of all cameras.
    pub behind: Duration,
    /// Complete fragments that wait for the disk, in bytes.
    pub waiting_bytes: u64,
    /// How long the last commit took, from its first write to the synced rows.
    pub commit: Duration,
    /// Streams that are not recorded because there is more than can be done.
    pub shed: usize,
}

/// What was moved since the start.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    /// Copies that were made and verified.
    pub copies: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Copies that were removed because another counts.
    pub evictions: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Copies under way.
    pub under_way: u64,
    /// Copies that are being removed.
    pub leaving: u64,
    /// Age of the oldest sealed footage that has no copy below the hot tier, in seconds.
    pub unreplicated_s: u64,
    /// Bytes on the disk that have a copy that counts elsewhere; `None` until all were looked at once.
    pub evictable_bytes: Option<u64>,
    /// How long the disk lasts at the present rate if nothing more can be copied, in seconds; `None` where nothing is
    /// recorded, or not enough is known yet.
    pub hot_left_s: Option<u64>,
}

impl Moved {
    /// The same in hours.
    pub fn hot_hours_left(&self) -> Option<f64> {
        self.hot_left_s.map(|seconds| seconds as f64 / 3600.0)
    }
}

/// What was scrubbed since the start, and how far it is.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Scrubbed {
    /// Bytes that were read and compared.
    pub bytes: u64,
    /// Copies that were found wrong or missing.
    pub found: u64,
    /// Copies that were put right from another one.
    pub repaired: u64,
    /// Segments of which something can be read from no copy.
    pub lost: u64,
    /// Copies that are wrong now.
    pub faults: u64,
    /// Looks that failed for a reason that does not go away by itself, and tell nothing of the copy.
    pub passed_over: u64,
    /// How long ago, at most, any byte of a tier was read and compared, in seconds; `None` where that is not done, or
    /// nothing lies there.
    pub oldest_s: [Option<u64>; 3],
    /// How long ago, at most, any copy was looked for, in seconds.
    pub looked_s: Option<u64>,
    /// Whether it waits because recording has much to do.
    pub paused: bool,
}

/// The board that ingest and tiering write and the API reads.
#[derive(Debug, Default)]
pub struct Pulse {
    moved: Mutex<Option<Moved>>,
    scrubbed: Mutex<Option<Scrubbed>>,
    unreplicated: Mutex<HashMap<StreamNo, WallTime>>,
    forecast: Mutex<Option<Arc<Forecast>>>,
    lags: [AtomicU64; BOUNDS_MS.len() + 1],
    lag_us: AtomicU64,
    keeping: Mutex<(Keeping, Option<Instant>)>,
}

impl Pulse {
    /// A fragment became durable `lag` after its last sample was sent.
    pub fn durable(&self, lag: Duration) {
        let ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MS.partition_point(|bound| *bound < ms);
        if let Some(count) = self.lags.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let us = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        self.lag_us.fetch_add(us, Ordering::Relaxed);
    }

    /// The lags since the start.
    pub fn lags(&self) -> Lags {
        let bounds = BOUNDS_MS.iter().map(|ms| *ms as f64 / 1e3).chain([f64::INFINITY]);
        let counts = self.lags.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        Lags {
            count: buckets.iter().map(|(_, count)| count).sum(),
            sum: self.lag_us.load(Ordering::Relaxed) as f64 / 1e6,
            buckets,
        }
    }

    /// Tells what was moved; `None` where there is only one tier.
    pub fn set_moved(&self, moved: Option<Moved>) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = moved;
    }

    /// What was moved, where there is another tier than the hot one.
    pub fn moved(&self) -> Option<Moved> {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what was scrubbed.
    pub fn set_scrubbed(&self, scrubbed: Scrubbed) {
        *self.scrubbed.lock().unwrap_or_else(PoisonError::into_inner) = Some(scrubbed);
    }

    /// What was scrubbed; `None` where that is switched off or has not begun.
    pub fn scrubbed(&self) -> Option<Scrubbed> {
        *self.scrubbed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of each stream that has some where the oldest of its sealed footage ends that lies on the disk alone.
    pub fn set_unreplicated(&self, since: HashMap<StreamNo, WallTime>) {
        *self.unreplicated.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Where the oldest sealed footage of a stream ends that lies on the disk alone, if there is some.
    pub fn unreplicated(&self, stream: StreamNo) -> Option<WallTime> {
        let since = self.unreplicated.lock().unwrap_or_else(PoisonError::into_inner);
        since.get(&stream).copied()
    }

    /// Tells what becomes of the footage at the present rate.
    pub fn set_forecast(&self, forecast: Forecast) {
        *self.forecast.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(forecast));
    }

    /// What becomes of the footage; `None` until that was looked at for the first time.
    pub fn forecast(&self) -> Option<Arc<Forecast>> {
        self.forecast
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes what is told of this moment.
    pub fn update(&self, change: impl FnOnce(&mut Keeping)) {
        change(&mut self.keeping.lock().unwrap_or_else(PoisonError::into_inner).0);
    }

    /// What was told last.
    pub fn keeping(&self) -> Keeping {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Since when the oldest complete fragment that is not durable waits, if there is one.
    pub fn set_waiting(&self, since: Option<Instant>) {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner).1 = since;
    }

    /// How long the oldest complete fragment that is not durable has waited.
    pub fn waited(&self) -> Duration {
        let since = self.keeping.lock().unwrap_or_else(PoisonError::into_inner).1;
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_counted_under_the_first_bound_that_it_does_not_exceed() {
        let pulse = Pulse::default();
        for ms in [0, 50, 51, 400, 500_000] {
            pulse.durable(Duration::from_millis(ms));
        }
        let lags = pulse.lags();
        assert_eq!((lags.count, lags.buckets.len()), (5, 30));
        let under = |bound: f64| lags.buckets.iter().find(|b| b.0 == bound).map(|b| b.1);
        assert_eq!(
            [0.05, 0.1, 0.4, f64::INFINITY].map(under),
            [Some(2), Some(1), Some(1), Some(1)]
        );
        assert!((lags.sum - 500.501).abs() < 1e-9, "{}", lags.sum);
    }
}
