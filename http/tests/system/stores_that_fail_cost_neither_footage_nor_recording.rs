//! Whatever goes wrong between the service and its object store, footage stays where it is safe: nothing is lost,
//! recording and what lies on the disk go on without an error, and copies catch up when it is over.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::proxy::{Fault, Proxy};
use crate::rig::{
    Api, Chance, Metrics, Oracle, Service, Site, beside_others, farm, lines, now, soak_seconds, wait_for,
};
use crate::servers::{Kind, Server};
use crate::stores;

const CAMERAS: usize = 4;
/// A store that failed is asked again after half a minute at the latest; then there is time for what is left.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);
/// A fault that nothing meets within this time is no test.
const MEET_MAX: Duration = Duration::from_secs(45);
/// Footage that is younger may be on its way into its first copy.
const BEHIND_S: f64 = 10.0;

/// More than there are turns for answers; what they ask for has left the disk, and is not on the third tier yet.
const OTHERS: usize = 12;
const OTHERS_AT: Duration = Duration::from_secs(11);

/// Each in turn. Shares below 100 let the client's own retries come through at times.
const FAULTS: [Fault; 12] = [
    Fault::Broken(30),
    Fault::Broken(100),
    Fault::SlowDown(100),
    Fault::Reset(50),
    Fault::Slow(1_000_000),
    Fault::LostAnswer(50),
    Fault::LostAnswer(100),
    Fault::DamagedUpload(50),
    Fault::DamagedRead(50),
    Fault::WrongChecksum(50),
    Fault::StaleList,
    Fault::BlackHole,
];

/// A site whose warm tier is behind `endpoint` and whose cold one is a folder.
fn site(endpoint: &str, folder: &Path, cameras: &ingest::camsim::Camsim) -> Site {
    let mut site = Site::new(cameras, CAMERAS);
    site.segment_duration = "2s";
    let store = stores::section("warm", endpoint, folder);
    site.more = format!(
        "{store}\
         [tiers.cold]\nurl = \"file://{}\"\n[tiers.cache]\ndisk = \"0B\"\n\
         [retention]\ninterval = \"300ms\"\ngrace = \"1s\"\n\
         [[rules]]\nhot = \"6s\"\nwarm = \"12s\"\n",
        folder.join("cold").display(),
    );
    site
}

/// Looks at every camera five times a second: that it is recorded, and that its newest footage plays.
struct Viewer {
    stop: Arc<AtomicBool>,
    failures: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<u64>>,
}

impl Viewer {
    fn of(api: Api, cameras: Vec<String>) -> Self {
        let (stop, failures) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let (stopped, told) = (stop.clone(), failures.clone());
        let thread = std::thread::spawn(move || {
            let mut looks = 0;
            while !stopped.load(Ordering::Acquire) {
                for camera in &cameras {
                    looks += 1;
                    if let Err(what) = look(&api, camera) {
                        let mut told: std::sync::MutexGuard<'_, Vec<String>> =
                            told.lock().unwrap_or_else(PoisonError::into_inner);
                        told.push(what);
                    }
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            looks
        });
        Self {
            stop,
            failures,
            thread: Some(thread),
        }
    }

    /// Fails if anything did not go well since it began; how often it looked.
    fn assert_undisturbed(mut self) -> u64 {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.take().expect("once");
        let looks = thread.join().expect("no panic");
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            failures.is_empty(),
            "{} of {looks}: {failures:#?}",
            failures.len()
        );
        looks
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn look(api: &Api, camera: &str) -> Result<(), String> {
    let status = api.status(camera)?;
    if status.state != "recording" {
        return Err(format!("{camera} is {}: {:?}", status.state, status.last_error));
    }
    let until = status
        .durable_until
        .ok_or_else(|| format!("{camera}: nothing is durable"))?;
    let fragment = api.seek(camera, until.minus(Duration::from_micros(1)))?;
    api.hash(&fragment).map(drop)
}

/// People who ask for what lies in the store alone, whether or not they get it.
struct Others {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(u64, u64)>>,
}

impl Others {
    fn of(api: &Api, cameras: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ask = |n: usize| {
            let (api, camera, stopped) = (api.clone(), cameras.get(n % cameras.len()).cloned(), stop.clone());
            std::thread::spawn(move || {
                let (camera, mut answers) = (camera.expect("a camera"), (0, 0));
                while !stopped.load(Ordering::Acquire) {
                    let at = now().minus(OTHERS_AT);
                    let seek = format!("/api/v1/cameras/{camera}/seek?at={}", at.micros());
                    let list = format!(
                        "/hls/{camera}/main/media.m3u8?from={}&to={}",
                        at.micros(),
                        at.micros() + 1
                    );
                    for path in [seek, list] {
                        match api.get(&path, None) {
                            Ok((200, _)) => answers.0 += 1,
                            _ => answers.1 += 1,
                        }
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
                answers
            })
        };
        let threads = (0..OTHERS).map(ask).collect();
        Self { stop, threads }
    }

    /// How many answers they got, and how often there was none.
    fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Release);
        let answers = self
            .threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        answers.fold((0, 0), |all, of| (all.0 + of.0, all.1 + of.1))
    }
}

fn figure(service: &Service, name: &str) -> f64 {
    Metrics::read(&service.api()).expect("metrics").get(name)
}

/// Waits until no footage but the newest lies on the disk alone; how long that took.
fn wait_until_caught_up(service: &Service, limit: Duration) -> Duration {
    let begun = Instant::now();
    wait_for("copies to catch up", limit, || {
        (figure(service, "tierline_unreplicated_seconds") < BEHIND_S).then_some(())
    });
    begun.elapsed()
}

/// Fails unless the status of a camera tells what the metrics tell.
fn assert_told(service: &Service, camera: &str, behind: f64) {
    let status = service.api().fetch(&format!("/api/v1/cameras/{camera}/status"));
    let status: serde_json::Value = serde_json::from_slice(&status).expect("a status");
    let told = |value: &serde_json::Value| value.as_f64().unwrap_or_default();
    let unreplicated = told(&status["streams"][0]["unreplicated_s"]);
    // Cameras begin their segments at different times.
    assert!(
        behind > 0.0 && unreplicated >= behind / 3.0,
        "{behind} s: {status}"
    );
    let hours = (
        told(&status["hot_hours_left"]),
        figure(service, "tierline_hot_hours_left"),
    );
    assert!(
        hours.1 > 0.0 && (0.5..2.0).contains(&(hours.0 / hours.1)),
        "{hours:?}: {status}"
    );
}

/// Waits until something was copied from now on.
fn wait_for_a_copy(service: &Service) {
    let before = figure(service, "tierline_tier_copies_total");
    wait_for("a copy", CATCH_UP_MAX, || {
        (figure(service, "tierline_tier_copies_total") > before).then_some(())
    });
}

struct Lengths {
    each: Duration,
    down: Duration,
    catch_up: bool,
}

fn run(lengths: &Lengths) {
    let _turn = beside_others();
    let folder = tempfile::tempdir().expect("folder");
    let mut server = Server::start(Kind::Minio, folder.path());
    let proxy = Proxy::start(server.address());
    let farm = farm(CAMERAS);
    let mut site = site(&proxy.endpoint(), folder.path(), &farm);
    let cameras = site.cameras();
    let mut chance = Chance::new();
    let oracle = Oracle::new(cameras.clone());
    let service = site.start();
    service.wait_until_recording(&cameras, Duration::from_secs(20));
    service.wait_until_durable(&cameras, Duration::from_secs(20));
    oracle.watch(&service);
    let begun = now();
    let viewer = Viewer::of(service.api(), cameras.clone());
    let others = Others::of(&service.api(), &cameras);
    wait_for_a_copy(&service);

    // The store is away: nothing leaves the disk uncopied, and afterwards copies come twice as fast as footage.
    server.kill();
    std::thread::sleep(lengths.down);
    let behind = figure(&service, "tierline_unreplicated_seconds");
    assert_told(&service, &cameras[0], behind);
    server.restart();
    let took = wait_until_caught_up(&service, CATCH_UP_MAX.max(lengths.down));
    println!(
        "down for {:?}: {behind:.0} s of footage were behind, caught up within {took:?}",
        lengths.down
    );
    oracle.assert_kept(&service, &mut chance);

    for fault in FAULTS {
        proxy.set(Some(fault));
        let begun = Instant::now();
        if fault == Fault::StaleList {
            // Nobody lists but this.
            for _ in 0..2 {
                let checked = site.command("check").output().expect("check");
                assert!(checked.status.success(), "{}", lines(&checked));
                std::thread::sleep(lengths.each / 2);
            }
        }
        wait_for("a fault to be met", MEET_MAX, || {
            (proxy.happened() > 0).then_some(())
        });
        std::thread::sleep(lengths.each.saturating_sub(begun.elapsed()));
        let times = proxy.happened();
        proxy.set(None);
        let failures = figure(&service, "tierline_tier_failures_total");
        wait_for_a_copy(&service);
        if lengths.catch_up {
            wait_until_caught_up(&service, CATCH_UP_MAX + lengths.each);
            oracle.assert_kept(&service, &mut chance);
        }
        println!(
            "{fault:?}: {times} times, {failures} failures so far, {:?}",
            begun.elapsed()
        );
    }
    wait_until_caught_up(&service, CATCH_UP_MAX);
    for camera in &cameras {
        wait_for("footage on all tiers", CATCH_UP_MAX, || {
            let timeline = service.api().timeline(camera).expect("a timeline");
            let on = |tier: &str| timeline.runs.iter().any(|run| run.tier == tier);
            (on("hot") && on("warm") && on("cold")).then_some(())
        });
    }
    let looks = viewer.assert_undisturbed();
    let (answers, none) = others.stop();
    println!("of what lies in the store, {answers} answers were given and {none} were not");
    assert!(answers > 0 && none > 0, "{answers}, {none}");
    oracle.assert_kept(&service, &mut chance);
    for (camera, timeline) in oracle.timelines(&service.api()) {
        // Before the first picture there is one, of the connection.
        let gaps: Vec<_> = timeline.gaps.iter().filter(|gap| gap.to > begun).collect();
        assert!(gaps.is_empty(), "{camera}: {gaps:#?}");
    }
    let claims = oracle.claims().fragments.len();
    oracle.rest();
    service.stop();
    site.assert_whole();
    println!("{claims} fragments remembered, none lost; {looks} looks, none failed");
    assert!(claims > 20, "the cameras were hardly recorded");
}

#[test]
fn stores_that_fail_cost_neither_footage_nor_recording() {
    run(&Lengths {
        each: Duration::from_secs(2),
        // Longer than footage may be on its way anyhow.
        down: Duration::from_secs(14),
        catch_up: false,
    });
}

#[test]
#[ignore = "soak: the store is away for TIERLINE_SOAK_SECONDS, ten minutes by default, and fails 30 s in each way"]
fn soak_stores_that_fail_cost_neither_footage_nor_recording() {
    run(&Lengths {
        each: Duration::from_secs(30),
        down: soak_seconds(600),
        catch_up: true,
    });
}
