//! The configuration: one TOML file, every key optional, unknown keys refused; environment variables win over
//! the file. `docs/config-reference.toml` lists every key and a test holds it to these types.

mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod load;
mod outline;
mod recording;
mod reference;
mod secret;
#[cfg(test)]
mod tests;
mod validate;

use std::path::{Path, PathBuf};

use archive::store::StoreConfig;
use archive::{CameraId, Tier};
use http_api::HttpConfig;
use indexer::{PRIORITY_DEFAULT, StreamConfig};
use serde::Deserialize;
use tiering::checkpoint::CheckpointConfig;
use tiering::forecast::Capacity;
use tiering::scrub::ScrubConfig;
use tiering::{Below, RetentionRule, RuleError, Rules, TieringConfig};
use url::Url;

pub(crate) use error::ConfigError;
pub(crate) use load::{Loaded, load};
pub(crate) use recording::RecordingConfig;
pub(crate) use reference::{REFERENCE, effective};

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the index lies, and the hot tier unless it has a place of its own.
    pub(crate) data_dir: PathBuf,
    /// Where the service listens and who may ask it.
    pub(crate) http: HttpConfig,
    /// Where media lies.
    pub(crate) tiers: Tiers,
    /// How media is written.
    pub(crate) recording: RecordingConfig,
    /// Which cameras are connected to.
    pub(crate) ingest: CameraPolicy,
    /// The cameras of the file; those added over the API stand in the index.
    pub(crate) cameras: Vec<CameraConfig>,
    /// How long media is kept: the first rule that matches a stream holds.
    pub(crate) rules: Vec<RetentionRule>,
    /// When media is deleted for want of space.
    pub(crate) retention: TieringConfig,
    /// How often copies are looked at.
    pub(crate) scrub: ScrubConfig,
    /// How often the index is copied to a store.
    pub(crate) checkpoint: CheckpointConfig,
    /// What is logged.
    pub(crate) log: LogConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/tierline"),
            http: HttpConfig::default(),
            tiers: Tiers::default(),
            recording: RecordingConfig::default(),
            ingest: CameraPolicy::default(),
            cameras: Vec::new(),
            rules: Vec::new(),
            retention: TieringConfig::default(),
            scrub: ScrubConfig::default(),
            checkpoint: CheckpointConfig::default(),
            log: LogConfig::default(),
        }
    }
}

/// Where media lies.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tiers {
    /// The local disk that media is written to.
    pub(crate) hot: HotTier,
    /// Where footage is copied soon after it was recorded.
    pub(crate) warm: Option<StoreConfig>,
    /// Where footage goes that is too old for the warm tier.
    pub(crate) cold: Option<StoreConfig>,
    /// What is kept here of what was read from them.
    pub(crate) cache: CacheSizes,
}

/// What is kept of what was read from object stores.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CacheSizes {
    /// In memory.
    #[serde(with = "archive::units::size")]
    pub(crate) memory: u64,
    /// In a folder of the data directory; 0 for none.
    #[serde(with = "archive::units::size")]
    pub(crate) disk: u64,
}

impl Default for CacheSizes {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            disk: 4 << 30,
        }
    }
}

/// The local disk that media is written to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HotTier {
    /// `file:///…`; the folder `hot` of the data directory where nothing is said.
    pub(crate) url: Option<Url>,
}

/// Which cameras are connected to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CameraPolicy {
    /// Whether cameras added over the API may lie on this machine. Where nothing is said they may as long as
    /// no API key is configured, since whoever asks is on this machine then.
    pub(crate) allow_loopback: Option<bool>,
}

/// A camera of the file.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CameraConfig {
    /// Its id, for ever: footage is filed under it.
    pub(crate) id: CameraId,
    /// For people; the id where nothing is said.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// 0 to 9; when the disk fills, the lowest gives way first.
    #[serde(default = "priority")]
    pub(crate) priority: u8,
    /// What is recorded of it.
    pub(crate) streams: Vec<StreamConfig>,
}

fn priority() -> u8 {
    PRIORITY_DEFAULT
}

/// What is logged, to standard error.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogConfig {
    /// `error`, `warn`, `info`, `debug` or `trace`, also by crate: `info,tierline_ingest=debug`.
    pub(crate) level: String,
    /// For people or for programs.
    pub(crate) format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// How log lines look.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Where the index lies.
    pub(crate) fn index_dir(&self) -> PathBuf {
        self.data_dir.join("index")
    }

    /// The folder of the hot tier.
    pub(crate) fn hot_dir(&self) -> PathBuf {
        let configured = self
            .tiers
            .hot
            .url
            .as_ref()
            .and_then(|url| url.to_file_path().ok());
        configured.unwrap_or_else(|| self.data_dir.join("hot"))
    }

    /// Which tiers there are below the hot one.
    pub(crate) fn below(&self) -> Below {
        Below {
            warm: self.tiers.warm.is_some(),
            cold: self.tiers.cold.is_some(),
        }
    }

    /// The rules of retention; sound in a configuration that was loaded.
    pub(crate) fn rules(&self) -> Result<Rules, RuleError> {
        let rules = Rules::with_tiers(self.rules.clone(), self.below())?;
        Ok(rules.with_removed_grace(self.retention.removed_grace))
    }

    /// The settings of retention, with what each tier may hold.
    pub(crate) fn retention(&self) -> TieringConfig {
        let capacity = |store: &Option<StoreConfig>| store.as_ref().and_then(|store| store.capacity);
        TieringConfig {
            capacity: Capacity {
                warm: capacity(&self.tiers.warm),
                cold: capacity(&self.tiers.cold),
            },
            ..self.retention.clone()
        }
    }

    /// The object stores, with what each is called.
    pub(crate) fn stores(&self) -> impl Iterator<Item = (Tier, &StoreConfig)> {
        let (warm, cold) = (self.tiers.warm.as_ref(), self.tiers.cold.as_ref());
        [(Tier::Warm, warm), (Tier::Cold, cold)]
            .into_iter()
            .filter_map(|(tier, store)| Some((tier, store?)))
    }

    /// Whether cameras added over the API may lie on this machine.
    pub(crate) fn allows_loopback(&self) -> bool {
        self.ingest
            .allow_loopback
            .unwrap_or(self.http.api_keys.is_empty())
    }

    /// Takes paths that are not absolute as relative to `base`.
    fn resolve(&mut self, base: &Path) {
        self.data_dir = base.join(&self.data_dir);
        for store in [&mut self.tiers.warm, &mut self.tiers.cold].into_iter().flatten() {
            if let Some(file) = &mut store.credentials_file {
                *file = base.join(&*file);
            }
        }
    }
}
