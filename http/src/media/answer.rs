//! Conditional and range requests (RFC 9110 sections 13 and 14) for anything with a length and an ETag.

use std::ops::Range;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::byte_range::{Wanted, wanted};
use crate::problem::{Code, Problem};

/// What is served, before the request narrows it down.
pub(crate) struct Representation {
    pub(crate) len: u64,
    /// A strong ETag with its quotes. None of what grows: whoever keeps a piece of that asks for the next one on the
    /// condition that the whole is the same, which it never is, and gets all of it. Nobody is to keep it.
    pub(crate) etag: Option<String>,
    pub(crate) content_type: &'static str,
    /// Whether the bytes under this URL never change.
    pub(crate) immutable: bool,
}

/// The head of the answer, and the bytes that its body needs; none for HEAD and 304, whose body is empty.
pub(crate) fn answer(
    request: &HeaderMap,
    head_only: bool,
    what: &Representation,
) -> Result<(Response<Body>, Option<Range<u64>>), Problem> {
    let tag = what.etag.as_deref();
    let lists = |name| {
        request
            .get(name)
            .and_then(|v: &HeaderValue| v.to_str().ok())
            .map(|list| matches(list, tag))
    };
    if lists(header::IF_MATCH) == Some(false) {
        return Err(Problem::new(
            Code::PreconditionFailed,
            "The ETag is another one now.",
        ));
    }
    let mut response = Response::new(Body::empty());
    if let Some(tag) = tag {
        set(&mut response, header::ETAG, tag);
    }
    let cache = match tag {
        None => "no-store",
        Some(_) if what.immutable => "private, max-age=31536000, immutable",
        Some(_) => "private, no-cache",
    };
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if lists(header::IF_NONE_MATCH) == Some(true) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok((response, None));
    }
    response
        .headers_mut()
        .insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(what.content_type));
    // A range of what has changed since must not be glued to what the client has. A date never matches: we
    // give none.
    let current = request
        .get(header::IF_RANGE)
        .is_none_or(|v| v.to_str().is_ok_and(|v| Some(v.trim()) == tag));
    let range = request
        .get(header::RANGE)
        .and_then(|v| v.to_str().ok())
        .filter(|_| current);
    let bytes = match wanted(range, what.len) {
        Wanted::Whole => 0..what.len,
        Wanted::Part(part) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {}-{}/{}", part.start, part.end - 1, what.len);
            set(&mut response, header::CONTENT_RANGE, &text);
            part
        }
        Wanted::Nothing => {
            let text = format!("bytes */{}", what.len);
            let problem = Problem::new(
                Code::RangeNotSatisfiable,
                format!("There are {} bytes.", what.len),
            );
            return Err(match HeaderValue::from_str(&text) {
                Ok(value) => problem.with_header(header::CONTENT_RANGE, value),
                Err(_) => problem,
            });
        }
    };
    set(
        &mut response,
        header::CONTENT_LENGTH,
        &(bytes.end - bytes.start).to_string(),
    );
    Ok((response, (!head_only).then_some(bytes)))
}

fn set(response: &mut Response<Body>, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Whether a list of ETags holds `tag`. Weak ones match too: nothing here depends on the difference.
fn matches(list: &str, tag: Option<&str>) -> bool {
    list.split(',')
        .map(str::trim)
        .any(|t| t == "*" || Some(t.strip_prefix("W/").unwrap_or(t)) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pairs: &[(&'static str, &str)]) -> Result<(Response<Body>, Option<Range<u64>>), Problem> {
        ask_of(Some("\"a\""), pairs)
    }

    fn ask_of(
        etag: Option<&str>,
        pairs: &[(&'static str, &str)],
    ) -> Result<(Response<Body>, Option<Range<u64>>), Problem> {
        let headers = pairs
            .iter()
            .map(|(n, v)| (n.parse().expect("name"), v.parse().expect("value")))
            .collect();
        let what = Representation {
            len: 100,
            etag: etag.map(str::to_owned),
            content_type: "video/mp4",
            immutable: false,
        };
        answer(&headers, false, &what)
    }

    #[test]
    fn a_range_is_answered_206_and_a_stale_one_with_the_whole() {
        let (response, bytes) = ask(&[("range", "bytes=-10")]).expect("part");
        assert_eq!((response.status().as_u16(), bytes), (206, Some(90..100)));
        assert_eq!(response.headers()[header::CONTENT_RANGE], "bytes 90-99/100");
        for (if_range, status) in [
            ("\"a\"", 206),
            ("\"b\"", 200),
            ("W/\"a\"", 200),
            ("Fri, 20 Nov 2026 08:00:00 GMT", 200),
        ] {
            let (response, _) = ask(&[("range", "bytes=0-9"), ("if-range", if_range)]).expect("answer");
            assert_eq!(response.status().as_u16(), status, "{if_range}");
        }
    }

    #[test]
    fn what_grows_has_no_etag_and_is_kept_by_nobody() {
        let (response, bytes) = ask_of(None, &[("range", "bytes=10-19")]).expect("part");
        assert_eq!((response.status().as_u16(), bytes), (206, Some(10..20)));
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        assert!(!response.headers().contains_key(header::ETAG));
        let (response, _) = ask_of(None, &[("if-none-match", "\"a\"")]).expect("answer");
        assert_eq!(response.status().as_u16(), 200);
        let (response, _) = ask_of(None, &[("range", "bytes=0-9"), ("if-range", "\"a\"")]).expect("answer");
        assert_eq!(response.status().as_u16(), 200);
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        for list in ["\"a\"", "W/\"a\"", "\"x\", \"a\"", "*"] {
            let (response, bytes) = ask(&[("if-none-match", list)]).expect("answer");
            assert_eq!((response.status().as_u16(), bytes), (304, None), "{list}");
        }
        assert_eq!(
            ask(&[("if-match", "\"b\"")]).map(|_| ()).map_err(|p| p.code()),
            Err(Code::PreconditionFailed)
        );
    }

    #[test]
    fn bytes_that_do_not_exist_are_answered_416() {
        assert_eq!(
            ask(&[("range", "bytes=100-")]).map(|_| ()).map_err(|p| p.code()),
            Err(Code::RangeNotSatisfiable)
        );
    }
}
