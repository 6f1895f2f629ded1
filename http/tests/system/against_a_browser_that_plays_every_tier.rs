//! One session of hls.js in Chromium runs from the cold tier through the warm one, which is MinIO, and the disk into live.

use std::time::Duration;

use archive::WallTime;

use crate::peers::play;
use crate::rig::{Site, Timeline, alone, farm, wait_for};
use crate::servers::{Kind, Server};
use crate::stores;

const CAMERA: &str = "cam-0";
/// How much of a tier is to be there before it is played.
const ON_EACH_US: i64 = 4_000_000;
/// From the first picture recorded to that.
const AGED_MAX: Duration = Duration::from_secs(60);

/// From when to when there is footage on a tier, of one that has enough of it.
fn on(timeline: &Timeline, tier: &str) -> Option<(WallTime, WallTime)> {
    let mut runs = timeline.runs.iter().filter(|run| run.tier == tier);
    let first = runs.next()?;
    let to = runs.next_back().map_or(first.to, |last| last.to);
    (to.micros_since(first.from) >= ON_EACH_US).then_some((first.from, to))
}

#[test]
fn one_session_plays_from_cold_through_warm_and_hot_into_live() {
    let _alone = alone();
    let farm = farm(1);
    let mut site = Site::new(&farm, 1);
    site.segment_duration = "2s";
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(Kind::Minio, folder.path());
    site.more = format!(
        "{}[tiers.cold]\nurl = \"file://{}\"\n\
         [retention]\ninterval = \"200ms\"\ngrace = \"1s\"\n[[rules]]\nhot = \"6s\"\nwarm = \"14s\"\n",
        stores::section("warm", &server.endpoint(), folder.path()),
        folder.path().join("cold").display(),
    );
    let service = site.start();
    let tiers = wait_for("footage lies on every tier", AGED_MAX, || {
        let timeline = service.api().timeline(CAMERA).ok()?;
        let tiers = ["cold", "warm", "hot"].map(|tier| on(&timeline, tier));
        tiers
            .iter()
            .all(Option::is_some)
            .then(|| tiers.map(Option::unwrap_or_default))
    });
    let [cold, warm, hot] = tiers;
    assert!(cold.1 <= warm.0 && warm.1 <= hot.0, "{tiers:?}");
    let begin = crate::rig::now();
    let from = cold.0.to_string();
    let arguments = [
        "--mode",
        "past",
        "--from",
        &from,
        "--rate",
        "4",
        "--seconds",
        "18",
        "--stall",
        "2",
    ];
    let played = play(service.api().base(), CAMERA, "every-tier", &arguments);
    let verdict = &played.verdict;
    assert!(verdict.ok, "{:?}\nhls.js: {:?}", verdict.findings, played.errors);
    // That a picture came late is measured, as `--stall`; a decoder that is kept waiting for a core is no error.
    let errors: Vec<_> = (played.errors.iter())
        .filter(|error| error["details"] != "bufferStalledError")
        .collect();
    assert!(errors.is_empty(), "hls.js complained: {errors:?}");
    assert!(played.console_errors.is_empty(), "{:?}", played.console_errors);
    let dates: Vec<WallTime> = played.samples.iter().filter_map(|s| s.playing_date).collect();
    for (tier, (from, to)) in [("cold", cold), ("warm", warm), ("hot", hot)] {
        let seen = dates.iter().any(|date| *date >= from && *date < to);
        assert!(
            seen,
            "nothing was played of what lay on the {tier} tier, {from} to {to}: {dates:?}"
        );
    }
    let last = dates.last().copied().unwrap_or_default();
    assert!(
        last > begin,
        "it did not reach what was recorded while it played: {last} is before {begin}"
    );
    // One playlist from beginning to end: the media time never begins anew.
    let times: Vec<f64> = played.samples.iter().map(|s| s.current_time).collect();
    assert!(times.windows(2).all(|pair| pair[1] >= pair[0]), "{times:?}");
    println!(
        "played {} s, the longest stall {} s",
        verdict.played_s, verdict.stall_s
    );
    service.stop();
    site.assert_whole();
}
