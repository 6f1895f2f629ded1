//! The `[http]` part of the configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use archive::Sha256;
use serde::Deserialize;

use crate::auth::Glob;

/// Connections served at once where nothing else is configured.
pub const CONNECTIONS_MAX: usize = 1024;

/// How long a URL of an object store may count.
const REDIRECT_LIFETIME: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// Where the service listens and who may ask it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// The address and port; port 0 picks a free one. Addresses other than loopback need an API key.
    pub listen: SocketAddr,
    /// Who may ask from where a key is needed. With none, loopback callers may do everything.
    pub api_keys: Vec<ApiKeyConfig>,
    /// Names under which browsers may reach the service besides `localhost` and IP addresses; asked for
    /// only while there is no API key, against DNS rebinding.
    pub hosts: Vec<String>,
    /// Connections served at once. One more takes the place of the one that has been idle the longest; where
    /// all are busy it is answered 503 and closed.
    pub connections_max: usize,
    /// Connections that one address may have; half of all where nothing is said.
    pub connections_per_client: Option<usize>,
    /// How long a URL counts by which a key with `redirect` reads from an object store.
    #[serde(with = "archive::units::duration")]
    pub redirect_lifetime: Duration,
    /// How long is waited for what; not for the configuration file.
    #[serde(skip)]
    pub timeouts: Timeouts,
}

/// The bounds of every wait.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From a request's first byte, or from connecting, to the end of its headers.
    pub header: Duration,
    /// Between two requests on one connection.
    pub idle: Duration,
    /// For a request's body to arrive.
    pub body: Duration,
    /// For a reader to take any byte of what is being sent.
    pub stall: Duration,
    /// For requests in progress when the service stops.
    pub shutdown: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            body: Duration::from_secs(10),
            stall: Duration::from_secs(60),
            shutdown: Duration::from_secs(5),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            api_keys: Vec::new(),
            hosts: Vec::new(),
            connections_max: CONNECTIONS_MAX,
            connections_per_client: None,
            redirect_lifetime: Duration::from_secs(30),
            timeouts: Timeouts::default(),
        }
    }
}

/// One API key: never the key itself, only its hash.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyConfig {
    /// Who holds it; appears in logs.
    pub name: String,
    /// The SHA-256 of the key's text in hexadecimal.
    pub sha256: String,
    /// Globs of camera ids that it opens.
    #[serde(default = "all_cameras")]
    pub cameras: Vec<Glob>,
    /// What it may do with them.
    #[serde(default = "view")]
    pub actions: Vec<Action>,
    /// Whether its holder is sent to the object store for media that lies there: what it reads is then not checked
    /// here, and what it was given once counts for `redirect_lifetime`, whatever becomes of the key.
    #[serde(default)]
    pub redirect: bool,
}

fn all_cameras() -> Vec<Glob> {
    vec![Glob::from("*".to_owned())]
}

fn view() -> Vec<Action> {
    vec![Action::View]
}

/// What a caller may do with a camera.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Watch live and past, look at status and timelines.
    View,
    /// Take MP4 files out.
    Export,
    /// Put holds on footage, and release them.
    Hold,
    /// Add, change and remove cameras.
    Admin,
}

/// Why a configuration cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Anyone on the network could watch.
    #[error(
        "http.listen = \"{0}\" is not a loopback address, and no API key is configured: anyone who reaches it could \
         watch and delete cameras. Make a key with `openssl rand -hex 32`, hash it with \
         `printf %s KEY | sha256sum`, and add [[http.api_keys]] with name, sha256, cameras and actions; \
         or listen on 127.0.0.1"
    )]
    NoKey(SocketAddr),
    /// A key that could never match.
    #[error("http.api_keys `{0}`: sha256 must be the 64 hexadecimal digits of the key's SHA-256")]
    BadHash(String),
    /// A key that opens nothing.
    #[error("http.api_keys `{0}`: cameras and actions must not be empty")]
    EmptyScope(String),
    /// A URL that counts for too long, or not at all.
    #[error("http.redirect_lifetime must be 1s to 60s: nothing takes such a URL back before it ends")]
    RedirectLifetime,
    /// No connection could ever be served.
    #[error("http.connections_max and http.connections_per_client must be at least 1")]
    NoConnections,
}

impl HttpConfig {
    /// Connections that one address may have.
    pub(crate) fn per_client(&self) -> usize {
        self.connections_per_client
            .unwrap_or(self.connections_max.div_ceil(2))
    }

    /// Of `count` things that readers wait for, those that one address may have: half, unless it may have every
    /// connection, as a proxy does.
    pub(crate) fn share(&self, count: usize) -> usize {
        if self.per_client() < self.connections_max {
            count.div_ceil(2)
        } else {
            count
        }
    }

    /// Whether this can be served safely.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.api_keys.is_empty() && !self.listen.ip().to_canonical().is_loopback() {
            return Err(ConfigError::NoKey(self.listen));
        }
        for key in &self.api_keys {
            if Sha256::from_hex(&key.sha256).is_none() {
                return Err(ConfigError::BadHash(key.name.clone()));
            }
            if key.cameras.is_empty() || key.actions.is_empty() {
                return Err(ConfigError::EmptyScope(key.name.clone()));
            }
        }
        if !REDIRECT_LIFETIME.contains(&self.redirect_lifetime) {
            return Err(ConfigError::RedirectLifetime);
        }
        if self.connections_max == 0 || self.connections_per_client == Some(0) {
            return Err(ConfigError::NoConnections);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> HttpConfig {
        toml::from_str(text).expect("valid")
    }

    #[test]
    fn the_default_listens_on_loopback_and_is_valid() {
        let config = read("");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert!(config.validate().is_ok());
    }

    #[test]
    fn another_address_is_refused_with_the_remedy_until_there_is_a_key() {
        for listen in ["0.0.0.0:80", "[::]:80", "192.168.1.5:80", "[::ffff:10.0.0.1]:80"] {
            let error = read(&format!("listen = \"{listen}\""))
                .validate()
                .expect_err("no key");
            assert!(error.to_string().contains("[[http.api_keys]]"), "{error}");
        }
        let hash = "a".repeat(64);
        let config = read(&format!(
            "listen = \"0.0.0.0:80\"\n[[api_keys]]\nname = \"wall\"\nsha256 = \"{hash}\""
        ));
        assert!(config.validate().is_ok());
        assert_eq!(config.api_keys[0].actions, [Action::View]);
    }

    #[test]
    fn a_key_in_the_clear_an_empty_scope_and_unknown_keys_are_refused() {
        let bad = read("[[api_keys]]\nname = \"x\"\nsha256 = \"secret\"");
        assert!(matches!(bad.validate(), Err(ConfigError::BadHash(_))));
        let hash = "0".repeat(64);
        let bad = read(&format!(
            "[[api_keys]]\nname = \"x\"\nsha256 = \"{hash}\"\ncameras = []"
        ));
        assert!(matches!(bad.validate(), Err(ConfigError::EmptyScope(_))));
        assert!(toml::from_str::<HttpConfig>("port = 1").is_err());
    }

    #[test]
    fn urls_of_object_stores_count_for_a_minute_at_most() {
        assert!(read("redirect_lifetime = \"60s\"").validate().is_ok());
        for lifetime in ["61s", "0s", "500ms"] {
            let bad = read(&format!("redirect_lifetime = \"{lifetime}\""));
            assert!(
                matches!(bad.validate(), Err(ConfigError::RedirectLifetime)),
                "{lifetime}"
            );
        }
    }
}
