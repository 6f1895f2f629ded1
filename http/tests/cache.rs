//! What lies in the cache is served as long as the index names it and it is what was recorded, and no longer.

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use archive::segment::SegmentReader;
use archive::store::Objects;
use common::{EPOCH, Service, Site, after, epoch};
use indexer::{Batch, Cause, SegmentRow};

const STREAM: &str = "lobby/main";
const DISK: usize = 256 << 20;

/// Two segments of ten seconds, one after the other, that lie in the warm store alone.
fn two_in_a_store() -> (Site, [SegmentRow; 2]) {
    let site = Site::new();
    let first = site.record(STREAM, epoch(), 5);
    let second = site.record(STREAM, first.wall_end, 5);
    let rows = [first, second].map(|row| site.move_to_warm(&row));
    (site, rows)
}

fn whole(warm: &Objects, site: &Site, row: &SegmentRow) -> Vec<u8> {
    let reader = SegmentReader::of_object(warm, &site.name(row), row.bytes);
    let read = reader.read_aligned(0, row.bytes as usize).expect("read");
    read.to_vec()
}

/// Ends a service when what it read lies on the disk of its cache, and starts another.
fn restart(site: &Site, number: i64, service: Service, warm: Objects) -> (Service, Objects) {
    let taken = || {
        let files = fs::read_dir(site.dir.path().join("cache")).expect("cache");
        let sizes = files.map(|file| file.expect("file").metadata().expect("size").blocks() * 512);
        sizes.sum::<u64>()
    };
    // What is read next stands behind it in the files, and what comes after that is written when it is complete.
    for second in [0, 5] {
        let at = epoch().plus_micros((number * 10 + second) * 1_000_000);
        let marker = site.move_to_warm(&site.record("marker/main", at, 1));
        let (before, begun) = (taken(), Instant::now());
        whole(&warm, site, &marker);
        while taken() < before + marker.bytes {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is not written");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    service.shutdown();
    drop(warm);
    site.serve_warm(DISK)
}

fn segment_url(row: &SegmentRow) -> String {
    format!("/hls/lobby/main/seg/{}.mp4", row.id.seq)
}

#[test]
fn deleted_footage_is_given_to_nobody_though_the_cache_has_it() {
    let (site, rows) = two_in_a_store();
    let url = segment_url(&rows[0]);
    let of = |what: &str, from: f64, to: f64| {
        let (from, to) = (after(from), after(to));
        match what {
            "playlist" => format!("/hls/lobby/main/media.m3u8?from={from}&to={to}"),
            "seek" => format!("/api/v1/cameras/lobby/seek?at={from}"),
            "snapshot" => format!("/api/v1/cameras/lobby/snapshot.jpg?at={from}"),
            _ => format!("/api/v1/cameras/lobby/export.mp4?from={from}&to={to}"),
        }
    };
    let (service, warm) = site.serve_warm(DISK);
    let (segment, export) = (service.get(&url).body, service.get(&of("export", 0.0, 10.0)).body);
    assert_eq!(segment.len() as u64, rows[0].bytes);
    fs::remove_file(site.object(&rows[0])).expect("removed");
    let served = |service: &Service| {
        assert!(service.get(&url).body == segment);
        assert!(service.get(&of("export", 0.0, 10.0)).body == export);
        assert_eq!(service.get(&of("snapshot", 3.0, 3.0)).status, 200);
    };
    // The store has it no more, and the index names it still: it comes from memory, and from the disk.
    served(&service);
    let (service, warm) = restart(&site, 1, service, warm);
    served(&service);

    let gone = |service: &Service| {
        let range = [("range", "bytes=0-99")];
        let statuses = [
            service.get(&url).status,
            service.get_with(&url, &range).status,
            service.get(&of("playlist", 0.0, 10.0)).status,
            service.get(&of("export", 0.0, 10.0)).status,
            service.get(&of("snapshot", 3.0, 3.0)).status,
        ];
        assert_eq!(statuses, [404; 5]);
        let listed = service.get(&of("playlist", 0.0, 20.0)).text();
        let names = |row: &SegmentRow| listed.matches(&format!("seg/{}.mp4", row.id.seq)).count();
        assert_eq!((names(&rows[0]), names(&rows[1])), (0, 5), "{listed}");
        let found = service.json(&of("seek", 3.0, 3.0));
        assert_eq!(found["fragment"]["from"], after(10.0));
        let across = service.get(&of("export", 0.0, 20.0));
        assert_eq!(
            (across.status, across.header("x-tierline-from")),
            (200, Some(&*after(10.0)))
        );
    };
    // Nothing but the index says now that it is gone.
    fs::write(site.object(&rows[0]), &segment).expect("put back");
    let cause = Cause {
        reason: "age".into(),
        rule: String::new(),
    };
    let doomed = [(rows[0].clone(), cause)];
    let begun = site
        .index
        .begin_deletion(&doomed, rows[0].wall_end)
        .expect("begun");
    gone(&service);
    fs::remove_file(site.object(&rows[0])).expect("removed");
    let mut batch = Batch::default();
    batch.delete(&begun[0]);
    site.index.commit(batch).expect("commit");
    gone(&service);
    assert!(
        whole(&warm, &site, &rows[0]) == segment,
        "the cache had it all the time"
    );
    let (service, warm) = restart(&site, 2, service, warm);
    gone(&service);
    assert!(whole(&warm, &site, &rows[0]) == segment, "the cache has it");
}

#[test]
fn what_is_wrong_in_the_cache_is_asked_for_again_and_right_from_then_on() {
    let (site, rows) = two_in_a_store();
    let object = site.object(&rows[0]);
    let sound = fs::read(&object).expect("read");
    let flip = || {
        let file = fs::File::options().write(true).open(&object).expect("open");
        file.write_all_at(&[sound[sound.len() / 2] ^ 1], sound.len() as u64 / 2)
            .expect("write");
    };
    let (service, warm) = site.serve_warm(DISK);
    flip();
    assert!(whole(&warm, &site, &rows[0]) != sound);
    fs::write(&object, &sound).expect("mended");
    let (service, warm) = restart(&site, 1, service, warm);
    assert!(
        whole(&warm, &site, &rows[0]) != sound,
        "the disk of the cache has what was wrong"
    );

    let url = segment_url(&rows[0]);
    assert!(service.get(&url).body == sound);
    let path = format!("/hls/lobby/main/media.m3u8?from={EPOCH}&to={}", after(20.0));
    assert_eq!(service.get(&path).text().matches("#EXTINF").count(), 10);
    assert_eq!(site.index.damaged_segments(10).expect("damage"), []);
    fs::remove_file(&object).expect("removed");
    assert!(service.get(&url).body == sound, "it is kept now");
    let (service, _warm) = restart(&site, 2, service, warm);
    assert!(service.get(&url).body == sound, "on the disk too");
}
