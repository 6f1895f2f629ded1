//! `[retention]` of the configuration, and the disk thresholds that follow from it.

use std::time::Duration;

use archive::units::{duration, format_size, optional_size};
use serde::{Deserialize, Serialize};

use crate::forecast::Capacity;
use crate::rules::REMOVED_GRACE;

/// Settings of deletion. All have defaults.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TieringConfig {
    /// With less than this free, the oldest footage past its minimum is deleted. Default: 5 % of the disk,
    /// at most 10 GiB; whatever is set, no more than half of the disk.
    #[serde(with = "optional_size", skip_serializing_if = "Option::is_none")]
    pub reserve: Option<u64>,
    /// With less than this free although nothing more may be deleted, the cameras of the lowest priority
    /// are no longer recorded. Default: 2 % of the disk, at most 4 GiB.
    #[serde(with = "optional_size", skip_serializing_if = "Option::is_none")]
    pub low: Option<u64>,
    /// With less than this free nothing is recorded, so that the index and the logs can still be written.
    /// Default: 0.5 % of the disk, at most 256 MiB.
    #[serde(with = "optional_size", skip_serializing_if = "Option::is_none")]
    pub floor: Option<u64>,
    /// How often the disk is looked at.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// How long a clock that has jumped must run steadily before footage is deleted by age again.
    #[serde(with = "duration")]
    pub clock_confirm: Duration,
    /// Between a verified copy on the next tier and the removal of the one that it replaces: whoever has been sent
    /// to that one may still read it.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// How long footage of a removed camera stays where no rule ends it.
    #[serde(with = "duration")]
    pub removed_grace: Duration,
    /// A rule whose minimum is forecast to break within this time is warned of.
    #[serde(with = "duration")]
    pub warn_before: Duration,
    /// What the tiers below the disk may hold, for the forecast; it stands with each of them.
    #[serde(skip)]
    pub capacity: Capacity,
    /// Segments deleted in one pass; the next pass follows at once when there are more.
    #[serde(skip)]
    pub deletions_max: usize,
}

impl Default for TieringConfig {
    fn default() -> Self {
        Self {
            reserve: None,
            low: None,
            floor: None,
            interval: Duration::from_secs(10),
            clock_confirm: Duration::from_secs(24 * 3600),
            grace: Duration::from_secs(60),
            removed_grace: REMOVED_GRACE,
            warn_before: Duration::from_secs(7 * 24 * 3600),
            capacity: Capacity::default(),
            deletions_max: 256,
        }
    }
}

/// Free bytes at which something happens; `floor <= low <= reserve`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Thresholds {
    /// Below it, footage past its minimum is deleted.
    pub reserve: u64,
    /// Below it, cameras of low priority are shed.
    pub low: u64,
    /// Below it, everything is shed.
    pub floor: u64,
}

/// Why the settings are refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("[retention]: {0}")]
pub struct ConfigError(String);

impl TieringConfig {
    /// Whether the settings fit together.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let steps = [
            ("floor", self.floor),
            ("low", self.low),
            ("reserve", self.reserve),
        ];
        let set: Vec<(&str, u64)> = steps.iter().filter_map(|(key, v)| Some((*key, (*v)?))).collect();
        for pair in set.windows(2) {
            if let [(lower, a), (upper, b)] = pair
                && a > b
            {
                let (a, b) = (format_size(*a), format_size(*b));
                return Err(ConfigError(format!(
                    "`{lower}` ({a}) is more than `{upper}` ({b})"
                )));
            }
        }
        if self.interval.is_zero() {
            return Err(ConfigError("`interval` is 0; write for example \"10s\"".into()));
        }
        Ok(())
    }

    /// The thresholds for a disk of `total` bytes. What is not set gives way to what is.
    pub fn thresholds(&self, total: u64) -> Thresholds {
        const GIB: u64 = 1 << 30;
        let reserve = self.reserve.unwrap_or_else(|| {
            let set = self.low.max(self.floor).unwrap_or(0);
            (total / 20).min(10 * GIB).max(set)
        });
        // Misread units must not empty an archive.
        let reserve = reserve.min(total / 2);
        let low = self
            .low
            .unwrap_or((total / 50).min(4 * GIB).max(self.floor.unwrap_or(0)))
            .min(reserve);
        let floor = self.floor.unwrap_or((total / 200).min(GIB / 4)).min(low);
        Thresholds { reserve, low, floor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn set(reserve: Option<u64>, low: Option<u64>, floor: Option<u64>) -> TieringConfig {
        TieringConfig {
            reserve,
            low,
            floor,
            ..TieringConfig::default()
        }
    }

    #[test]
    fn thresholds_follow_the_disk_and_stay_in_order() {
        let t = set(None, None, None).thresholds(4000 * GIB);
        assert_eq!((t.reserve, t.low, t.floor), (10 * GIB, 4 * GIB, GIB / 4));
        let t = set(None, None, None).thresholds(GIB);
        assert_eq!((t.reserve, t.low, t.floor), (GIB / 20, GIB / 50, GIB / 200));
        for config in [
            set(Some(GIB), None, None),
            set(None, Some(20 * GIB), None),
            set(None, None, Some(30 * GIB)),
            set(Some(5000 * GIB), None, None),
        ] {
            let t = config.thresholds(1000 * GIB);
            assert!(
                t.floor <= t.low && t.low <= t.reserve && t.reserve <= 500 * GIB,
                "{t:?}"
            );
        }
    }

    #[test]
    fn thresholds_in_the_wrong_order_are_refused() {
        let error = set(Some(GIB), None, Some(2 * GIB))
            .validate()
            .expect_err("wrong order");
        assert_eq!(
            error.to_string(),
            "[retention]: `floor` (2GiB) is more than `reserve` (1GiB)"
        );
        assert!(set(Some(3 * GIB), Some(2 * GIB), Some(GIB)).validate().is_ok());
    }

    #[test]
    fn settings_are_read_with_units_and_unknown_keys_are_refused() {
        let config: TieringConfig =
            toml::from_str("reserve = \"20GiB\"\nclock_confirm = \"6h\"").expect("valid");
        assert_eq!(config.reserve, Some(20 * GIB));
        assert_eq!(config.clock_confirm, Duration::from_secs(6 * 3600));
        assert!(toml::from_str::<TieringConfig>("deletions_max = 5").is_err());
    }
}
