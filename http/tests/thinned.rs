//! Footage of which pictures were thinned out plays, seeks and exports by the URLs that it always had.

mod common;

use std::process::Command;

use archive::buffer::Pool;
use archive::layout::segment_path;
use archive::segment::{Keep, SegmentReader, Thinning, thin};
use archive::{TimeRange, WallTime};
use common::{Clip, EPOCH, Recorder, Service, Site, after, epoch, id, now};
use indexer::{Batch, Replacement, SegmentRow};

const STREAM: &str = "lobby/main";

/// Thirty seconds in one run: three segments of five GOPs of two seconds and fifty pictures each.
fn recorded() -> Site {
    recorded_from(epoch())
}

fn recorded_from(start: WallTime) -> Site {
    let site = Site::new();
    let mut recorder = Recorder::new(&site, STREAM, start, Clip::small());
    recorder.append(5);
    let mut recorder = recorder.rotate();
    recorder.append(5);
    let mut recorder = recorder.rotate();
    recorder.append(5);
    recorder.seal();
    site
}

fn row(site: &Site, seq: usize) -> SegmentRow {
    let no = site.index.stream_no(&id(STREAM)).expect("index").expect("stream");
    site.index
        .segments(no, TimeRange::ALL)
        .expect("rows")
        .swap_remove(seq)
}

/// Puts the thinned version of a segment in its place.
fn replace(site: &Site, seq: usize, keep: Keep) {
    let before = row(site, seq);
    let path = segment_path(&id(STREAM), &before.name());
    let reader = SegmentReader::open(&site.disk, &path).expect("open");
    let how = Thinning {
        keep,
        spared: &[],
        leaned_on: false,
        at: epoch(),
    };
    let entries = site.index.table(&before).expect("table");
    let thinned = thin(&site.disk, &Pool::new(16), reader, entries.into(), &how);
    let thinned = thinned.expect("thinned").expect("smaller");
    let after = SegmentRow {
        bytes: thinned.sealed.bytes,
        fragments: thinned.entries.len() as u32,
        generation: 1,
        ..before.clone()
    };
    let replacement = Replacement {
        copies: site.index.copies(&before).expect("copies"),
        before,
        after,
        entries: thinned.entries,
        at: epoch(),
    };
    assert!(site.index.replace(&replacement).expect("commit"));
}

/// When each picture of what lies at `input` is shown, in seconds since the first; ffmpeg must have nothing to say.
fn shown(input: &str) -> Vec<f64> {
    let out = Command::new("ffprobe")
        .args([
            "-v",
            "warning",
            "-select_streams",
            "v:0",
            "-show_entries",
            "frame=pts_time",
        ])
        .args(["-of", "csv=p=0", input])
        .output()
        .expect("ffprobe");
    let complaints = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success() && complaints.trim().is_empty(),
        "{complaints}"
    );
    let text = String::from_utf8_lossy(&out.stdout);
    let times: Vec<f64> = (text
        .lines()
        .map(|l| l.trim_end_matches(','))
        .filter(|l| !l.is_empty()))
    .map(|l| l.parse().expect("a time"))
    .collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    let first = times.first().copied().unwrap_or(0.0);
    times
        .iter()
        .map(|t| ((t - first) * 1000.0).round() / 1000.0)
        .collect()
}

fn playlist(service: &Service, from: &str, to: &str) -> String {
    let answer = service.get(&format!("/hls/lobby/main/media.m3u8?from={from}&to={to}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

/// The exported file, how long it lasts, and when its pictures are shown.
fn export(service: &Service, from: f64, to: f64) -> (common::Answer, f64, Vec<f64>) {
    let (a, b) = (after(from), after(to));
    let answer = service.get(&format!("/api/v1/cameras/lobby/export.mp4?from={a}&to={b}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("export.mp4");
    std::fs::write(&path, &answer.body).expect("written");
    let path = path.to_str().expect("utf-8");
    let out = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-show_entries",
            "format=duration",
            "-of",
            "csv=p=0",
            path,
        ])
        .output()
        .expect("ffprobe");
    let duration = String::from_utf8_lossy(&out.stdout)
        .trim()
        .parse()
        .expect("a duration");
    (answer, duration, shown(path))
}

/// Pictures every 40 ms from `from` to `to`.
fn full(from: f64, to: f64) -> Vec<f64> {
    let count = ((to - from) * 25.0).round() as usize;
    (0..count)
        .map(|i| ((from + i as f64 / 25.0) * 1000.0).round() / 1000.0)
        .collect()
}

#[test]
fn a_playlist_goes_from_full_to_thinned_footage_and_back_without_a_break() {
    let site = recorded();
    replace(&site, 1, Keep::Keyframes);
    let service = site.serve(|_| ());
    let text = playlist(&service, EPOCH, &after(30.0));
    let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!(
        (
            count("#EXTINF:2.000000"),
            count("DISCONTINUITY"),
            count("PROGRAM-DATE-TIME")
        ),
        (15, 0, 1)
    );
    assert_eq!(
        (
            count("seg/0.mp4"),
            count("seg/1.t1.mp4"),
            count("seg/1.mp4"),
            count("seg/2.mp4")
        ),
        (5, 5, 0, 5)
    );
    let url = format!(
        "http://{}/hls/lobby/main/media.m3u8?from={EPOCH}&to={}",
        service.address,
        after(30.0)
    );
    let expected = [
        full(0.0, 10.0),
        vec![10.0, 12.0, 14.0, 16.0, 18.0],
        full(20.0, 30.0),
    ]
    .concat();
    assert_eq!(shown(&url), expected);
    let timeline = service.json(&format!(
        "/api/v1/cameras/lobby/timeline?from={EPOCH}&to={}",
        after(30.0)
    ));
    let runs: Vec<_> = timeline["runs"]
        .as_array()
        .expect("runs")
        .iter()
        .map(|r| r["thinned"].clone())
        .collect();
    assert_eq!(runs, [false, true, false]);
    assert_eq!(timeline["gaps"], serde_json::json!([]));
}

#[test]
fn whole_gops_that_stay_last_until_the_next_one() {
    let site = recorded();
    replace(&site, 1, Keep::EveryNthGop(2));
    let service = site.serve(|_| ());
    let text = playlist(&service, EPOCH, &after(30.0));
    assert_eq!(text.matches("#EXTINF:4.000000").count(), 2, "{text}");
    let url = format!(
        "http://{}/hls/lobby/main/media.m3u8?from={EPOCH}&to={}",
        service.address,
        after(30.0)
    );
    let expected = [full(0.0, 12.0), full(14.0, 16.0), full(18.0, 30.0)].concat();
    assert_eq!(shown(&url), expected);
}

#[test]
fn an_old_playlist_plays_what_it_named_while_that_is_there_and_then_finds_nothing() {
    let site = recorded();
    let service = site.serve(|_| ());
    let before = service.get("/hls/lobby/main/seg/1.mp4");
    let tag = before.header("etag").expect("ETag").to_owned();
    replace(&site, 1, Keep::Keyframes);
    let range = [("range", "bytes=4096-20000")];
    let part = service.get_with("/hls/lobby/main/seg/1.mp4", &range);
    assert_eq!((part.status, &part.body[..]), (206, &before.body[4096..=20_000]));
    let whole = service.get("/hls/lobby/main/seg/1.mp4");
    assert_eq!(
        (whole.header("etag"), whole.body == before.body),
        (Some(tag.as_str()), true)
    );
    let thinned = service.get("/hls/lobby/main/seg/1.t1.mp4");
    assert_eq!(thinned.status, 200);
    assert!(thinned.header("etag") != Some(tag.as_str()) && thinned.body.len() < before.body.len());
    for name in ["1.t2.mp4", "1.t0.mp4", "0.t1.mp4", "1.t.mp4", "1.t1.t1.mp4"] {
        assert_eq!(
            service.get(&format!("/hls/lobby/main/seg/{name}")).status,
            404,
            "{name}"
        );
    }
    // Damage that is found in what was replaced is none of the new one's.
    let former = SegmentRow {
        generation: 0,
        ..row(&site, 1)
    };
    let path = site.disk.path(&segment_path(&id(STREAM), &former.name()));
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[12_000] ^= 1;
    std::fs::write(&path, bytes).expect("write");
    assert_ne!(service.get("/hls/lobby/main/seg/1.mp4").body, before.body);
    let no = site.index.stream_no(&id(STREAM)).expect("index").expect("stream");
    assert_eq!(site.index.damage(no, TimeRange::ALL).expect("damage"), []);

    std::fs::remove_file(path).expect("removed");
    let mut batch = Batch::default();
    batch.thinned(&row(&site, 1));
    site.index.commit(batch).expect("commit");
    assert_eq!(service.get("/hls/lobby/main/seg/1.mp4").status, 404);
    assert_eq!(service.get("/hls/lobby/main/seg/1.t1.mp4").body, thinned.body);
}

#[test]
fn seeks_and_stills_find_the_picture_that_is_shown_at_a_time() {
    let site = recorded();
    let service = site.serve(|_| ());
    let still = |at: f64| {
        service
            .get(&format!("/api/v1/cameras/lobby/snapshot.jpg?at={}", after(at)))
            .body
    };
    let (key, last) = (still(12.0), still(13.97));
    replace(&site, 1, Keep::Keyframes);
    let found = service.json(&format!("/api/v1/cameras/lobby/seek?at={}", after(13.5)));
    let fragment = &found["fragment"];
    assert_eq!(fragment["from"], "2026-03-01T12:00:12.000000Z");
    assert_eq!(fragment["to"], "2026-03-01T12:00:14.000000Z");
    assert_eq!(fragment["url"], "/hls/lobby/main/seg/1.t1.mp4");
    let (offset, len) = (
        fragment["offset"].as_u64().expect("offset"),
        fragment["len"].as_u64().expect("len"),
    );
    let range = format!("bytes={offset}-{}", offset + len - 1);
    let bytes = service.get_with("/hls/lobby/main/seg/1.t1.mp4", &[("range", &range)]);
    assert_eq!((bytes.status, bytes.body.len() as u64), (206, len));
    assert_eq!(&bytes.body[4..8], b"uuid");
    assert!(
        !key.is_empty() && still(13.9) == key,
        "the keyframe stands for its GOP"
    );

    let site = recorded();
    replace(&site, 1, Keep::EveryNthGop(2));
    let service = site.serve(|_| ());
    // GOPs from 10 s and from 14 s stay; the last picture of the first is shown until then.
    let still = |at: f64| {
        service
            .get(&format!("/api/v1/cameras/lobby/snapshot.jpg?at={}", after(at)))
            .body
    };
    assert!(still(13.0) == still(11.97) && still(13.0) != still(10.0));
    assert_ne!(still(13.0), last);
}

#[test]
fn exports_cut_exactly_where_pictures_are_held() {
    let site = recorded();
    replace(&site, 1, Keep::Keyframes);
    let service = site.serve(|_| ());
    let exact = |answer: &common::Answer, from: f64, to: f64| {
        assert_eq!(answer.header("x-tierline-from"), Some(after(from).as_str()));
        assert_eq!(answer.header("x-tierline-to"), Some(after(to).as_str()));
    };
    // Over both borders.
    let (answer, duration, times) = export(&service, 8.0, 22.0);
    exact(&answer, 8.0, 22.0);
    assert_eq!(
        times,
        [full(0.0, 2.0), vec![2.0, 4.0, 6.0, 8.0, 10.0], full(12.0, 14.0)].concat()
    );
    assert!((duration - 14.0).abs() < 0.001, "{duration}");
    // Within what one picture is shown for.
    let (answer, duration, times) = export(&service, 12.5, 13.25);
    exact(&answer, 12.5, 13.25);
    assert_eq!(times, [0.0]);
    assert!((duration - 0.75).abs() < 0.001, "{duration}");
    // Beginning and ending in the middle of one.
    let (answer, duration, times) = export(&service, 11.0, 15.0);
    exact(&answer, 11.0, 15.0);
    assert_eq!(times, [0.0, 1.0, 3.0]);
    assert!((duration - 4.0).abs() < 0.001, "{duration}");
    let (_, duration, times) = export(&service, 19.5, 21.0);
    assert_eq!(times, [vec![0.0], full(0.5, 1.5)].concat());
    assert!((duration - 1.5).abs() < 0.001, "{duration}");
}

#[test]
fn exports_hold_the_last_picture_of_a_gop_that_stays() {
    let site = recorded();
    replace(&site, 1, Keep::EveryNthGop(2));
    let service = site.serve(|_| ());
    let (answer, duration, times) = export(&service, 13.0, 15.0);
    assert_eq!(answer.header("x-tierline-from"), Some(after(13.0).as_str()));
    assert_eq!(times, [vec![0.0], full(1.0, 2.0)].concat());
    assert!((duration - 2.0).abs() < 0.001, "{duration}");
}

#[test]
fn a_playlist_into_live_names_what_is_there_after_thinning() {
    let start = now().plus_micros(-60_000_000);
    let site = recorded_from(start);
    let service = site.serve(|_| ());
    let path = format!("/hls/lobby/main/media.m3u8?from={start}");
    let before = service.get(&path).text();
    assert!(
        before.contains("seg/1.mp4") && !before.contains("seg/1.t1.mp4"),
        "{before}"
    );
    replace(&site, 1, Keep::Keyframes);
    let after = service.get(&path).text();
    assert!(
        !after.contains("seg/1.mp4") && after.contains("seg/1.t1.mp4"),
        "{after}"
    );
    assert_eq!(
        before.matches("#EXTINF").count(),
        after.matches("#EXTINF").count()
    );
}
