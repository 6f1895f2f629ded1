//! An exported file, whole and in parts.

mod common;

use std::process::Command;

use archive::GapCause;
use common::{EPOCH, Site, after, epoch};

fn frames(file: &[u8]) -> usize {
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("export.mp4");
    std::fs::write(&path, file).expect("written");
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-i"])
        .arg(&path)
        .args(["-f", "framemd5", "-"])
        .output()
        .expect("ffmpeg");
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter(|line| !line.starts_with('#'))
        .count()
}

#[test]
fn a_range_across_a_gap_is_one_file_that_decodes_and_comes_in_any_parts() {
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
    let path = format!(
        "/api/v1/cameras/lobby/export.mp4?from={}&to={}",
        after(1.0),
        after(35.0)
    );
    let whole = service.get(&path);
    assert_eq!(
        (whole.status, whole.header("content-type")),
        (200, Some("video/mp4")),
        "{}",
        whole.text()
    );
    assert_eq!(frames(&whole.body), 25 * 9 + 25 * 5);
    assert_eq!(whole.header("x-tierline-gaps"), Some("1"));
    assert_eq!(
        whole.header("x-tierline-from"),
        Some("2026-03-01T12:00:01.000000Z")
    );
    assert_eq!(whole.header("x-tierline-to"), Some("2026-03-01T12:00:35.000000Z"));
    let name = whole.header("content-disposition").expect("disposition");
    assert_eq!(
        name,
        "attachment; filename=\"lobby_main_2026-03-01T12-00-01Z.mp4\""
    );

    let n = whole.body.len();
    assert_eq!(whole.header("content-length"), Some(n.to_string().as_str()));
    let head = service.send("HEAD", &path, &[], b"");
    assert_eq!(
        (head.header("content-length"), head.header("etag")),
        (whole.header("content-length"), whole.header("etag"))
    );
    assert!(head.body.is_empty());
    let tag = whole.header("etag").expect("ETag").to_owned();
    for (range, expected) in [
        ("bytes=0-99".to_owned(), 0..100),
        (format!("bytes={}-{}", n / 3, n / 2), n / 3..n / 2 + 1),
        ("bytes=-1000".to_owned(), n - 1000..n),
        (format!("bytes={}-", n - 1), n - 1..n),
    ] {
        let part = service.get_with(&path, &[("Range", &range), ("If-Range", &tag)]);
        assert_eq!(part.status, 206, "{range}");
        assert!(part.body == whole.body[expected], "{range} differs");
    }
    assert_eq!(
        service
            .get_with(&path, &[("Range", &format!("bytes={n}-"))])
            .status,
        416
    );
    assert_eq!(service.get_with(&path, &[("If-None-Match", &tag)]).status, 304);
    let mut joined = Vec::new();
    for at in (0..n).step_by(77_777) {
        let range = format!("bytes={at}-{}", (at + 77_776).min(n - 1));
        joined.extend(service.get_with(&path, &[("Range", &range)]).body);
    }
    assert!(joined == whole.body, "parts do not make the whole");
}

#[test]
fn an_export_grows_with_the_footage_and_its_tag_says_so() {
    let site = Site::new();
    let mut recorder = common::Recorder::new(&site, "lobby/main", epoch(), common::Clip::small());
    recorder.append(2);
    let service = site.serve(|_| ());
    let path = format!("/api/v1/cameras/lobby/export.mp4?from={EPOCH}&to={}", after(60.0));
    let first = service.get(&path);
    assert_eq!((first.status, frames(&first.body)), (200, 100));
    recorder.append(1);
    let second = service.get(&path);
    assert_eq!(frames(&second.body), 150);
    assert_ne!(first.header("etag"), second.header("etag"));
    let stale = service.get_with(
        &path,
        &[
            ("Range", "bytes=100-"),
            ("If-Range", first.header("etag").expect("ETag")),
        ],
    );
    assert_eq!(stale.status, 200);
}
