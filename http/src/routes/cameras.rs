//! `/api/v1/cameras`: the registry. Credentials in RTSP URLs go in and never come out.

use archive::{CameraId, StreamName, WallTime};
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use indexer::{CameraRow, PRIORITY_DEFAULT, PRIORITY_MAX, SecretUrl, StreamConfig, Transport};
use serde::{Deserialize, Serialize};
use url::Url;

use super::AppState;
use crate::auth::CameraHandle;
use crate::camera_url;
use crate::config::Action;
use crate::gate::Caller;
use crate::json;
use crate::problem::{Code, Problem};
use crate::state::Shared;

const NAME_CHARS_MAX: usize = 200;
const STREAMS_MAX: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCamera {
    id: CameraId,
    name: Option<String>,
    priority: Option<u8>,
    streams: Vec<NewStream>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangedCamera {
    name: Option<String>,
    priority: Option<u8>,
    streams: Option<Vec<NewStream>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewStream {
    name: StreamName,
    /// May be left out for a stream that is there already.
    url: Option<String>,
    transport: Option<Transport>,
    enabled: Option<bool>,
}

#[derive(Serialize)]
struct Camera {
    id: CameraId,
    name: String,
    priority: u8,
    streams: Vec<Stream>,
    created: Option<WallTime>,
    /// Set when the camera was removed and its footage is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<WallTime>,
    /// Whether the configuration file says what it is; then it is changed there.
    from_config: bool,
}

#[derive(Serialize)]
struct Stream {
    name: StreamName,
    /// Without user, password and query; `null` for footage without a source.
    url: Option<String>,
    has_credentials: bool,
    transport: Option<Transport>,
    enabled: bool,
}

#[derive(Serialize)]
struct List {
    cameras: Vec<Camera>,
}

pub(super) async fn list(Caller(caller): Caller, State(app): AppState) -> Result<Response<Body>, Problem> {
    let cameras = app.footage.cameras(&caller)?.iter().map(shown).collect();
    json::answer(StatusCode::OK, &List { cameras })
}

pub(super) async fn show(
    Caller(caller): Caller,
    State(app): AppState,
    Path(camera): Path<String>,
) -> Result<Response<Body>, Problem> {
    let camera = app.footage.authorize(&caller, Action::View, &camera)?;
    json::answer(StatusCode::OK, &shown(&camera))
}

pub(super) async fn add(
    Caller(caller): Caller,
    State(app): AppState,
    request: Request,
) -> Result<Response<Body>, Problem> {
    if !caller.may(Action::Admin) {
        return Err(Problem::new(
            Code::Forbidden,
            "Adding cameras needs a key with the action admin.",
        ));
    }
    let new: NewCamera = json::read(&app, request).await?;
    let row = CameraRow {
        name: name(new.name.unwrap_or_else(|| new.id.to_string()))?,
        streams: streams(&app, new.streams, &[])?,
        priority: priority(new.priority.unwrap_or(PRIORITY_DEFAULT))?,
        created: app.clock.wall(),
        removed: None,
        from_config: false,
        id: new.id,
    };
    let camera = app.footage.add(&caller, &row)?;
    tracing::info!(caller = caller.name(), camera = %row.id, "camera added");
    let mut response = json::answer(StatusCode::CREATED, &shown(&camera))?;
    let place = HeaderValue::from_str(&format!("/api/v1/cameras/{}", row.id)).map_err(Problem::internal)?;
    response.headers_mut().insert(header::LOCATION, place);
    Ok(response)
}

pub(super) async fn change(
    Caller(caller): Caller,
    State(app): AppState,
    Path(camera): Path<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let camera = app.footage.authorize(&caller, Action::Admin, &camera)?;
    let mut row = changeable(&camera)?.clone();
    let change: ChangedCamera = json::read(&app, request).await?;
    if let Some(text) = change.name {
        row.name = name(text)?;
    }
    if let Some(value) = change.priority {
        row.priority = priority(value)?;
    }
    if let Some(new) = change.streams {
        row.streams = streams(&app, new, &row.streams)?;
    }
    camera.change(&row)?;
    tracing::info!(caller = caller.name(), camera = %row.id, "camera changed");
    let camera = app.footage.authorize(&caller, Action::Admin, row.id.as_str())?;
    json::answer(StatusCode::OK, &shown(&camera))
}

pub(super) async fn remove(
    Caller(caller): Caller,
    State(app): AppState,
    Path(camera): Path<String>,
) -> Result<StatusCode, Problem> {
    let camera = app.footage.authorize(&caller, Action::Admin, &camera)?;
    changeable(&camera)?;
    if !camera.remove()? {
        return Err(Problem::not_found());
    }
    tracing::info!(caller = caller.name(), camera = %camera.id(), "camera removed, its footage stays");
    Ok(StatusCode::NO_CONTENT)
}

/// The setup of a camera that the API may change.
fn changeable(camera: &CameraHandle) -> Result<&CameraRow, Problem> {
    let row = camera
        .row()
        .filter(|row| row.removed.is_none())
        .ok_or_else(Problem::not_found)?;
    if row.from_config {
        return Err(Problem::new(
            Code::FromConfig,
            "This camera stands in the configuration file: change it there.",
        ));
    }
    Ok(row)
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidBody, detail)
}

fn name(text: String) -> Result<String, Problem> {
    let text = text.trim().to_owned();
    // Control characters and those that reverse the direction of text make one name look like another.
    let odd = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.is_empty() || text.chars().count() > NAME_CHARS_MAX || text.chars().any(odd) {
        return Err(invalid(format!(
            "name: use 1 to {NAME_CHARS_MAX} characters, none of them control characters"
        )));
    }
    Ok(text)
}

fn priority(value: u8) -> Result<u8, Problem> {
    if value <= PRIORITY_MAX {
        Ok(value)
    } else {
        Err(invalid(format!("priority: use 0 to {PRIORITY_MAX}")))
    }
}

/// Checks streams; what they leave out is taken from `old` where there is a stream of the same name.
fn streams(app: &Shared, new: Vec<NewStream>, old: &[StreamConfig]) -> Result<Vec<StreamConfig>, Problem> {
    if new.is_empty() || new.len() > STREAMS_MAX {
        return Err(invalid(format!("streams: give 1 to {STREAMS_MAX}")));
    }
    let mut streams: Vec<StreamConfig> = Vec::with_capacity(new.len());
    for stream in new {
        if streams.iter().any(|s| s.name == stream.name) {
            return Err(invalid(format!("streams: `{}` is there twice", stream.name)));
        }
        let before = old.iter().find(|s| s.name == stream.name);
        let url = match (stream.url, before) {
            (Some(text), before) => url(app, &text, before)?,
            (None, Some(before)) => before.url.clone(),
            (None, None) => return Err(invalid(format!("streams: `{}` has no url", stream.name))),
        };
        streams.push(StreamConfig {
            url,
            transport: stream
                .transport
                .or(before.map(|s| s.transport))
                .unwrap_or_default(),
            enabled: stream.enabled.or(before.map(|s| s.enabled)).unwrap_or(true),
            name: stream.name,
        });
    }
    Ok(streams)
}

/// Checks a URL. The one that was shown, without its credentials, stands for the one that has them.
fn url(app: &Shared, text: &str, before: Option<&StreamConfig>) -> Result<SecretUrl, Problem> {
    let refused = |why: String| Problem::new(Code::UrlNotAllowed, why);
    let url: Url = camera_url::parse(text).map_err(refused)?;
    if let Some(before) = before.filter(|before| before.url.redacted() == url) {
        return Ok(before.url.clone());
    }
    (app.camera_url_allowed)(&url).map_err(refused)?;
    Ok(SecretUrl::new(url))
}

fn shown(camera: &CameraHandle) -> Camera {
    let row = camera.row();
    let mut streams: Vec<Stream> = row
        .iter()
        .flat_map(|row| &row.streams)
        .map(shown_stream)
        .collect();
    for recorded in camera.streams() {
        let name = &recorded.id().stream;
        if !streams.iter().any(|s| s.name == *name) {
            let name = name.clone();
            streams.push(Stream {
                name,
                url: None,
                has_credentials: false,
                transport: None,
                enabled: false,
            });
        }
    }
    Camera {
        id: camera.id().clone(),
        name: row.map_or_else(|| camera.id().to_string(), |row| row.name.clone()),
        priority: row.map_or(PRIORITY_DEFAULT, |row| row.priority),
        streams,
        created: row.map(|row| row.created),
        removed: row.and_then(|row| row.removed),
        from_config: row.is_some_and(|row| row.from_config),
    }
}

fn shown_stream(config: &StreamConfig) -> Stream {
    Stream {
        name: config.name.clone(),
        url: Some(config.url.redacted().into()),
        has_credentials: config.url.has_credentials(),
        transport: Some(config.transport),
        enabled: config.enabled,
    }
}

/// See [`crate::fuzzing`].
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(data: &[u8]) {
    if let Ok(new) = json::parse::<NewCamera>(data) {
        if let Ok(name) = name(new.name.unwrap_or_else(|| new.id.to_string())) {
            assert!(!name.is_empty() && name.chars().count() <= NAME_CHARS_MAX);
            assert!(!name.contains(char::is_control));
        }
        let taken = priority(new.priority.unwrap_or(PRIORITY_DEFAULT));
        assert!(taken.is_ok_and(|p| p <= PRIORITY_MAX) || new.priority > Some(PRIORITY_MAX));
        for stream in new.streams {
            let _ = stream.url.map(|text| camera_url::parse(&text));
        }
    }
    let _ = json::parse::<ChangedCamera>(data).map(|change| change.name.map(name));
}
