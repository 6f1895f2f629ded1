//! `GET /api/v1/storage/forecast`: what becomes of the footage at the present rate.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode, header};

use super::AppState;
use crate::gate::Caller;
use crate::json;
use crate::problem::{Code, Problem};

/// Retention begins when what a crash left open is sealed, and looks ahead after its first pass.
const AGAIN_S: HeaderValue = HeaderValue::from_static("10");

pub(super) async fn forecast(
    Caller(caller): Caller,
    State(app): AppState,
) -> Result<Response<Body>, Problem> {
    let Some(forecast) = app.footage.forecast(&caller)? else {
        let detail = "There is no forecast yet: retention has not begun.";
        return Err(Problem::new(Code::NotReady, detail).with_header(header::RETRY_AFTER, AGAIN_S));
    };
    json::answer(StatusCode::OK, &*forecast)
}
