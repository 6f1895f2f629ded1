//! Playlists and media as players take them, decoded by ffmpeg.

mod common;

use std::process::Command;

use archive::GapCause;
use common::{Clip, EPOCH, Recorder, Service, Site, after, epoch, now};

/// Frames that ffmpeg decodes from a playlist, and what it complained about.
fn decode(service: &Service, path: &str) -> (usize, String) {
    let url = format!("http://{}{path}", service.address);
    let out = Command::new("ffprobe")
        .args([
            "-v",
            "warning",
            "-count_frames",
            "-select_streams",
            "v:0",
            "-show_entries",
            "stream=nb_read_frames",
        ])
        .args(["-of", "csv=p=0", "-allowed_extensions", "ALL", &url])
        .output()
        .expect("ffprobe");
    let frames = String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|l| l.trim().parse::<usize>().ok())
        .max();
    (
        frames.unwrap_or(0),
        String::from_utf8_lossy(&out.stderr).into_owned(),
    )
}

fn count(text: &str, tag: &str) -> usize {
    text.lines().filter(|line| line.starts_with(tag)).count()
}

fn media(service: &Service, path: &str) -> m3u8_rs::MediaPlaylist {
    let answer = service.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/vnd.apple.mpegurl")
    );
    m3u8_rs::parse_media_playlist(&answer.body)
        .expect("a media playlist")
        .1
}

#[test]
fn a_range_across_a_gap_and_a_change_of_parameters_plays_whole() {
    let site = Site::new();
    site.record("lobby/main", epoch(), 5);
    site.gap(
        "lobby/main",
        epoch().plus_micros(10_000_000),
        epoch().plus_micros(30_000_000),
        GapCause::Unreachable,
    );
    site.record("lobby/main", epoch().plus_micros(30_000_000), 5);
    let mut other = Recorder::new(
        &site,
        "lobby/main",
        epoch().plus_micros(40_000_000),
        Clip::other(),
    );
    other.append(3);
    other.seal();
    let service = site.serve(|_| ());

    let index = service.get(&format!("/hls/lobby/index.m3u8?from={EPOCH}&to={}", after(60.0)));
    let text = index.text();
    assert!(
        text.contains("RESOLUTION=640x360") && count(&text, "#EXT-X-STREAM-INF") == 1,
        "{text}"
    );
    assert!(text.contains("CODECS=\"avc1.4d"), "{text}");

    let path = format!("/hls/lobby/main/media.m3u8?from={EPOCH}&to={}", after(60.0));
    let text = service.get(&path).text();
    assert_eq!(
        (
            count(&text, "#EXTINF"),
            count(&text, "#EXT-X-DISCONTINUITY"),
            count(&text, "#EXT-X-MAP")
        ),
        (13, 2, 2)
    );
    assert_eq!(count(&text, "#EXT-X-PROGRAM-DATE-TIME"), 3);
    let playlist = media(&service, &path);
    assert_eq!((playlist.segments.len(), playlist.end_list), (13, true));

    // ffmpeg's reader passes over discontinuities, so that it gets one stretch at a time.
    for (from, to, expected) in [(0.0, 20.0, 250), (20.0, 40.0, 250), (40.0, 60.0, 150)] {
        let path = format!("/hls/lobby/index.m3u8?from={}&to={}", after(from), after(to));
        let (frames, complaints) = decode(&service, &path);
        assert_eq!(frames, expected, "{complaints}");
    }
}

#[test]
fn a_range_begins_at_the_keyframe_before_and_says_where_to_start() {
    let site = Site::new();
    site.record("lobby/main", epoch(), 5);
    let service = site.serve(|_| ());
    let text = service
        .get(&format!(
            "/hls/lobby/main/media.m3u8?from={}&to={}",
            after(3.25),
            after(7.0)
        ))
        .text();
    assert!(
        text.contains("#EXT-X-START:TIME-OFFSET=1.250000,PRECISE=YES"),
        "{text}"
    );
    assert_eq!(count(&text, "#EXTINF"), 3, "{text}");
    assert!(text.contains("2026-03-01T12:00:02.000000Z"), "{text}");
}

#[test]
fn variants_are_the_streams_with_footage_there() {
    let site = Site::new();
    site.record("lobby/main", epoch(), 5);
    let mut big = Recorder::new(&site, "lobby/big", epoch(), Clip::other());
    big.append(2);
    big.seal();
    let service = site.serve(|_| ());
    let text = service
        .get(&format!("/hls/lobby/index.m3u8?from={EPOCH}&to={}", after(9.0)))
        .text();
    assert!(
        text.find("big/media").expect("big") < text.find("main/media").expect("main"),
        "{text}"
    );
    let text = service
        .get(&format!(
            "/hls/lobby/index.m3u8?from={}&to={}",
            after(5.0),
            after(9.0)
        ))
        .text();
    assert!(!text.contains("big/media"), "{text}");
    let text = service
        .get(&format!(
            "/hls/lobby/index.m3u8?from={EPOCH}&to={}&stream=main",
            after(9.0)
        ))
        .text();
    assert!(!text.contains("big/media"), "{text}");
}

#[test]
fn media_is_served_by_range_with_the_bytes_of_the_file() {
    let site = Site::new();
    let row = site.record("lobby/main", epoch(), 5);
    let path = site.disk.path(&archive::layout::segment_path(
        &common::id("lobby/main"),
        &row.name(),
    ));
    let file = std::fs::read(path).expect("file");
    assert_eq!(file.len() as u64, row.bytes);
    let service = site.serve(|_| ());
    let url = "/hls/lobby/main/seg/0.mp4";
    let whole = service.get(url);
    assert!(whole.body == file, "the whole differs");
    assert_eq!(
        whole.header("cache-control"),
        Some("private, max-age=31536000, immutable")
    );
    let tag = whole.header("etag").expect("ETag").to_owned();
    let n = file.len();
    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=5000-99999", 5000..100_000.min(n)),
        ("bytes=-7", n - 7..n),
        ("bytes=4097-", 4097..n),
    ] {
        let part = service.get_with(url, &[("Range", range), ("If-Range", &tag)]);
        assert_eq!(part.status, 206, "{range}");
        let shown = format!("bytes {}-{}/{n}", expected.start, expected.end - 1);
        assert_eq!(part.header("content-range"), Some(shown.as_str()));
        assert!(part.body == file[expected], "{range} differs");
    }
    assert_eq!(
        service.get_with(url, &[("Range", "bytes=-0")]).code(),
        "range_not_satisfiable"
    );
    assert_eq!(
        service.get_with(url, &[("Range", &format!("bytes={n}-"))]).status,
        416
    );
    assert_eq!(service.get_with(url, &[("Range", "bytes=0-1,3-4")]).status, 200);
    assert_eq!(
        service
            .get_with(url, &[("Range", "bytes=0-1"), ("If-Range", "\"x\"")])
            .status,
        200
    );
    assert_eq!(service.get_with(url, &[("If-None-Match", &tag)]).status, 304);
    let head = service.send("HEAD", url, &[], b"");
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (200, Some(n.to_string().as_str()), 0)
    );
}

#[test]
fn of_an_open_segment_only_what_is_durable_is_served() {
    let site = Site::new();
    let mut recorder = Recorder::new(&site, "lobby/main", epoch(), Clip::small());
    recorder.append(2);
    let service = site.serve(|_| ());
    let first = service.get("/hls/lobby/main/seg/0.mp4");
    assert_eq!(
        (first.status, first.header("cache-control")),
        (200, Some("no-store"))
    );
    // With an ETag a browser keeps the pieces, and asks for the next one on the condition that the whole has not grown.
    assert_eq!(first.header("etag"), None);
    recorder.append(1);
    let second = service.get("/hls/lobby/main/seg/0.mp4");
    assert!(second.body.len() > first.body.len() && second.body.starts_with(&first.body));
    let part = service.get_with("/hls/lobby/main/seg/0.mp4", &[("Range", "bytes=4096-8191")]);
    assert_eq!((part.status, part.body.len()), (206, 4096));
    let (frames, complaints) = decode(
        &service,
        &format!("/hls/lobby/index.m3u8?from={EPOCH}&to={}", after(60.0)),
    );
    assert_eq!(frames, 150, "{complaints}");
}

#[test]
fn a_file_that_is_gone_fails_its_request_and_nothing_else() {
    let site = Site::new();
    let row = site.record("lobby/main", epoch(), 2);
    site.record("lobby/main", epoch().plus_micros(4_000_000), 2);
    let relative = archive::layout::segment_path(&common::id("lobby/main"), &row.name());
    std::fs::remove_file(site.disk.path(&relative)).expect("removed");
    let service = site.serve(|_| ());
    let answer = service.get("/hls/lobby/main/seg/0.mp4");
    assert_eq!((answer.status, answer.code().as_str()), (503, "media_unreadable"));
    assert!(!answer.text().contains("hot"), "{}", answer.text());
    assert_eq!(service.get("/hls/lobby/main/seg/1.mp4").status, 200);
    // A file that is shorter than its row says is an error as well, not silence.
    let row = site
        .index
        .segment(archive::SegmentId {
            stream: row.id.stream,
            seq: 1,
        })
        .expect("row")
        .expect("there");
    let path = site.disk.path(&archive::layout::segment_path(
        &common::id("lobby/main"),
        &row.name(),
    ));
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("file");
    file.set_len(row.bytes / 2).expect("cut");
    let cut = service.get("/hls/lobby/main/seg/1.mp4");
    assert!(
        cut.status == 503 || cut.body.len() as u64 <= row.bytes / 2,
        "{} {}",
        cut.status,
        cut.body.len()
    );
}

#[test]
fn live_follows_what_becomes_durable() {
    let site = Site::new();
    let mut recorder = Recorder::new(&site, "lobby/main", now().plus_micros(-30_000_000), Clip::small());
    recorder.append(8);
    let service = site.serve(|_| ());
    let index = service.get("/hls/lobby/live.m3u8").text();
    assert!(index.contains("\nmain/live.m3u8\n"), "{index}");
    let first = media(&service, "/hls/lobby/main/live.m3u8");
    assert!(!first.end_list && first.segments.len() == 6, "{first:?}");
    recorder.append(2);
    let second = media(&service, "/hls/lobby/main/live.m3u8");
    assert_eq!(second.media_sequence, first.media_sequence + 2);
    let uri =
        |p: &m3u8_rs::MediaPlaylist, n: usize| (p.segments[n].uri.clone(), p.segments[n].byte_range.clone());
    assert_eq!(uri(&second, 0), uri(&first, 2));
    // A new run after the old one: a discontinuity, and numbers that go on.
    recorder.seal();
    let mut recorder = Recorder::new(&site, "lobby/main", now().plus_micros(-5_000_000), Clip::small());
    recorder.append(2);
    let third = media(&service, "/hls/lobby/main/live.m3u8");
    assert_eq!(third.media_sequence, second.media_sequence + 2);
    assert!(third.segments[4].discontinuity, "{third:?}");
}

#[test]
fn footage_from_a_past_time_on_grows_into_live() {
    let site = Site::new();
    let from = now().plus_micros(-40_000_000);
    let mut recorder = Recorder::new(&site, "lobby/main", from, Clip::small());
    recorder.append(5);
    let service = site.serve(|_| ());
    let index = service
        .get(&format!("/hls/lobby/index.m3u8?from={}", from.micros()))
        .text();
    let uri = index.lines().last().expect("a variant").to_owned();
    let path = format!("/hls/lobby/{uri}");
    let first = service.get(&path).text();
    assert!(
        first.contains("#EXT-X-PLAYLIST-TYPE:EVENT") && !first.contains("ENDLIST"),
        "{first}"
    );
    recorder.append(3);
    let second = service.get(&path).text();
    assert!(
        second.starts_with(&first) && count(&second, "#EXTINF") == 8,
        "{second}"
    );
    // From a moment on that is not durable yet it begins with the newest fragment.
    let edge = now().micros();
    let newest = service.get(&format!("/hls/lobby/main/media.m3u8?from={edge}"));
    let live = site
        .index
        .live(site.index.streams()[0].0)
        .borrow()
        .durable_until
        .expect("durable");
    let near = edge - live.micros() <= 15_000_000;
    assert_eq!(newest.status, if near { 200 } else { 404 }, "{}", newest.text());
}

#[test]
fn a_timeline_shows_runs_and_gaps_and_seek_finds_the_fragment() {
    let site = Site::new();
    site.record("lobby/main", epoch(), 5);
    site.gap(
        "lobby/main",
        epoch().plus_micros(10_000_000),
        epoch().plus_micros(30_000_000),
        GapCause::NoData,
    );
    site.record("lobby/main", epoch().plus_micros(30_000_000), 5);
    let service = site.serve(|_| ());
    let timeline = service.json(&format!(
        "/api/v1/cameras/lobby/timeline?from={}&to={}",
        after(-5.0),
        after(60.0)
    ));
    assert_eq!(timeline["runs"].as_array().map(Vec::len), Some(2), "{timeline}");
    assert_eq!(timeline["runs"][0]["from"], "2026-03-01T12:00:00.000000Z");
    assert_eq!(timeline["runs"][0]["tier"], "hot");
    assert_eq!(timeline["gaps"][0]["cause"], "no_data");
    assert_eq!(timeline["gaps"][0]["to"], "2026-03-01T12:00:30.000000Z");
    assert_eq!(timeline["activity"][0]["level"], 40, "{timeline}");
    let seek =
        |at: f64| service.json(&format!("/api/v1/cameras/lobby/seek?at={}", after(at)))["fragment"].clone();
    assert_eq!(seek(3.0)["from"], "2026-03-01T12:00:02.000000Z");
    assert_eq!(seek(15.0)["from"], "2026-03-01T12:00:30.000000Z");
    let fragment = seek(3.0);
    let (offset, len) = (
        fragment["offset"].as_u64().expect("offset"),
        fragment["len"].as_u64().expect("len"),
    );
    let range = format!("bytes={offset}-{}", offset + len - 1);
    let media = service.get_with(fragment["url"].as_str().expect("url"), &[("Range", &range)]);
    assert_eq!((media.status, media.body.len() as u64), (206, len));
    assert_eq!(
        service.get(fragment["init_url"].as_str().expect("url")).status,
        200
    );
    let after_all = service.get(&format!("/api/v1/cameras/lobby/seek?at={}", after(100.0)));
    assert_eq!(after_all.code(), "no_media");
}

#[test]
fn a_still_shows_the_picture_of_its_time() {
    let site = Site::new();
    site.record("lobby/main", epoch(), 3);
    let service = site.serve(|_| ());
    let at = |seconds: f64, more: &str| {
        let answer = service.get(&format!(
            "/api/v1/cameras/lobby/snapshot.jpg?at={}{more}",
            after(seconds)
        ));
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("image/jpeg")),
            "{}",
            answer.text()
        );
        answer.body
    };
    let first = at(0.0, "");
    assert!(first.starts_with(&[0xff, 0xd8]) && first.ends_with(&[0xff, 0xd9]));
    assert!(first != at(1.0, ""), "every time shows the same picture");
    assert!(at(5.99, "").starts_with(&[0xff, 0xd8]));
    assert!(at(1.0, "&width=64").len() < first.len() / 2);
    for width in ["0", "15", "3841", "-1", "1e3", ""] {
        let answer = service.get(&format!(
            "/api/v1/cameras/lobby/snapshot.jpg?at={}&width={width}",
            after(1.0)
        ));
        assert_eq!(answer.code(), "invalid_parameter", "{width}");
    }
    assert_eq!(service.get("/api/v1/cameras/lobby/snapshot.jpg").status, 200);
}
