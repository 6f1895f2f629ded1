//! `GET /hls/{camera}/{stream}/init/{hash}.mp4`: an init segment, which its name pins down for ever.

use archive::Sha256;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, Response};

use super::AppState;
use crate::config::Action;
use crate::gate::Caller;
use crate::media::{Representation, answer};
use crate::problem::Problem;

pub(super) async fn init(
    Caller(caller): Caller,
    State(app): AppState,
    Path((camera, stream, file)): Path<(String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let stream = app
        .footage
        .authorize(&caller, Action::View, &camera)?
        .stream(Some(&stream))?;
    let hash = file
        .strip_suffix(".mp4")
        .and_then(Sha256::from_hex)
        .ok_or_else(Problem::not_found)?;
    let bytes = stream.init(&hash)?.bytes.clone();
    let what = Representation {
        len: bytes.len() as u64,
        etag: Some(format!("\"{hash}\"")),
        content_type: "video/mp4",
        immutable: true,
    };
    let (mut response, range) = answer(&headers, method == Method::HEAD, &what)?;
    if let Some(range) = range {
        *response.body_mut() = Body::from(bytes.slice(range.start as usize..range.end as usize));
    }
    Ok(response)
}
