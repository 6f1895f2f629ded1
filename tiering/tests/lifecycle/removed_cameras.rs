//! A camera is removed, and its footage stays for its grace.

use std::time::Duration;

use archive::{StreamNo, WallTime};
use indexer::CameraRow;
use tierline_tiering::RetentionRule;

use crate::archive_of_segments::{Archive, DAY_US, ample, minute, noon};

/// An archive with half an hour of two cameras, of which `lobby` is removed then.
fn archive() -> (Archive, StreamNo, StreamNo) {
    let archive = Archive::new();
    let (lobby, gate) = (archive.camera("lobby", 5), archive.camera("gate", 5));
    archive.record_many(lobby, 0..3);
    archive.record_many(gate, 0..3);
    remove(&archive, "lobby", minute(30));
    (archive, lobby, gate)
}

fn remove(archive: &Archive, camera: &str, at: WallTime) {
    let row = archive.index.camera(&camera.parse().expect("id"));
    let row = CameraRow {
        removed: Some(at),
        ..row.expect("read").expect("a camera")
    };
    archive.index.put_camera(&row).expect("removed");
}

/// Passes of a process that is the first one, `days` after noon.
fn after(archive: &Archive, rule: RetentionRule, days: i64) {
    let mut reaper = archive.reaper(rule, ample());
    while reaper.pass(noon().plus_micros(days * DAY_US), 0).expect("pass") {}
}

#[test]
fn without_an_end_in_its_rule_it_goes_when_the_grace_is_over_and_others_stay() {
    for (days, left) in [(90, 3), (91, 0)] {
        let (archive, lobby, gate) = archive();
        after(&archive, RetentionRule::default(), days);
        assert_eq!(
            (archive.rows(lobby).len(), archive.rows(gate).len()),
            (left, 3),
            "{days}"
        );
        archive.assert_clean();
    }
}

#[test]
fn a_rule_with_an_end_means_what_it_says() {
    for (days, left) in [(364, 3), (366, 0)] {
        let (archive, lobby, _) = archive();
        let year = RetentionRule {
            max: Some(Duration::from_secs(365 * 86_400)),
            ..RetentionRule::default()
        };
        after(&archive, year, days);
        assert_eq!(archive.rows(lobby).len(), left, "{days}");
    }
}

#[test]
fn one_that_comes_back_is_as_if_it_had_never_gone() {
    let (archive, lobby, _) = archive();
    archive.camera("lobby", 5);
    after(&archive, RetentionRule::default(), 400);
    assert_eq!(archive.rows(lobby).len(), 3);
}
