//! API keys, and the caller that a request's key makes it.

use std::sync::Arc;

use archive::{CameraId, Sha256};
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use crate::auth::Glob;
use crate::config::{Action, ApiKeyConfig};
use crate::problem::{Code, Problem};

/// A longer key is none of ours; saves hashing it.
const KEY_BYTES_MAX: usize = 512;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Principal {
    /// Someone on this machine, while no key is configured: may do everything.
    Local,
    /// The holder of an API key.
    Key(Arc<KeyScope>),
}

/// What a key opens.
#[derive(Debug)]
pub(crate) struct KeyScope {
    sha256: Sha256,
    name: String,
    cameras: Vec<Glob>,
    actions: Vec<Action>,
    redirect: bool,
}

impl Principal {
    /// Whether cameras of this id exist for this caller.
    pub(crate) fn sees(&self, camera: &CameraId) -> bool {
        match self {
            Self::Local => true,
            Self::Key(key) => key.cameras.iter().any(|g| g.matches(camera.as_str())),
        }
    }

    /// Whether every camera, those to come included, exists for this caller.
    pub(crate) fn sees_everything(&self) -> bool {
        match self {
            Self::Local => true,
            Self::Key(key) => key.cameras.iter().any(Glob::is_everything),
        }
    }

    /// Whether this caller may do `action` with the cameras that it sees.
    pub(crate) fn may(&self, action: Action) -> bool {
        match self {
            Self::Local => true,
            Self::Key(key) => key.actions.contains(&action),
        }
    }

    /// Whether the operator lets this caller read from object stores itself.
    pub(crate) fn is_sent_to_stores(&self) -> bool {
        match self {
            Self::Local => false,
            Self::Key(key) => key.redirect,
        }
    }

    /// For the log.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Local => "local",
            Self::Key(key) => &key.name,
        }
    }
}

/// The configured keys.
#[derive(Debug, Default)]
pub(crate) struct Keys(Vec<Arc<KeyScope>>);

impl Keys {
    /// The keys of a validated configuration.
    pub(crate) fn new(config: &[ApiKeyConfig]) -> Self {
        let scope = |key: &ApiKeyConfig| {
            Some(Arc::new(KeyScope {
                sha256: Sha256::from_hex(&key.sha256)?,
                name: key.name.clone(),
                cameras: key.cameras.clone(),
                actions: key.actions.clone(),
                redirect: key.redirect,
            }))
        };
        Self(config.iter().filter_map(scope).collect())
    }

    /// Whether nobody needs a key.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The caller behind a request. Every refusal is the same, whatever was wrong with the key.
    pub(crate) fn principal(&self, headers: &HeaderMap, loopback: bool) -> Result<Principal, Problem> {
        if self.is_empty() && loopback {
            return Ok(Principal::Local);
        }
        let key = presented(headers).filter(|key| key.len() <= KEY_BYTES_MAX);
        let found = key.and_then(|key| self.find(&Sha256::of(key.as_bytes())));
        found.map(Principal::Key).ok_or_else(unauthenticated)
    }

    /// Looks at every key, so that the time taken tells nothing.
    fn find(&self, hash: &Sha256) -> Option<Arc<KeyScope>> {
        let mut found = None;
        for key in &self.0 {
            if bool::from(key.sha256.0.ct_eq(&hash.0)) {
                found = Some(key.clone());
            }
        }
        found
    }
}

fn unauthenticated() -> Problem {
    Problem::new(
        Code::Unauthenticated,
        "Send a valid API key as `Authorization: Bearer KEY` or `X-Api-Key: KEY`.",
    )
    .with_header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer realm=\"tierline\""),
    )
}

/// The key in a request: a bearer token, `X-Api-Key`, or the password of basic credentials, which is the way
/// of players that take no other header.
fn presented(headers: &HeaderMap) -> Option<String> {
    if let Some(key) = headers.get("x-api-key") {
        return key.to_str().ok().map(str::to_owned);
    }
    let (scheme, credentials) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(credentials.trim().to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let text = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
        return text.split_once(':').map(|(_, password)| password.to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let key = |name: &str, secret: &str, camera: &str, actions: &[Action]| ApiKeyConfig {
            name: name.to_owned(),
            sha256: Sha256::of(secret.as_bytes()).to_string(),
            cameras: vec![Glob::from(camera.to_owned())],
            actions: actions.to_vec(),
            redirect: false,
        };
        Keys::new(&[
            key("wall", "s3cret", "lobby-*", &[Action::View]),
            key("boss", "k", "*", &[Action::Admin]),
        ])
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().expect("name"), value.parse().expect("value"))])
    }

    #[test]
    fn a_key_is_taken_from_each_of_its_headers() {
        let basic = format!("Basic {}", STANDARD.encode("anyone:s3cret"));
        for (name, value) in [
            ("authorization", "Bearer s3cret"),
            ("authorization", "bearer  s3cret"),
            ("authorization", &basic),
            ("x-api-key", "s3cret"),
        ] {
            let principal = keys().principal(&headers(name, value), false).expect(value);
            assert_eq!(principal.name(), "wall");
        }
    }

    #[test]
    fn no_key_a_wrong_key_and_a_malformed_key_look_alike() {
        let long = format!("Bearer {}", "x".repeat(60_000));
        let bad = [
            "Bearer wrong",
            "Bearer",
            "Bearer ",
            "Basic !!",
            "Basic",
            "Digest s3cret",
            "s3cret",
            &long,
        ];
        let mut refusals: Vec<Problem> = bad
            .iter()
            .map(|v| keys().principal(&headers("authorization", v), true).expect_err(v))
            .collect();
        refusals.push(keys().principal(&HeaderMap::new(), true).expect_err("none"));
        let texts: Vec<String> = refusals.iter().map(|p| format!("{p:?}")).collect();
        assert!(texts.iter().all(|t| *t == texts[0]));
    }

    #[test]
    fn a_key_sees_and_does_what_its_scope_says() {
        let wall = keys()
            .principal(&headers("x-api-key", "s3cret"), false)
            .expect("key");
        let id = |text: &str| text.parse::<CameraId>().expect("id");
        assert!(wall.sees(&id("lobby-north")) && !wall.sees(&id("garden")) && !wall.sees_everything());
        assert!(wall.may(Action::View) && !wall.may(Action::Export));
    }

    #[test]
    fn without_keys_only_callers_on_this_machine_get_in() {
        let none = Keys::default();
        assert!(matches!(
            none.principal(&HeaderMap::new(), true),
            Ok(Principal::Local)
        ));
        assert!(none.principal(&HeaderMap::new(), false).is_err());
    }
}
