//! `GET /api/v1/cameras/{camera}/timeline?from&to&stream`: what is recorded, what is missing and why.

use std::time::Duration;

use archive::time::SECOND_US;
use archive::{Gap, Tier, TimeRange, WallTime};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode, Uri};
use indexer::{HourCoverage, Restore, RestoreState};
use serde::Serialize;

use super::AppState;
use super::holds::HeldRow;
use crate::auth::split;
use crate::config::Action;
use crate::gate::{Caller, Client};
use crate::json;
use crate::problem::Problem;
use crate::query::{Query, forwards};

/// The timeline of a request that does not say when it begins.
const RANGE_DEFAULT: Duration = Duration::from_secs(24 * 3600);
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
    holds: Vec<HeldRow>,
    /// What is being restored from an archive class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    restoring: Vec<Restoring>,
    activity: Vec<Activity>,
}

#[derive(Serialize)]
struct Run {
    from: WallTime,
    to: WallTime,
    tier: Tier,
    thinned: bool,
    /// Whether it has to be restored before it can be played.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    archived: bool,
}

/// Footage that can be played at `ready_at`, as far as one can tell.
#[derive(Serialize)]
struct Restoring {
    from: WallTime,
    to: WallTime,
    ready_at: WallTime,
}

/// A gap. While it lasts it is `open`, and `to` is how far that is known: now, or the end of the range.
#[derive(Serialize)]
struct GapRow {
    from: WallTime,
    to: WallTime,
    cause: &'static str,
    open: bool,
}

/// How much moves in the minute or hour that begins at `at`, 0 to 255.
#[derive(Serialize)]
struct Activity {
    at: WallTime,
    level: u8,
}

pub(super) async fn timeline(
    Caller(caller): Caller,
    Client(client): Client,
    State(app): AppState,
    Path(camera): Path<String>,
    uri: Uri,
) -> Result<Response<Body>, Problem> {
    let camera = app.footage.authorize(&caller, Action::View, &camera)?;
    let query = Query::parse(&uri, &["from", "to", "stream"])?;
    let now = app.clock.wall();
    let to = query.time("to")?.unwrap_or(now);
    let from = query.time("from")?.unwrap_or_else(|| to.minus(RANGE_DEFAULT));
    let range = forwards(from, to, RANGE_MAX)?;
    let stream = camera.stream(query.get("stream"))?;
    app.desk
        .answer(client, move || {
            let timeline = stream.timeline(range)?;
            let restores = stream.restores(range)?;
            let runs = timeline.runs.into_iter().flat_map(|run| {
                let parts = if stream.archives(run.tier) {
                    split(run.range, &restores, now)
                } else {
                    vec![(run.range, false)]
                };
                parts.into_iter().map(move |(part, archived)| Run {
                    from: part.from(),
                    to: part.to(),
                    tier: run.tier,
                    thinned: run.thinned,
                    archived,
                })
            });
            let answer = Answer {
                camera: stream.id().camera.to_string(),
                stream: stream.id().stream.to_string(),
                range,
                runs: runs.collect(),
                restoring: restoring(&restores, range),
                gaps: timeline
                    .gaps
                    .iter()
                    .filter_map(|gap| gap_row(gap, range.to().min(now)))
                    .collect(),
                holds: stream
                    .holds(range, now)
                    .into_iter()
                    .map(|hold| HeldRow::inside(hold, range))
                    .collect(),
                activity: activity(&stream.coverage(range)?, range),
            };
            json::answer(StatusCode::OK, &answer)
        })
        .await
}

/// The restores under way in `range`; those that follow each other and are ready together are one.
fn restoring(restores: &[Restore], range: TimeRange) -> Vec<Restoring> {
    let mut all: Vec<Restoring> = Vec::new();
    for restore in restores {
        let Some(part) = restore.range.intersect(range) else {
            continue;
        };
        if restore.state == RestoreState::Ready {
            continue;
        }
        match all.last_mut() {
            Some(last) if last.to == part.from() && last.ready_at == restore.ready_at => last.to = part.to(),
            _ => all.push(Restoring {
                from: part.from(),
                to: part.to(),
                ready_at: restore.ready_at,
            }),
        }
    }
    all
}

/// A gap as far as it is known at `now`; one that has not begun by then is none.
fn gap_row(gap: &Gap, now: WallTime) -> Option<GapRow> {
    let to = gap.to.unwrap_or(now);
    let row = GapRow {
        from: gap.from,
        to,
        cause: gap.cause.as_str(),
        open: gap.to.is_none(),
    };
    (gap.from < to).then_some(row)
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
