//! `[checkpoint]` of the configuration.

use std::time::Duration;

use archive::units::duration;
use serde::{Deserialize, Serialize};

/// How often the index is copied. All have defaults.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Between two; 0 for none.
    #[serde(with = "duration")]
    pub every: Duration,
    /// As many are kept.
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(6 * 3600),
            keep: 2,
        }
    }
}

impl CheckpointConfig {
    /// What is wrong with it: the key, and why.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        const EVERY_MIN: Duration = Duration::from_secs(60);
        if self.keep == 0 {
            return Some(("keep", "use at least 1, and every = \"0s\" for none".to_owned()));
        }
        let too_often = !self.every.is_zero() && self.every < EVERY_MIN;
        too_often.then(|| ("every", "use at least 1m, or \"0s\" for none".to_owned()))
    }
}
