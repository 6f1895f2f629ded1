//! `GET /api/v1/cameras/{camera}/status`: how each stream of a camera does.

use archive::time::{HOUR_US, SECOND_US};
use archive::{GapCause, TimeRange, WallTime};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use indexer::{SessionState, StreamStatus};
use serde::Serialize;

use super::AppState;
use crate::auth::StreamHandle;
use crate::config::Action;
use crate::gate::Caller;
use crate::json;
use crate::problem::Problem;

#[derive(Serialize)]
struct Answer {
    camera: String,
    streams: Vec<Row>,
    /// How long all cameras of the service are recorded if nothing more can be copied to another tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    hot_hours_left: Option<f64>,
}

#[derive(Serialize, Default)]
struct Row {
    stream: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<WallTime>,
    uptime_s: u64,
    durable_until: Option<WallTime>,
    /// Received, but not durable up to here; nothing else shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    provisional_until: Option<WallTime>,
    last_fragment_age_ms: Option<i64>,
    bitrate_bps: u64,
    fps: f32,
    reconnects: u64,
    clock_offset_ms: Option<i64>,
    packets_lost: u64,
    /// Age of the oldest sealed footage that lies on the disk alone; absent where there is no other tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreplicated_s: Option<u64>,
    /// Gaps that touch the current UTC day, and their length in it; not those that somebody meant, see [`GapCause::is_meant`].
    gaps_today: usize,
    gap_seconds_today: f64,
    /// Why the last session ended, while nothing has been recorded since: a cause of gaps, and a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

pub(super) async fn status(
    Caller(caller): Caller,
    State(app): AppState,
    Path(camera): Path<String>,
) -> Result<Response<Body>, Problem> {
    let camera = app.footage.authorize(&caller, Action::View, &camera)?;
    let now = app.clock.wall();
    let mut streams = camera
        .streams()
        .iter()
        .map(|s| row(s, now))
        .collect::<Result<Vec<_>, _>>()?;
    // Set up and not begun: there is nothing to tell, but it is there.
    for config in camera.row().iter().flat_map(|row| &row.streams) {
        if !streams.iter().any(|row| row.stream == config.name.as_str()) {
            let state = if config.enabled {
                SessionState::Connecting
            } else {
                SessionState::Stopped
            }
            .as_str();
            streams.push(Row {
                stream: config.name.to_string(),
                state,
                ..Row::default()
            });
        }
    }
    json::answer(
        StatusCode::OK,
        &Answer {
            camera: camera.id().to_string(),
            streams,
            hot_hours_left: app
                .footage
                .pulse()
                .moved()
                .and_then(|moved| moved.hot_hours_left()),
        },
    )
}

fn row(stream: &StreamHandle, now: WallTime) -> Result<Row, Problem> {
    let status = stream.status();
    let durable_until = stream.live().borrow().durable_until;
    let midnight = now.plus_micros(-(now.micros() % (24 * HOUR_US)));
    let today = TimeRange::new(midnight, now).filter(|today| !today.is_empty());
    let gaps = today.map(|today| stream.gaps(today)).transpose()?;
    let mut gaps = gaps.unwrap_or_default();
    gaps.retain(|gap| !gap.cause.is_meant());
    let length = |gap: &archive::Gap| {
        let gap = TimeRange::new(gap.from, gap.to.unwrap_or(now))?;
        gap.intersect(today?).map(TimeRange::micros)
    };
    let gap_us: u64 = gaps.iter().filter_map(length).sum();
    Ok(Row {
        stream: stream.id().stream.to_string(),
        state: status.state.as_str(),
        since: (status.since > WallTime::MIN).then_some(status.since),
        uptime_s: uptime_s(&status, now),
        durable_until,
        provisional_until: status.provisional_until,
        last_fragment_age_ms: durable_until.map(|until| (now.micros_since(until) / 1000).max(0)),
        bitrate_bps: status.bitrate_bps,
        fps: status.fps,
        reconnects: status.reconnects,
        clock_offset_ms: status.clock_offset_ms,
        packets_lost: status.packets_lost,
        unreplicated_s: stream.unreplicated_s(now),
        gaps_today: gaps.len(),
        gap_seconds_today: gap_us as f64 / SECOND_US as f64,
        cause: status.last_cause.map(GapCause::as_str),
        last_error: status.last_error,
    })
}

/// How long media has been coming in.
fn uptime_s(status: &StreamStatus, now: WallTime) -> u64 {
    match status.state {
        SessionState::Recording => (now.micros_since(status.since) / SECOND_US).max(0).unsigned_abs(),
        _ => 0,
    }
}
