//! What types cannot say: bounds, duplicates, addresses.

use std::collections::HashSet;
use std::time::Duration;

use archive::Tier;
use archive::units::{format_duration, format_size};
use http_api::{ConfigError as HttpError, Destination, destination};
use indexer::PRIORITY_MAX;
use tiering::Rules;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::outline::KeyPath;
use super::{CameraConfig, Config};

/// Segments below this are more than object stores and file systems like; above it a day has too few.
const SEGMENT_DURATION: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// A segment holds at least one fragment of the largest size.
const SEGMENT_SIZE: (u64, u64) = (16 << 20, 4 << 30);
/// What was recorded is durable after a second at the latest.
const COMMIT_INTERVAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
const POLL_INTERVAL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(500));
const NO_DATA: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
const NO_KEYFRAME: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(600));
/// One fragment at least must be able to wait.
const BACKLOG_SIZE_MIN: u64 = 16 << 20;
/// One camera does not have more.
const STREAMS_MAX: usize = 16;

/// Every key whose value cannot be used, with what is wrong.
pub(super) fn validate(config: &Config) -> Vec<(KeyPath, String)> {
    let root = KeyPath::default();
    let mut found = Vec::new();
    if config.data_dir.as_os_str().is_empty() {
        found.push((root.key("data_dir"), "must not be empty".to_owned()));
    }
    if let Err(e) = config.http.validate() {
        let key = match e {
            HttpError::NoKey(_) => "http.listen",
            HttpError::NoConnections => "http.connections_max",
            HttpError::RedirectLifetime => "http.redirect_lifetime",
            _ => "http.api_keys",
        };
        found.push((root.key(key), e.to_string()));
    }
    if let Some(url) = &config.tiers.hot.url
        && (url.scheme() != "file" || url.to_file_path().is_err())
    {
        let what = "the hot tier is a folder on this machine: write file:///FOLDER".to_owned();
        found.push((root.key("tiers.hot.url"), what));
    }
    if config.hot_dir() == config.data_dir {
        let what =
            "the footage needs a folder of its own beside the index: add a folder to the path".to_owned();
        found.push((root.key("tiers.hot.url"), what));
    }
    for (tier, store) in config.stores() {
        let key = |key: &str| root.key("tiers").key(tier.as_str()).key(key);
        if let Some((wrong, what)) = store.problem() {
            found.push((key(wrong), what));
        }
        if tier == Tier::Warm && store.restoring().is_some() {
            let what = "what has to be restored before it can be read is for the cold tier alone".to_owned();
            found.push((key("storage_class"), what));
        }
        let hot = Url::from_directory_path(config.hot_dir()).ok();
        let others = config.stores().filter(|(other, _)| *other < tier);
        let mut others = others
            .map(|(other, store)| (other, store.url.clone()))
            .chain(hot.map(|url| (Tier::Hot, url)));
        if let Some((other, _)) = others.find(|(_, url)| overlap(url, &store.url)) {
            let what = format!(
                "this is in the same place as the {other} tier, or within it: each tier needs its own"
            );
            found.push((key("url"), what));
        }
    }
    recording(config, &root.key("recording"), &mut found);
    cameras(&config.cameras, &root.key("cameras"), &mut found);
    if let Err(e) = Rules::with_tiers(config.rules.clone(), config.below()) {
        found.push((
            root.key("rules").index(e.number.saturating_sub(1)),
            e.problem.to_string(),
        ));
    }
    if let Err(e) = config.retention.validate() {
        found.push((root.key("retention"), e.to_string()));
    }
    if let Some((wrong, what)) = config.scrub.problem() {
        found.push((root.key("scrub").key(wrong), what));
    }
    if let Some((wrong, what)) = config.checkpoint.problem() {
        found.push((root.key("checkpoint").key(wrong), what));
    }
    if EnvFilter::try_new(&config.log.level).is_err() {
        let what =
            "use error, warn, info, debug or trace, also by crate: \"info,tierline_ingest=debug\"".to_owned();
        found.push((root.key("log.level"), what));
    }
    found
}

fn recording(config: &Config, at: &KeyPath, found: &mut Vec<(KeyPath, String)>) {
    let r = &config.recording;
    for (key, value, (min, max)) in [
        ("segment_duration", r.segment_duration, SEGMENT_DURATION),
        ("commit_interval", r.commit_interval, COMMIT_INTERVAL),
        ("poll_interval", r.poll_interval, POLL_INTERVAL),
        ("no_data", r.no_data, NO_DATA),
        ("no_keyframe", r.no_keyframe, NO_KEYFRAME),
    ] {
        if !(min..=max).contains(&value) {
            let [value, min, max] = [value, min, max].map(format_duration);
            found.push((
                at.key(key),
                format!("{value} is out of range: use {min} to {max}"),
            ));
        }
    }
    let (min, max) = SEGMENT_SIZE;
    for (key, value, min, max) in [
        ("segment_size", r.segment_size, min, max),
        ("access_unit_size", r.access_unit_size, 1 << 20, 16 << 20),
        ("backlog_size", r.backlog_size, BACKLOG_SIZE_MIN, u64::MAX),
        (
            "backlog_size_all",
            r.backlog_size_all,
            r.backlog_size.max(BACKLOG_SIZE_MIN),
            u64::MAX,
        ),
    ] {
        let value_text = format_size(value);
        if value < min {
            found.push((
                at.key(key),
                format!("{value_text} is too small: use at least {}", format_size(min)),
            ));
        } else if value > max {
            found.push((
                at.key(key),
                format!("{value_text} is too large: use at most {}", format_size(max)),
            ));
        }
    }
}

/// Whether one of two places lies in the other.
fn overlap(a: &Url, b: &Url) -> bool {
    let path = |url: &Url| format!("{}/", url.path().trim_end_matches('/'));
    let (path_a, path_b) = (path(a), path(b));
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && (path_a.starts_with(&path_b) || path_b.starts_with(&path_a))
}

fn cameras(cameras: &[CameraConfig], at: &KeyPath, found: &mut Vec<(KeyPath, String)>) {
    let mut ids = HashSet::new();
    for (i, camera) in cameras.iter().enumerate() {
        let at = at.index(i);
        if !ids.insert(&camera.id) {
            found.push((
                at.key("id"),
                format!("the camera `{}` is there twice: give each its own id", camera.id),
            ));
        }
        if camera.priority > PRIORITY_MAX {
            found.push((at.key("priority"), format!("use 0 to {PRIORITY_MAX}")));
        }
        if camera.name.as_ref().is_some_and(|name| name.trim().is_empty()) {
            found.push((at.key("name"), "leave it out or give it a text".to_owned()));
        }
        if !(1..=STREAMS_MAX).contains(&camera.streams.len()) {
            found.push((
                at.key("streams"),
                format!("give a camera 1 to {STREAMS_MAX} [[cameras.streams]]"),
            ));
        }
        let mut names = HashSet::new();
        for (j, stream) in camera.streams.iter().enumerate() {
            let at = at.key("streams").index(j);
            if !names.insert(&stream.name) {
                let what = format!(
                    "the stream `{}` is there twice: give each its own name",
                    stream.name
                );
                found.push((at.key("name"), what));
            }
            let url = stream.url.expose();
            if url.scheme() != "rtsp" {
                let scheme = url.scheme();
                found.push((
                    at.key("url"),
                    format!("{scheme}:// cannot be recorded: use rtsp://"),
                ));
            } else if destination(url) == Destination::Forbidden {
                let what =
                    "this is never a camera's address (link-local, metadata, multicast or none)".to_owned();
                found.push((at.key("url"), what));
            }
        }
    }
}
