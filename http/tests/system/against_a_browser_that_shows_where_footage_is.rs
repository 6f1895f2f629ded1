//! The page shows on which tier footage lies, what is held, what is being restored, and what will become of it.

use std::time::Duration;

use archive::WallTime;
use serde_json::Value;

use crate::peers::{Looked, look};
use crate::rig::{Site, beside_others, farm, wait_for};
use crate::servers::{Kind, Server};
use crate::stores;

const CAMERA: &str = "cam-0";
const REASON: &str = "case 4711";
/// From the first picture recorded to footage on every tier.
const AGED_MAX: Duration = Duration::from_secs(60);
/// What moto takes over a restore, unless it is told meanwhile to go on for ever; less than it has lain there.
const RESTORE: Duration = Duration::from_secs(6);

/// Ages by which footage moves, with the cold tier in an archive class of `server`.
fn configure(site: &mut Site, server: &Server, hot: &str, warm: &str) {
    let folder = site.path("");
    let cold = stores::section("cold", &server.endpoint(), &folder);
    site.more = format!(
        "[tiers.warm]\nurl = \"file://{}\"\n{cold}storage_class = \"GLACIER\"\n\
         [retention]\ninterval = \"200ms\"\ngrace = \"1s\"\n\
         [[rules]]\nhot = \"{hot}\"\nwarm = \"{warm}\"\nmin = \"30d\"\nmax = \"90d\"\n",
        site.path("warm").display(),
    );
}

#[test]
fn the_page_shows_tiers_holds_what_is_restored_and_what_is_promised() {
    let _turn = beside_others();
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(Kind::Moto, folder.path());
    server.restores_take(RESTORE);
    let farm = farm(1);
    let mut site = Site::new(&farm, 1);
    site.segment_duration = "2s";
    configure(&mut site, &server, "6s", "14s");
    let service = site.start();
    wait_for("footage lies on every tier", AGED_MAX, || {
        let timeline = service.api().timeline(CAMERA).ok()?;
        let has = |tier| timeline.runs.iter().any(|run| run.tier == tier);
        ["cold", "warm", "hot"].into_iter().all(has).then_some(())
    });
    service.stop();
    // From here on it stays where it is.
    configure(&mut site, &server, "1h", "2h");
    let service = site.start();
    service.wait_until_durable(&site.cameras(), AGED_MAX);
    std::thread::sleep(RESTORE);
    let timeline = service.api().timeline(CAMERA).expect("a timeline");
    let middle = |tier: &str| -> WallTime {
        let run = timeline.runs.iter().find(|run| run.tier == tier).expect(tier);
        run.from.plus_micros(run.to.micros_since(run.from) / 2)
    };
    let [cold, warm, hot] = ["cold", "warm", "hot"].map(middle);
    let (status, _) = service
        .api()
        .get(&format!("/api/v1/cameras/{CAMERA}/seek?at={cold}"), None)
        .expect("an answer");
    assert_eq!(status, 503, "what lies in an archive class has to be restored");
    wait_for("the store to be asked", RESTORE, || {
        service.log().contains("is being restored").then_some(())
    });
    server.restores_last();

    let (second, times) = (Duration::from_secs(1), [cold, warm, hot]);
    let hold = (cold.minus(second), warm.plus(second));
    let looked = look(
        service.api().base(),
        CAMERA,
        "where-footage-is",
        &times,
        hold,
        REASON,
    );
    assert_eq!(looked.console_errors, [""; 0]);
    assert_tiers(&looked);
    for named in ["recorded", "warm tier", "cold tier", "restoring", "held"] {
        assert!(
            looked.legend.iter().any(|text| text == named),
            "{named}: {:?}",
            looked.legend
        );
    }
    assert!(
        matches!(&looked.holds[..], [one] if one.contains(REASON)),
        "{:?}",
        looked.holds
    );
    let storage = &looked.storage;
    for (place, text) in [
        ("line", "holds"),
        ("facts", "Warm tier"),
        ("facts", "Cold tier"),
        ("rules", "30 d"),
    ] {
        let shown = storage[place].as_str().unwrap_or_default();
        assert!(shown.contains(text), "{place} does not tell {text}: {storage}");
    }
    let holds: Value = serde_json::from_slice(&service.api().fetch("/api/v1/holds")).expect("holds");
    assert!(
        holds.to_string().contains(REASON),
        "the page's hold is none of the archive: {holds}"
    );
    service.stop();
    site.assert_whole();
}

/// Fails unless each tier is told and has its own colour, the hold is told and painted where it is, and what is restored is told.
fn assert_tiers(looked: &Looked) {
    let [cold, warm, hot] = &looked.times[..] else {
        panic!("{looked:?}")
    };
    for (time, place) in [
        (cold, "on the cold tier"),
        (warm, "on the warm tier"),
        (hot, "on the disk"),
    ] {
        assert!(time.tip.contains(place), "{place}: {looked:?}");
        let is_held = time.tip.contains(&format!("Held: {REASON}"));
        assert_eq!(is_held, place != "on the disk", "{looked:?}");
        assert_eq!(
            time.tip.contains("Being restored"),
            place == "on the cold tier",
            "{looked:?}"
        );
    }
    assert!(
        cold.band != warm.band && warm.band != hot.band && hot.band != cold.band,
        "{looked:?}"
    );
    assert!(cold.hold == warm.hold && warm.hold != hot.hold, "{looked:?}");
}
