//! Where a stream comes from and how long to wait for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use archive::GapCause;
use percent_encoding::percent_decode_str;
use retina::client::{Credentials, SessionGroup};
use url::Url;

use super::{Reach, SessionError};

/// How RTP packets travel.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Transport {
    /// Within the RTSP connection.
    #[default]
    Tcp,
    /// As datagrams. What comes out of order is lost, so this is for a quiet local network.
    Udp,
}

/// How long to wait for a camera, and how much to take from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionLimits {
    /// For the connection and the first answer, and then for each further answer.
    pub answer: Duration,
    /// For a picture while playing.
    pub no_data: Duration,
    /// For the first picture at which decoding can begin, from the beginning of a session.
    pub no_keyframe: Duration,
    /// For the camera's description of its streams, in bytes.
    pub description_bytes: usize,
    /// For one access unit with its packets' headers, in bytes: a longer one ends the session.
    pub access_unit_bytes: u64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            no_data: Duration::from_secs(10),
            no_keyframe: Duration::from_secs(120),
            description_bytes: 64 << 10,
            access_unit_bytes: 16 << 20,
        }
    }
}

/// What is needed to open a session. Credentials are never shown, not even by `Debug`.
#[derive(Clone)]
pub struct SessionConfig {
    /// Without user and password.
    pub(super) url: Url,
    pub(super) credentials: Option<Credentials>,
    /// How RTP packets travel.
    pub transport: Transport,
    /// Where it may connect to.
    pub reach: Reach,
    /// How long to wait.
    pub limits: SessionLimits,
    /// Where sessions that have yet to be torn down are remembered; one for all streams of a camera.
    pub group: Arc<SessionGroup>,
}

impl SessionConfig {
    /// The stream at `url`, which may carry user and password.
    ///
    /// # Errors
    /// `Unsupported` when this is no URL of the form `rtsp://host/…`.
    pub fn new(url: &str, transport: Transport) -> Result<Self, SessionError> {
        let unsupported = |what: &str| SessionError::new(GapCause::Unsupported, what);
        let mut url = Url::parse(url.trim()).map_err(|e| unsupported(&format!("not a URL: {e}")))?;
        if url.scheme() != "rtsp" || url.host_str().is_none_or(str::is_empty) {
            return Err(unsupported("only URLs of the form rtsp://host/… can be recorded"));
        }
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = (!url.username().is_empty() || url.password().is_some()).then(|| Credentials {
            username: decode(url.username()),
            password: decode(url.password().unwrap_or_default()),
        });
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return Err(unsupported("credentials cannot be taken out of this URL"));
        }
        Ok(Self {
            url,
            credentials,
            transport,
            reach: Reach::default(),
            limits: SessionLimits::default(),
            group: Arc::new(SessionGroup::default()),
        })
    }
}

impl fmt::Debug for SessionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A query may hold credentials too.
        f.debug_struct("SessionConfig")
            .field("host", &self.url.host_str())
            .field("port", &self.url.port())
            .field("path", &self.url.path())
            .field("transport", &self.transport)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_of_the_url_and_never_shown() {
        let config = SessionConfig::new(
            "rtsp://admin:p%40ss%2Fword@cam.lan:8554/live?pw=quiet",
            Transport::Tcp,
        )
        .expect("a URL");
        let credentials = config.credentials.clone().expect("some");
        assert_eq!(
            (&*credentials.username, &*credentials.password),
            ("admin", "p@ss/word")
        );
        assert_eq!(config.url.as_str(), "rtsp://cam.lan:8554/live?pw=quiet");
        let shown = format!("{config:?}");
        assert!(shown.contains("cam.lan"), "{shown}");
        for secret in ["admin", "p@ss", "p%40ss", "quiet"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn what_is_no_rtsp_url_is_refused_without_repeating_it() {
        for bad in [
            "",
            "cam",
            "http://a:secret@b/",
            "rtsps://a:secret@b/",
            "rtsp://",
            "rtsp://a:secret@:99999/",
        ] {
            let error = SessionConfig::new(bad, Transport::Tcp).expect_err(bad);
            assert_eq!(error.cause(), GapCause::Unsupported, "{bad}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
