//! `GET /healthz` and `GET /readyz`.

use axum::extract::State;

use super::AppState;
use crate::problem::{Code, Problem};

/// The process answers.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Everything runs: recording, index, tiers.
pub(super) async fn ready(State(app): AppState) -> Result<&'static str, Problem> {
    if *app.ready.borrow() {
        Ok("ready\n")
    } else {
        Err(Problem::new(Code::NotReady, "Try again in a moment."))
    }
}
