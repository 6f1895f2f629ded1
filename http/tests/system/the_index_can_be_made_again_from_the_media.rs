//! Whatever happened while recording, the footage alone tells the same as the index.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use ingest::camsim::Clip;

use crate::rig::{Gap, Service, Site, beside_others, farm, lines};

/// Cameras that are recorded.
const CAMERAS: usize = 3;
/// Long enough for a few fragments and, here and there, the end of a segment.
const A_WHILE: Duration = Duration::from_secs(6);

#[test]
fn the_index_can_be_made_again_from_the_media() {
    let _turn = beside_others();
    let farm = farm(CAMERAS);
    let mut site = Site::new(&farm, CAMERAS);
    let cameras = site.cameras();
    let clock = site.path("clock");
    set_clock(&clock, "+0");

    let service = start(&mut site, &clock);
    service.wait_until_durable(&cameras, A_WHILE * 2);
    farm.set_down(0, true);
    sleep(A_WHILE);
    farm.set_down(0, false);
    farm.switch_clip(1, other_clip(&site));
    service.wait_until_durable(&cameras, A_WHILE * 4);
    service.kill();
    let service = start(&mut site, &clock);
    service.wait_until_durable(&cameras, A_WHILE * 2);
    sleep(A_WHILE);
    set_clock(&clock, "+3600");
    sleep(A_WHILE);
    set_clock(&clock, "+0");
    sleep(A_WHILE);

    let timeline = |camera: &str| service.api().timeline(camera).expect("a timeline");
    let causes = |camera: &str| {
        let cause = |gap: Gap| gap.cause;
        timeline(camera).gaps.into_iter().map(cause).collect::<Vec<_>>()
    };
    println!(
        "gaps: {:?}",
        cameras.iter().map(|camera| causes(camera)).collect::<Vec<_>>()
    );
    for camera in &cameras {
        for cause in ["service_killed", "clock_step"] {
            assert!(
                causes(camera).iter().any(|c| c == cause),
                "{camera} has no gap for {cause}"
            );
        }
    }
    let outage = ["session_lost", "unreachable", "refused"];
    assert!(causes("cam-0").iter().any(|c| outage.contains(&c.as_str())));
    let runs = timeline("cam-1").runs;
    let (first, last) = (runs[0].from, runs[runs.len() - 1].from);
    let init = |at| service.api().seek("cam-1", at).expect("a fragment").init_url;
    assert_ne!(init(first), init(last), "the parameters did not change");
    service.stop();
    site.assert_whole();

    let anew = site.path("anew");
    site.rebuild(&anew);
    let same = site.compare(&anew);
    assert!(same.status.success(), "{}", lines(&same));

    // A comparison that finds nothing must be one that could have.
    let segments = site.segments();
    fs::remove_file(&segments[segments.len() / 2]).expect("a segment");
    let without_one = site.path("without-one");
    site.rebuild(&without_one);
    let differs = site.compare(&without_one);
    assert_eq!(differs.status.code(), Some(1), "{}", lines(&differs));
    let check = site.command("check").output().expect("check");
    assert_eq!(check.status.code(), Some(1), "{}", lines(&check));
    println!(
        "{} segments; without one of them: {}",
        segments.len(),
        lines(&differs)
    );
}

/// Starts the service with a wall clock that a file sets.
fn start(site: &mut Site, clock: &Path) -> Service {
    let service = site.start_with(|command| {
        command
            .env("LD_PRELOAD", faketime())
            .env("FAKETIME_TIMESTAMP_FILE", clock)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    });
    service.unwrap_or_else(|refused| panic!("did not start: {}\n{}", refused.status, refused.log))
}

/// Sets it that far from the machine's.
fn set_clock(clock: &Path, offset: &str) {
    let aside = clock.with_extension("new");
    fs::write(&aside, format!("{offset}\n")).expect("a clock");
    fs::rename(aside, clock).expect("a clock");
}

/// The library of the package `faketime`.
fn faketime() -> PathBuf {
    let libraries = fs::read_dir("/usr/lib").expect("libraries").flatten();
    let mut candidates = libraries.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    candidates
        .find(|path| path.exists())
        .expect("libfaketime, of the package faketime")
}

/// A clip of another size than the built-in one.
fn other_clip(site: &Site) -> std::sync::Arc<Clip> {
    let path = site.path("other.h264");
    let source = "testsrc=size=320x240:rate=30:duration=4";
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args([
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        source,
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
    ]);
    ffmpeg
        .args(["-g", "60", "-pix_fmt", "yuv420p", "-f", "h264"])
        .arg(&path);
    let output = ffmpeg.output().expect("ffmpeg");
    assert!(output.status.success(), "{}", lines(&output));
    Clip::load(&path, Some(30)).expect("a clip")
}
