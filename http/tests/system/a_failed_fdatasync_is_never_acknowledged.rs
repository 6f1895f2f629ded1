//! When the disk fails to sync, nothing that it did not sync is reported as durable, the file is not written
//! again, and recording goes on in another one.

use std::path::PathBuf;
use std::time::Duration;

use crate::rig::{
    Chance, Injection, Oracle, Service, Site, Target, Trace, beside_others, camera_id, farm, wait_for,
};

/// Cameras that are recorded meanwhile.
const CAMERAS: usize = 2;
/// Longer than a keyframe, a group and the tracing take.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_failed_fdatasync_is_never_acknowledged() {
    let _turn = beside_others();
    let mut chance = Chance::new();
    let farm = farm(CAMERAS);
    let mut site = Site::new(&farm, CAMERAS);
    let oracle = Oracle::new(site.cameras());
    // A segment, and then whatever the committing thread syncs first, second, third and fourth: segments,
    // footers, the index; at last a segment and the one that should replace it.
    let by_thread = ["1", "2", "3", "4", "1..2"].map(|when| (false, when));
    for (by_file, when) in [(true, "1"), (true, "2")].into_iter().chain(by_thread) {
        // Footers are synced too; of the one file that is to fail, only fragments are. Segments end on the borders of
        // a grid of wall-clock time: one that is far longer than the test hardly ever ends while it is watched.
        site.segment_duration = if by_file { "1h" } else { "5s" };
        let service = site.start();
        oracle.watch(&service);
        oracle.assert_kept(&service, &mut chance);
        service.wait_until_durable(&site.cameras(), SOON);
        let target = if by_file {
            Target::File(open_segment(&site))
        } else {
            Target::Thread("commit")
        };
        let injection = Injection {
            target,
            calls: "fdatasync",
            error: "EIO",
            when,
        };
        let trace = Trace::attach(service.pid(), &injection, site.path("strace.log"));
        let asked = if when == "1..2" { 2 } else { 1 };
        let failed = wait_for("fdatasync fails", SOON, || {
            let failed = trace.failed();
            (failed.len() >= asked).then_some(failed)
        });
        let is_segment = |file: &PathBuf| file.extension().is_some_and(|end| end == "mp4");
        if failed.iter().all(is_segment) {
            recording_goes_on(&site, service, trace, &failed);
        } else {
            the_service_ends(service);
        }
        oracle.rest();
        site.assert_whole();
        let names: Vec<_> = failed.iter().filter_map(|file| file.file_name()).collect();
        println!("{injection:?}: {names:?} could not be synced");
    }
    let service = site.start();
    oracle.assert_kept(&service, &mut chance);
    service.stop();
}

/// The file that the first camera's footage goes to.
fn open_segment(site: &Site) -> PathBuf {
    let folder = format!("/{}/", camera_id(0));
    let all = site.segments().into_iter();
    let mut its = all.filter(|path| path.to_string_lossy().contains(&folder));
    its.next_back().expect("a segment")
}

fn recording_goes_on(site: &Site, service: Service, mut trace: Trace, failed: &[PathBuf]) {
    service.wait_until_durable(&site.cameras(), SOON);
    for file in failed {
        let touched = trace.touched_after_failure(file);
        assert!(
            touched.is_empty(),
            "{} was touched again: {touched:#?}",
            file.display()
        );
    }
    trace.detach();
    let log = service.log();
    assert!(log.contains("ERROR"), "nothing is logged:\n{log}");
    let timelines = site
        .cameras()
        .into_iter()
        .map(|id| service.api().timeline(&id).expect("a timeline"));
    let lost: Vec<_> = timelines
        .flat_map(|t| t.gaps)
        .filter(|gap| gap.cause == "disk_error")
        .collect();
    // One failure costs nothing: what was not acknowledged is written elsewhere.
    assert_eq!(lost.is_empty(), failed.len() < 2, "{lost:?}");
    service.stop();
}

/// Nothing can be acknowledged without an index: the service says so and ends, for a new start to recover.
fn the_service_ends(mut service: Service) {
    let status = service.ended(SOON);
    let log = service.log();
    assert!(status.code().is_some_and(|code| code != 0), "{status}: {log}");
    assert!(log.contains("the index failed"), "{log}");
}
