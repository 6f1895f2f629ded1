//! Answers to what cannot be done, as `application/problem+json` (RFC 9457).
//!
//! A problem holds words for the caller and, apart from them, a cause for the log. Only [`render`] makes a body,
//! so that every one carries the request's id and none carries the cause.

use std::fmt::Display;
use std::sync::Arc;

use archive::store::StoreError;
use archive::time::SECOND_US;
use archive::{ArchiveError, WallTime};
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use indexer::{IndexError, SegmentRow};
use serde::Serialize;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $status:ident $title:literal;)*) => {
        /// What is wrong, as the stable `code` of the answer.
        #[derive(Copy, Clone, PartialEq, Eq, Debug)]
        pub(crate) enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            #[cfg(test)]
            const ALL: &'static [Code] = &[$(Code::$name),*];

            /// The word in the answer; never changes.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Code::$name => $code,)* }
            }

            /// The one mapping of errors to HTTP statuses.
            pub(crate) fn status(self) -> StatusCode {
                match self { $(Code::$name => StatusCode::$status,)* }
            }

            fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }
        }
    };
}

codes! {
    InvalidRequest = "invalid_request" BAD_REQUEST "The request is not valid";
    InvalidParameter = "invalid_parameter" BAD_REQUEST "A query parameter is not valid";
    InvalidTime = "invalid_time" BAD_REQUEST "A time is not valid";
    InvalidRange = "invalid_range" BAD_REQUEST "The time range is not valid";
    InvalidJson = "invalid_json" BAD_REQUEST "The body is not JSON";
    InvalidHost = "invalid_host" BAD_REQUEST "The Host header is missing or not valid";
    Unauthenticated = "unauthenticated" UNAUTHORIZED "An API key is needed";
    Forbidden = "forbidden" FORBIDDEN "This key may not do that";
    Csrf = "csrf" FORBIDDEN "Another site's page may not do that";
    HostNotAllowed = "host_not_allowed" FORBIDDEN "The service does not go by this name";
    NotFound = "not_found" NOT_FOUND "Not found";
    NoMedia = "no_media" NOT_FOUND "Nothing is recorded there";
    MethodNotAllowed = "method_not_allowed" METHOD_NOT_ALLOWED "Not with this method";
    Timeout = "request_timeout" REQUEST_TIMEOUT "The request took too long to arrive";
    Exists = "already_exists" CONFLICT "There is one already";
    FromConfig = "set_by_configuration" CONFLICT "The configuration file says otherwise";
    AlreadyDeleted = "already_deleted" CONFLICT "It was deleted before";
    IntegrityFailed = "integrity_failed" CONFLICT "The stored media is damaged";
    PreconditionFailed = "precondition_failed" PRECONDITION_FAILED "It has changed";
    BodyTooLarge = "body_too_large" PAYLOAD_TOO_LARGE "The body is too large";
    RangeTooLarge = "range_too_large" PAYLOAD_TOO_LARGE "The time range is too long";
    UnsupportedMediaType = "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "The body must be JSON";
    RangeNotSatisfiable = "range_not_satisfiable" RANGE_NOT_SATISFIABLE "There are no such bytes";
    InvalidBody = "invalid_body" UNPROCESSABLE_ENTITY "The body does not describe that";
    UrlNotAllowed = "camera_url_not_allowed" UNPROCESSABLE_ENTITY "The camera's URL cannot be used";
    TooManyRequests = "too_many_requests" TOO_MANY_REQUESTS "Too many at once";
    Internal = "internal" INTERNAL_SERVER_ERROR "Something went wrong here";
    NotImplemented = "not_implemented" NOT_IMPLEMENTED "Not with this method";
    NoDecoder = "decoder_missing" NOT_IMPLEMENTED "Stills need ffmpeg";
    DecoderFailed = "decoder_failed" BAD_GATEWAY "The picture cannot be decoded";
    MediaUnreadable = "media_unreadable" SERVICE_UNAVAILABLE "The media cannot be read";
    Restoring = "restoring" SERVICE_UNAVAILABLE "It is being restored from an archive";
    TierUnavailable = "tier_unavailable" SERVICE_UNAVAILABLE "The tier that has it does not answer";
    Overloaded = "overloaded" SERVICE_UNAVAILABLE "Too much at once";
    NotReady = "not_ready" SERVICE_UNAVAILABLE "The service is starting or stopping";
    DecoderTimeout = "decoder_timeout" GATEWAY_TIMEOUT "Decoding took too long";
}

/// The recorded times nearest to one where nothing is.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct NearestTimes {
    /// The last recorded instant at or before.
    pub(crate) before: Option<WallTime>,
    /// The first recorded instant after.
    pub(crate) after: Option<WallTime>,
}

/// How long whoever waits for a restore is told to wait, in seconds: it may be over sooner than one can tell.
const RETRY_AFTER_S: (i64, i64) = (30, 3600);

/// What is needed before a request can be carried out.
#[derive(Clone, Debug)]
pub(crate) enum Needs {
    /// The tables of these segments.
    Tables(Vec<SegmentRow>),
    /// A turn for those who read from object stores.
    Far,
}

/// Why a request was not carried out.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    code: Code,
    detail: String,
    nearest: Option<NearestTimes>,
    ready_at: Option<WallTime>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// No answer: what is needed first.
    needs: Option<Needs>,
    /// For the log only.
    cause: Option<Arc<str>>,
}

impl Problem {
    /// A problem in the caller's words.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            code,
            detail: detail.into(),
            nearest: None,
            ready_at: None,
            headers: Vec::new(),
            needs: None,
            cause: None,
        }))
    }

    /// What does not exist and what the caller may not see look the same.
    pub(crate) fn not_found() -> Self {
        Self::new(Code::NotFound, "There is nothing here for this key.")
    }

    /// What lies in an archive class, and can be read at `ready_at` as far as one can tell at `now`.
    pub(crate) fn restoring(now: WallTime, ready_at: WallTime) -> Self {
        let seconds = ready_at.micros_since(now).max(0) / SECOND_US;
        let (min, max) = RETRY_AFTER_S;
        let mut problem = Self::new(
            Code::Restoring,
            "It lies in an archive class; its restore has begun, and this URL works when that is over.",
        )
        .with_header(header::RETRY_AFTER, seconds.clamp(min, max).into());
        problem.0.ready_at = Some(ready_at);
        problem
    }

    /// What lies in an archive class, while no more is restored.
    pub(crate) fn too_many_restores() -> Self {
        let detail =
            "It lies in an archive class, and so much is being restored that no more is begun just now.";
        Self::new(Code::Overloaded, detail).with_header(header::RETRY_AFTER, RETRY_AFTER_S.1.into())
    }

    /// A fault of ours: the cause goes to the log, never to the caller.
    pub(crate) fn internal(cause: impl Display) -> Self {
        Self::new(Code::Internal, "The log has the cause under this request's id.").because(cause)
    }

    /// Adds what only the log may know.
    #[must_use]
    pub(crate) fn because(mut self, cause: impl Display) -> Self {
        self.0.cause = Some(cause.to_string().into());
        self
    }

    /// Adds where footage is instead.
    #[must_use]
    pub(crate) fn with_nearest(mut self, nearest: NearestTimes) -> Self {
        self.0.nearest = Some(nearest);
        self
    }

    /// Adds a header.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// What has to be read from object stores does not belong into a turn that is meant for what lies on the disk.
    pub(crate) fn far() -> Self {
        let mut problem =
            Self::internal("footage in a store was to be read in a turn for what is on the disk");
        problem.0.needs = Some(Needs::Far);
        problem
    }

    /// What is needed before the request can be carried out; `None` for a problem that is one.
    pub(crate) fn needs(&self) -> Option<&Needs> {
        self.0.needs.as_ref()
    }

    /// Whether tables have to be fetched first.
    pub(crate) fn needs_tables(&self) -> bool {
        matches!(self.0.needs, Some(Needs::Tables(_)))
    }

    /// What is wrong.
    pub(crate) fn code(&self) -> Code {
        self.0.code
    }

    /// What only the log may know.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// The general problem of a status that no handler explained.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let code = match status {
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
            s if s.is_client_error() => Code::InvalidRequest,
            _ => Code::Internal,
        };
        Self::new(code, "")
    }
}

impl From<IndexError> for Problem {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Elsewhere(rows) => {
                let mut problem = Self::internal("a table that has to be fetched was not");
                problem.0.needs = Some(Needs::Tables(rows));
                problem
            }
            IndexError::Archive(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

impl From<ArchiveError> for Problem {
    fn from(error: ArchiveError) -> Self {
        match &error {
            // The index names it, the file is gone: it was deleted a moment ago, or by something else.
            e if e.is_not_found() => Self::new(Code::MediaUnreadable, "Its file is not there any more."),
            ArchiveError::Corrupt { .. } | ArchiveError::Malformed(_) => Self::new(
                Code::IntegrityFailed,
                "What is stored is not what was recorded, so it is not served.",
            ),
            ArchiveError::Store(StoreError::Away { .. }) => Self::new(
                Code::TierUnavailable,
                "It lies in an object store that does not answer just now; what lies on the disk is not affected.",
            )
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("5")),
            // It was restored, and that is over.
            ArchiveError::Store(StoreError::Archived { .. }) => Self::new(
                Code::Restoring,
                "It lies in an archive class and has to be restored once more: ask again.",
            )
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("1")),
            ArchiveError::Store(_) => Self::new(Code::MediaUnreadable, "The object store does not give it back."),
            _ => Self::new(Code::MediaUnreadable, "The disk does not give it back."),
        }
        .because(error)
    }
}

impl IntoResponse for Problem {
    /// A response without a body: [`render`] fills it in when the request's id is at hand.
    fn into_response(self) -> axum::response::Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.0.code.status();
        response.headers_mut().extend(self.0.headers.iter().cloned());
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    instance: &'a str,
    code: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<NearestTimes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready_at: Option<WallTime>,
}

/// The response to a request for `path`, with a body.
pub(crate) fn render(problem: &Problem, path: &str, request_id: &str) -> axum::response::Response {
    let parts = &problem.0;
    let document = Document {
        r#type: format!("urn:tierline:problem:{}", parts.code.as_str()),
        title: parts.code.title(),
        status: parts.code.status().as_u16(),
        detail: &parts.detail,
        // The path alone: a query may hold more than a log should.
        instance: path,
        code: parts.code.as_str(),
        request_id,
        nearest: parts.nearest,
        ready_at: parts.ready_at,
    };
    let body = serde_json::to_vec(&document).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = parts.code.status();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(parts.headers.iter().cloned());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_and_its_status_stand_in_the_documentation() {
        let text = include_str!("../../docs/http-api.md");
        for code in Code::ALL {
            let row = format!("| {} | `{}` |", code.status().as_u16(), code.as_str());
            assert!(text.contains(&row), "docs/http-api.md lacks the row {row}");
        }
    }

    #[test]
    fn the_cause_stays_out_of_the_answer() {
        let problem = Problem::internal("/secret/path: EIO");
        let response = render(&problem, "/x", "id");
        let body = axum::body::to_bytes(response.into_body(), 10_000);
        let body = tokio::runtime::Runtime::new()
            .expect("runtime")
            .block_on(body)
            .expect("body");
        let text = String::from_utf8_lossy(&body);
        assert!(
            !text.contains("secret") && text.contains("\"request_id\":\"id\""),
            "{text}"
        );
    }
}
