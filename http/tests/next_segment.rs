//! Who plays on from one segment into the next finds that one ready, though both lie in an object store.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::layout::segment_path;
use archive::store::{Cache, CacheConfig, Objects, Store, StoreConfig, Stores};
use archive::{FragmentEntry, Tier};
use common::{Clip, Recorder, Service, Site, epoch, id};
use indexer::{Batch, Event, IndexError, SegmentRow};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

const STREAM: &str = "lobby/main";

/// Two segments that lie in the warm store alone, and the fragments of the first.
fn two_in_a_store() -> (Site, Vec<SegmentRow>, Vec<FragmentEntry>, Service) {
    let site = Site::new();
    let mut recorder = Recorder::new(&site, STREAM, epoch(), Clip::small());
    recorder.append(5);
    let mut recorder = recorder.rotate();
    recorder.append(5);
    recorder.seal();
    let stream = site
        .index
        .stream_no(&id(STREAM))
        .expect("index")
        .expect("a stream");
    let rows = site.index.segments_from(stream, epoch(), 9).expect("rows");
    let fragments = site.index.table(&rows[0]).expect("table");
    let root = site.dir.path().join("warm");
    for row in &rows {
        let name = segment_path(&id(STREAM), &row.name());
        let copy = root.join(&name);
        std::fs::create_dir_all(copy.parent().expect("folder")).expect("folder");
        std::fs::rename(site.disk.path(&name), copy).expect("moved");
        let steps = [
            Event::CopyBegun(Tier::Warm),
            Event::Copied(Tier::Warm),
            Event::DeletionBegun(Tier::Hot),
            Event::Deleted(Tier::Hot),
        ];
        let before = site.index.copies(row).expect("copies");
        let copies = steps
            .iter()
            .try_fold(before, |copies, step| copies.after(*step, epoch()));
        let mut batch = Batch::default();
        batch.copies(row, copies.expect("allowed"));
        site.index.commit(batch).expect("commit");
    }
    let rows = site.index.segments_from(stream, epoch(), 9).expect("rows");
    let runtime = Runtime::new().expect("runtime");
    let config = CacheConfig {
        memory: 64 << 20,
        disk: 0,
        folder: "none".into(),
    };
    let warm = Objects {
        store: Store::open(&StoreConfig::at(
            url::Url::from_directory_path(root).expect("url"),
        ))
        .expect("store"),
        cache: Some(runtime.block_on(Cache::open(&config)).expect("cache")),
        runtime: runtime.handle().clone(),
        turns: Arc::new(Semaphore::new(4)),
    };
    let stores = Stores {
        warm: Some(warm),
        cold: None,
    };
    let service = site.serve_with(runtime, stores, |_| ());
    (site, rows, fragments, service)
}

fn fetch(service: &Service, row: &SegmentRow, fragment: &FragmentEntry) {
    let end = fragment.offset + u64::from(fragment.len) - 1;
    let range = format!("bytes={}-{end}", fragment.offset);
    let path = format!("/hls/lobby/main/seg/{}.mp4", row.id.seq);
    assert_eq!(service.get_with(&path, &[("range", &range)]).status, 206);
}

/// Whether the fragments of a segment are at hand within `time`.
fn is_ready(site: &Site, row: &SegmentRow, time: Duration) -> bool {
    let begun = Instant::now();
    while matches!(site.index.table(row), Err(IndexError::Elsewhere(_))) {
        if begun.elapsed() > time {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[test]
fn a_player_that_comes_to_the_end_of_a_segment_finds_the_next_one_ready() {
    let (site, rows, fragments, service) = two_in_a_store();
    assert!(!is_ready(&site, &rows[1], Duration::ZERO));
    for fragment in &fragments[1..4] {
        fetch(&service, &rows[0], fragment);
    }
    assert!(is_ready(&site, &rows[1], Duration::from_secs(10)));
}

#[test]
fn a_single_look_near_the_end_of_a_segment_asks_for_nothing_else() {
    let (site, rows, fragments, service) = two_in_a_store();
    for fragment in [&fragments[4], &fragments[0]] {
        fetch(&service, &rows[0], fragment);
    }
    assert!(!is_ready(&site, &rows[1], Duration::from_millis(700)));
}
