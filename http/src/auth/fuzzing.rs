//! Callers' headers under fuzzing.

use archive::Sha256;
use axum::http::{HeaderMap, Method, Uri};
use subtle::ConstantTimeEq;

use super::guard::{HostRule, check_origin};
use super::{Glob, Keys, Principal};
use crate::config::{Action, ApiKeyConfig};

const SECRET: &str = "correct horse battery staple";

/// Without a key nobody gets in, from this machine only where no key is configured; and what changes things is
/// refused where a browser says that another site sent it.
pub(crate) fn judge(method: &Method, headers: &HeaderMap) {
    let key = ApiKeyConfig {
        name: "one".into(),
        sha256: Sha256::of(SECRET.as_bytes()).to_string(),
        cameras: vec![Glob::from("*".to_owned())],
        actions: vec![Action::View],
        redirect: false,
    };
    let keys = Keys::new(&[key]);
    let has_secret = headers.values().any(|value| {
        let value = value.as_bytes();
        let plain = value
            .windows(SECRET.len())
            .any(|w| bool::from(w.ct_eq(SECRET.as_bytes())));
        plain
            || value
                .get(..6)
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic "))
    });
    for loopback in [false, true] {
        let known = keys.principal(headers, loopback);
        assert!(has_secret || known.is_err(), "a stranger got in");
        assert!(!matches!(known, Ok(Principal::Local)));
        let local = Keys::default().principal(headers, loopback);
        assert_eq!(local.is_ok(), loopback);
    }
    let uri = Uri::from_static("/api/v1/cameras");
    let closed = HostRule::new(&["nvr.example".to_owned()], false);
    if closed.check(&uri, headers).is_ok()
        && let Some(host) = headers.get("host").and_then(|h| h.to_str().ok())
    {
        let host = host.to_ascii_lowercase();
        let known = host.contains("localhost") || host.contains("nvr.example");
        assert!(known || host.contains(|c: char| c.is_ascii_digit() || c == ':'));
    }
    let from_elsewhere = headers
        .get("sec-fetch-site")
        .is_some_and(|site| site == "cross-site" || site == "same-site");
    if from_elsewhere && !method.is_safe() {
        assert!(check_origin(method, headers).is_err());
    }
}
