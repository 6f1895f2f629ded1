//! What the service measures of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use super::api::Api;

/// The figures without labels, and the durable lag.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    figures: BTreeMap<String, f64>,
    /// Upper bound and how many lags up to it.
    lags: Vec<(f64, f64)>,
}

/// How long footage took to be durable within some time.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Lag {
    pub(crate) fragments: f64,
    pub(crate) mean: f64,
    pub(crate) median: f64,
    pub(crate) p99: f64,
}

impl Metrics {
    /// Now.
    pub(crate) fn read(api: &Api) -> Result<Self, String> {
        let (status, body) = api.get("/metrics", None)?;
        if status != 200 {
            return Err(format!("/metrics: {status}"));
        }
        let mut metrics = Self::default();
        for line in String::from_utf8_lossy(&body)
            .lines()
            .filter(|line| !line.starts_with('#'))
        {
            let Some((name, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(value) = value.parse::<f64>() else { continue };
            let bound = name.strip_prefix("tierline_durable_lag_seconds_bucket{le=\"");
            if let Some(bound) = bound.and_then(|rest| rest.strip_suffix("\"}")) {
                metrics.lags.push((bound.parse().unwrap_or(f64::INFINITY), value));
            } else if !name.contains('{') {
                metrics.figures.insert(name.to_owned(), value);
            }
        }
        Ok(metrics)
    }

    /// A figure without labels.
    pub(crate) fn get(&self, name: &str) -> f64 {
        let value = self.figures.get(name).copied();
        value.unwrap_or_else(|| panic!("no metric {name}: {:?}", self.figures.keys()))
    }

    /// A figure that is a time.
    pub(crate) fn seconds(&self, name: &str) -> Duration {
        Duration::from_secs_f64(self.get(name).max(0.0))
    }

    /// The durable lag since `before`.
    pub(crate) fn lag_since(&self, before: &Self) -> Lag {
        let counts: Vec<(f64, f64)> = (self.lags.iter().zip(&before.lags))
            .map(|((bound, now), (_, then))| (*bound, now - then))
            .collect();
        let (sum, count) = (
            "tierline_durable_lag_seconds_sum",
            "tierline_durable_lag_seconds_count",
        );
        let fragments = self.get(count) - before.get(count);
        Lag {
            fragments,
            mean: (self.get(sum) - before.get(sum)) / fragments.max(1.0),
            median: quantile(&counts, 0.5),
            p99: quantile(&counts, 0.99),
        }
    }
}

/// From added up counts, with even spread within a bucket.
fn quantile(counts: &[(f64, f64)], q: f64) -> f64 {
    let wanted = counts.last().map_or(0.0, |(_, all)| all * q);
    let (mut low, mut below) = (0.0, 0.0);
    for (bound, count) in counts {
        if *count >= wanted && *count > below {
            let bound = if bound.is_finite() { *bound } else { low };
            return low + (bound - low) * (wanted - below) / (count - below);
        }
        (low, below) = (*bound, *count);
    }
    low
}
