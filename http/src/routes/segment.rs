//! `GET /hls/{camera}/{stream}/seg/{seq}.mp4`, or `{seq}.t1.mp4` of what thinning has made of it: the bytes of a segment up
//! to its durable end.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, Response};
use indexer::{SegmentRow, SegmentState};

use super::AppState;
use crate::auth::{Ahead, may_be_sent};
use crate::config::Action;
use crate::gate::{Caller, Client};
use crate::hls::parse_file_name;
use crate::media::{ReadAhead, Representation, answer, pieces};
use crate::problem::Problem;

pub(super) async fn segment(
    Caller(caller): Caller,
    Client(client): Client,
    State(app): AppState,
    Path((camera, stream, file)): Path<(String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let stream = app
        .footage
        .authorize(&caller, Action::View, &camera)?
        .stream(Some(&stream))?;
    let (seq, generation) = parse_file_name(&file).ok_or_else(Problem::not_found)?;
    let row = stream.version(seq, generation)?;
    if stream.is_archived(&row)? {
        let (stream, row) = (stream.clone(), row.clone());
        let restoring = move || stream.ensure_readable([&row], Ahead::Playing);
        app.desk.work(client, restoring).await?;
    }
    let (mut response, range) = answer(&headers, method == Method::HEAD, &representation(&row))?;
    if let Some(range) = range {
        if method == Method::GET && may_be_sent(&caller, &headers, &range) {
            let sent = stream.send_to_store(&caller, &row, &range, app.redirect_lifetime);
            if let Some(response) = sent.await? {
                return Ok(response);
            }
        }
        let (turn, len) = (app.readers.turn(client).await?, range.end - range.start);
        let body = ReadAhead::begin(pieces(stream, row, range), len).await?;
        *response.body_mut() = Body::new(body.holding(turn));
    }
    Ok(response)
}

/// A sealed segment never changes. Of an open one only what is durable exists; what was served stays, but the whole grows.
fn representation(row: &SegmentRow) -> Representation {
    let immutable = row.state == SegmentState::Sealed;
    let tag = || {
        let (id, epoch) = (row.id.seq, row.epoch.0);
        format!("\"{id}.{epoch}.{}.{}\"", row.generation, row.bytes)
    };
    Representation {
        len: row.bytes,
        etag: immutable.then(tag),
        content_type: "video/mp4",
        immutable,
    }
}
