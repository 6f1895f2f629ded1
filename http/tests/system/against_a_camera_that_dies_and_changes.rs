//! A camera that dies and comes back, changes its parameters, or refuses the password is recorded as far as
//! it can be, and what cannot be is said.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use archive::WallTime;
use rustix::process::Signal;

use crate::peers::{GstCamera, assert_decodes, packets};
use crate::rig::{Api, Service, Site, beside_others, now, wait_for};

const YARD: &str = "yard";
const VAULT: &str = "vault";
/// What must never be seen.
const SECRETS: [&str; 2] = ["not-the-pass", "keeper-of-keys"];
/// Long enough for a few GOPs.
const A_WHILE: Duration = Duration::from_secs(5);
/// How long the camera is away.
const AWAY: Duration = Duration::from_secs(3);
/// What may be lost of what the camera sent before it died.
const LOST_MAX_US: i64 = 1_000_000;
/// How soon a camera that is back must be recorded again.
const BACK_MAX: Duration = Duration::from_secs(15);

#[test]
fn a_camera_that_dies_changes_or_refuses_is_recorded_as_far_as_it_can_be() {
    let _turn = beside_others();
    let folder = tempfile::tempdir().expect("a folder");
    let mut yard = GstCamera::start(folder.path(), YARD, &["--audio", "aac", "--bframes", "2"]);
    let vault = GstCamera::start(
        folder.path(),
        VAULT,
        &["--user", SECRETS[1], "--password", "right"],
    );
    let login = format!("rtsp://{}:{}@", SECRETS[1], SECRETS[0]);
    let wrong = vault.url.replace("rtsp://", &login);
    let mut site = Site::of(vec![(YARD.into(), yard.url.clone()), (VAULT.into(), wrong)]);
    let service = site.start();
    let api = service.api();
    let yard_only = [YARD.to_owned()];
    service.wait_until_recording(&yard_only, BACK_MAX);
    sleep(A_WHILE);

    let died = now();
    yard.kill();
    sleep(AWAY);
    yard.start_again();
    let back = now();
    service.wait_until_durable(&yard_only, BACK_MAX);
    sleep(A_WHILE);
    assert_gap(&api, died, back);
    assert!(api.status(YARD).expect("a status").reconnects >= 1);

    let before = site.segments().len();
    let changed = now();
    yard.signal(Signal::USR1);
    sleep(A_WHILE);
    service.wait_until_durable(&yard_only, BACK_MAX);
    assert!(site.segments().len() > before, "the change began no segment");
    let timeline = api.timeline(YARD).expect("a timeline");
    let (first, last) = (timeline.runs[0].from, timeline.runs[timeline.runs.len() - 1].to);
    assert_playlist(&api, changed.minus(AWAY), last, 0);
    assert_playlist(&api, first, last, 1);
    let export = |from, name| {
        let path = format!("/api/v1/cameras/{YARD}/export.mp4?from={from}&to={last}");
        let file = folder.path().join(name);
        fs::write(&file, api.fetch(&path)).expect("an export");
        assert_decodes(&file);
        let pictures = packets(&file, "v").iter().filter(|packet| !packet.hidden).count();
        println!("{name}: {pictures} pictures");
        pictures
    };
    let over_change = export(changed.minus(AWAY), "over-the-change.mp4");
    let over_all = export(first, "over-everything.mp4");
    assert!(over_all > over_change && over_change > 15 * A_WHILE.as_secs() as usize / 2);

    assert_refused(&service);
    assert_logged(&service.log());
    service.stop();
    for segment in site.segments() {
        assert_decodes(&segment);
    }
    site.assert_whole();
}

/// Fails unless what is missing while the camera was away is one whole with a cause that says so.
fn assert_gap(api: &Api, died: WallTime, back: WallTime) {
    let timeline = api.timeline(YARD).expect("a timeline");
    let middle = died.plus_micros(back.micros_since(died) / 2);
    let of_the_outage = timeline
        .gaps
        .iter()
        .filter(|gap| gap.to > died && gap.from < back && gap.cause != "connecting");
    let gaps: Vec<_> = of_the_outage.collect();
    println!("died {died}, back {back}: {gaps:?}");
    let causes = ["session_lost", "unreachable", "refused"];
    assert!(!gaps.is_empty() && gaps.iter().all(|gap| causes.contains(&gap.cause.as_str())));
    let early_us = gaps.iter().map(|gap| died.micros_since(gap.from)).max();
    assert!(
        early_us < Some(LOST_MAX_US),
        "what was sent before it died was lost"
    );
    assert!(gaps.iter().any(|gap| gap.from < middle && gap.to > middle));
    assert!(
        timeline
            .runs
            .iter()
            .all(|run| run.to < middle || run.from > middle)
    );
    let mut spans: Vec<_> = timeline.runs.iter().map(|run| (run.from, run.to)).collect();
    spans.extend(timeline.gaps.iter().map(|gap| (gap.from, gap.to)));
    spans.sort_unstable();
    for pair in spans.windows(2) {
        assert_eq!(pair[0].1, pair[1].0, "neither recorded nor missing: {spans:?}");
    }
}

/// Fails unless the playlist has two init segments, and a discontinuity wherever one ends or a gap is.
fn assert_playlist(api: &Api, from: WallTime, to: WallTime, gaps: usize) {
    let multivariant = format!("/hls/{YARD}/index.m3u8?from={from}&to={to}");
    let text = |path: &str| String::from_utf8(api.fetch(path)).expect("text");
    let index = text(&multivariant);
    let variant = index
        .lines()
        .find(|line| !line.starts_with('#'))
        .expect("a variant");
    let path = if variant.starts_with('/') {
        variant.to_owned()
    } else {
        format!("/hls/{YARD}/{variant}")
    };
    let playlist = text(&path);
    let with = |tag: &str| {
        playlist
            .lines()
            .filter(|line| line.starts_with(tag))
            .collect::<Vec<_>>()
    };
    let mut maps = with("#EXT-X-MAP");
    maps.dedup();
    assert_eq!(maps.len(), 2, "{playlist}");
    assert_eq!(with("#EXT-X-DISCONTINUITY").len(), 1 + gaps, "{playlist}");
    let change = playlist.find(maps[1]).expect("the second init segment");
    let before = &playlist[..change];
    let since_media = before.rfind("#EXTINF").expect("media before it");
    assert!(
        before[since_media..].contains("#EXT-X-DISCONTINUITY"),
        "{playlist}"
    );
}

/// Fails unless the camera whose password is wrong says so, and the service keeps what it knows to itself.
fn assert_refused(service: &Service) {
    let api = service.api();
    let status = wait_for("the wait for the next attempt", BACK_MAX, || {
        api.status(VAULT).ok().filter(|status| status.state == "backoff")
    });
    assert!(status.last_error.is_some(), "{status:?}");
    let timeline = api.timeline(VAULT).expect("a timeline");
    assert!(timeline.runs.is_empty());
    assert!(
        timeline.gaps.iter().any(|gap| gap.cause == "refused"),
        "{:?}",
        timeline.gaps
    );
    println!("vault: {:?}; {:?}", status.last_error, timeline.gaps);

    let mut said = vec![("the log".to_owned(), service.log())];
    for path in [
        "/api/v1/cameras".to_owned(),
        format!("/api/v1/cameras/{VAULT}"),
        format!("/api/v1/cameras/{VAULT}/status"),
        "/metrics".to_owned(),
    ] {
        let body = String::from_utf8(api.fetch(&path)).expect("text");
        said.push((path, body));
    }
    for (place, text) in &said {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{place} tells a secret:\n{text}");
        }
    }
}

/// Fails unless the log tells once what has happened, however often was tried.
fn assert_logged(log: &str) {
    let count = |camera: &str, what: &str| {
        let told = log
            .lines()
            .filter(|line| line.contains(camera) && line.contains(what));
        told.count()
    };
    assert_eq!(count(VAULT, "the session ended"), 1, "{log}");
    assert_eq!(count(YARD, "session_lost"), 1, "{log}");
    // It may refuse in between, while it starts.
    assert!((1..=2).contains(&count(YARD, "unreachable")), "{log}");
    assert_eq!(count(YARD, "recorded again"), 1, "{log}");
}
