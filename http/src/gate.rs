//! What every request passes before its route and every response after it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::auth::{Principal, check_origin};
use crate::connection::Peer;
use crate::problem::{Code, Problem, render};
use crate::state::App;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Counts requests, names them, refuses what no route should see, and gives problems their bodies.
pub(crate) async fn gate(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);

    let mut response = match admit(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let problem = response.extensions_mut().remove::<Problem>();
        let problem = problem.unwrap_or_else(|| Problem::of_status(status));
        if let Some(cause) = problem.cause() {
            tracing::warn!(request_id = id, %method, path, code = problem.code().as_str(), cause, "request failed");
        }
        let allow = response.headers_mut().remove(header::ALLOW);
        response = render(&problem, &path, &id);
        response
            .headers_mut()
            .extend(allow.map(|allow| (header::ALLOW, allow)));
        if method == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
    }
    set_headers(response.headers_mut(), &id);
    app.metrics
        .observe(route, &method, status.as_u16(), started.elapsed());
    response
}

fn admit(app: &App, request: &Request) -> Result<(), Problem> {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PATCH,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
    ];
    if !known.contains(request.method()) {
        return Err(Problem::new(
            Code::NotImplemented,
            "This method is not known here.",
        ));
    }
    app.hosts.check(request.uri(), request.headers())?;
    check_origin(request.method(), request.headers())
}

fn set_headers(headers: &mut HeaderMap, id: &str) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID.clone(), id);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Pages of other sites must not show pictures from here, key or no key.
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("same-origin"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// Unlike any other id of this process, and most likely of any other.
fn request_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static ORIGIN: std::sync::LazyLock<u32> =
        std::sync::LazyLock::new(|| RandomState::new().hash_one(0) as u32);
    format!("{:08x}-{:06x}", *ORIGIN, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The address of whoever made a request.
pub(crate) struct Client(pub(crate) IpAddr);

impl FromRequestParts<App> for Client {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Peer>();
        let peer = peer.ok_or_else(|| Problem::internal("a request without an address"))?;
        Ok(Self(peer.0.ip().to_canonical()))
    }
}

/// The caller of a request. Taking it as an argument is what makes a route ask for a key.
pub(crate) struct Caller(pub(crate) Principal);

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Peer>();
        let loopback = peer.is_some_and(|Peer(peer)| peer.ip().to_canonical().is_loopback());
        app.keys.principal(&parts.headers, loopback).map(Self)
    }
}
