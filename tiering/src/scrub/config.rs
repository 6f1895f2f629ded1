//! `[scrub]` of the configuration.

use std::time::Duration;

use archive::Tier;
use archive::units::{duration, size};
use indexer::Sweep;
use serde::{Deserialize, Serialize};

/// How often copies are looked at. All have defaults; a time of 0 switches one off.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScrubConfig {
    /// Every copy is seen to be there, with its length, once in so long.
    #[serde(with = "duration")]
    pub light: Duration,
    /// Every byte on the hot tier is read and compared once in so long.
    #[serde(with = "duration")]
    pub hot: Duration,
    /// The same for the warm tier.
    #[serde(with = "duration")]
    pub warm: Duration,
    /// The same for the cold tier, where reading may cost money.
    #[serde(with = "duration")]
    pub cold: Duration,
    /// Bytes that are read a second at most.
    #[serde(with = "size")]
    pub rate: u64,
}

impl Default for ScrubConfig {
    fn default() -> Self {
        const DAY: u64 = 24 * 3600;
        Self {
            light: Duration::from_secs(DAY),
            hot: Duration::from_secs(30 * DAY),
            warm: Duration::from_secs(90 * DAY),
            cold: Duration::ZERO,
            rate: 20 << 20,
        }
    }
}

impl ScrubConfig {
    /// What is wrong with it: the key, and why.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        const RATE_MIN: u64 = 64 << 10;
        (self.rate < RATE_MIN).then(|| {
            let what = "too little to ever come to an end: use at least 64KiB, and \"0s\" for the times to switch it off";
            ("rate", what.to_owned())
        })
    }

    /// How often a sweep is to be over; `None` when there is none of the kind.
    pub fn period(&self, sweep: Sweep) -> Option<Duration> {
        let period = match sweep {
            Sweep::Light => self.light,
            Sweep::Deep(Tier::Hot) => self.hot,
            Sweep::Deep(Tier::Warm) => self.warm,
            Sweep::Deep(Tier::Cold) => self.cold,
        };
        (!period.is_zero()).then_some(period)
    }
}
