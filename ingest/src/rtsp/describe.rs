//! Asks a camera what it offers, also where it sends us for the answer.

use archive::GapCause;
use archive::destination::destination;
use retina::client::{Described, Session, SessionIdPolicy, SessionOptions, TeardownPolicy};
use url::Url;

use super::error::Phase;
use super::session::answered;
use super::{SessionConfig, SessionError};

/// Redirects that are followed: more are a loop.
const REDIRECTS_MAX: usize = 3;

/// Connects and asks. A redirect is followed to where the camera may lead, without the credentials when that
/// is another host.
pub(super) async fn describe(config: &SessionConfig) -> Result<Session<Described>, SessionError> {
    let refused = |text: &str| SessionError::new(GapCause::Refused, text);
    let (mut url, mut reach) = (config.url.clone(), config.reach);
    let mut credentials = config.credentials.clone();
    for _ in 0..=REDIRECTS_MAX {
        let options = SessionOptions::default()
            .creds(credentials.clone())
            .user_agent(concat!("tierline/", env!("CARGO_PKG_VERSION")).to_owned())
            .session_group(config.group.clone())
            .session_id(SessionIdPolicy::UseFirst)
            .teardown(TeardownPolicy::Auto)
            .guard(reach.guard(&url))
            .access_unit_bytes(config.limits.access_unit_bytes);
        let asked = Session::describe(url.clone(), options);
        let error = match answered(Phase::Describe, config, async { Ok(asked.await) }).await? {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        let Some(location) = error.redirect() else {
            return Err(SessionError::from_retina(Phase::Describe, &error, config));
        };
        let next = target(&url, location).ok_or_else(|| refused("redirected to what is no camera's URL"))?;
        reach = reach.named_by_camera(destination(&url));
        if !reach.allows(destination(&next)) {
            return Err(refused("redirected to where no camera may lead"));
        }
        if (next.host_str(), next.port()) != (url.host_str(), url.port()) {
            credentials = None;
        }
        url = next;
    }
    Err(refused("redirected too often"))
}

/// Where `location` leads from `url`. Credentials in it are the camera's invention and are left out.
fn target(url: &Url, location: &str) -> Option<Url> {
    let mut next = url.join(location).ok()?;
    if next.scheme() != "rtsp" || next.host_str().is_none_or(str::is_empty) {
        return None;
    }
    next.set_username("").ok()?;
    next.set_password(None).ok()?;
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_to_a_camera_without_credentials_or_nowhere() {
        let from = Url::parse("rtsp://10.0.0.1:554/a/b?c").expect("url");
        let to = |location| target(&from, location).map(String::from);
        assert_eq!(to("rtsp://u:p@10.0.0.2/x").as_deref(), Some("rtsp://10.0.0.2/x"));
        assert_eq!(to("/y").as_deref(), Some("rtsp://10.0.0.1:554/y"));
        for bad in ["http://10.0.0.2/", "file:///etc/passwd", "rtsp:///x", "rtsp://"] {
            assert_eq!(to(bad), None, "{bad}");
        }
    }
}
