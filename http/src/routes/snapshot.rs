//! `GET /api/v1/cameras/{camera}/snapshot.jpg?at&width&stream`: a still.

use archive::time::SECOND_US;
use archive::{Tier, TimeRange, Timescale, WallTime};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, Response, Uri, header};
use bytes::Bytes;
use http_body_util::Full;
use indexer::SegmentFragments;

use super::AppState;
use crate::auth::{Ahead, FootageFile, StreamHandle};
use crate::config::Action;
use crate::decoder::{self, PIXELS_MAX, WIDTH_MAX, WIDTH_MIN};
use crate::desk::Place;
use crate::gate::{Caller, Client};
use crate::keyframe::begin;
use crate::media::Held;
use crate::problem::{Code, Problem};
use crate::query::Query;

/// More is not read for one picture. Only a GOP of minutes is larger.
const BYTES_MAX: u64 = 64 << 20;

/// Media that holds a picture.
struct Source {
    /// Init segment and fragments from the keyframe on.
    bytes: Vec<Bytes>,
    /// Where in it the picture is, after the first one.
    offset_us: i64,
    /// When the picture was taken.
    at: WallTime,
}

pub(super) async fn snapshot(
    Caller(caller): Caller,
    Client(client): Client,
    State(app): AppState,
    Path(camera): Path<String>,
    uri: Uri,
) -> Result<Response<Body>, Problem> {
    let camera = app.footage.authorize(&caller, Action::View, &camera)?;
    let query = Query::parse(&uri, &["at", "width", "stream"])?;
    let at = query.time("at")?;
    let width = query.get("width").map(width).transpose()?;
    let stream = camera.stream(query.get("stream"))?;
    let of = stream.clone();
    let spot = app.desk.work(client, move || locate(&of, at)).await?;
    // Nothing is read for a picture that has to wait; but what a store is asked for keeps no turn of the decoder.
    let is_far = spot.rows.iter().any(|row| row.segment.tier != Tier::Hot);
    let (_far, turn, source) = if is_far {
        let far = decoder::turn(&app.far_stills).await?;
        let source = app
            .desk
            .work_in(Place::Far, client, move || source(&stream, &spot))
            .await?;
        (Some(far), decoder::turn(&app.decoders).await?, source)
    } else {
        let turn = decoder::turn(&app.decoders).await?;
        let source = app.desk.work(client, move || source(&stream, &spot)).await?;
        (None, turn, source)
    };
    let taken = source.at;
    let picture = decoder::picture(turn, source.bytes, source.offset_us, width).await?;
    let leave = app.desk.leave(client, picture.len() as u64).await?;
    let mut response = Response::new(Body::new(Held::new(Full::new(picture), leave)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    let taken = HeaderValue::from_str(&taken.to_string()).map_err(Problem::internal)?;
    headers.insert(HeaderName::from_static("x-tierline-at"), taken);
    Ok(response)
}

fn width(text: &str) -> Result<u32, Problem> {
    let width = text
        .parse()
        .ok()
        .filter(|width| (WIDTH_MIN..=WIDTH_MAX).contains(width));
    width.ok_or_else(|| {
        Problem::new(
            Code::InvalidParameter,
            format!("width: use {WIDTH_MIN} to {WIDTH_MAX}"),
        )
    })
}

/// Where a picture is: in the last of these, whose first begins with the keyframe that it needs.
struct Spot {
    rows: Vec<SegmentFragments>,
    start: WallTime,
    at: WallTime,
}

/// Where the picture at `at` is, or the newest one.
fn locate(stream: &StreamHandle, at: Option<WallTime>) -> Result<Spot, Problem> {
    let newest = stream.live().borrow().durable_until;
    let at = at
        .or(newest.map(|until| until.plus_micros(-1)))
        .unwrap_or(WallTime::MIN);
    let found = stream
        .seek(at)?
        .filter(|found| found.entry.range().contains(at))
        .ok_or_else(|| stream.no_media(at))?;
    let start = begin(stream, at)?
        .filter(|start| *start <= at)
        .unwrap_or(found.entry.wall_start);
    let range = TimeRange::new(start, at.plus_micros(1)).ok_or_else(|| stream.no_media(at))?;
    let mut rows = stream.fragments(range)?;
    // A change of parameters within the GOP ends what can be decoded in one go.
    if let Some(last) = rows.last().map(|row| row.segment.init) {
        rows.retain(|row| row.segment.init == last);
    }
    let size: u64 = rows
        .iter()
        .flat_map(|row| &row.fragments)
        .map(|entry| u64::from(entry.len))
        .sum();
    if size > BYTES_MAX {
        return Err(Problem::new(
            Code::DecoderFailed,
            "The keyframe lies too far before this time.",
        ));
    }
    stream.ensure_readable(rows.iter().map(|row| &row.segment), Ahead::None)?;
    Ok(Spot { rows, start, at })
}

/// The media for a picture. Blocks while it is read.
fn source(stream: &StreamHandle, spot: &Spot) -> Result<Source, Problem> {
    let Spot { rows, start, at } = spot;
    let (start, at) = (*start, *at);
    let first = rows.first().ok_or_else(|| stream.no_media(at))?;
    let init = stream.init(&first.segment.init)?;
    let pixels = init.video().map(|v| u32::from(v.width) * u32::from(v.height));
    if pixels > Some(PIXELS_MAX) {
        return Err(Problem::new(Code::DecoderFailed, "The picture is too large."));
    }
    let mut bytes = vec![init.bytes.clone()];
    let start = first.fragments.first().map_or(start, |entry| entry.wall_start);
    let mut offset_us = at.micros_since(start).clamp(0, 3600 * SECOND_US);
    for row in rows {
        let mut file = stream.open(&row.segment)?;
        for entry in &row.fragments {
            bytes.extend(file.fragment(entry)?);
        }
        if row.segment.generation > 0 {
            offset_us =
                last_shown(&file, row, init.video().map(|v| v.timescale), start, at)?.unwrap_or(offset_us);
        }
    }
    Ok(Source { bytes, offset_us, at })
}

/// How long after `start` the last picture is shown that is at `at` or before, among those of a thinned segment: each is shown
/// until the next, which may be much later.
fn last_shown(
    file: &FootageFile,
    row: &SegmentFragments,
    timescale: Option<Timescale>,
    start: WallTime,
    at: WallTime,
) -> Result<Option<i64>, Problem> {
    let Some(timescale) = timescale else {
        return Ok(None);
    };
    let mut last = None;
    for (entry, tracks) in file.samples(row.fragments.clone())? {
        let begins = entry.wall_start.micros_since(start);
        let Some(video) = tracks.first() else { continue };
        let mut decoded = video.base_media_time as i64;
        for sample in &video.samples {
            let shown = decoded + i64::from(sample.composition_offset) - entry.media_start as i64;
            decoded += i64::from(sample.duration);
            let offset_us = begins + timescale.to_micros(shown);
            if start.plus_micros(offset_us) <= at {
                last = last.max(Some(offset_us));
            }
        }
    }
    Ok(last)
}
