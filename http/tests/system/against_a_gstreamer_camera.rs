//! What GStreamer's cameras send is what lies on disk and what an export shows, to the bit.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use archive::WallTime;

use crate::peers::{GstCamera, Packet, SentPicture, SentSound, assert_decodes, packets, picture_hashes};
use crate::rig::{Api, Fragment, Service, Site, beside_others, wait_for};

/// Each camera, its encoder's name for ffmpeg, and how it is set up.
const CAMERAS: [(&str, &str, &[&str]); 3] = [
    (
        "h264",
        "h264",
        &["--bframes", "2", "--audio", "aac", "--sei", "--aud"],
    ),
    (
        "h265",
        "hevc",
        &["--codec", "h265", "--bframes", "3", "--gop", "26", "--open-gop"],
    ),
    ("uneven", "h264", &["--variable-gop", "--vfr"]),
];
/// What must be recorded of each.
const RECORDED: Duration = Duration::from_secs(14);
/// The time between two pictures.
const PICTURE_US: i64 = 1_000_000 / 15;
/// Where GStreamer's encoders begin to count the time of pictures: at 1000 hours.
const PICTURES_FROM_NS: i64 = 1000 * 3600 * 1_000_000_000;
/// How far sound may be from the picture that it belongs to.
const OUT_OF_STEP_MAX_S: f64 = 0.05;
/// How far the wall may be from the camera's clock at the end.
const OFF_MAX_US: i64 = 100_000;
/// A second, and the longest GOP, may be lost at the end.
const LOST_AT_END_MAX: usize = 15 + 45;

#[test]
fn what_gstreamer_cameras_send_is_stored_and_exported_bit_exact() {
    let _turn = beside_others();
    let folder = tempfile::tempdir().expect("a folder");
    let cameras = CAMERAS.map(|(name, _, arguments)| GstCamera::start(folder.path(), name, arguments));
    let sites = CAMERAS.iter().zip(&cameras);
    let mut site = Site::of(
        sites
            .map(|(camera, gst)| (camera.0.to_owned(), gst.url.clone()))
            .collect(),
    );
    let service = site.start();
    service.wait_until_recording(&site.cameras(), Duration::from_secs(20));
    sleep(RECORDED);
    service.wait_until_durable(&site.cameras(), Duration::from_secs(10));

    let recorded = CAMERAS.map(|(name, ..)| {
        let open = open_segment(&site, &service, name, folder.path());
        assert_decodes(&open);
        let fragments = fragments(&service.api(), name);
        let exports = export(&service.api(), name, &fragments, folder.path());
        (fragments, exports)
    });
    service.stop();
    for camera in &cameras {
        // It would go on writing its log.
        camera.signal(rustix::process::Signal::STOP);
    }
    site.assert_whole();
    for (((name, format, _), camera), (fragments, exports)) in CAMERAS.iter().zip(&cameras).zip(&recorded) {
        let segments = segments_of(&site, name);
        segments.iter().for_each(|segment| assert_decodes(segment));
        let first = assert_stored(name, camera, &segments);
        let wall = wall_times(name, &camera.pictures()[first..], fragments);
        let shown = assert_shown(name, camera, format, exports, (first, &wall));
        println!(
            "{name}: {} segments, {} fragments, {shown:?} pictures exported",
            segments.len(),
            fragments.len()
        );
    }
    for export in &recorded[0].1 {
        assert_in_step(&cameras[0], export);
    }
}

/// The segments of a camera in the order of time.
fn segments_of(site: &Site, camera: &str) -> Vec<PathBuf> {
    let mut segments = site.segments();
    segments.retain(|path| path.components().any(|part| part.as_os_str() == camera));
    assert!(segments.len() > 1, "{camera}: {segments:?}");
    segments
}

/// A copy of the segment that is being written, taken right behind a commit.
fn open_segment(site: &Site, service: &Service, camera: &str, folder: &Path) -> PathBuf {
    let durable_until = || service.api().status(camera).ok().and_then(|s| s.durable_until);
    let before = durable_until();
    wait_for("a commit", Duration::from_secs(10), || {
        (durable_until() != before).then_some(())
    });
    let copy = folder.join(format!("{camera}-open.mp4"));
    let segments = segments_of(site, camera);
    fs::copy(&segments[segments.len() - 1], &copy).expect("a copy");
    copy
}

/// Everything recorded of a camera, which must be in one piece.
fn fragments(api: &Api, camera: &str) -> Vec<Fragment> {
    let runs = api.timeline(camera).expect("a timeline").runs;
    let (first, last) = (&runs[0], &runs[runs.len() - 1]);
    let recorded_us = last.to.micros_since(first.from);
    assert!(recorded_us > 12_000_000, "{camera}: {runs:?}");
    let mut fragments: Vec<Fragment> = Vec::new();
    while fragments.last().is_none_or(|fragment| fragment.to < last.to) {
        let at = fragments.last().map_or(first.from, |fragment| fragment.to);
        let next = api.seek(camera, at).expect("a fragment");
        assert_eq!(next.from, at, "{camera}: a hole between fragments");
        fragments.push(next);
    }
    fragments
}

/// A range exported while it is being recorded.
struct Export {
    file: PathBuf,
    from: WallTime,
    to: WallTime,
}

/// Exports a range that begins and ends in the middle of a GOP, and one that begins with the last picture
/// of a GOP and ends before that of another.
fn export(api: &Api, camera: &str, fragments: &[Fragment], folder: &Path) -> [Export; 2] {
    let last = fragments.len() - 2;
    // Half-way between two pictures, so that there is no doubt which of them is in.
    let middle = |fragment: &Fragment| {
        let pictures = fragment.to.micros_since(fragment.from) / PICTURE_US;
        let until_us = pictures / 2 * PICTURE_US + PICTURE_US / 2;
        fragment.from.plus_micros(until_us)
    };
    let end = |fragment: &Fragment| fragment.to.plus_micros(-3 * PICTURE_US / 2);
    let ranges = [
        ("middle", middle(&fragments[1]), middle(&fragments[last])),
        ("seam", end(&fragments[1]), end(&fragments[last])),
    ];
    ranges.map(|(name, from, to)| {
        let path = format!("/api/v1/cameras/{camera}/export.mp4?from={from}&to={to}");
        let file = folder.join(format!("{camera}-{name}.mp4"));
        fs::write(&file, api.fetch(&path)).expect("an export");
        assert_decodes(&file);
        Export { file, from, to }
    })
}

/// Fails unless the samples on disk are what the camera sent, from the first one stored to the last, and
/// says which the first one is.
fn assert_stored(name: &str, camera: &GstCamera, segments: &[PathBuf]) -> usize {
    let stored = |track| -> Vec<String> {
        let of_segment = |segment: &PathBuf| packets(segment, track);
        segments
            .iter()
            .flat_map(of_segment)
            .map(|packet| packet.hash)
            .collect()
    };
    let pictures = camera.pictures();
    let sent: Vec<&str> = pictures.iter().map(|picture| picture.hash.as_str()).collect();
    let video = stored("v");
    let first = position(&sent, &video).unwrap_or_else(|| panic!("{name}: pictures are not those sent"));
    let behind = sent.len() - first - video.len();
    assert!(
        behind < LOST_AT_END_MAX,
        "{name}: {behind} pictures were sent and not stored at the end"
    );
    assert!(pictures[first].key, "{name}: does not begin with a keyframe");

    let sound = camera.sound();
    let sent: Vec<&str> = sound.iter().map(|frame| frame.hash.as_str()).collect();
    let audio = stored("a");
    assert_eq!(audio.is_empty(), sent.is_empty(), "{name}: sound");
    assert!(
        position(&sent, &audio).is_some(),
        "{name}: sound is not what was sent"
    );
    println!(
        "{name}: stored {} pictures, {} frames of sound",
        video.len(),
        audio.len()
    );
    first
}

/// Where `part` stands in `whole`.
fn position<T: AsRef<str>>(whole: &[&str], part: &[T]) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    let is_here = |window: &[&str]| window.iter().zip(part).all(|(a, b)| *a == b.as_ref());
    whole.windows(part.len()).position(is_here)
}

/// When each of the pictures was taken, the first being the first one stored, as far as the fragments go.
/// Fails unless the wall goes as fast as the camera's clock all the way, which says that nothing is missing.
fn wall_times(name: &str, pictures: &[SentPicture], fragments: &[Fragment]) -> Vec<WallTime> {
    // A fragment begins with each keyframe, or with the pictures that are sent after it and shown before.
    let gops = pictures.chunk_by(|_, next| !next.key);
    let mut times = Vec::new();
    let mut off_us = Vec::new();
    let begin_ns = |gop: &[SentPicture]| gop.iter().map(|picture| picture.pts_ns).min().expect("a picture");
    for (gop, fragment) in gops.zip(fragments) {
        let since_us = |picture: &SentPicture| (picture.pts_ns - begin_ns(gop)) / 1000;
        times.extend(
            gop.iter()
                .map(|picture| fragment.from.plus_micros(since_us(picture))),
        );
        let sent_us = (begin_ns(gop) - pictures[0].pts_ns) / 1000;
        off_us.push(fragment.from.micros_since(fragments[0].from) - sent_us);
    }
    let worst_us = off_us.iter().map(|us| us.abs()).max().expect("a fragment");
    println!("{name}: the wall is at most {worst_us} us off the camera's clock");
    assert!(worst_us < OFF_MAX_US, "{name}: {off_us:?}");
    times
}

/// Fails unless the pictures that exports show are exactly those that the camera sent for their range, as
/// ffmpeg decodes them; how many they are. `stored` says which picture is the first one stored, and when
/// each from it on was taken.
fn assert_shown(
    name: &str,
    camera: &GstCamera,
    format: &str,
    exports: &[Export],
    stored: (usize, &[WallTime]),
) -> Vec<usize> {
    let (first, wall) = stored;
    let sent = camera.pictures();
    let decoded = picture_hashes(&camera.elementary_stream(), Some(format));
    assert!(sent.iter().all(|picture| picture.media == 1), "{name}: sessions");
    assert_eq!(
        decoded.len(),
        sent.len(),
        "{name}: pictures of the elementary stream"
    );
    let whole: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let mut in_order: Vec<usize> = (0..sent.len()).collect();
    in_order.sort_by_key(|&i| sent[i].pts_ns);

    let shown = exports.iter().map(|export| {
        let wanted = in_order.iter().zip(&whole).filter(|&(&i, _)| {
            let at = i.checked_sub(first).and_then(|i| wall.get(i));
            at.is_some_and(|at| *at >= export.from && *at < export.to)
        });
        let wanted: Vec<&str> = wanted.map(|(_, hash)| *hash).collect();
        let shown = picture_hashes(&export.file, None);
        assert!(
            wanted == shown,
            "{}: {} pictures from {:?} on are shown instead of {} from {:?} on",
            export.file.display(),
            shown.len(),
            position(&whole, &shown),
            wanted.len(),
            position(&whole, &wanted)
        );
        shown.len()
    });
    shown.collect()
}

/// Fails unless sound and pictures of an export keep the distance that they had when they were sent.
fn assert_in_step(camera: &GstCamera, export: &Export) {
    let (pictures, sound) = (camera.pictures(), camera.sound());
    let video = packets(&export.file, "v");
    let audio = packets(&export.file, "a");
    let first = pictures.iter().find(|sent| sent.hash == video[0].hash);
    let first = first.expect("the first picture was sent");
    let late_s = video[0].pts_s - (first.pts_ns - PICTURES_FROM_NS) as f64 / 1e9;

    // Ticks sound alike, so the same sound may have been sent more than once: the nearest is meant.
    let is_sent = |sent: &&[SentSound]| {
        sent.iter()
            .zip(&audio)
            .all(|(sent, packet)| sent.hash == packet.hash)
    };
    let off_s = |sent: &SentSound, packet: &Packet| (packet.pts_s - sent.pts_ns as f64 / 1e9 - late_s).abs();
    let worst_s = |sent: &[SentSound]| {
        let pairs = sent.iter().zip(&audio).filter(|(_, packet)| !packet.hidden);
        pairs
            .map(|(sent, packet)| off_s(sent, packet))
            .fold(0.0, f64::max)
    };
    let matches = sound.windows(audio.len()).filter(is_sent);
    let worst_s = matches
        .map(worst_s)
        .min_by(f64::total_cmp)
        .expect("sound that was sent");

    let length_s = export.to.micros_since(export.from) as f64 / 1e6;
    let (begins_s, ends_s) = (audio[0].pts_s, audio[audio.len() - 1].pts_s);
    println!("sound from {begins_s} s to {ends_s} s of {length_s} s, at most {worst_s} s out of step");
    assert!(begins_s < OUT_OF_STEP_MAX_S && ends_s > length_s - 2.0 * OUT_OF_STEP_MAX_S);
    assert!(worst_s < OUT_OF_STEP_MAX_S, "{worst_s}");
}
