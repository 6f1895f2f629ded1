//! What a site takes: bytes by tier, objects, requests, index and cost, from cameras, rate and time. Arithmetic alone.

use tiering::checkpoint::CheckpointConfig;
use tiering::scrub::ScrubConfig;

/// Seconds in a day, and days in a month of a bill.
const DAY_S: f64 = 86_400.0;
const MONTH_DAYS: f64 = 30.0;
/// Objects that are larger go up in parts of this size, and are read in such parts when they are compared.
const PART_BYTES: f64 = archive::store::PART_BYTES as f64;
/// Objects that a store names in one answer.
const PAGE_OBJECTS: f64 = 1000.0;
/// Bytes of the index a segment, with the row of its copies (indexer/tests/size.rs).
const ROW_BYTES: f64 = 99.2;
/// Bytes of the index an hour of a stream: presence and activity by minute.
const HOUR_BYTES: f64 = 44.9;
/// Bytes of the index a fragment, on the disk alone (docs/decisions/0003): what has left it is told by footers.
const FRAGMENT_BYTES: f64 = 10.0;

/// A site. Rates are those of one camera.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(crate) struct Site {
    pub(crate) cameras: f64,
    pub(crate) mbit: f64,
    pub(crate) months: f64,
    /// Days on the disk and on the warm tier; what is older lies on the cold one.
    pub(crate) hot_days: f64,
    pub(crate) warm_days: f64,
    pub(crate) segment_s: f64,
    pub(crate) segment_bytes_max: f64,
    pub(crate) gop_s: f64,
}

/// Prices in any currency.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub(crate) struct Prices {
    /// Of a GB for a month.
    pub(crate) warm_gb: f64,
    pub(crate) cold_gb: f64,
    /// Of 1,000 requests that write, by tier, and of 1,000 that read.
    pub(crate) warm_writes: f64,
    pub(crate) cold_writes: f64,
    pub(crate) reads: f64,
}

/// What it takes once it holds as many months as it keeps.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(crate) struct Sizing {
    pub(crate) hot_bytes: f64,
    pub(crate) warm_bytes: f64,
    pub(crate) cold_bytes: f64,
    pub(crate) segments_day: f64,
    /// Objects in both stores.
    pub(crate) objects: f64,
    /// Requests that write, a day: begin, parts, end, or one for a small object; checkpoints of the index; and the daily
    /// list of all objects, which costs as much as writing.
    pub(crate) warm_writes_day: f64,
    pub(crate) cold_writes_day: f64,
    /// Requests that look or read, a day.
    pub(crate) reads_day: f64,
    pub(crate) index_bytes: f64,
    /// What has to be read a second for every byte of the hot and the warm tier to be looked at as often as is usual.
    pub(crate) scrub_bytes_s: f64,
}

/// What is done to copies that nobody asks for, in days.
#[derive(Copy, Clone)]
struct Upkeep {
    hot: f64,
    warm: f64,
    list: f64,
    checkpoint: f64,
}

impl Upkeep {
    /// As it is where the configuration says nothing else.
    fn usual() -> Self {
        let days = |every: std::time::Duration| every.as_secs_f64() / DAY_S;
        let (scrub, checkpoint) = (ScrubConfig::default(), CheckpointConfig::default());
        Self {
            hot: days(scrub.hot),
            warm: days(scrub.warm),
            list: days(scrub.light),
            checkpoint: days(checkpoint.every),
        }
    }
}

impl Site {
    /// Bytes of all cameras in a day.
    pub(crate) fn bytes_day(&self) -> f64 {
        self.cameras * self.mbit * 1e6 / 8.0 * DAY_S
    }

    fn days(&self) -> f64 {
        self.months * MONTH_DAYS
    }

    pub(crate) fn sizing(&self) -> Sizing {
        let (days, bytes_day) = (self.days(), self.bytes_day());
        let bytes_s = self.mbit * 1e6 / 8.0;
        let segment_s = self.segment_s.min(self.segment_bytes_max / bytes_s);
        let segments_day = self.cameras * DAY_S / segment_s;
        let (hot, warm) = (self.hot_days.min(days), self.warm_days.min(days));
        let cold = days - warm;
        let parts = (bytes_s * segment_s / PART_BYTES).ceil();
        let puts = if parts > 1.0 { parts + 2.0 } else { 1.0 };
        let cools = if cold > 0.0 { 1.0 } else { 0.0 };
        // Looked at before the upload, verified after it, confirmed before the copy that it replaces goes; removed and
        // seen to be gone. What cools is read part by part.
        let reads = 4.0 + cools * (4.0 + parts);
        let index_bytes = segments_day * days * ROW_BYTES
            + self.cameras * DAY_S / 3600.0 * days * HOUR_BYTES
            + self.cameras * DAY_S / self.gop_s * hot * FRAGMENT_BYTES;
        let upkeep = Upkeep::usual();
        let lists = |days: f64| segments_day * days / PAGE_OBJECTS / upkeep.list;
        let checkpoints = index_bytes / PART_BYTES / upkeep.checkpoint;
        let compared = segments_day * warm * parts / upkeep.warm;
        Sizing {
            hot_bytes: bytes_day * hot,
            warm_bytes: bytes_day * warm,
            cold_bytes: bytes_day * cold,
            segments_day,
            objects: segments_day * days,
            warm_writes_day: segments_day * puts + lists(warm) + checkpoints,
            cold_writes_day: segments_day * puts * cools + lists(cold),
            reads_day: segments_day * reads + compared,
            index_bytes,
            scrub_bytes_s: bytes_day * (hot / upkeep.hot + warm / upkeep.warm) / DAY_S,
        }
    }
}

impl Sizing {
    /// What the object stores cost a month.
    pub(crate) fn cost_month(&self, prices: &Prices) -> f64 {
        let gb = self.warm_bytes / 1e9 * prices.warm_gb + self.cold_bytes / 1e9 * prices.cold_gb;
        let requests = self.warm_writes_day * prices.warm_writes
            + self.cold_writes_day * prices.cold_writes
            + self.reads_day * prices.reads;
        gb + requests / 1000.0 * MONTH_DAYS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site {
            cameras: 100.0,
            mbit: 1.0,
            months: 3.0,
            hot_days: 7.0,
            warm_days: 30.0,
            segment_s: 600.0,
            segment_bytes_max: 134_217_728.0,
            gop_s: 2.0,
        }
    }

    #[test]
    fn a_hundred_cameras_of_a_megabit_by_hand() {
        // 125,000 bytes a second and camera: 10.8 GB a day, 1.08 TB of all.
        let sizing = site().sizing();
        assert_eq!(site().bytes_day(), 1.08e12);
        assert_eq!(
            (sizing.hot_bytes, sizing.warm_bytes, sizing.cold_bytes),
            (7.56e12, 32.4e12, 64.8e12)
        );
        // 144 segments a camera and day, of 75 MB: nine parts of 8 MiB, one request to begin and one to end.
        assert_eq!((sizing.segments_day, sizing.objects), (14_400.0, 14_400.0 * 90.0));
        // A list of 432,000 and of 864,000 objects a day.
        let checkpoints = sizing.index_bytes / 8_388_608.0 * 4.0;
        let writes = 14_400.0 * 11.0;
        assert!((sizing.warm_writes_day - (writes + 432.0 + checkpoints)).abs() < 1e-6);
        assert_eq!(sizing.cold_writes_day, writes + 864.0);
        // And a ninetieth of what lies on the warm tier is compared, in parts.
        assert_eq!(
            sizing.reads_day,
            14_400.0 * (4.0 + 4.0 + 9.0) + 14_400.0 * 30.0 * 9.0 / 90.0
        );
        // 12.5 MB/s come in: 7 days of them are read in 30, and 30 in 90.
        assert!((sizing.scrub_bytes_s - 12.5e6 * (7.0 / 30.0 + 30.0 / 90.0)).abs() < 1e-6);
        // 43,200 fragments a camera and day, for seven days.
        let hours = 100.0 * 24.0 * 90.0;
        let index = 14_400.0 * 90.0 * 99.2 + hours * 44.9 + 100.0 * 43_200.0 * 7.0 * 10.0;
        assert!((sizing.index_bytes - index).abs() < 1.0);
    }

    #[test]
    fn a_month_never_cools_and_short_footage_never_leaves_the_disk() {
        let month = Site {
            months: 1.0,
            ..site()
        }
        .sizing();
        assert_eq!((month.cold_bytes, month.cold_writes_day), (0.0, 0.0));
        let days = Site {
            months: 0.1,
            ..site()
        }
        .sizing();
        assert!((days.hot_bytes - 3.24e12).abs() < 1.0);
    }

    #[test]
    fn a_segment_ends_by_its_size_where_that_comes_first() {
        // 4 Mbit/s fill 128 MiB in 268 s.
        let sizing = Site { mbit: 4.0, ..site() }.sizing();
        assert!((sizing.segments_day / 100.0 - 86_400.0 / 268.435_456).abs() < 1e-6);
    }

    #[test]
    fn a_small_object_goes_up_in_one_request() {
        let sizing = Site { mbit: 0.1, ..site() }.sizing();
        let others = sizing.segments_day * 30.0 / 1000.0 + sizing.index_bytes / 8_388_608.0 * 4.0;
        assert!((sizing.warm_writes_day - others - sizing.segments_day).abs() < 1e-6);
    }

    #[test]
    fn cost_is_bytes_and_requests_times_their_prices() {
        let sizing = site().sizing();
        let prices = Prices {
            warm_gb: 0.02,
            cold_gb: 0.004,
            warm_writes: 0.005,
            cold_writes: 0.02,
            reads: 0.0004,
        };
        let bytes = 32_400.0 * 0.02 + 64_800.0 * 0.004;
        let requests =
            sizing.warm_writes_day * 0.005 + sizing.cold_writes_day * 0.02 + sizing.reads_day * 0.0004;
        let cost = bytes + requests * 30.0 / 1000.0;
        assert!((sizing.cost_month(&prices) - cost).abs() < 1e-9);
    }
}
