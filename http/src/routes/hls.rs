//! `GET /hls/{camera}/index.m3u8?from&to` and the media playlists that it names.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use archive::{Sha256, TimeRange, WallTime};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Response, Uri, header};
use indexer::{SegmentFragments, SegmentRow};

use super::{AppState, event};
use crate::auth::{Ahead, StreamHandle};
use crate::config::Action;
use crate::gate::{Caller, Client};
use crate::hls::{CONTENT_TYPE, Codecs, Variant, multivariant, vod};
use crate::keyframe::begin;
use crate::problem::{Code, Problem};
use crate::query::{Query, forwards};

/// The longest playlist.
const RANGE_MAX: Duration = Duration::from_secs(31 * 24 * 3600);

/// What a playlist is asked to cover: up to a time, or on into live.
struct Span {
    from: WallTime,
    to: Option<WallTime>,
}

impl Span {
    fn parse(query: &Query, now: WallTime) -> Result<Self, Problem> {
        let (from, to) = (query.required_time("from")?, query.time("to")?);
        // Without an end it has to be possible to get to now.
        forwards(from, to.unwrap_or(now.max(from.plus_micros(1))), RANGE_MAX)?;
        Ok(Self { from, to })
    }

    fn end(&self) -> WallTime {
        self.to.unwrap_or(WallTime::MAX)
    }

    /// For the URIs within a playlist.
    fn query(&self) -> String {
        match self.to {
            Some(to) => format!("from={}&to={}", self.from.micros(), to.micros()),
            None => format!("from={}", self.from.micros()),
        }
    }
}

/// One entry per stream that has footage there.
pub(super) async fn index(
    Caller(caller): Caller,
    Client(client): Client,
    State(app): AppState,
    Path(camera): Path<String>,
    uri: Uri,
) -> Result<Response<Body>, Problem> {
    let camera = app.footage.authorize(&caller, Action::View, &camera)?;
    let query = Query::parse(&uri, &["from", "to", "stream"])?;
    let span = Span::parse(&query, app.clock.wall())?;
    let first = camera.stream(query.get("stream"))?;
    let streams = if query.get("stream").is_some() {
        vec![first.clone()]
    } else {
        camera.streams()
    };
    app.desk
        .answer(client, move || {
            let variants = streams
                .iter()
                .map(|s| variant_of(s, &span))
                .filter_map(Result::transpose);
            let variants: Vec<Variant> = variants.collect::<Result<_, _>>()?;
            if variants.is_empty() {
                return Err(first.no_media(span.from));
            }
            ensure_playable(&streams, &span)?;
            Ok(playlist(multivariant(variants)))
        })
        .await
}

/// Fails when nothing of the streams can be played before it is restored, and has that begun for the first of them. A
/// playlist of which some can be played lists all: its player is told of the rest when it comes to that.
fn ensure_playable(streams: &[StreamHandle], span: &Span) -> Result<(), Problem> {
    let Some(range) = span.to.and_then(|to| TimeRange::new(span.from, to)) else {
        return Ok(());
    };
    let mut archived = None;
    for stream in streams {
        let rows = stream.segments(range)?;
        if has_playable(stream, rows.iter())? {
            return Ok(());
        }
        if archived.is_none() && !rows.is_empty() {
            archived = Some((stream, rows));
        }
    }
    archived.map_or(Ok(()), |(stream, rows)| {
        stream.ensure_readable(&rows, Ahead::Playing)
    })
}

fn has_playable<'a>(
    stream: &StreamHandle,
    rows: impl Iterator<Item = &'a SegmentRow>,
) -> Result<bool, Problem> {
    for row in rows {
        if !stream.is_archived(row)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn variant_of(stream: &StreamHandle, span: &Span) -> Result<Option<Variant>, Problem> {
    let start = if span.to.is_none() {
        event::first(stream, span.from)?
    } else {
        begin(stream, span.from)?
    };
    let Some(start) = start.filter(|start| *start < span.end()) else {
        return Ok(None);
    };
    let Some(range) = TimeRange::new(start, span.end()) else {
        return Ok(None);
    };
    let segments = stream.segments(range)?;
    let uri = format!("{}/media.m3u8?{}", stream.id().stream, span.query());
    variant(stream, uri, &segments).map(Some)
}

/// The entry of a stream in a multivariant playlist.
pub(super) fn variant(
    stream: &StreamHandle,
    uri: String,
    segments: &[SegmentRow],
) -> Result<Variant, Problem> {
    let mut hashes: Vec<Sha256> = Vec::new();
    for segment in segments {
        if !hashes.contains(&segment.init) {
            hashes.push(segment.init);
        }
    }
    let inits = hashes
        .iter()
        .map(|hash| stream.init(hash))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Variant::new(
        stream.id().stream.to_string(),
        uri,
        segments,
        &inits,
    ))
}

/// The fragments of a stream in a range, or from a time on.
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
    let query = Query::parse(&uri, &["from", "to"])?;
    let span = Span::parse(&query, app.clock.wall())?;
    if span.to.is_none() {
        return event::media(app, client, stream, span.from).await;
    }
    app.desk
        .answer(client, move || {
            let start = begin(&stream, span.from)?.filter(|start| *start < span.end());
            let start = start.ok_or_else(|| stream.no_media(span.from))?;
            let range = TimeRange::new(start, span.end()).ok_or_else(|| stream.no_media(span.from))?;
            let rows = stream.fragments(range)?;
            if !has_playable(&stream, rows.iter().map(|row| &row.segment))? {
                stream.ensure_readable(rows.iter().map(|row| &row.segment), Ahead::Playing)?;
            }
            let codecs = codecs(&stream, &rows)?;
            Ok(playlist(vod(&rows, &codecs, span.from.micros_since(start))))
        })
        .await
}

/// The video timescales of the init segments that `rows` name.
pub(super) fn codecs(stream: &StreamHandle, rows: &[SegmentFragments]) -> Result<Codecs, Problem> {
    let mut codecs: Codecs = HashMap::new();
    for row in rows {
        if let Entry::Vacant(entry) = codecs.entry(row.segment.init) {
            let init = stream.init(&row.segment.init)?;
            let none = || Problem::new(Code::IntegrityFailed, "An init segment has no video.");
            entry.insert(init.video().ok_or_else(none)?.timescale);
        }
    }
    Ok(codecs)
}

/// A playlist as an answer.
pub(super) fn playlist(body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
