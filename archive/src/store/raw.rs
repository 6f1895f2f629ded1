//! Calls that the library does not know, or whose headers it does not give, such as restores, legal holds and versions: signed
//! in their URL, a few bytes each way.
//!
//! Invariant: where a call goes is said by the configuration and by the name of one of our objects, by nobody else.
//! Invariant: a URL holds a signature and is told to nobody, not even in an error.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::aws::AmazonS3;
use object_store::client::{HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpResponseBody};
use object_store::path::Path;
use object_store::signer::{HeaderName, HeaderValue, Method, SignedUrlOptions, Signer, Url};

use super::error::StoreError;
use crate::id::Sha256;

/// Answers are some words of XML; what is longer is cut off here.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// No code of an error is longer.
const CODE_BYTES_MAX: usize = 64;
/// How long a signature of ours counts: clocks differ by less.
const LIFETIME: Duration = Duration::from_secs(300);

/// What a server said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Which version of the object it is about, where the bucket keeps them.
    pub(super) version: Option<String>,
    /// That version is a marker, by which somebody has hidden those before it.
    pub(super) is_marker: bool,
    /// At most [`ANSWER_BYTES_MAX`] of it.
    pub(super) body: Bytes,
}

impl Answer {
    /// The code of an error, such as `InvalidObjectState`.
    pub(super) fn code(&self) -> Option<&str> {
        error_code(&self.body)
    }

    /// What to make of an answer that is none of those that were expected.
    pub(super) fn into_error(self, what: String, name: &str) -> StoreError {
        let why = format!("{} {}", self.status, self.code().unwrap_or("without a code"));
        match self.status {
            404 => StoreError::Missing {
                name: name.to_owned(),
            },
            408 | 429 | 500.. => StoreError::Away { what, why },
            _ => StoreError::Refused { what, why },
        }
    }
}

/// The text of the first `<Code>` in an error of S3, if it looks like one.
pub(super) fn error_code(body: &[u8]) -> Option<&str> {
    const OPEN: &[u8] = b"<Code>";
    let at = body.windows(OPEN.len()).position(|window| window == OPEN)?;
    let rest = body.get(at + OPEN.len()..)?;
    let end = rest.iter().take(CODE_BYTES_MAX).position(|byte| *byte == b'<')?;
    let code = rest.get(..end)?;
    let is_code = !code.is_empty() && code.iter().all(u8::is_ascii_alphanumeric);
    std::str::from_utf8(code).ok().filter(|_| is_code)
}

/// Sends signed requests. Cloning shares the connections.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    signer: Arc<AmazonS3>,
    http: HttpClient,
}

impl Raw {
    pub(super) fn new(signer: Arc<AmazonS3>, http: HttpClient) -> Self {
        Self { signer, http }
    }

    /// Asks for `query` of the object at `path`. With a body goes its checksum, which some calls insist on.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &Path,
        query: &[(&str, &str)],
        body: String,
    ) -> Result<Answer, StoreError> {
        let failed = |why: &str| StoreError::Away {
            what: format!(
                "ask for {} of {path}",
                query.first().map_or(method.as_str(), |(name, _)| name)
            ),
            why: why.to_owned(),
        };
        let mut headers = Vec::new();
        if !body.is_empty() {
            let checksum = STANDARD.encode(Sha256::of(body.as_bytes()).0);
            let checksum = HeaderValue::from_str(&checksum).map_err(|_| failed("no header"))?;
            headers.push((HeaderName::from_static("x-amz-checksum-sha256"), checksum));
        }
        let url = self.sign(method.clone(), path, LIFETIME, query, &headers).await?;
        let mut request = HttpRequest::new(body.into());
        *request.method_mut() = method.clone();
        *request.uri_mut() = url.as_str().parse().map_err(|_| failed("no such address"))?;
        request.headers_mut().extend(headers);
        let answer = self
            .http
            .execute(request)
            .await
            .map_err(|e| failed(of_http(&e)))?;
        let status = answer.status().as_u16();
        let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let version = header("x-amz-version-id");
        let is_marker = header("x-amz-delete-marker").is_some_and(|value| value == "true");
        let body = bounded(answer.into_body())
            .await
            .map_err(|e| failed(of_http(&e)))?;
        Ok(Answer {
            status,
            version,
            is_marker,
            body,
        })
    }

    /// A URL by which anybody can do this one thing, with exactly these headers, for as long as `lifetime`.
    pub(super) async fn sign(
        &self,
        method: Method,
        path: &Path,
        lifetime: Duration,
        query: &[(&str, &str)],
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Url, StoreError> {
        let mut options = SignedUrlOptions::default().with_query(query.iter().copied());
        for (name, value) in headers {
            options = options.with_signed_header(name.clone(), value.clone());
        }
        let signed = self
            .signer
            .signed_url_opts(method, path, lifetime, &options)
            .await;
        signed.map_err(|e| StoreError::of("sign a request for", path.as_ref(), e))
    }
}

/// What went wrong, without what was asked.
fn of_http(e: &HttpError) -> &'static str {
    match e.kind() {
        HttpErrorKind::Connect => "it cannot be connected to",
        HttpErrorKind::Timeout => "it does not answer in time",
        _ => "the connection broke off",
    }
}

async fn bounded(body: HttpResponseBody) -> Result<Bytes, HttpError> {
    let mut pieces = body.bytes_stream();
    let mut all = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        let room = ANSWER_BYTES_MAX - all.len();
        if piece.len() >= room {
            all.extend_from_slice(piece.get(..room).unwrap_or_default());
            break;
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error_is_found_and_nothing_else_is_one() {
        let error =
            b"<?xml version=\"1.0\"?>\n<Error><Code>InvalidObjectState</Code><Message>m</Message></Error>";
        assert_eq!(error_code(error), Some("InvalidObjectState"));
        let long = format!("<Code>{}</Code>", "x".repeat(100));
        for other in [
            "",
            "<Code>",
            "<Code></Code>",
            "<Code>a b</Code>",
            "<Code>open",
            &long,
        ] {
            assert_eq!(error_code(other.as_bytes()), None, "{other}");
        }
    }

    #[tokio::test]
    async fn no_more_of_an_answer_is_kept_than_its_bound() {
        let long = vec![b'x'; 3 * ANSWER_BYTES_MAX];
        let kept = bounded(long.into()).await.expect("in memory");
        assert_eq!(kept.len(), ANSWER_BYTES_MAX);
    }

    #[test]
    fn what_passes_by_itself_is_tried_again_and_what_does_not_is_not() {
        let of = |status| {
            let answer = Answer {
                status,
                version: None,
                is_marker: false,
                body: Bytes::from_static(b"<Code>SlowDown</Code>"),
            };
            answer.into_error("restore a".to_owned(), "a")
        };
        assert!(of(503).is_passing() && of(429).is_passing());
        assert!(matches!(of(404), StoreError::Missing { .. }));
        let refused = of(403);
        assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
        assert!(refused.to_string().contains("403 SlowDown"), "{refused}");
    }
}
