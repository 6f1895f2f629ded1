//! What is damaged on the disk never reaches a reader; everything else does.

mod common;

use std::os::unix::fs::FileExt;

use archive::Tier;
use archive::layout::segment_path;
use archive::store::{Objects, Store, StoreConfig, Stores};
use common::{EPOCH, Service, Site, after, epoch, id};
use indexer::{Batch, Copies, Event, SegmentRow};

const STREAM: &str = "lobby/main";

fn flip(site: &Site, row: &SegmentRow, at: u64) {
    let path = site.disk.path(&segment_path(&id(STREAM), &row.name()));
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 1], at).expect("write");
}

fn playlist(service: &Service) -> String {
    let path = format!("/hls/lobby/main/media.m3u8?from={EPOCH}&to={}", after(60.0));
    service.get(&path).text()
}

/// The byte ranges of a playlist, and what they answer.
fn fetch(service: &Service, seq: u64, text: &str) -> Vec<(u16, usize)> {
    let ranges = text.lines().filter_map(|l| l.strip_prefix("#EXT-X-BYTERANGE:"));
    let one = |range: &str| {
        let (len, at) = range.split_once('@').expect("range");
        let (len, at): (u64, u64) = (len.parse().expect("len"), at.parse().expect("at"));
        let range = format!("bytes={at}-{}", at + len - 1);
        let answer = service.get_with(&format!("/hls/lobby/main/seg/{seq}.mp4"), &[("range", &range)]);
        (answer.status, answer.body.len())
    };
    ranges.map(one).collect()
}

#[test]
fn a_damaged_fragment_is_refused_once_and_then_left_out() {
    let site = Site::new();
    let row = site.record(STREAM, epoch(), 5);
    let damaged = site.index.table(&row).expect("table")[2].clone();
    flip(&site, &row, damaged.offset + u64::from(damaged.len) / 2);
    let service = site.serve(|_| ());

    let before = playlist(&service);
    let answers = fetch(&service, row.id.seq, &before);
    assert_eq!(
        answers.iter().map(|a| a.0).collect::<Vec<_>>(),
        [206, 206, 409, 206, 206]
    );

    // From now on it is known: players pass it over, and the timeline says why.
    let text = playlist(&service);
    assert_eq!(text.matches("#EXTINF").count(), 4);
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY").count(), 1);
    assert!(fetch(&service, row.id.seq, &text).iter().all(|a| a.0 == 206));
    let timeline = service.json(&format!(
        "/api/v1/cameras/lobby/timeline?from={EPOCH}&to={}",
        after(10.0)
    ));
    assert_eq!(timeline["gaps"][0]["cause"], "lost", "{timeline}");
    assert_eq!(timeline["gaps"][0]["from"], after(4.0), "{timeline}");
    assert_eq!(timeline["runs"].as_array().map(Vec::len), Some(2), "{timeline}");
    let seek = service.json(&format!("/api/v1/cameras/lobby/seek?at={}", after(4.5)));
    assert_eq!(seek["fragment"]["from"], after(6.0), "{seek}");

    // An export goes on behind it.
    let export = service.get(&format!(
        "/api/v1/cameras/lobby/export.mp4?from={EPOCH}&to={}",
        after(10.0)
    ));
    assert_eq!(
        (export.status, export.header("x-tierline-gaps")),
        (200, Some("1"))
    );

    let findings = indexer::check::check(
        &site.index,
        &site.disk,
        &Default::default(),
        Default::default(),
        |_, _| (),
    )
    .expect("check");
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].what.contains("damaged"), "{findings:?}");
}

#[test]
fn a_download_over_damage_is_cut_short_of_it() {
    let site = Site::new();
    let row = site.record(STREAM, epoch(), 5);
    let damaged = site.index.table(&row).expect("table")[3].clone();
    let at = damaged.offset + u64::from(damaged.len) - 1;
    let path = site.disk.path(&segment_path(&id(STREAM), &row.name()));
    let whole = std::fs::read(&path).expect("read");
    flip(&site, &row, at);
    let service = site.serve(|_| ());
    let url = format!("http://{}/hls/lobby/main/seg/{}.mp4", service.address, row.id.seq);
    let out = std::process::Command::new("curl")
        .args(["-sS", &url])
        .output()
        .expect("curl");
    assert!(
        !out.status.success() || out.stdout.starts_with(b"{"),
        "{:?}",
        out.status
    );
    assert!(!out.status.success() && (out.stdout.len() as u64) <= at || out.stdout.starts_with(b"{"));
    assert!(whole.starts_with(&out.stdout) || out.stdout.starts_with(b"{"));
}

#[test]
fn damaged_boxes_cost_an_export_only_their_fragment() {
    let site = Site::new();
    let row = site.record(STREAM, epoch(), 5);
    let entries = site.index.table(&row).expect("table");
    // The footer goes, so that sample tables are read from the fragments, and with it one fragment's boxes.
    let footer = (entries[4].offset + u64::from(entries[4].len)).next_multiple_of(4096);
    flip(&site, &row, footer + 100);
    flip(&site, &row, entries[1].offset + 40);
    let service = site.serve(|_| ());
    let path = format!("/api/v1/cameras/lobby/export.mp4?from={EPOCH}&to={}", after(10.0));
    let export = service.get(&path);
    assert_eq!(
        (export.status, export.header("x-tierline-gaps")),
        (200, Some("1"))
    );
    assert_eq!(playlist(&service).matches("#EXTINF").count(), 4);
}

#[test]
fn a_playlist_that_grows_keeps_the_number_of_every_line_when_damage_is_found() {
    let site = Site::new();
    let from = common::now().plus_micros(-60_000_000);
    let row = site.record(STREAM, from, 5);
    let damaged = site.index.table(&row).expect("table")[2].clone();
    flip(&site, &row, damaged.offset + u64::from(damaged.len) / 2);
    let service = site.serve(|_| ());
    let growing = || {
        service
            .get(&format!("/hls/lobby/main/media.m3u8?from={from}"))
            .text()
    };
    let before = growing();
    assert!(before.contains("PLAYLIST-TYPE:EVENT"), "{before}");
    fetch(&service, row.id.seq, &before);
    let text = growing();
    assert_eq!(text.replace("#EXT-X-GAP\n", ""), before);
    assert_eq!(text.matches("#EXT-X-GAP\n").count(), 1, "{text}");
}

/// A service with a warm tier, which has a copy of `row` too.
fn with_a_copy_on_warm(site: &Site, row: &SegmentRow) -> Service {
    let root = site.dir.path().join("warm");
    let name = segment_path(&id(STREAM), &row.name());
    let copy = root.join(&name);
    std::fs::create_dir_all(copy.parent().expect("folder")).expect("folder");
    std::fs::copy(site.disk.path(&name), copy).expect("copy");
    let steps = [Event::CopyBegun(Tier::Warm), Event::Copied(Tier::Warm)];
    let copies = steps
        .iter()
        .try_fold(Copies::hot_only(), |copies, step| copies.after(*step, epoch()));
    let mut batch = Batch::default();
    batch.copies(row, copies.expect("allowed"));
    site.index.commit(batch).expect("commit");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let url = url::Url::from_directory_path(root).expect("url");
    let warm = Objects {
        store: Store::open(&StoreConfig::at(url)).expect("store"),
        cache: None,
        runtime: runtime.handle().clone(),
        turns: std::sync::Arc::new(tokio::sync::Semaphore::new(4)),
    };
    let stores = Stores {
        warm: Some(warm),
        cold: None,
    };
    site.serve_with(runtime, stores, |_| ())
}

#[test]
fn what_is_wrong_on_the_disk_is_served_from_another_copy_and_told_to_who_mends_it() {
    let site = Site::new();
    let row = site.record(STREAM, epoch(), 5);
    let path = site.disk.path(&segment_path(&id(STREAM), &row.name()));
    let sound = std::fs::read(&path).expect("read");
    let service = with_a_copy_on_warm(&site, &row);
    let damaged = site.index.table(&row).expect("table")[2].clone();
    flip(&site, &row, damaged.offset + u64::from(damaged.len) / 2);
    let url = format!("/hls/lobby/main/seg/{}.mp4", row.id.seq);
    let text = playlist(&service);
    assert_eq!(text.matches("#EXTINF").count(), 5);
    let export = format!("/api/v1/cameras/lobby/export.mp4?from={EPOCH}&to={}", after(10.0));

    let whole = |what: &str| {
        assert!(service.get(&url).body == sound, "{what}");
        assert!(
            fetch(&service, row.id.seq, &text).iter().all(|a| a.0 == 206),
            "{what}"
        );
        let export = service.get(&export);
        assert_eq!(
            (export.status, export.header("x-tierline-gaps")),
            (200, Some("0")),
            "{what}"
        );
        assert_eq!(site.index.suspects().take(), Some((row.id, Tier::Hot)), "{what}");
        assert_eq!(site.index.damaged_segments(10).expect("damage"), [], "{what}");
        assert_eq!(playlist(&service), text, "{what}");
    };
    whole("a byte has changed");
    // Sample tables are read from the fragments then.
    let entries = site.index.table(&row).expect("table");
    let footer = (entries[4].offset + u64::from(entries[4].len)).next_multiple_of(4096);
    flip(&site, &row, footer + 100);
    flip(&site, &row, entries[1].offset + 40);
    whole("boxes have changed");
    std::fs::remove_file(&path).expect("remove");
    whole("the file is gone");
}
