//! Runs one case: two honest cameras first, then the hostile one beside them.

use std::path::Path;
use std::time::{Duration, Instant};

use archive::TimeRange;
use indexer::SessionState;
use tierline_ingest::camsim::{self, Camsim};

use crate::camera::Camera;
use crate::case::{Case, Expected};
use crate::misbehaviour::Misbehaviour;
use crate::site::{Site, config};
use crate::{cases, memory, oracle, soak};

/// A camera is given so long, and the time that it is watched, to come to its end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Cameras whose keyframes come every second.
pub(crate) fn farm(cameras: usize, others: Vec<std::path::PathBuf>) -> Camsim {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo.h264");
    let mut clips = vec![demo; cameras];
    let cameras = cameras + others.len();
    clips.extend(others);
    camsim::start(camsim::Config {
        cameras,
        clips,
        fps: Some(60),
        ..Default::default()
    })
    .expect("a farm")
}

/// Runs the case of this name; a failure is a panic.
pub(crate) fn one(name: &str) {
    if name == "soak" {
        return soak::run();
    }
    let case = cases::all().into_iter().find(|case| case.name == name);
    run(&case.expect("a case of this name"));
}

fn run(case: &Case) {
    let dir = tempfile::tempdir().expect("folder");
    let others = match case.does {
        Misbehaviour::BecomesH265 => vec![h265(dir.path())],
        _ => Vec::new(),
    };
    let farm = farm(3, others);
    let mut site = Site::start(config(case.access_unit_bytes, true));
    for (number, id) in ["honest-0", "honest-1"].into_iter().enumerate() {
        farm.set_logging(number, true);
        site.add(id, &farm.url(number), Default::default());
    }
    site.wait_for(&["honest-0", "honest-1"]);
    if !case.loopback_allowed {
        return strict(case, &farm);
    }
    let watch = memory::Watch::begin();
    let camera = hostile(case, &farm);
    site.add(
        "hostile",
        &camera.url().replace("127.0.0.1", case.host),
        case.transport,
    );
    let seen = watch_session(&site, case);
    let growth_kib = watch.growth_kib();
    drop(watch);
    site.stop();
    let kept: Vec<usize> = (0..2)
        .map(|n| oracle::assert_nothing_lost(&site, &farm, n, &format!("honest-{n}")))
        .collect();
    site.assert_whole();
    let connections = camera.connections();
    println!(
        "hostile: {}: {seen:?}, {growth_kib} KiB more at most, {connections} connections, honest pictures {kept:?}",
        case.name
    );
    assert_causes(&site, case);
    assert!(connections <= case.connections, "{connections} connections");
    assert!(growth_kib <= case.growth_mib << 10, "{growth_kib} KiB more");
}

/// The same where no camera may be on this machine: nobody connects.
fn strict(case: &Case, farm: &Camsim) {
    let mut site = Site::start(config(case.access_unit_bytes, false));
    let camera = hostile(case, farm);
    site.add(
        "hostile",
        &camera.url().replace("127.0.0.1", case.host),
        case.transport,
    );
    let seen = watch_session(&site, case);
    site.stop();
    println!(
        "hostile: {}: {seen:?}, {} connections",
        case.name,
        camera.connections()
    );
    assert_causes(&site, case);
    assert_eq!(camera.connections(), 0);
}

fn hostile(case: &Case, farm: &Camsim) -> Camera {
    let upstream = (2..farm.clips().len()).map(|n| farm.url(n)).collect();
    Camera::start(case.does, upstream)
}

/// What was seen of a session.
#[derive(Debug)]
#[expect(dead_code, reason = "printed")]
struct Seen {
    state: &'static str,
    error: Option<String>,
    after: Duration,
}

/// Watches the status until what is expected has come. Fails when it does not.
fn watch_session(site: &Site, case: &Case) -> Seen {
    let begin = Instant::now();
    let (mut ended, mut recorded, mut last) = (None, None, None);
    loop {
        let Some(no) = site.stream("hostile") else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let status = site.index.status(no);
        let at = begin.elapsed();
        if status.state == SessionState::Recording {
            recorded = Some(at);
        }
        if let Some(error) = status
            .last_error
            .filter(|_| status.state == SessionState::Backoff)
        {
            if last.as_ref() != Some(&error) {
                eprintln!("{at:?}: {error}");
            }
            let wanted = match case.expected {
                Expected::Ends(_, text) | Expected::EndsThenRecords(_, text) => error.contains(text),
                Expected::Records => panic!("the session ended: {error}"),
            };
            assert!(!error.contains("s3cret"), "{error}");
            if wanted && ended.is_none() {
                ended = Some((at, error.clone()));
            }
            last = Some(error);
        }
        let done = match case.expected {
            Expected::Ends(..) => ended.is_some(),
            Expected::EndsThenRecords(..) => ended.as_ref().is_some_and(|(at, _)| recorded > Some(*at)),
            Expected::Records => recorded.is_some(),
        };
        if done && at > case.watched {
            return Seen {
                state: status.state.as_str(),
                error: ended.as_ref().map(|(_, error)| error.clone()),
                after: ended.map_or(recorded.unwrap_or_default(), |(at, _)| at),
            };
        }
        assert!(
            at < case.watched + PATIENCE,
            "{:?}: in state {}, {last:?}",
            case.expected,
            status.state.as_str()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The index names the cause of the gap.
fn assert_causes(site: &Site, case: &Case) {
    let no = site.stream("hostile").expect("a stream");
    let timeline = site.index.timeline(no, TimeRange::ALL).expect("timeline");
    match case.expected {
        Expected::Ends(cause, _) | Expected::EndsThenRecords(cause, _) => {
            assert!(timeline.gaps.iter().any(|gap| gap.cause == cause), "{timeline:?}");
        }
        Expected::Records => assert!(!timeline.runs.is_empty(), "{timeline:?}"),
    }
    let lost = site.index.status(no).packets_lost;
    match case.does {
        Misbehaviour::Loses | Misbehaviour::Reorders | Misbehaviour::SequenceJumps => assert!(lost > 0),
        Misbehaviour::Duplicates | Misbehaviour::TimestampsJump | Misbehaviour::Goodbye => {
            assert_eq!(lost, 0)
        }
        Misbehaviour::BecomesH265 => {
            let last = site.index.last_segment(no).expect("a row").expect("a segment");
            let (_, id) = site.index.streams_of(&"hostile".parse().expect("id")).remove(0);
            let path = archive::layout::segment_path(&id, &last.name());
            let reader = archive::segment::SegmentReader::open(&site.disk, &path).expect("a segment");
            let (_, init, ..) = reader.head().expect("a head");
            assert!(
                init.tracks.iter().any(|t| t.codec.starts_with("hvc1")),
                "{init:?}"
            );
        }
        _ => {}
    }
}

/// Two seconds of H.265.
fn h265(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("clip.h265");
    let made = std::process::Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc=size=320x180:rate=30",
            "-t",
            "2",
        ])
        .args([
            "-c:v",
            "libx265",
            "-preset",
            "ultrafast",
            "-x265-params",
            "keyint=30:bframes=0:log-level=none",
        ])
        .args(["-f", "hevc"])
        .arg(&path)
        .status();
    assert!(made.expect("ffmpeg").success());
    path
}
