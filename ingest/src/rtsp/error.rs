//! Why a session ended, as the cause of the gap that follows it.

use archive::GapCause;

use super::SessionConfig;

/// The longest text that is kept: part of it may be of the camera's making.
const TEXT_CHARS_MAX: usize = 300;

/// A session could not be made or has ended. The text holds no credentials and no URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SessionError {
    cause: GapCause,
    text: String,
    /// The camera does not know the credentials, or does not let them in.
    credentials: bool,
}

/// What was going on when retina gave up, which decides what its error means.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Connecting and asking what there is.
    Describe,
    /// Agreeing on transport.
    Setup,
    /// Asking for media.
    Play,
    /// Media was to come.
    Media,
}

impl Phase {
    fn doing(self) -> &'static str {
        match self {
            Self::Describe => "asking what it offers",
            Self::Setup => "setting up the session",
            Self::Play => "starting to play",
            Self::Media => "receiving media",
        }
    }
}

impl SessionError {
    pub(crate) fn new(cause: GapCause, text: impl Into<String>) -> Self {
        Self {
            cause,
            text: text.into(),
            credentials: false,
        }
    }

    pub(super) fn from_retina(phase: Phase, error: &retina::Error, config: &SessionConfig) -> Self {
        let cause = match (error.status_code(), phase) {
            // The answer was good, what stood in it was not.
            (Some(200..300), Phase::Describe) => GapCause::Unsupported,
            (Some(200..300), _) => GapCause::SessionLost,
            (Some(_), _) => GapCause::Refused,
            (None, Phase::Describe) => GapCause::Unreachable,
            (None, _) => GapCause::SessionLost,
        };
        let text = presentable(&error.to_string(), config);
        Self {
            credentials: matches!(error.status_code(), Some(401 | 403)),
            ..Self::new(cause, format!("while {}: {text}", phase.doing()))
        }
    }

    pub(super) fn timeout(phase: Phase, config: &SessionConfig) -> Self {
        let seconds = config.limits.answer.as_secs_f32();
        Self::new(
            GapCause::Unreachable,
            format!("no answer within {seconds} s while {}", phase.doing()),
        )
    }

    /// Whether the camera refused the credentials: asking often may make it lock the account.
    pub fn refused_credentials(&self) -> bool {
        self.credentials
    }

    /// The cause of the gap that begins with this error.
    pub fn cause(&self) -> GapCause {
        self.cause
    }
}

/// The first paragraph of a text of retina's (connection details follow it), without dumps of what the camera
/// sent and without anything secret.
fn presentable(text: &str, config: &SessionConfig) -> String {
    let first = ["\n\n", "; buffered:", "\nLength: "]
        .iter()
        .fold(text, |text, dump| text.split(dump).next().unwrap_or_default());
    let mut words: Vec<&str> = first.split_whitespace().collect();
    for word in &mut words {
        // Cameras put credentials into the URLs that they hand out.
        if word.contains("://") {
            *word = "(URL)";
        }
    }
    let mut text = words.join(" ");
    if let Some(credentials) = &config.credentials
        && credentials.password.chars().count() > 2
    {
        text = text.replace(&credentials.password, "(password)");
    }
    text.chars()
        .filter(|c| !c.is_control())
        .take(TEXT_CHARS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtsp::Transport;

    #[test]
    fn a_text_keeps_no_secret_and_no_url() {
        let config = SessionConfig::new("rtsp://admin:hunter2@cam/", Transport::Tcp).expect("a URL");
        let text = "404 for \"rtsp://cam/?password=x\"\nsaid hunter2\u{7}\n\nconn: 127.0.0.1:1";
        assert_eq!(presentable(text, &config), "404 for (URL) said (password)");
        assert_eq!(
            presentable(&"long ".repeat(1000), &config).chars().count(),
            TEXT_CHARS_MAX
        );
    }
}
