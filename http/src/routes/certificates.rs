//! `GET /api/v1/certificates?camera&from&to`: what was deleted of a camera, and the proof of it.

use archive::{TimeRange, WallTime};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, Uri, header};

use super::AppState;
use crate::config::Action;
use crate::gate::{Caller, Client};
use crate::problem::{Code, Problem};
use crate::query::Query;

/// Certificates in one answer.
const PAGE_MAX: usize = 100;

pub(super) async fn list(
    Caller(caller): Caller,
    Client(client): Client,
    State(app): AppState,
    uri: Uri,
) -> Result<Response<Body>, Problem> {
    let query = Query::parse(&uri, &["camera", "from", "to", "after", "limit"])?;
    let camera = query
        .get("camera")
        .ok_or_else(|| Problem::new(Code::InvalidParameter, "the parameter `camera` is missing"))?;
    let camera = app.footage.authorize(&caller, Action::View, camera)?;
    let from = query.time("from")?.unwrap_or(WallTime::MIN);
    let to = query.time("to")?.unwrap_or(WallTime::MAX);
    let range = TimeRange::new(from, to).filter(|range| !range.is_empty());
    let range = range.ok_or_else(|| Problem::new(Code::InvalidRange, "`from` must lie before `to`"))?;
    let after = number(&query, "after")?.unwrap_or(0);
    let limit = number(&query, "limit")?.map_or(PAGE_MAX, |limit| limit.clamp(1, PAGE_MAX as u64) as usize);
    app.desk
        .answer(client, move || {
            let (lines, next) = camera.certificates(range, after, limit)?;
            Ok(answer(&lines, next))
        })
        .await
}

fn number(query: &Query, name: &str) -> Result<Option<u64>, Problem> {
    let read = |text: &str| {
        let no = || Problem::new(Code::InvalidParameter, format!("`{name}` is not a number"));
        text.parse().map_err(|_| no())
    };
    query.get(name).map(read).transpose()
}

/// Each certificate as it was signed, byte for byte: written anew it might not verify.
fn answer(lines: &[String], next: Option<u64>) -> Response<Body> {
    let next = next.map_or("null".to_owned(), |next| next.to_string());
    let text = format!("{{\"certificates\":[{}],\"next\":{next}}}", lines.join(","));
    let mut response = Response::new(Body::from(text));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
