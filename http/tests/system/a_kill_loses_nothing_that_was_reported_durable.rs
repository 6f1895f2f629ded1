//! `kill -9` at any moment takes nothing away that the service had reported as durable.

use std::time::{Duration, Instant};

use crate::rig::{Chance, Oracle, Site, alone, farm};

/// Cameras that are recorded meanwhile.
const CAMERAS: usize = 8;
/// Kills, unless the environment asks for another number.
const ROUNDS: u32 = 20;
/// The service is killed this long after all cameras were recorded.
const LIFE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(4500));
/// One start in so many is killed while it mends what the kill before it left.
const KILLED_TWICE: usize = 3;
/// How long such a start lives: it takes about half of that to be ready.
const MENDING: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(300));
/// Cameras are recorded again this long after the service was started, at the latest.
const BACK_MAX: Duration = Duration::from_secs(10);
/// Longer than from one keyframe to the next: more than the service can have behind what it reported.
const TOO_EARLY: Duration = Duration::from_secs(3);

#[test]
fn a_kill_loses_nothing_that_was_reported_durable() {
    let _alone = alone();
    let rounds = std::env::var("TIERLINE_KILL_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS);
    let mut chance = Chance::new();
    let farm = farm(CAMERAS);
    let mut site = Site::new(&farm, CAMERAS);
    let cameras = site.cameras();
    let oracle = Oracle::new(cameras.clone());
    let begun = Instant::now();
    let (mut serving_worst, mut back_worst) = (Duration::ZERO, Duration::ZERO);

    let mut service = site.start();
    let mut before = oracle.claims();
    oracle.watch(&service);
    service.wait_until_recording(&cameras, BACK_MAX);
    for round in 1..=rounds {
        std::thread::sleep(chance.between(LIFE.0, LIFE.1));
        service.kill();
        oracle.rest();
        site.assert_whole();
        if chance.below(KILLED_TWICE) == 0 {
            site.start_and_kill(chance.between(MENDING.0, MENDING.1));
            site.assert_whole();
        }

        service = site.start();
        let serving = service.age();
        // Before any camera can have sent a whole fragment: only what was there at the kill counts.
        let timelines = oracle.timelines(&service.api());
        oracle.assert_kept(&service, &mut chance);
        let claims = oracle.claims();
        oracle.watch(&service);
        let back = service.wait_until_recording(&cameras, BACK_MAX);
        (serving_worst, back_worst) = (serving_worst.max(serving), back_worst.max(back));
        let mut news = claims.clone();
        news.cameras.retain(|camera, claim| {
            let known = before.cameras.get(camera).and_then(|known| known.durable_until);
            claim.durable_until > known
        });
        let missed = news.exaggerated(TOO_EARLY).losses(&timelines);
        assert_eq!(
            missed.len(),
            news.cameras.len(),
            "footage that was claimed too early is not missed: {missed:#?} of {news:#?}"
        );
        before = claims;
        println!(
            "round {round}: {} of {CAMERAS} cameras had news, {} fragments known, serving after {} ms, recording \
             after {} ms",
            news.cameras.len(),
            before.fragments.len(),
            serving.as_millis(),
            back.as_millis(),
        );
    }
    service.stop();
    site.assert_whole();
    let fragments = oracle.claims().fragments.len();
    println!(
        "{rounds} kills in {} s: {fragments} fragments remembered, none lost; at worst serving after {} ms and all \
         cameras recording after {} ms",
        begun.elapsed().as_secs(),
        serving_worst.as_millis(),
        back_worst.as_millis(),
    );
    assert!(fragments as u32 > rounds, "the cameras were hardly recorded");
}
