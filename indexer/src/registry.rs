//! Cameras and their streams, as they are kept and as they are written in JSON and TOML.

use std::fmt;

use archive::{CameraId, StreamName, WallTime};
use serde::{Deserialize, Serialize};
use url::Url;

/// The priority of a camera for which nothing else is said.
pub const PRIORITY_DEFAULT: u8 = 5;
/// The highest priority: the last to give way when the disk fills.
pub const PRIORITY_MAX: u8 = 9;

/// A URL that may hold credentials: a user and a password, or whatever a camera takes in its query. Shown without
/// them, everywhere but through [`expose`](Self::expose).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(Url);

impl SecretUrl {
    /// Wraps a URL.
    pub fn new(url: Url) -> Self {
        Self(url)
    }

    /// The URL with its credentials: for connecting, never for showing.
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// The URL without credentials.
    pub fn redacted(&self) -> Url {
        let mut url = self.0.clone();
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_query(None);
        url.set_fragment(None);
        url
    }

    /// Whether there is something to hide.
    pub fn has_credentials(&self) -> bool {
        self.redacted() != self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.redacted().fmt(f)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// How RTP travels.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Interleaved in the RTSP connection: nothing is lost on the way.
    #[default]
    Tcp,
    /// Datagrams: only for a local network that loses none.
    Udp,
}

fn enabled() -> bool {
    true
}

fn priority() -> u8 {
    PRIORITY_DEFAULT
}

/// A stream as it was configured.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    /// Its name within the camera.
    pub name: StreamName,
    /// Where it comes from.
    pub url: SecretUrl,
    /// How RTP travels.
    #[serde(default)]
    pub transport: Transport,
    /// Whether it is recorded.
    #[serde(default = "enabled")]
    pub enabled: bool,
}

/// A camera as it was configured.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CameraRow {
    /// The camera.
    pub id: CameraId,
    /// For people.
    pub name: String,
    /// What it offers.
    #[serde(default)]
    pub streams: Vec<StreamConfig>,
    /// 0 to [`PRIORITY_MAX`]; when the disk fills, the lowest gives way first.
    #[serde(default = "priority")]
    pub priority: u8,
    /// When it was added.
    pub created: WallTime,
    /// When it was removed; its footage stays until its retention ends.
    #[serde(default)]
    pub removed: Option<WallTime>,
    /// Whether it stands in the configuration file, which then rules.
    #[serde(default)]
    pub from_config: bool,
}
