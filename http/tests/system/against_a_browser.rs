//! The product's own page plays in Chromium: live, the past across a gap, and the past up to live.

use std::thread::sleep;
use std::time::Duration;

use archive::WallTime;

use crate::peers::{Played, play};
use crate::rig::{Site, alone, farm, now};

const CAMERA: &str = "cam-0";
/// What is recorded before the gap.
const BEFORE: Duration = Duration::from_secs(8);
/// How long the camera is away.
const AWAY: Duration = Duration::from_secs(6);
/// How soon it must be recorded again.
const BACK_MAX: Duration = Duration::from_secs(20);

#[test]
fn the_page_plays_live_and_the_past_across_a_gap_up_to_live() {
    let _alone = alone();
    let farm = farm(1);
    let mut site = Site::new(&farm, 1);
    let service = site.start();
    let cameras = site.cameras();
    service.wait_until_durable(&cameras, BACK_MAX);
    sleep(BEFORE);
    let gap = now();
    farm.set_down(0, true);
    sleep(AWAY);
    farm.set_down(0, false);
    service.wait_until_durable(&cameras, BACK_MAX);
    let api = service.api();
    let base = api.base();

    let live = play(base, CAMERA, "live", &["--seconds", "8"]);
    assert_plays(&live);

    // A time in the middle of what is missing, and one a little before.
    let across = gap.plus(AWAY / 2).to_string();
    let from = gap.minus(BEFORE / 2).to_string();
    let past = [
        "--mode",
        "past",
        "--from",
        &from,
        "--across",
        &across,
        "--seconds",
        "12",
    ];
    let past = play(base, CAMERA, "past", &past);
    assert_plays(&past);
    let jump_ms = longest_step(&past);
    println!("the playing date jumps by {jump_ms} ms");
    assert!(jump_ms > 5_000, "the player did not jump over the gap");

    // What is not yet recorded when the playing begins.
    let (from, across) = (
        now().minus(Duration::from_secs(5)),
        now().plus(Duration::from_secs(1)),
    );
    let (from, across) = (from.to_string(), across.to_string());
    let into_live = [
        "--mode",
        "past",
        "--from",
        &from,
        "--across",
        &across,
        "--seconds",
        "12",
    ];
    assert_plays(&play(base, CAMERA, "into-live", &into_live));
    service.stop();
    site.assert_whole();
}

/// Fails unless pictures moved and nothing complained.
fn assert_plays(played: &Played) {
    let verdict = &played.verdict;
    assert!(
        verdict.ok,
        "{:?}\nhls.js: {:?}\nconsole: {:?}",
        verdict.findings, played.errors, played.console_errors
    );
    assert!(
        verdict.played_s > 4.0 && verdict.frames_decoded > 60,
        "{verdict:?}"
    );
    assert!(
        played.errors.iter().all(|error| error["fatal"] != true),
        "{:?}",
        played.errors
    );
    assert!(played.console_errors.is_empty(), "{:?}", played.console_errors);
    let (first, last) = (&played.samples[0], &played.samples[played.samples.len() - 1]);
    assert!(last.current_time > first.current_time && last.frames > first.frames);
}

/// The longest step of the wall time shown from one look to the next, in milliseconds.
fn longest_step(played: &Played) -> i64 {
    let dates: Vec<WallTime> = played
        .samples
        .iter()
        .filter_map(|sample| sample.playing_date)
        .collect();
    let steps = dates.windows(2).map(|pair| pair[1].micros_since(pair[0]) / 1000);
    steps.max().unwrap_or(0)
}
