//! `GET /api/v1/cameras/{camera}/export.mp4?from&to&stream`: a range as one MP4 file that is made while it is
//! sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use archive::export::{Assembly, EXPORT_DURATION_MAX_US, ExportError, ExportFragment, ExportInput};
use archive::{InitSegment, Sha256, Tier, TimeRange};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use indexer::SegmentRow;

use super::AppState;
use crate::auth::{Ahead, StreamHandle};
use crate::config::Action;
use crate::desk::Place;
use crate::gate::{Caller, Client};
use crate::keyframe::begin;
use crate::media::{ExportReads, ReadAhead, Representation, answer};
use crate::problem::{Code, Problem};
use crate::query::Query;

const RANGE_MAX: Duration = Duration::from_micros(EXPORT_DURATION_MAX_US as u64);

/// A file laid out, and what it is read from.
struct Laid {
    assembly: Assembly,
    rows: HashMap<u64, SegmentRow>,
    gaps: usize,
}

pub(super) async fn export(
    Caller(caller): Caller,
    Client(client): Client,
    State(app): AppState,
    Path(camera): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let camera = app.footage.authorize(&caller, Action::Export, &camera)?;
    let query = Query::parse(&uri, &["from", "to", "stream"])?;
    let range = query.range(RANGE_MAX)?;
    let stream = camera.stream(query.get("stream"))?;
    let of = stream.clone();
    let size = |laid: &Laid| laid.assembly.head_len();
    let work = move |place| lay_out(&of, range, place);
    let (laid, leave) = app.desk.work_to_send(client, size, work).await?;
    let what = Representation {
        len: laid.assembly.len(),
        etag: Some(laid.assembly.etag().to_owned()),
        content_type: "video/mp4",
        immutable: false,
    };
    let (mut response, bytes) = answer(&headers, method == Method::HEAD, &what)?;
    if response.status() != StatusCode::NOT_MODIFIED {
        describe(&mut response, &stream, &laid)?;
    }
    if let Some(bytes) = bytes {
        let (turn, len) = (app.readers.turn(client).await?, bytes.end - bytes.start);
        let reads = ExportReads::new(stream, laid.rows, laid.assembly.pieces(bytes));
        *response.body_mut() = Body::new(ReadAhead::begin(reads, len).await?.holding((turn, leave)));
    }
    Ok(response)
}

/// Blocks while it reads sample tables.
fn lay_out(stream: &StreamHandle, range: TimeRange, place: Place) -> Result<Laid, Problem> {
    let nothing = || stream.no_media(range.from());
    let start = begin(stream, range.from())?
        .filter(|start| *start < range.to())
        .ok_or_else(nothing)?;
    // Pictures that follow a keyframe may lean on the GOP before it.
    let before = begin(stream, start.plus_micros(-1))?.unwrap_or(start).min(start);
    let around = TimeRange::new(before, range.to()).ok_or_else(nothing)?;
    let mut fragments = Vec::new();
    let mut inits: HashMap<Sha256, Arc<InitSegment>> = HashMap::new();
    let mut rows = HashMap::new();
    let needed = stream.fragments(around)?;
    stream.ensure_readable(needed.iter().map(|row| &row.segment), Ahead::None)?;
    if place == Place::Near && needed.iter().any(|row| row.segment.tier != Tier::Hot) {
        return Err(Problem::far());
    }
    for row in needed {
        let segment = row.segment;
        let init = match inits.get(&segment.init) {
            Some(init) => Arc::clone(init),
            None => stream.init(&segment.init)?,
        };
        inits.insert(segment.init, Arc::clone(&init));
        let with_samples = stream.open(&segment)?.samples(row.fragments)?.into_iter();
        fragments.extend(with_samples.map(|(entry, tracks)| ExportFragment {
            segment: segment.id,
            init: Arc::clone(&init),
            entry,
            tracks,
            generation: segment.generation,
        }));
        rows.insert(segment.id.seq, segment);
    }
    let input = ExportInput {
        stream: stream.id(),
        range,
        fragments: &fragments,
    };
    let assembly = Assembly::build(&input).map_err(|error| match error {
        ExportError::Nothing => nothing(),
        ExportError::TooLong | ExportError::TooManySamples => {
            Problem::new(Code::RangeTooLarge, error.to_string())
        }
        ExportError::Inconsistent { .. } => Problem::new(
            Code::IntegrityFailed,
            "The tables of the stored media contradict each other.",
        )
        .because(error),
    })?;
    let gaps = stream.gaps(assembly.shown())?.len();
    Ok(Laid { assembly, rows, gaps })
}

/// What a person who saves the file wants to know.
fn describe(response: &mut Response<Body>, stream: &StreamHandle, laid: &Laid) -> Result<(), Problem> {
    let shown = laid.assembly.shown();
    // Colons are not allowed in file names everywhere.
    let start: String = shown
        .from()
        .to_string()
        .chars()
        .take(19)
        .map(|c| if c == ':' { '-' } else { c })
        .collect();
    let id = stream.id();
    let disposition = format!(
        "attachment; filename=\"{}_{}_{start}Z.mp4\"",
        id.camera, id.stream
    );
    let rows = [
        (header::CONTENT_DISPOSITION, disposition),
        (
            HeaderName::from_static("x-tierline-from"),
            shown.from().to_string(),
        ),
        (HeaderName::from_static("x-tierline-to"), shown.to().to_string()),
        (HeaderName::from_static("x-tierline-gaps"), laid.gaps.to_string()),
    ];
    for (name, value) in rows {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_str(&value).map_err(Problem::internal)?);
    }
    Ok(())
}
