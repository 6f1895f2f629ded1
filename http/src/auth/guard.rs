//! Against pages of other sites: the name that a browser believes it talks to, and the page that sent it.

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, Uri, header};

use crate::problem::{Code, Problem};

/// Which names the service goes by while it needs no key. A page that points its own name at 127.0.0.1 must
/// not read cameras.
#[derive(Debug)]
pub(crate) struct HostRule {
    /// `None`: any, because a key is needed anyway.
    names: Option<Vec<String>>,
}

impl HostRule {
    /// The rule for a service with `names` that asks for keys or does not.
    pub(crate) fn new(names: &[String], asks_for_keys: bool) -> Self {
        let lower = || names.iter().map(|n| n.to_ascii_lowercase()).collect();
        Self {
            names: (!asks_for_keys).then(lower),
        }
    }

    /// Whether a request may be answered under the name that it used.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(names) = &self.names else { return Ok(()) };
        let host = host(headers)?;
        let target = uri.authority().map(|a| a.as_str());
        for authority in [host, target].into_iter().flatten() {
            let name = without_port(authority).to_ascii_lowercase();
            let known = name == "localhost" || is_ip(&name) || names.contains(&name);
            if !known {
                let detail =
                    "Use localhost or an IP address, or add the name to http.hosts in the configuration.";
                return Err(Problem::new(Code::HostNotAllowed, detail));
            }
        }
        Ok(())
    }
}

/// The one Host header; absent in HTTP/1.0.
fn host(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut all = headers.get_all(header::HOST).iter();
    let invalid = || Problem::new(Code::InvalidHost, "Send exactly one Host header.");
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(host), None) => host.to_str().map(Some).map_err(|_| invalid()),
        (Some(_), Some(_)) => Err(invalid()),
    }
}

fn without_port(authority: &str) -> &str {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_ip(name: &str) -> bool {
    name.trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
        .is_ok()
}

/// Refuses a request that changes something when another site's page sent it.
pub(crate) fn check_origin(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if method.is_safe() {
        return Ok(());
    }
    let refused = || {
        Problem::new(
            Code::Csrf,
            "Changes are accepted from this service's own page and from programs.",
        )
    };
    let site = headers.get("sec-fetch-site").and_then(|s| s.to_str().ok());
    if matches!(site, Some("cross-site" | "same-site")) {
        return Err(refused());
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let (_, authority) = origin
        .to_str()
        .ok()
        .and_then(|o| o.split_once("://"))
        .ok_or_else(refused)?;
    match host(headers)? {
        Some(host) if host.eq_ignore_ascii_case(authority) => Ok(()),
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (n.parse().expect("name"), v.parse().expect("value")))
            .collect()
    }

    fn allowed(rule: &HostRule, host: &str) -> bool {
        rule.check(&Uri::from_static("/"), &with(&[("host", host)]))
            .is_ok()
    }

    #[test]
    fn without_keys_only_addresses_localhost_and_configured_names_are_answered() {
        let rule = HostRule::new(&["nvr.Example".to_owned()], false);
        for good in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "10.0.0.5",
            "NVR.example:80",
        ] {
            assert!(allowed(&rule, good), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8080",
            "",
        ] {
            assert!(!allowed(&rule, bad), "{bad}");
        }
        assert!(allowed(&HostRule::new(&[], true), "any.example"));
    }

    #[test]
    fn the_name_in_the_request_line_counts_too() {
        let rule = HostRule::new(&[], false);
        let uri = Uri::from_static("http://evil.example/api/v1/cameras");
        assert!(rule.check(&uri, &with(&[("host", "localhost")])).is_err());
    }

    #[test]
    fn two_host_headers_are_refused() {
        let mut headers = with(&[("host", "localhost")]);
        headers.append(header::HOST, "localhost".parse().expect("value"));
        assert!(
            HostRule::new(&[], false)
                .check(&Uri::from_static("/"), &headers)
                .is_err()
        );
    }

    #[test]
    fn a_change_from_another_sites_page_is_refused() {
        let host = ("host", "127.0.0.1:8080");
        let post = |pairs: &[(&'static str, &str)]| check_origin(&Method::POST, &with(pairs)).is_ok();
        assert!(post(&[host]));
        assert!(post(&[host, ("origin", "http://127.0.0.1:8080")]));
        assert!(!post(&[host, ("origin", "http://evil.example")]));
        assert!(!post(&[host, ("origin", "http://127.0.0.1:9999")]));
        assert!(!post(&[host, ("origin", "null")]));
        assert!(!post(&[host, ("sec-fetch-site", "cross-site")]));
        assert!(check_origin(&Method::GET, &with(&[host, ("origin", "http://evil.example")])).is_ok());
    }
}
