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

use archive::CameraId;
use http_api::HttpConfig;
use indexer::{PRIORITY_DEFAULT, StreamConfig};
use serde::{Deserialize, Deserializer};
use tiering::{RetentionRule, TieringConfig};
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
    /// An object store; refused in this version.
    warm: NotYet,
    /// An archive class; refused in this version.
    cold: NotYet,
}

/// The local disk that media is written to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HotTier {
    /// `file:///…`; the folder `hot` of the data directory where nothing is said.
    pub(crate) url: Option<Url>,
}

/// A section whose shape is settled and whose work is not done.
#[derive(Clone, Debug, Default)]
struct NotYet;

impl<'de> Deserialize<'de> for NotYet {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom(
            "object stores are not in this version: remove this section; all footage stays on the disk of [tiers.hot]",
        ))
    }
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

    /// Whether cameras added over the API may lie on this machine.
    pub(crate) fn allows_loopback(&self) -> bool {
        self.ingest
            .allow_loopback
            .unwrap_or(self.http.api_keys.is_empty())
    }

    /// Takes paths that are not absolute as relative to `base`.
    fn resolve(&mut self, base: &Path) {
        self.data_dir = base.join(&self.data_dir);
    }
}
