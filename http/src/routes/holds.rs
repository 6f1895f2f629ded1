//! `/api/v1/holds`: footage that must stay, whatever rules and quotas say.

use std::time::Duration;

use archive::random::{random, sortable_name};
use archive::{CameraId, HoldId, StreamId, StreamName, TenantId, TimeRange, WallTime};
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Response, StatusCode, Uri, header};
use indexer::{Gone, Hold, HoldKind, Release};
use serde::{Deserialize, Serialize};

use super::AppState;
use crate::auth::CameraHandle;
use crate::config::Action;
use crate::gate::{Caller, Client};
use crate::json;
use crate::problem::{Code, Problem};
use crate::query::{Query, forwards};
use crate::state::Shared;

const REASON_CHARS_MAX: usize = 500;
const STREAMS_MAX: usize = 16;
/// The longest hold.
const RANGE_MAX: Duration = Duration::from_secs(3660 * 24 * 3600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewHold {
    #[serde(default)]
    kind: HoldKind,
    camera: CameraId,
    #[serde(default)]
    streams: Vec<StreamName>,
    from: WallTime,
    to: WallTime,
    reason: String,
    until: Option<WallTime>,
}

#[derive(Serialize)]
struct Shown {
    id: HoldId,
    kind: HoldKind,
    camera: CameraId,
    /// Empty: all of them.
    streams: Vec<StreamName>,
    from: WallTime,
    to: WallTime,
    reason: String,
    author: String,
    created: WallTime,
    until: Option<WallTime>,
    released: Option<Release>,
    /// Whether it keeps anything now.
    active: bool,
    /// What it covers and came too late for; said once, when it is put.
    #[serde(skip_serializing_if = "Option::is_none")]
    already_gone: Option<Vec<GoneRow>>,
}

#[derive(Serialize)]
struct GoneRow {
    stream: StreamName,
    from: WallTime,
    to: WallTime,
}

#[derive(Serialize)]
struct List {
    holds: Vec<Shown>,
}

pub(super) async fn list(
    Caller(caller): Caller,
    Client(client): Client,
    State(app): AppState,
    uri: Uri,
) -> Result<Response<Body>, Problem> {
    let query = Query::parse(&uri, &["camera"])?;
    let camera = query.get("camera").map(str::to_owned);
    if let Some(camera) = &camera {
        app.footage.authorize(&caller, Action::View, camera)?;
    }
    let (footage, now) = (app.footage.clone(), app.clock.wall());
    app.desk
        .answer(client, move || {
            let mut holds = footage.holds(&caller)?;
            holds.retain(|hold| {
                camera
                    .as_ref()
                    .is_none_or(|camera| hold.camera.as_str() == camera)
            });
            let holds = holds.into_iter().map(|hold| shown(hold, now, None)).collect();
            json::answer(StatusCode::OK, &List { holds })
        })
        .await
}

pub(super) async fn put(
    Caller(caller): Caller,
    Client(client): Client,
    State(app): AppState,
    request: Request,
) -> Result<Response<Body>, Problem> {
    if !caller.may(Action::Hold) {
        return Err(Problem::new(
            Code::Forbidden,
            "Holds need a key with the action hold.",
        ));
    }
    let new: NewHold = json::read(&app, request).await?;
    let camera = app
        .footage
        .authorize(&caller, Action::Hold, new.camera.as_str())?;
    let now = app.clock.wall();
    let range = forwards(new.from, new.to, RANGE_MAX)?;
    let streams = streams(&camera, new.streams)?;
    let until = match new.kind {
        HoldKind::Legal => until(new.until, now)?,
        HoldKind::Incident if new.until.is_some() => {
            return Err(invalid("until: an incident ends at the age that the rule names"));
        }
        HoldKind::Incident => Some(incident_end(&app, &camera, &streams, range, now)?),
    };
    let hold = Hold {
        id: fresh_id(now)?,
        version: 1,
        kind: new.kind,
        streams,
        camera: new.camera,
        from: range.from(),
        to: range.to(),
        reason: reason(&new.reason)?,
        author: caller.name().to_owned(),
        created: now,
        until,
        released: None,
    };
    app.desk
        .answer(client, move || {
            let gone = camera.hold(&hold, now)?;
            tracing::info!(
                caller = hold.author, hold = %hold.id, camera = %hold.camera, from = %hold.from, to = %hold.to,
                "footage is held"
            );
            let place = format!("/api/v1/holds/{}", hold.id);
            let mut response = json::answer(StatusCode::CREATED, &shown(hold.clone(), now, Some(gone)))?;
            let place = HeaderValue::from_str(&place).map_err(Problem::internal)?;
            response.headers_mut().insert(header::LOCATION, place);
            Ok(response)
        })
        .await
}

pub(super) async fn release(
    Caller(caller): Caller,
    Client(client): Client,
    State(app): AppState,
    Path(hold): Path<String>,
    uri: Uri,
) -> Result<Response<Body>, Problem> {
    let query = Query::parse(&uri, &["reason"])?;
    let now = app.clock.wall();
    let release = Release {
        at: now,
        by: caller.name().to_owned(),
        reason: query.get("reason").map_or(Ok(NO_REASON.to_owned()), reason)?,
    };
    let footage = app.footage.clone();
    app.desk
        .answer(client, move || {
            let hold = footage.release(&caller, &hold, &release)?;
            tracing::info!(caller = release.by, hold = %hold.id, camera = %hold.camera, "a hold is released");
            json::answer(StatusCode::OK, &shown(hold, now, None))
        })
        .await
}

fn shown(hold: Hold, now: WallTime, gone: Option<Vec<Gone>>) -> Shown {
    let row = |gone: Gone| GoneRow {
        stream: gone.stream.stream,
        from: gone.range.from(),
        to: gone.range.to(),
    };
    Shown {
        active: hold.is_active(now),
        already_gone: gone.map(|gone| gone.into_iter().map(row).collect()),
        id: hold.id,
        kind: hold.kind,
        camera: hold.camera,
        streams: hold.streams,
        from: hold.from,
        to: hold.to,
        reason: hold.reason,
        author: hold.author,
        created: hold.created,
        until: hold.until,
        released: hold.released,
    }
}

fn fresh_id(now: WallTime) -> Result<HoldId, Problem> {
    let name = sortable_name(now, random().map_err(Problem::internal)?);
    name.parse().map_err(Problem::internal)
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidBody, detail)
}

/// What stands where a hold was released without a word.
const NO_REASON: &str = "no reason given";

/// Who reads it later has nothing else to go by.
fn reason(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > REASON_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(invalid(format!(
            "reason: use 1 to {REASON_CHARS_MAX} characters, none of them control characters"
        )));
    }
    Ok(text.to_owned())
}

fn until(until: Option<WallTime>, now: WallTime) -> Result<Option<WallTime>, Problem> {
    match until {
        Some(until) if until <= now => Err(invalid("until: it has passed already, and would hold nothing")),
        until => Ok(until),
    }
}

/// When the last of an incident has the age until which its rule keeps it.
fn incident_end(
    app: &Shared,
    camera: &CameraHandle,
    streams: &[StreamName],
    range: TimeRange,
    now: WallTime,
) -> Result<WallTime, Problem> {
    let all = camera.stream_names();
    let held = if streams.is_empty() { &all } else { streams };
    let ages = held.iter().filter_map(|stream| {
        (app.incident_age)(&StreamId {
            tenant: TenantId::default(),
            camera: camera.id().clone(),
            stream: stream.clone(),
        })
    });
    let age = ages.max().ok_or_else(|| {
        invalid("kind: the rule of this camera has no `incident`; put a hold of the kind legal")
    })?;
    match range.to().plus(age) {
        end if end <= now => Err(invalid("to: it is older than the rule keeps incidents")),
        end => Ok(end),
    }
}

/// A name that the camera does not have is a slip, and would hold nothing.
fn streams(camera: &CameraHandle, names: Vec<StreamName>) -> Result<Vec<StreamName>, Problem> {
    if names.len() > STREAMS_MAX {
        return Err(invalid(format!("streams: at most {STREAMS_MAX}")));
    }
    let known = camera.stream_names();
    match names.iter().find(|name| !known.contains(name)) {
        Some(name) => Err(invalid(format!("streams: the camera has no `{name}`"))),
        None => Ok(names),
    }
}

/// A hold in the answer of a timeline.
#[derive(Serialize)]
pub(super) struct HeldRow {
    id: HoldId,
    from: WallTime,
    to: WallTime,
    reason: String,
}

impl HeldRow {
    /// What of a hold lies in `range`.
    pub(super) fn inside(hold: Hold, range: TimeRange) -> Self {
        Self {
            from: hold.from.max(range.from()),
            to: hold.to.min(range.to()),
            id: hold.id,
            reason: hold.reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_text_and_there_is_one() {
        assert_eq!(reason(" case 12 ").ok().as_deref(), Some("case 12"));
        let long = "x".repeat(REASON_CHARS_MAX + 1);
        for bad in ["", "  ", "a\nb", "\u{0}", &long] {
            assert!(reason(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_hold_that_ended_before_it_began_is_refused() {
        let now = WallTime::from_micros(5);
        assert!(until(Some(now), now).is_err());
        assert_eq!(until(None, now).ok(), Some(None));
        assert!(until(Some(WallTime::from_micros(6)), now).is_ok());
    }
}
