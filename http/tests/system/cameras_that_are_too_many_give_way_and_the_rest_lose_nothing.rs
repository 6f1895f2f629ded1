//! At twice of what the machine can do, half of the cameras are recorded without a gap, the others give way by
//! priority and their gap says so from beginning to end. When there is room again all come back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::rig::{
    Api, Metrics, Service, Site, SlowDisk, SmallCpu, Timeline, alone, camera_id, cpu_time, heavy_farm, now,
    soak_seconds, written,
};

/// Cameras, in three priorities.
const CAMERAS: usize = 24;
/// What each sends, in megabits a second: enough for the load to be measured well.
const MBIT: u32 = 24;
/// Who gave way comes back after ten calm seconds. Whatever misses less was recorded all the time, and lost something.
const AWAY_MIN: Duration = Duration::from_secs(8);
/// The load is measured for so long.
const MEASURE: Duration = Duration::from_secs(6);
/// After this time it is clear who is recorded, and what had to wait for half a disk is on it: it goes there beside what is
/// recorded meanwhile, with what the disk has left.
const SETTLE_MAX: Duration = Duration::from_secs(150);
/// And it is clear when nothing has changed for so long, and nothing is late.
const SETTLED: Duration = Duration::from_secs(9);
/// Nothing is late that is durable in so many seconds, on average. With a disk that is three quarters busy a commit takes two,
/// and what comes in meanwhile waits for the next.
const LATE_S: f64 = 4.0;
/// All are back by then: five steps, of ten seconds where no try failed before and of eighty where three did.
const BACK_MAX: Duration = Duration::from_secs(420);

#[test]
fn cameras_that_are_too_many_give_way_by_priority_and_come_back() {
    of_cores(Duration::from_secs(10), MBIT);
}

#[test]
#[ignore = "soak: TIERLINE_SOAK_SECONDS at twice the capacity, 300 where nothing is said, TIERLINE_SOAK_MBIT each"]
fn soak_cameras_that_are_too_many_give_way_by_priority_and_come_back() {
    of_cores(soak_seconds(300), soak_mbit());
}

#[test]
#[ignore = "soak: TIERLINE_SOAK_SECONDS with half the disk that is needed, 120 where nothing is said, TIERLINE_SOAK_MBIT each"]
fn soak_cameras_that_are_too_many_for_the_disk_give_way_and_come_back() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SlowDisk::new(folder.path()) else {
        return;
    };
    let half = |pid: u32| {
        let (before, since) = (written(pid), Instant::now());
        std::thread::sleep(MEASURE);
        let rate = (written(pid) - before) as f64 / since.elapsed().as_secs_f64();
        disk.limit((rate / 2.0) as u64);
        format!("write {:.1} MB/s", rate / 1e6)
    };
    let (hold, mbit) = (soak_seconds(120), soak_mbit());
    overload(hold, mbit, &|pid| disk.hold(pid), &half, &|| disk.limit(0));
}

/// Half of the processor time that is needed.
fn of_cores(hold: Duration, mbit: u32) {
    let _alone = alone();
    let Some(cpu) = SmallCpu::new() else { return };
    let half = |pid: u32| {
        let (before, since) = (cpu_time(pid), Instant::now());
        std::thread::sleep(MEASURE);
        let load = (cpu_time(pid) - before).as_secs_f64() / since.elapsed().as_secs_f64();
        cpu.limit(Some(load / 2.0));
        format!("take {load:.3} cores")
    };
    let begin = |pid: u32| {
        cpu.limit(None);
        cpu.hold(pid);
    };
    overload(hold, mbit, &begin, &half, &|| cpu.limit(None));
}

fn soak_mbit() -> u32 {
    let asked = std::env::var("TIERLINE_SOAK_MBIT").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(MBIT)
}

/// `begin` gets hold of a process, `half` gives it half of what it takes from then on, and `all` all there is.
fn overload(hold: Duration, mbit: u32, begin: &dyn Fn(u32), half: &dyn Fn(u32) -> String, all: &dyn Fn()) {
    let folder = tempfile::tempdir().expect("a folder");
    let farm = heavy_farm(CAMERAS, mbit, folder.path());
    let mut site = Site::new(&farm, CAMERAS);
    site.segment_duration = "10s";
    site.priorities = (0..CAMERAS).map(|n| (camera_id(n), (n % 3 * 2) as u8)).collect();
    let cameras = site.cameras();
    let service = site.start();
    let api = service.api();
    begin(service.pid());
    service.wait_until_durable(&cameras, Duration::from_secs(30));
    let begun = now();
    let load = half(service.pid());
    let settled = settle(&api);
    let states = || -> BTreeMap<String, String> {
        let state = |id: &String| (id.clone(), api.status(id).expect("a status").state);
        cameras.iter().map(state).collect()
    };
    let (at_first, from) = (states(), now());
    std::thread::sleep(hold);
    let (to, at_last) = (now(), states());
    let metrics = Metrics::read(&api).expect("metrics");
    println!(
        "{CAMERAS} cameras {load} and get half of it: settled after {:.0} s, {} gave way; {:?} behind",
        settled.as_secs_f64(),
        metrics.get("tierline_streams_shed"),
        metrics.seconds("tierline_ingest_behind_seconds"),
    );
    // One that came back meanwhile, to try whether there is room, is neither.
    let of = |state: &'static str| {
        let all = at_first.iter().zip(&at_last);
        all.filter(move |(first, last)| *first.1 == state && *last.1 == state)
            .map(|((id, _), _)| id)
    };
    let priority = |id: &String| site.priorities.get(id).copied().unwrap_or(5);
    let recorded = of("recording").count();
    assert!(
        (4..=16).contains(&recorded) && of("shed").count() >= 6,
        "{at_first:?} {at_last:?}"
    );
    let lowest = of("recording").map(priority).min();
    let highest = of("shed").map(priority).max();
    assert!(highest <= lowest, "{at_last:?}");
    for id in of("recording") {
        let timeline = api.timeline(id).expect("a timeline");
        assert!(
            timeline
                .runs
                .iter()
                .any(|run| run.from <= from && run.to.plus_micros(8_000_000) >= to)
                && !timeline.gaps.iter().any(|gap| gap.to > from),
            "{id} is recorded and lost something between {from} and {to}: {timeline:?}"
        );
    }
    for id in of("shed") {
        let timeline = api.timeline(id).expect("a timeline");
        // It may have been tried whether there is room for it again.
        let within = timeline.gaps.iter().filter(|gap| gap.to > from && gap.from < to);
        let missing: Vec<_> = within.collect();
        assert!(
            missing.first().is_some_and(|gap| gap.from <= from)
                && missing.last().is_some_and(|gap| gap.to >= to)
                && missing.iter().all(|gap| gap.cause == "overload"),
            "{id}: {timeline:?}"
        );
    }

    all();
    let relieved = Instant::now();
    while shed(&api) > 0.0 {
        assert!(relieved.elapsed() < BACK_MAX, "{} are not back", shed(&api));
        std::thread::sleep(Duration::from_secs(1));
    }
    service.wait_until_durable(&cameras, Duration::from_secs(30));
    println!(
        "all were back {} s after there was room",
        relieved.elapsed().as_secs()
    );
    let timelines: BTreeMap<_, _> = (cameras.iter())
        .map(|id| (id.clone(), api.timeline(id).expect("a timeline")))
        .collect();
    for (id, timeline) in &timelines {
        tiled(id, timeline);
        // Whatever is missing is missing because the camera gave way, and it did not come and go.
        let late: Vec<_> = timeline.gaps.iter().filter(|gap| gap.from > begun).collect();
        assert!(
            late.iter().all(|gap| gap.to >= gap.from.plus(AWAY_MIN)),
            "{id} was recorded and lost something: {timeline:?}"
        );
        let causes: Vec<_> = late.iter().map(|gap| gap.cause.as_str()).collect();
        assert!(
            causes.iter().all(|cause| *cause == "overload") && causes.len() <= 4,
            "{id}: {timeline:?}"
        );
        let status = api.status(id).expect("a status");
        assert_eq!((status.reconnects, status.last_error), (0, None), "{id}");
    }
    assert_eq!(farm.counters().overruns, 0, "a camera had to cut its session");
    finish(&site, service);
}

fn shed(api: &Api) -> f64 {
    Metrics::read(api).map_or(f64::NAN, |metrics| metrics.get("tierline_streams_shed"))
}

/// Waits until the same cameras have been recorded for some time and nothing is late.
fn settle(api: &Api) -> Duration {
    let began = Instant::now();
    let (mut last, mut since) = (0.0, Instant::now());
    let (mut before, mut heard) = (Metrics::read(api).expect("metrics"), Instant::now());
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let Ok(metrics) = Metrics::read(api) else { continue };
        let shed = metrics.get("tierline_streams_shed");
        let behind = metrics.seconds("tierline_ingest_behind_seconds");
        let lag = metrics.lag_since(&before);
        // Where nothing is durable for a while, that is later still.
        let late = match lag.fragments > 0.0 {
            true => {
                (before, heard) = (metrics.clone(), Instant::now());
                lag.mean > LATE_S
            }
            false => heard.elapsed().as_secs_f64() > LATE_S,
        };
        if shed != last || behind > Duration::from_secs(1) || late {
            (last, since) = (shed, Instant::now());
        }
        if shed > 0.0 && since.elapsed() >= SETTLED {
            return began.elapsed() - SETTLED;
        }
        assert!(
            began.elapsed() < SETTLE_MAX,
            "not settled: {shed} gave way, {behind:?} behind, {:.1} s late, busy {}",
            lag.mean,
            metrics.get("tierline_ingest_busy_ratio")
        );
    }
}

/// Recorded and missing time follow on each other from beginning to end.
fn tiled(id: &str, timeline: &Timeline) {
    let runs = timeline.runs.iter().map(|run| (run.from, run.to));
    let gaps = timeline.gaps.iter().map(|gap| (gap.from, gap.to));
    let mut spans: Vec<_> = runs.chain(gaps).collect();
    spans.sort_unstable();
    let odd = spans.windows(2).find(|pair| pair[0].1 != pair[1].0);
    assert!(odd.is_none(), "{id}: {odd:?} do not meet in {timeline:?}");
}

fn finish(site: &Site, service: Service) {
    service.stop();
    site.assert_whole();
}
