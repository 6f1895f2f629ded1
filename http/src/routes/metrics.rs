//! `GET /metrics`: figures for Prometheus, read when they are asked for.

use std::sync::atomic::AtomicU64;

use archive::time::{HOUR_US, SECOND_US};
use archive::{Tier, TimeRange};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, header};
use indexer::{Forecast, IndexMemory, Lags, Moved, Pulse, Scrubbed, SessionState};
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::AppState;
use crate::auth::{Footage, StreamHandle};
use crate::gate::{Caller, Client};
use crate::problem::Problem;
use crate::process;
use crate::state::Shared;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stream {
    camera: String,
    stream: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamCause {
    camera: String,
    stream: String,
    cause: &'static str,
}

type Figure = Gauge<f64, AtomicU64>;

/// Figures of streams.
#[derive(Default)]
struct Streams {
    recording: Family<Stream, Gauge>,
    durable_lag: Family<Stream, Figure>,
    bitrate: Family<Stream, Figure>,
    frames: Family<Stream, Figure>,
    reconnects: Family<Stream, Counter>,
    packets_lost: Family<Stream, Counter>,
    pictures: Family<Stream, Counter>,
    unreplicated: Family<Stream, Figure>,
    gaps: Family<StreamCause, Figure>,
}

pub(super) async fn figures(
    Caller(caller): Caller,
    Client(client): Client,
    State(app): AppState,
) -> Result<Response<Body>, Problem> {
    let streams = app.footage.survey(&caller)?;
    let all = app.clone();
    let work = move || {
        let mut registry = Registry::default();
        of_process(&mut registry);
        let ours = registry.sub_registry_with_prefix("tierline");
        all.metrics.register(ours);
        of_index(ours, all.footage.index_memory().map_err(Problem::internal)?);
        of_disk(ours, &all.footage);
        of_recording(ours, all.footage.pulse());
        if let Some(moved) = all.footage.pulse().moved() {
            of_tiers(ours, &moved);
        }
        if let Some(scrubbed) = all.footage.pulse().scrubbed() {
            of_scrubbing(ours, &scrubbed);
        }
        if let Some(forecast) = all.footage.pulse().forecast() {
            of_forecast(ours, &forecast);
        }
        of_streams(ours, &all, &streams)?;
        let mut out = String::with_capacity(16 << 10);
        text::encode(&mut out, &registry).map_err(Problem::internal)?;
        let mut response = Response::new(Body::from(out));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        Ok(response)
    };
    app.desk.answer(client, work).await
}

fn of_process(registry: &mut Registry) {
    let usage = process::usage();
    let (memory, cpu, files) = (
        Figure::default(),
        Counter::<f64, AtomicU64>::default(),
        Figure::default(),
    );
    memory.set(usage.resident_bytes as f64);
    cpu.inc_by(usage.cpu_seconds);
    files.set(usage.open_files as f64);
    registry.register_with_unit("process_resident_memory", "Resident memory", Unit::Bytes, memory);
    registry.register_with_unit("process_cpu", "CPU time, user and system", Unit::Seconds, cpu);
    registry.register("process_open_fds", "Open file descriptors", files);
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Part {
    part: &'static str,
}

fn of_index(registry: &mut Registry, memory: IndexMemory) {
    let figure = Family::<Part, Figure>::default();
    for (part, bytes) in [
        ("memtables", memory.memtables),
        ("cache", memory.cache),
        ("files", memory.files),
    ] {
        figure.get_or_create(&Part { part }).set(bytes as f64);
    }
    registry.register(
        "index_memory_bytes",
        "Memory of the index, by what holds it",
        figure,
    );
}

/// How full the hot tier is, where its disk tells, and what that leads to.
fn of_disk(registry: &mut Registry, footage: &Footage) {
    if let Ok((free, all)) = footage.space() {
        for (name, help, bytes) in [
            ("disk_free", "What the disk of the hot tier has left", free),
            ("disk_size", "The size of that disk", all),
        ] {
            let figure = Figure::default();
            figure.set(bytes as f64);
            registry.register_with_unit(name, help, Unit::Bytes, figure);
        }
    }
    let below = Figure::default();
    below.set(f64::from(footage.shed_below()));
    registry.register(
        "shed_below_priority",
        "Cameras of a lower priority are not recorded, because the disk is full",
        below,
    );
}

/// What moves between the tiers, where there is more than one.
fn of_tiers(registry: &mut Registry, moved: &Moved) {
    for (name, help, value) in [
        (
            "tier_copies",
            "Copies of segments that were made on other tiers and verified",
            moved.copies,
        ),
        ("tier_copied_bytes", "Their bytes", moved.bytes),
        (
            "tier_evictions",
            "Copies that were removed because another one counts",
            moved.evictions,
        ),
        (
            "tier_failures",
            "Attempts to copy or remove a segment that failed",
            moved.failures,
        ),
    ] {
        let counter = Counter::<u64, AtomicU64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    for (name, help, value) in [
        (
            "tier_copies_under_way",
            "Copies that are being made",
            Some(moved.under_way as f64),
        ),
        (
            "tier_copies_leaving",
            "Copies that are being removed because another one counts",
            Some(moved.leaving as f64),
        ),
        (
            "unreplicated_seconds",
            "Age of the oldest complete segment that lies on the disk alone",
            Some(moved.unreplicated_s as f64),
        ),
        (
            "evictable_bytes",
            "What could leave the disk because another copy counts",
            moved.evictable_bytes.map(|bytes| bytes as f64),
        ),
        (
            "hot_hours_left",
            "How long all cameras are recorded at the present rate if nothing more can be copied",
            moved.hot_hours_left(),
        ),
    ] {
        // What is not known has no figure: 0 would be an alarm.
        let Some(value) = value else { continue };
        let figure = Figure::default();
        figure.set(value);
        registry.register(name, help, figure);
    }
}

/// How long ago copies were looked at, and what came of it.
fn of_scrubbing(registry: &mut Registry, scrubbed: &Scrubbed) {
    for (name, help, value) in [
        ("scrub_bytes", "Bytes that were read and compared", scrubbed.bytes),
        (
            "scrub_found",
            "Copies that were found wrong or missing",
            scrubbed.found,
        ),
        (
            "scrub_repaired",
            "Copies that were made anew from another one",
            scrubbed.repaired,
        ),
        (
            "scrub_passed_over",
            "Copies that could not be looked at",
            scrubbed.passed_over,
        ),
    ] {
        let counter = Counter::<u64, AtomicU64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    for (name, help, value) in [
        (
            "scrub_faults",
            "Copies that are wrong or missing now",
            scrubbed.faults,
        ),
        (
            "scrub_lost",
            "Copies of segments of which something can be read nowhere",
            scrubbed.lost,
        ),
        (
            "scrub_paused",
            "1 while it waits because recording has much to do",
            scrubbed.paused.into(),
        ),
    ] {
        let figure = Figure::default();
        figure.set(value as f64);
        registry.register(name, help, figure);
    }
    if let Some(age) = scrubbed.looked_s {
        let figure = Figure::default();
        figure.set(age as f64);
        let help = "How long ago, at most, any copy was looked for";
        registry.register("scrub_looked_seconds", help, figure);
    }
    let ages = Family::<TierLabel, Figure>::default();
    for (tier, age) in Tier::ALL.into_iter().zip(scrubbed.oldest_s) {
        if let Some(age) = age {
            let tier = TierLabel { tier: tier.as_str() };
            ages.get_or_create(&tier).set(age as f64);
        }
    }
    registry.register(
        "scrub_oldest_seconds",
        "How long ago, at most, any byte of a tier was read and compared",
        ages,
    );
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rule {
    rule: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TierLabel {
    tier: &'static str,
}

/// What becomes of the footage at the present rate. What never happens has no figure.
fn of_forecast(registry: &mut Registry, forecast: &Forecast) {
    let (at_risk, breaks, holds) = (
        Family::<Rule, Gauge>::default(),
        Family::<Rule, Figure>::default(),
        Family::<Rule, Figure>::default(),
    );
    for told in &forecast.rules {
        let rule = told
            .rule
            .map_or_else(|| "none".to_owned(), |number| number.to_string());
        let labels = Rule { rule };
        at_risk.get_or_create(&labels).set(i64::from(told.at_risk));
        if let Some(risk) = told.breaks() {
            breaks.get_or_create(&labels).set(risk.days);
        }
        if let Some(days) = told.days_will_hold {
            holds.get_or_create(&labels).set(days);
        }
    }
    registry.register(
        "retention_at_risk",
        "1 when the minimum of a rule is forecast to break within `warn_before`",
        at_risk,
    );
    registry.register(
        "retention_breaks_in_days",
        "Days until the minimum of a rule breaks",
        breaks,
    );
    registry.register(
        "retention_will_hold_days",
        "The least that a stream of a rule holds in balance",
        holds,
    );
    let full = Family::<TierLabel, Figure>::default();
    let tiers = forecast
        .tiers
        .iter()
        .map(|told| (told.tier.as_str(), told.days_to_full));
    for (tier, days) in tiers.chain([("hot", forecast.disk.days_to_full)]) {
        if let Some(days) = days {
            full.get_or_create(&TierLabel { tier }).set(days);
        }
    }
    registry.register(
        "days_to_full",
        "Days until a tier is as full as it may get, at the present rate",
        full,
    );
}

/// A histogram that is counted elsewhere.
#[derive(Debug)]
struct Counted(Lags);

impl EncodeMetric for Counted {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let buckets: Vec<_> = (self.0.buckets.iter())
            .map(|(bound, count)| (if bound.is_finite() { *bound } else { f64::MAX }, *count))
            .collect();
        encoder.encode_histogram::<NoLabelSet>(self.0.sum, self.0.count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// How recording as a whole keeps up.
fn of_recording(registry: &mut Registry, pulse: &Pulse) {
    let keeping = pulse.keeping();
    registry.register(
        "durable_lag_seconds",
        "From when a camera sent the last sample of a fragment until it was durable",
        Counted(pulse.lags()),
    );
    for (name, help, value) in [
        (
            "waiting_seconds",
            "Age of the oldest complete fragment that is being made durable",
            pulse.waited().as_secs_f64(),
        ),
        (
            "waiting_bytes",
            "Complete fragments that are not durable yet",
            keeping.waiting_bytes as f64,
        ),
        (
            "commit_seconds",
            "How long the last commit took",
            keeping.commit.as_secs_f64(),
        ),
        (
            "ingest_behind_seconds",
            "How late samples are read, the median of all cameras",
            keeping.behind.as_secs_f64(),
        ),
        (
            "ingest_busy_ratio",
            "Share of its time that the thread of all sessions works",
            f64::from(keeping.busy),
        ),
        (
            "streams_shed",
            "Streams not recorded because there is more than this machine can do",
            keeping.shed as f64,
        ),
    ] {
        let figure = Figure::default();
        figure.set(value);
        registry.register(name, help, figure);
    }
}

fn of_streams(registry: &mut Registry, app: &Shared, streams: &[StreamHandle]) -> Result<(), Problem> {
    let all = Streams::default();
    let now = app.clock.wall();
    let day = TimeRange::new(now.plus_micros(-24 * HOUR_US), now);
    for handle in streams {
        let (camera, stream) = (handle.id().camera.to_string(), handle.id().stream.to_string());
        let labels = Stream { camera, stream };
        let status = handle.status();
        all.recording
            .get_or_create(&labels)
            .set(i64::from(status.state == SessionState::Recording));
        if let Some(until) = handle.live().borrow().durable_until {
            all.durable_lag
                .get_or_create(&labels)
                .set(now.micros_since(until) as f64 / SECOND_US as f64);
        }
        all.bitrate.get_or_create(&labels).set(status.bitrate_bps as f64);
        all.frames.get_or_create(&labels).set(f64::from(status.fps));
        all.reconnects.get_or_create(&labels).inc_by(status.reconnects);
        all.packets_lost
            .get_or_create(&labels)
            .inc_by(status.packets_lost);
        all.pictures.get_or_create(&labels).inc_by(status.pictures);
        if let Some(seconds) = handle.unreplicated_s(now) {
            all.unreplicated.get_or_create(&labels).set(seconds as f64);
        }
        let Some(day) = day else { continue };
        for gap in handle.gaps(day)? {
            let missing = TimeRange::new(gap.from, gap.to.unwrap_or(now)).and_then(|gap| gap.intersect(day));
            let Stream { camera, stream } = labels.clone();
            let labels = StreamCause {
                camera,
                stream,
                cause: gap.cause.as_str(),
            };
            let seconds = missing.map_or(0, TimeRange::micros) as f64 / SECOND_US as f64;
            all.gaps.get_or_create(&labels).inc_by(seconds);
        }
    }
    registry.register("stream_recording", "1 while media comes in", all.recording);
    registry.register(
        "stream_durable_lag_seconds",
        "Age of the newest durable media",
        all.durable_lag,
    );
    registry.register("stream_bitrate_bps", "Bits received per second", all.bitrate);
    registry.register(
        "stream_frames_per_second",
        "Pictures received per second",
        all.frames,
    );
    registry.register("stream_reconnects", "Sessions begun again", all.reconnects);
    registry.register("stream_packets_lost", "RTP packets lost", all.packets_lost);
    registry.register("stream_pictures", "Pictures handed to the disk", all.pictures);
    registry.register(
        "stream_unreplicated_seconds",
        "Age of the oldest complete segment of a stream that lies on the disk alone, where there is another tier",
        all.unreplicated,
    );
    registry.register(
        "stream_gap_seconds",
        "Time without media in the last 24 hours, by cause",
        all.gaps,
    );
    Ok(())
}
