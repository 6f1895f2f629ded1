//! Simulated cameras are recorded, indexed and sealed, and the archive is whole afterwards.

use std::sync::Arc;
use std::time::Duration;

use archive::disk::Disk;
use archive::{GapCause, SystemClock, TimeRange};
use indexer::check::{CheckOptions, check};
use indexer::{CameraRow, Index, IndexOptions, SecretUrl, StreamConfig};
use tierline_ingest::camsim::{self, Camsim};
use tierline_ingest::{Ingest, IngestConfig};

struct Site {
    dir: tempfile::TempDir,
    index: Arc<Index>,
    disk: Disk,
}

fn site() -> Site {
    let dir = tempfile::tempdir().expect("folder");
    let index = Index::open(&dir.path().join("index"), &IndexOptions::default()).expect("index");
    let disk = Disk::open(&dir.path().join("hot")).expect("disk");
    Site {
        dir,
        index: Arc::new(index),
        disk,
    }
}

fn add_cameras(index: &Index, farm: &Camsim, n: usize) {
    for i in 0..n {
        let url = farm.url(i).parse().expect("url");
        let stream = StreamConfig {
            name: "main".parse().expect("id"),
            url: SecretUrl::new(url),
            transport: Default::default(),
            enabled: true,
        };
        let row = CameraRow {
            id: format!("cam-{i}").parse().expect("id"),
            name: format!("Camera {i}"),
            streams: vec![stream],
            priority: 5,
            created: Default::default(),
            removed: None,
            from_config: false,
        };
        index.put_camera(&row).expect("put");
    }
}

fn config() -> IngestConfig {
    IngestConfig {
        segment_duration: Duration::from_secs(6),
        ..Default::default()
    }
}

#[test]
fn cameras_are_recorded_over_an_outage_and_the_archive_is_whole() {
    let farm = camsim::start(camsim::Config {
        cameras: 3,
        ..Default::default()
    })
    .expect("farm");
    let s = site();
    add_cameras(&s.index, &farm, 3);
    let clock = Arc::new(SystemClock::default());
    let ingest = Ingest::start(config(), s.index.clone(), s.disk.clone(), clock).expect("start");
    std::thread::sleep(Duration::from_secs(8));
    farm.set_down(1, true);
    std::thread::sleep(Duration::from_secs(3));
    farm.set_down(1, false);
    std::thread::sleep(Duration::from_secs(7));
    ingest.stop().expect("stop");

    for (no, stream) in s.index.streams() {
        let timeline = s.index.timeline(no, TimeRange::ALL).expect("timeline");
        let recorded: u64 = timeline.runs.iter().map(|r| r.range.micros()).sum();
        println!(
            "{stream}: {} s in {} runs, gaps {:?}",
            recorded / 1_000_000,
            timeline.runs.len(),
            timeline.gaps
        );
        let down = stream.camera.as_str() == "cam-1";
        assert!(
            recorded > if down { 6_000_000 } else { 12_000_000 },
            "{stream}: {recorded} us"
        );
        assert_eq!(
            timeline.runs.len(),
            if down { 2 } else { 1 },
            "{:?}",
            timeline.runs
        );
        assert!(s.index.segments(no, TimeRange::ALL).expect("segments").len() >= 2);
    }
    assert_whole(&s);
}

/// The archive is whole, and the media alone tell the same.
fn assert_whole(s: &Site) {
    let options = CheckOptions {
        deep: true,
        running: false,
    };
    let findings = check(&s.index, &s.disk, &Default::default(), options, |_, _| {}).expect("check");
    assert!(findings.is_empty(), "{findings:#?}");

    let anew = Index::open(&s.dir.path().join("anew"), &IndexOptions::default()).expect("index");
    let rebuilt = indexer::rebuild(&s.disk, &Default::default(), &anew, |_| {}).expect("rebuild");
    assert!(rebuilt.left_out.is_empty(), "{:?}", rebuilt.left_out);
    assert_eq!(indexer::compare(&s.index, &anew).expect("compare"), []);
}

#[test]
fn a_camera_that_is_changed_or_removed_for_a_moment_goes_on_where_it_ended() {
    let farm = camsim::start(camsim::Config::default()).expect("farm");
    let s = site();
    add_cameras(&s.index, &farm, 1);
    let clock = Arc::new(SystemClock::default());
    let ingest = Ingest::start(config(), s.index.clone(), s.disk.clone(), clock).expect("start");
    std::thread::sleep(Duration::from_secs(7));
    let mut row = s.index.cameras().expect("cameras").remove(0);
    row.priority = 6;
    s.index.put_camera(&row).expect("put");
    std::thread::sleep(Duration::from_secs(5));
    row.removed = Some(Default::default());
    s.index.put_camera(&row).expect("put");
    std::thread::sleep(Duration::from_millis(300));
    row.removed = None;
    s.index.put_camera(&row).expect("put");
    std::thread::sleep(Duration::from_secs(5));
    ingest.stop().expect("stop");

    let (no, _) = s.index.streams().remove(0);
    let gaps = s.index.gaps(no, TimeRange::ALL).expect("gaps");
    println!("{gaps:?}");
    assert!(
        gaps.iter().all(|g| g.cause != GapCause::ServiceKilled),
        "nobody killed the service: {gaps:?}"
    );
    assert_whole(&s);
}

#[test]
fn a_session_that_ends_while_nothing_is_kept_loses_no_time() {
    let farm = camsim::start(camsim::Config::default()).expect("farm");
    let s = site();
    add_cameras(&s.index, &farm, 1);
    let clock = Arc::new(SystemClock::default());
    let ingest = Ingest::start(config(), s.index.clone(), s.disk.clone(), clock).expect("start");
    std::thread::sleep(Duration::from_secs(7));
    s.index.set_shed_below(9);
    std::thread::sleep(Duration::from_secs(5));
    farm.drop_sessions(0);
    std::thread::sleep(Duration::from_secs(1));
    s.index.set_shed_below(0);
    std::thread::sleep(Duration::from_secs(6));
    ingest.stop().expect("stop");

    let (no, _) = s.index.streams().remove(0);
    let timeline = s.index.timeline(no, TimeRange::ALL).expect("timeline");
    println!("{timeline:?}");
    assert_eq!(timeline.runs.len(), 2, "{timeline:?}");
    assert_whole(&s);
}
