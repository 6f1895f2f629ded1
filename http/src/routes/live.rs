//! `GET /hls/{camera}/live.m3u8` and the media playlists that it names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use archive::time::SECOND_US;
use archive::{FragmentEntry, StreamNo, TimeRange, WallTime};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, Uri};
use bytes::Bytes;
use indexer::SegmentRow;

use super::AppState;
use super::hls::{codecs, playlist, variant};
use crate::auth::StreamHandle;
use crate::config::Action;
use crate::gate::{Caller, Client};
use crate::hls::{LOOK_BACK_US, LiveWindow, Variant, multivariant};
use crate::problem::{Code, Problem};
use crate::query::Query;

/// A stream whose newest footage is older than this is not live.
const LIVE_MAX_US: i64 = 60 * SECOND_US;
/// The segments from which a live stream's rate is taken.
const RATE_US: i64 = 300 * SECOND_US;

/// The windows of the streams that someone has watched: one per stream, however many watch.
#[derive(Debug, Default)]
pub(crate) struct LiveWindows(Mutex<HashMap<StreamNo, Arc<Mutex<Watched>>>>);

#[derive(Debug, Default)]
struct Watched {
    window: LiveWindow,
    /// The commit that `text` shows.
    commits: u64,
    text: Bytes,
}

impl LiveWindows {
    fn of(&self, stream: StreamNo) -> Arc<Mutex<Watched>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(stream).or_default())
    }
}

/// Until when a stream is durable, if that is near enough to now.
fn live_until(stream: &StreamHandle, now: WallTime) -> Option<WallTime> {
    let until = stream.live().borrow().durable_until;
    until.filter(|until| now.micros_since(*until) <= LIVE_MAX_US)
}

fn not_live(stream: &StreamHandle, now: WallTime) -> Problem {
    let problem = Problem::new(
        Code::NoMedia,
        "This camera is not recording now; `nearest` says where footage is.",
    );
    match stream.nearest(now) {
        Ok(nearest) => problem.with_nearest(nearest),
        Err(error) => error,
    }
}

/// One entry per stream that is live.
pub(super) async fn index(
    Caller(caller): Caller,
    Client(client): Client,
    State(app): AppState,
    Path(camera): Path<String>,
    uri: Uri,
) -> Result<Response<Body>, Problem> {
    let camera = app.footage.authorize(&caller, Action::View, &camera)?;
    let query = Query::parse(&uri, &["stream"])?;
    let first = camera.stream(query.get("stream"))?;
    let streams = if query.get("stream").is_some() {
        vec![first.clone()]
    } else {
        camera.streams()
    };
    let now = app.clock.wall();
    app.desk
        .answer(client, move || {
            let mut variants: Vec<Variant> = Vec::new();
            for stream in &streams {
                let Some(until) = live_until(stream, now) else {
                    continue;
                };
                let Some(recent) = TimeRange::new(until.plus_micros(-RATE_US), WallTime::MAX) else {
                    continue;
                };
                let uri = format!("{}/live.m3u8", stream.id().stream);
                variants.push(variant(stream, uri, &stream.segments(recent)?)?);
            }
            if variants.is_empty() {
                return Err(not_live(&first, now));
            }
            Ok(playlist(multivariant(variants)))
        })
        .await
}

/// The newest fragments of a stream.
pub(super) async fn media(
    Caller(caller): Caller,
    Client(client): Client,
    State(app): AppState,
    Path((camera, stream)): Path<(String, String)>,
    uri: Uri,
) -> Result<Response<Body>, Problem> {
    let stream = app
        .footage
        .authorize(&caller, Action::View, &camera)?
        .stream(Some(&stream))?;
    Query::parse(&uri, &[])?;
    let now = app.clock.wall();
    // Read from memory unless something was recorded since; then it is a few rows.
    let watched = app.lives.of(stream.no());
    let text = match text(&stream, &watched, now) {
        Err(problem) if problem.needs_tables() => {
            app.desk
                .work(client, move || text(&stream, &watched, now))
                .await?
        }
        text => text?,
    };
    Ok(playlist(text))
}

fn text(stream: &StreamHandle, watched: &Mutex<Watched>, now: WallTime) -> Result<Bytes, Problem> {
    let until = live_until(stream, now).ok_or_else(|| not_live(stream, now))?;
    let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
    let commits = stream.live().borrow().commits;
    let recorded = watched.text.is_empty() || watched.commits != commits;
    if recorded {
        refresh(&mut watched.window, stream, until)?;
    }
    let shown = watched
        .window
        .begin()
        .and_then(|from| TimeRange::new(from, until.max(from)));
    let damage = shown.map_or(Ok(Vec::new()), |range| stream.damage(range))?;
    let is_damaged =
        |segment: &SegmentRow, entry: &FragmentEntry| damage.iter().any(|d| d.is_of(segment.id, entry));
    if watched.window.mark(is_damaged) || recorded {
        let text = watched.window.text().ok_or_else(|| not_live(stream, now))?;
        watched.text = Bytes::from(text);
        watched.commits = commits;
    }
    Ok(watched.text.clone())
}

/// Brings `window` up to `until`.
fn refresh(window: &mut LiveWindow, stream: &StreamHandle, until: WallTime) -> Result<(), Problem> {
    if window.is_stale(until) {
        window.clear();
    }
    let from = window.end().unwrap_or_else(|| until.plus_micros(-LOOK_BACK_US));
    let Some(range) = TimeRange::new(from, WallTime::MAX) else {
        return Ok(());
    };
    let rows = stream.fragments(range)?;
    let codecs = codecs(stream, &rows)?;
    window.extend(rows, &codecs);
    Ok(())
}
