//! The service's API as a client sees it.

use std::net::SocketAddr;
use std::time::Duration;

use archive::{Sha256, WallTime};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::now;

/// No answer of these tests takes longer, not even under `strace`.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The stream of every camera here.
const STREAM: &str = "main";

/// Asks one service. Every method says `Err` with what happened when there is no good answer.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    agent: ureq::Agent,
    base: String,
}

/// What the status of a camera says of its stream.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StreamStatus {
    pub(crate) state: String,
    pub(crate) durable_until: Option<WallTime>,
    pub(crate) reconnects: u64,
    pub(crate) last_error: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    streams: Vec<StreamStatus>,
}

/// What is recorded and what is missing.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Timeline {
    pub(crate) runs: Vec<Run>,
    pub(crate) gaps: Vec<Gap>,
}

/// Something recorded.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Run {
    pub(crate) from: WallTime,
    pub(crate) to: WallTime,
    pub(crate) tier: String,
}

/// Something missing.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Gap {
    pub(crate) from: WallTime,
    pub(crate) to: WallTime,
    pub(crate) cause: String,
}

/// Where a fragment lies.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Fragment {
    pub(crate) from: WallTime,
    pub(crate) to: WallTime,
    pub(crate) tier: String,
    url: String,
    offset: u64,
    len: u64,
    pub(crate) init_url: String,
}

#[derive(Deserialize)]
struct Seek {
    fragment: Fragment,
}

impl Fragment {
    /// The URL of its bytes, without the service, and the value of `Range`.
    pub(crate) fn place(&self) -> (String, String) {
        let range = format!("bytes={}-{}", self.offset, self.offset + self.len - 1);
        (self.url.clone(), range)
    }
}

impl Api {
    /// The API at `base`, which is `http://ADDRESS:PORT`.
    pub(crate) fn new(base: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .build();
        Self {
            agent: config.into(),
            base: base.to_owned(),
        }
    }

    /// Where the page is.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The same for those who speak HTTP themselves.
    pub(crate) fn address(&self) -> SocketAddr {
        let address = self.base.trim_start_matches("http://");
        address.parse().expect("an address")
    }

    /// The body of a request that must go well.
    pub(crate) fn fetch(&self, path: &str) -> Vec<u8> {
        let (status, body) = self.get(path, None).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        body
    }

    /// Status and body of a request, `range` being a byte range.
    pub(crate) fn get(&self, path: &str, range: Option<(u64, u64)>) -> Result<(u16, Vec<u8>), String> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some((from, len)) = range {
            request = request.header("Range", format!("bytes={from}-{}", from + len - 1));
        }
        let mut answer = request.call().map_err(|e| format!("{path}: {e}"))?;
        let body = answer.body_mut().with_config().limit(1 << 30).read_to_vec();
        Ok((
            answer.status().as_u16(),
            body.map_err(|e| format!("{path}: {e}"))?,
        ))
    }

    fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let (status, body) = self.get(path, None)?;
        if status != 200 {
            return Err(format!("{path}: {status} {}", String::from_utf8_lossy(&body)));
        }
        serde_json::from_slice(&body).map_err(|e| format!("{path}: {e}: {}", String::from_utf8_lossy(&body)))
    }

    /// How the stream of a camera does.
    pub(crate) fn status(&self, camera: &str) -> Result<StreamStatus, String> {
        let status: Status = self.json(&format!("/api/v1/cameras/{camera}/status"))?;
        let first = status.streams.into_iter().next();
        first.ok_or_else(|| format!("{camera} has no stream"))
    }

    /// Everything that a camera recorded within a day of now.
    pub(crate) fn timeline(&self, camera: &str) -> Result<Timeline, String> {
        let day = Duration::from_secs(86_400);
        let (from, to) = (now().minus(day), now().plus(day));
        self.json(&format!(
            "/api/v1/cameras/{camera}/timeline?from={from}&to={to}&stream={STREAM}"
        ))
    }

    /// The fragment of a camera that holds `at`, or the next one.
    pub(crate) fn seek(&self, camera: &str, at: WallTime) -> Result<Fragment, String> {
        let seek: Seek = self.json(&format!("/api/v1/cameras/{camera}/seek?at={at}&stream={STREAM}"))?;
        Ok(seek.fragment)
    }

    /// A fragment's bytes.
    pub(crate) fn bytes(&self, fragment: &Fragment) -> Result<Vec<u8>, String> {
        let (status, body) = self.get(&fragment.url, Some((fragment.offset, fragment.len)))?;
        if status != 206 || body.len() as u64 != fragment.len {
            return Err(format!("{}: {status} with {} bytes", fragment.url, body.len()));
        }
        Ok(body)
    }

    /// Their hash.
    pub(crate) fn hash(&self, fragment: &Fragment) -> Result<Sha256, String> {
        Ok(Sha256::of(&self.bytes(fragment)?))
    }
}
