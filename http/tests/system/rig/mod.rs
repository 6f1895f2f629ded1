//! What stands around the service in these tests: a site with cameras, an observer, and faults.

mod api;
mod attack;
mod chance;
mod claims;
mod metrics;
mod oracle;
mod scarcity;
mod service;
mod site;
mod small_disk;
mod trace;

use std::path::Path;
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use archive::{Clock, SystemClock, WallTime};
use ingest::camsim::{self, Camsim};

pub(crate) use api::{Api, Fragment, Gap, Timeline};
pub(crate) use attack::{Attack, Seen, answer, client, dial};
pub(crate) use chance::Chance;
pub(crate) use metrics::{Lag, Metrics};
pub(crate) use oracle::Oracle;
pub(crate) use scarcity::{SlowDisk, SmallCpu, cpu_time, written};
pub(crate) use service::Service;
pub(crate) use site::{Site, camera_id, lines};
pub(crate) use small_disk::SmallDisk;
pub(crate) use trace::{Injection, Target, Trace};

static MACHINE: RwLock<()> = RwLock::new(());

/// Waits until no other test of this program runs, but those that only wait and have given up their turn: for those that
/// measure what the machine does.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no test runs that has to be alone: for those that wait most of the time.
pub(crate) fn beside_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// This machine cannot do what a test needs. Where it must, that is a failure.
fn skipped(why: impl std::fmt::Display) {
    assert!(std::env::var_os("TIERLINE_REQUIRE_RIGS").is_none(), "{why}");
    println!("SKIPPED: {why}");
}

/// Simulated cameras with the built-in clip: a keyframe every 2 s.
pub(crate) fn farm(cameras: usize) -> Camsim {
    let config = camsim::Config {
        cameras,
        ..camsim::Config::default()
    };
    camsim::start(config).expect("a farm of cameras")
}

/// Simulated cameras that send so many megabits a second, with a keyframe every 2 s.
pub(crate) fn heavy_farm(cameras: usize, mbit: u32, folder: &Path) -> Camsim {
    let clip = folder.join(format!("{mbit}mbit.h264"));
    let rate = format!("{mbit}M");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-y", "-f", "lavfi", "-t", "6", "-i"]);
    ffmpeg.arg("testsrc2=size=1280x720:rate=30,noise=alls=20:allf=t");
    ffmpeg.args([
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
        "-profile:v",
        "main",
    ]);
    ffmpeg.args([
        "-bf",
        "0",
        "-b:v",
        &rate,
        "-maxrate",
        &rate,
        "-bufsize",
        &rate,
        "-x264-params",
    ]);
    ffmpeg.arg("keyint=60:min-keyint=60:scenecut=0:nal-hrd=cbr:sliced-threads=0");
    ffmpeg.args(["-f", "h264"]).arg(&clip);
    assert!(ffmpeg.status().expect("ffmpeg").success(), "no clip");
    let config = camsim::Config {
        cameras,
        clips: vec![clip],
        fps: Some(30),
        ..camsim::Config::default()
    };
    camsim::start(config).expect("a farm of cameras")
}

/// This machine's wall clock.
pub(crate) fn now() -> WallTime {
    SystemClock::default().wall()
}

/// Asks every 50 ms until the answer is `Some`; fails after `limit`.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How long the long form of a test takes: `TIERLINE_SOAK_SECONDS`, or else so many.
pub(crate) fn soak_seconds(default: u64) -> Duration {
    let asked = std::env::var("TIERLINE_SOAK_SECONDS").ok();
    Duration::from_secs(asked.and_then(|text| text.parse().ok()).unwrap_or(default))
}
