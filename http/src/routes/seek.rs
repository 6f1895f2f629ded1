//! `GET /api/v1/cameras/{camera}/seek?at&stream`: the fragment that holds a time, or the first one after it.

use archive::{FragmentEntry, TimeRange, WallTime};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode, Uri};
use indexer::SegmentRow;
use serde::Serialize;

use super::AppState;
use crate::auth::{Ahead, StreamHandle};
use crate::config::Action;
use crate::gate::{Caller, Client};
use crate::hls::file_name;
use crate::json;
use crate::problem::Problem;
use crate::query::Query;

#[derive(Serialize)]
struct Answer<'a> {
    camera: &'a str,
    stream: &'a str,
    at: WallTime,
    fragment: Fragment,
}

#[derive(Serialize)]
struct Fragment {
    from: WallTime,
    to: WallTime,
    keyframe: bool,
    tier: archive::Tier,
    /// Where its bytes are: a URL and a byte range of it.
    url: String,
    offset: u64,
    len: u32,
    /// Where the init segment is that its player needs first.
    init_url: String,
}

pub(super) async fn seek(
    Caller(caller): Caller,
    Client(client): Client,
    State(app): AppState,
    Path(camera): Path<String>,
    uri: Uri,
) -> Result<Response<Body>, Problem> {
    let camera = app.footage.authorize(&caller, Action::View, &camera)?;
    let query = Query::parse(&uri, &["at", "stream"])?;
    let at = query.required_time("at")?;
    let stream = camera.stream(query.get("stream"))?;
    // What is on the disk is looked up at once.
    let (row, entry) = match find(&stream, at) {
        Err(problem) if problem.needs_tables() => {
            let stream = stream.clone();
            app.desk.work(client, move || find(&stream, at)).await?
        }
        found => found?,
    };
    if stream.is_archived(&row)? {
        let (stream, row) = (stream.clone(), row.clone());
        let restoring = move || stream.ensure_readable([&row], Ahead::Playing);
        app.desk.work(client, restoring).await?;
    }
    let base = format!("/hls/{}/{}", camera.id(), stream.id().stream);
    let range = entry.range();
    let fragment = Fragment {
        from: range.from(),
        to: range.to(),
        keyframe: entry.keyframe,
        tier: row.tier,
        url: format!("{base}/seg/{}", file_name(&row)),
        offset: entry.offset,
        len: entry.len,
        init_url: format!("{base}/init/{}.mp4", row.init),
    };
    let stream = stream.id().stream.as_str();
    json::answer(
        StatusCode::OK,
        &Answer {
            camera: camera.id().as_str(),
            stream,
            at,
            fragment,
        },
    )
}

/// Segment and fragment of one version: the segment may be thinned meanwhile.
fn find(stream: &StreamHandle, at: WallTime) -> Result<(SegmentRow, FragmentEntry), Problem> {
    let none = || stream.no_media(at);
    let found = stream.seek(at)?.ok_or_else(none)?;
    let instant = TimeRange::starting(found.entry.wall_start.max(at), 1);
    let row = stream.fragments(instant)?.into_iter().next().ok_or_else(none)?;
    let entry = row.fragments.into_iter().next().ok_or_else(none)?;
    Ok((row.segment, entry))
}
