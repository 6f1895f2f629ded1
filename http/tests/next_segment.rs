//! Who plays on from one segment into the next finds that one ready, though both lie in an object store.

mod common;

use std::time::{Duration, Instant};

use archive::FragmentEntry;
use common::{Clip, Recorder, Service, Site, epoch, id};
use indexer::{IndexError, SegmentRow};

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
    let rows = rows.iter().map(|row| site.move_to_warm(row)).collect();
    let (service, _) = site.serve_warm(0);
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
