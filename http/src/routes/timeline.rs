//! `GET /api/v1/cameras/{camera}/timeline?from&to&stream`: what is recorded, what is missing and why.

use std::time::Duration;

use archive::time::SECOND_US;
use archive::{Gap, Tier, TimeRange, WallTime};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode, Uri};
use indexer::HourCoverage;
use serde::Serialize;

use super::{AppState, blocking};
use crate::config::Action;
use crate::gate::Caller;
use crate::json;
use crate::problem::Problem;
use crate::query::Query;

/// The longest timeline.
const RANGE_MAX: Duration = Duration::from_secs(400 * 24 * 3600);
/// Longer ranges get their activity by the hour.
const BY_MINUTE_MAX_US: u64 = 8 * 24 * 3600 * SECOND_US as u64;
const MINUTE_US: i64 = 60 * SECOND_US;

#[derive(Serialize)]
struct Answer {
    camera: String,
    stream: String,
    range: TimeRange,
    runs: Vec<Run>,
    gaps: Vec<GapRow>,
    activity: Vec<Activity>,
}

#[derive(Serialize)]
struct Run {
    from: WallTime,
    to: WallTime,
    tier: Tier,
}

/// A gap; `to` is null while it lasts.
#[derive(Serialize)]
struct GapRow {
    from: WallTime,
    to: Option<WallTime>,
    cause: &'static str,
}

/// How much moves in the minute or hour that begins at `at`, 0 to 255.
#[derive(Serialize)]
struct Activity {
    at: WallTime,
    level: u8,
}

pub(super) async fn timeline(
    Caller(caller): Caller,
    State(app): AppState,
    Path(camera): Path<String>,
    uri: Uri,
) -> Result<Response<Body>, Problem> {
    let camera = app.footage.authorize(&caller, Action::View, &camera)?;
    let query = Query::parse(&uri, &["from", "to", "stream"])?;
    let range = query.range(RANGE_MAX)?;
    let stream = camera.stream(query.get("stream"))?;
    blocking(move || {
        let timeline = stream.timeline(range)?;
        let runs = timeline.runs.into_iter().map(|run| Run {
            from: run.range.from(),
            to: run.range.to(),
            tier: run.tier,
        });
        let answer = Answer {
            camera: stream.id().camera.to_string(),
            stream: stream.id().stream.to_string(),
            range,
            runs: runs.collect(),
            gaps: timeline.gaps.iter().map(GapRow::from).collect(),
            activity: activity(&stream.coverage(range)?, range),
        };
        json::answer(StatusCode::OK, &answer)
    })
    .await
}

impl From<&Gap> for GapRow {
    fn from(gap: &Gap) -> Self {
        Self {
            from: gap.from,
            to: gap.to,
            cause: gap.cause.as_str(),
        }
    }
}

/// The minutes or hours of `range` in which something moves.
fn activity(hours: &[HourCoverage], range: TimeRange) -> Vec<Activity> {
    let by_minute = range.micros() <= BY_MINUTE_MAX_US;
    let mut all = Vec::new();
    for hour in hours {
        if !by_minute {
            all.push(Activity {
                at: hour.hour,
                level: hour.activity.iter().copied().max().unwrap_or(0),
            });
            continue;
        }
        for (minute, &level) in (0i64..).zip(&hour.activity) {
            all.push(Activity {
                at: hour.hour.plus_micros(minute * MINUTE_US),
                level,
            });
        }
    }
    let length = if by_minute { MINUTE_US } else { 60 * MINUTE_US };
    let inside = |a: &Activity| a.level > 0 && a.at.plus_micros(length) > range.from() && a.at < range.to();
    all.retain(inside);
    all
}
