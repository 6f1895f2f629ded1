//! `GET /api/v1/storage/scrub`: how long ago copies were looked at, and which are wrong.

use archive::{Tier, WallTime};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::Serialize;

use super::AppState;
use crate::gate::{Caller, Client};
use crate::json;
use crate::problem::Problem;

/// Copies that are wrong, and unknown objects, in one answer.
const FAULTS_MAX: usize = 1000;

#[derive(Serialize)]
struct Answer {
    /// Whether it waits because recording has much to do.
    paused: bool,
    /// How long ago, at most, any copy was looked for; `None` where that is switched off or has not begun.
    looked_s: Option<u64>,
    tiers: Vec<TierRow>,
    /// Since the start.
    bytes: u64,
    found: u64,
    repaired: u64,
    passed_over: u64,
    faults: Vec<FaultRow>,
    /// Objects of which the index knows nothing, and the first of them.
    orphans: usize,
    first_orphans: Vec<OrphanRow>,
}

#[derive(Serialize)]
struct OrphanRow {
    tier: Tier,
    name: String,
    bytes: u64,
    found: WallTime,
}

#[derive(Serialize)]
struct TierRow {
    tier: Tier,
    /// How long ago, at most, any byte of it was read and compared.
    oldest_s: Option<u64>,
}

#[derive(Serialize)]
struct FaultRow {
    camera: String,
    stream: String,
    from: WallTime,
    to: WallTime,
    tier: Tier,
    kind: &'static str,
    found: WallTime,
    lost: bool,
}

pub(super) async fn scrub(
    Caller(caller): Caller,
    Client(client): Client,
    State(app): AppState,
) -> Result<Response<Body>, Problem> {
    let all = app.clone();
    let work = move || {
        let faults = all.footage.faults(&caller, FAULTS_MAX)?;
        let (orphans, first) = all.footage.orphans(&caller, FAULTS_MAX)?;
        let scrubbed = all.footage.pulse().scrubbed().unwrap_or_default();
        let tiers = Tier::ALL.into_iter().zip(scrubbed.oldest_s);
        json::answer(
            StatusCode::OK,
            &Answer {
                paused: scrubbed.paused,
                looked_s: scrubbed.looked_s,
                tiers: tiers.map(|(tier, oldest_s)| TierRow { tier, oldest_s }).collect(),
                bytes: scrubbed.bytes,
                found: scrubbed.found,
                repaired: scrubbed.repaired,
                passed_over: scrubbed.passed_over,
                faults: faults
                    .into_iter()
                    .map(|(fault, stream, row)| FaultRow {
                        camera: stream.camera.to_string(),
                        stream: stream.stream.to_string(),
                        from: row.wall_start,
                        to: row.wall_end,
                        tier: fault.tier,
                        kind: fault.kind.as_str(),
                        found: fault.found,
                        lost: fault.lost,
                    })
                    .collect(),
                orphans,
                first_orphans: first
                    .into_iter()
                    .map(|(tier, orphan)| OrphanRow {
                        tier,
                        name: orphan.name,
                        bytes: orphan.bytes,
                        found: orphan.found,
                    })
                    .collect(),
            },
        )
    };
    app.desk.answer(client, work).await
}
