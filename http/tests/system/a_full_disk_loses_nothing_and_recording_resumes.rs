//! A disk without space takes nothing of what was recorded; what could not be recorded is a gap that says why;
//! recording resumes by itself when there is space.

use std::time::{Duration, Instant};

use crate::rig::{
    Chance, Injection, Oracle, Site, SmallDisk, Target, Trace, beside_others, farm, lines, wait_for,
};

/// Cameras that are recorded meanwhile.
const CAMERAS: usize = 3;
/// Size of the disk in MiB.
const DISK: u32 = 192;
/// A disk that stays full until every camera has lost something.
const FULL_MAX: Duration = Duration::from_secs(30);
/// Long enough for every camera to lose a fragment or two.
const FULL: Duration = Duration::from_secs(6);
/// Footage is durable again this long after there is space.
const BACK_MAX: Duration = Duration::from_secs(15);
/// No precautions: the disk is really full.
const UNTIL_THE_LAST_BYTE: &str =
    "[retention]\nreserve = \"0B\"\nlow = \"0B\"\nfloor = \"0B\"\ninterval = \"1s\"\n";

#[test]
fn a_full_disk_for_footage_loses_nothing_and_recording_resumes() {
    let _turn = beside_others();
    let farm = farm(CAMERAS);
    let mut site = Site::new(&farm, CAMERAS);
    let Some(disk) = SmallDisk::mount(site.path("small"), DISK) else {
        return;
    };
    site.hot = Some(disk.folder().join("hot"));
    full_and_free_again(&mut site, &disk);
}

#[test]
fn a_full_disk_for_footage_and_index_loses_nothing_and_recording_resumes() {
    let _turn = beside_others();
    let farm = farm(CAMERAS);
    let mut site = Site::new(&farm, CAMERAS);
    let Some(disk) = SmallDisk::mount(site.path("small"), DISK) else {
        return;
    };
    site.data_dir = disk.folder().join("data");
    full_and_free_again(&mut site, &disk);
}

#[test]
fn a_full_disk_for_the_index_loses_nothing_and_recording_resumes() {
    let _turn = beside_others();
    let mut chance = Chance::new();
    let farm = farm(CAMERAS);
    let mut site = Site::new(&farm, CAMERAS);
    let cameras = site.cameras();
    let oracle = Oracle::new(cameras.clone());
    let service = site.start();
    oracle.watch(&service);
    service.wait_until_durable(&cameras, FULL_MAX);

    // The log of the index lies in space that is reserved, which no ballast takes. Footage is written by
    // another call.
    let injection = Injection {
        target: Target::Thread("commit"),
        calls: "write",
        error: "ENOSPC",
        when: "1+",
    };
    let mut trace = Trace::attach(service.pid(), &injection, site.path("strace.log"));
    std::thread::sleep(FULL);
    let failed = trace.failed().len();
    oracle.assert_kept(&service, &mut chance);
    trace.detach();
    let relieved = Instant::now();
    service.wait_until_durable(&cameras, BACK_MAX);
    println!(
        "{failed} writes of the index failed; footage was durable {} ms after they went well again",
        relieved.elapsed().as_millis()
    );
    assert!(failed > 0, "the index was not touched");
    for camera in &cameras {
        let gaps = service.api().timeline(camera).expect("a timeline").gaps;
        assert!(
            gaps.iter().any(|gap| gap.cause == "disk_full"),
            "{camera}: {gaps:?}"
        );
    }
    service.stop();
    oracle.rest();
    site.assert_whole();
    let service = site.start();
    oracle.assert_kept(&service, &mut chance);
    let rebuilt = site.path("anew");
    service.stop();
    site.rebuild(&rebuilt);
    let same = site.compare(&rebuilt);
    assert!(same.status.success(), "{}", lines(&same));
}

fn full_and_free_again(site: &mut Site, disk: &SmallDisk) {
    let mut chance = Chance::new();
    site.more = UNTIL_THE_LAST_BYTE.to_owned();
    let cameras = site.cameras();
    let oracle = Oracle::new(cameras.clone());
    let service = site.start();
    oracle.watch(&service);
    service.wait_until_durable(&cameras, FULL_MAX);

    let full = Instant::now();
    let api = service.api();
    let stands_still = |camera: &String| {
        let age = api
            .status(camera)
            .map(|s| s.durable_until.map(|until| crate::rig::now().micros_since(until)));
        matches!(age, Ok(Some(age)) if age > 8_000_000)
    };
    let mut ballast = 0;
    wait_for("nothing is durable any more", FULL_MAX, || {
        // What the end of a segment gives back goes too.
        ballast = disk.fill();
        cameras.iter().all(stands_still).then_some(())
    });
    println!(
        "{} MiB of ballast stopped all cameras in {} s",
        ballast >> 20,
        full.elapsed().as_secs()
    );
    oracle.assert_kept(&service, &mut chance);

    disk.relieve();
    let relieved = Instant::now();
    service.wait_until_durable(&cameras, BACK_MAX);
    println!(
        "footage was durable {} ms after there was space",
        relieved.elapsed().as_millis()
    );
    for camera in &cameras {
        let gaps = api.timeline(camera).expect("a timeline").gaps;
        assert!(
            gaps.iter().any(|gap| gap.cause == "disk_full"),
            "{camera}: {gaps:?}"
        );
    }
    service.stop();
    oracle.rest();
    site.assert_whole();
    let service = site.start();
    oracle.assert_kept(&service, &mut chance);
    service.stop();
}
