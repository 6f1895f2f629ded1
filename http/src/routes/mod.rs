//! The routes, in one table.

mod cameras;
mod certificates;
mod event;
mod export;
mod forecast;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod health;
mod hls;
mod holds;
mod init;
mod live;
mod metrics;
mod openapi;
mod scrub;
mod seek;
mod segment;
mod snapshot;
mod status;
mod timeline;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, patch, post};

use crate::config::Action;
use crate::gate::gate;
use crate::page;
use crate::problem::{Code, Problem};
use crate::state::App;

pub(crate) use event::EventLists;
pub(crate) use live::LiveWindows;

/// What a route asks of its caller.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// Nothing.
    Public,
    /// A key with this action; for a route with a camera in its path, for that camera.
    Key(Action),
}

/// A route of the API.
#[derive(Copy, Clone, Debug)]
pub struct Route {
    /// `GET` includes `HEAD`.
    pub method: &'static str,
    /// With `{parameters}`.
    pub path: &'static str,
    /// Whom it answers.
    pub access: Access,
}

const PUBLIC: Access = Access::Public;
const VIEW: Access = Access::Key(Action::View);
const EXPORT: Access = Access::Key(Action::Export);
const HOLD: Access = Access::Key(Action::Hold);
const ADMIN: Access = Access::Key(Action::Admin);

type Entry = (&'static str, Access, MethodRouter<App>, &'static str);

/// Method, access, handler, path: everything that is not in here is a file of the page, or not found.
fn table() -> Vec<Entry> {
    vec![
        ("GET", PUBLIC, get(health::live), "/healthz"),
        ("GET", PUBLIC, get(health::ready), "/readyz"),
        ("GET", PUBLIC, get(openapi::document), "/openapi.json"),
        ("GET", VIEW, get(metrics::figures), "/metrics"),
        ("GET", VIEW, get(cameras::list), "/api/v1/cameras"),
        ("POST", ADMIN, post(cameras::add), "/api/v1/cameras"),
        ("GET", VIEW, get(cameras::show), "/api/v1/cameras/{camera}"),
        ("PATCH", ADMIN, patch(cameras::change), "/api/v1/cameras/{camera}"),
        (
            "DELETE",
            ADMIN,
            delete(cameras::remove),
            "/api/v1/cameras/{camera}",
        ),
        (
            "GET",
            VIEW,
            get(status::status),
            "/api/v1/cameras/{camera}/status",
        ),
        (
            "GET",
            VIEW,
            get(timeline::timeline),
            "/api/v1/cameras/{camera}/timeline",
        ),
        ("GET", VIEW, get(seek::seek), "/api/v1/cameras/{camera}/seek"),
        (
            "GET",
            VIEW,
            get(snapshot::snapshot),
            "/api/v1/cameras/{camera}/snapshot.jpg",
        ),
        (
            "GET",
            EXPORT,
            get(export::export),
            "/api/v1/cameras/{camera}/export.mp4",
        ),
        ("GET", VIEW, get(forecast::forecast), "/api/v1/storage/forecast"),
        ("GET", VIEW, get(holds::list), "/api/v1/holds"),
        ("POST", HOLD, post(holds::put), "/api/v1/holds"),
        ("DELETE", HOLD, delete(holds::release), "/api/v1/holds/{hold}"),
        ("GET", VIEW, get(certificates::list), "/api/v1/certificates"),
        ("GET", VIEW, get(scrub::scrub), "/api/v1/storage/scrub"),
        ("GET", VIEW, get(hls::index), "/hls/{camera}/index.m3u8"),
        ("GET", VIEW, get(live::index), "/hls/{camera}/live.m3u8"),
        ("GET", VIEW, get(hls::media), "/hls/{camera}/{stream}/media.m3u8"),
        ("GET", VIEW, get(live::media), "/hls/{camera}/{stream}/live.m3u8"),
        ("GET", VIEW, get(init::init), "/hls/{camera}/{stream}/init/{file}"),
        (
            "GET",
            VIEW,
            get(segment::segment),
            "/hls/{camera}/{stream}/seg/{file}",
        ),
    ]
}

/// Every route of the API, for tests and documents that must know them all.
pub fn all_routes() -> Vec<Route> {
    table()
        .into_iter()
        .map(|(method, access, _, path)| Route { method, path, access })
        .collect()
}

/// The routes behind their gate.
pub(crate) fn router(app: App) -> Router {
    let router = table()
        .into_iter()
        .fold(Router::new(), |router, (_, _, handler, path)| {
            router.route(path, handler)
        });
    router
        .fallback(get(page_or_nothing))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(app.clone(), gate))
        .with_state(app)
}

async fn page_or_nothing(uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    page::file(uri.path(), &headers)
}

async fn method_not_allowed() -> Problem {
    Problem::new(
        Code::MethodNotAllowed,
        "The header `Allow` lists the methods of this path.",
    )
}

/// The part of the state that handlers take.
type AppState = State<App>;
