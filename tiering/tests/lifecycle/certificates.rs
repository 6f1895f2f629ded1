//! Every deletion leaves one certificate, whatever happens in between, and nothing else may be missing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use archive::seam::{Answer, Faults, Step};
use archive::{StreamNo, Tier};
use indexer::check::{CheckOptions, Invariant, check};
use indexer::{Certificate, Index, parse_certificate};
use tierline_tiering::{Reaper, Rules};

use crate::archive_of_segments::{Archive, MINUTE_US, keep_minutes, key, minute, noon, quick, reap};
use crate::holds::hold;

/// All certificates, each verified with the site's key.
fn certificates(index: &Index) -> Vec<Certificate> {
    let last = index.last_certificate().expect("last");
    (1..=last)
        .map(|number| {
            let line = index.certificate(number).expect("read").expect("a certificate");
            let (certificate, by) = parse_certificate(&line).expect("signed");
            assert_eq!(by, key().public());
            certificate
        })
        .collect()
}

fn findings(a: &Archive) -> Vec<Invariant> {
    findings_of(a, &a.index)
}

fn findings_of(a: &Archive, index: &Index) -> Vec<Invariant> {
    let found = check(
        index,
        &a.disk,
        &Default::default(),
        CheckOptions::default(),
        |_, _| {},
    );
    found.expect("check").iter().map(|f| f.invariant).collect()
}

/// How often each sequence of a stream is certified, and lies in a file beside the footage.
fn told(a: &Archive, camera: &str) -> (BTreeMap<u64, usize>, BTreeMap<u64, usize>) {
    let count = |all: Vec<Certificate>| {
        let mut count = BTreeMap::new();
        let of_camera = all.into_iter().filter(|c| c.camera.as_str() == camera);
        for s in of_camera.flat_map(|c| c.segments) {
            *count.entry(s.seq).or_default() += 1;
        }
        count
    };
    let mut filed = Vec::new();
    for day in a.disk.list(".certificates").expect("list") {
        for file in a.disk.list(&format!(".certificates/{day}")).expect("list") {
            let path = a.disk.path(&format!(".certificates/{day}/{file}"));
            let text = std::fs::read_to_string(path).expect("read");
            filed.extend(
                text.lines()
                    .map(|line| parse_certificate(line).expect("signed").0),
            );
        }
    }
    (count(certificates(&a.index)), count(filed))
}

#[test]
fn a_certificate_says_what_went_why_and_how_it_was_seen_to_be_gone() {
    let a = Archive::new();
    let (lobby, yard) = (a.camera("lobby", 5), a.camera("yard", 5));
    a.record_many(lobby, 0..6);
    a.record_many(yard, 0..1);
    // Something was missing before the last ones.
    let rows = a.rows(lobby);
    a.record(lobby, minute(70), 10, 60_000);
    a.index
        .put_hold(&hold("case", "lobby", minute(20), minute(30)))
        .expect("hold");
    let mut reaper = a.reaper(keep_minutes(60), quick());
    reap(&mut reaper, 110);
    reap(&mut reaper, 140);
    assert_eq!(a.sequences(lobby), [2]);

    let all = certificates(&a.index);
    let [first, other, later] = &all[..] else {
        panic!("{} certificates", all.len())
    };
    assert_eq!((other.camera.as_str(), other.previous.is_some()), ("yard", true));
    assert_eq!(
        (first.number, first.previous, first.camera.as_str()),
        (1, None, "lobby")
    );
    let told: Vec<_> = first
        .segments
        .iter()
        .map(|s| (s.seq, s.from, s.to, s.bytes, s.head))
        .collect();
    let expected = [0, 1, 3, 4].map(|i| &rows[i]);
    let expected = expected.map(|r| (r.id.seq, r.wall_start, r.wall_end, r.bytes, r.head));
    assert_eq!(told, expected);
    assert_eq!((first.from, first.to), (noon(), minute(50)));
    assert_eq!(
        (first.reason.as_str(), first.actor.as_str()),
        ("age", "retention")
    );
    assert!(first.rule.contains("hot = \"1h\""), "{}", first.rule);
    assert_eq!(
        (first.hold_check.hold_epoch, &first.hold_check.overlaps),
        (1, &vec![])
    );
    assert_eq!(
        (first.begun, first.archive_time, first.wall),
        (minute(110), minute(110), minute(110))
    );
    assert_eq!(first.segments[0].tiers, [Tier::Hot]);
    assert_eq!(
        first.segments[0].name,
        "default/lobby/main/20261120/12/00-00Z.0.1.mp4"
    );
    // The second one goes on where the first ended, and tells what was missing between.
    assert_eq!(later.predecessor, Some(rows[4].head));
    let gaps = &later.segments[1].gaps_before;
    assert_eq!((gaps[0].from, gaps[0].to), (minute(60), minute(70)));
    assert_eq!(findings(&a), []);
}

#[test]
fn deleted_time_without_a_certificate_is_named() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    a.record_many(lobby, 0..12);
    let mut reaper = a.reaper(keep_minutes(60), quick());
    reap(&mut reaper, 80);
    reap(&mut reaper, 90);
    assert_eq!(findings(&a), []);
    // A row that is forgotten by any other way.
    let mut batch = indexer::Batch::default();
    batch.delete(&a.rows(lobby)[0]);
    std::fs::remove_file(a.file(&a.rows(lobby)[0])).expect("remove");
    a.index.commit(batch).expect("commit");
    assert_eq!(findings(&a), [Invariant::DeletionsAreCertified]);
}

/// The line of a certificate like this one that somebody with the site's key has changed.
fn signed_again(line: &str, from: &str, to: &str) -> String {
    let body = line.strip_prefix("{\"certificate\":").expect("a certificate");
    let (body, _) = body.rsplit_once(",\"key\":").expect("a key");
    let body = body.replacen(from, to, 1);
    let (key, signature) = (key().public(), key().sign(body.as_bytes()));
    format!("{{\"certificate\":{body},\"key\":\"{key}\",\"signature\":\"{signature}\"}}")
}

#[test]
fn a_chain_of_which_a_link_is_missing_or_another_one_is_named() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    a.record_many(lobby, 0..12);
    let mut reaper = a.reaper(keep_minutes(60), quick());
    for minute in [80, 90, 100] {
        reap(&mut reaper, minute);
    }
    let lines: Vec<String> = (1..=3)
        .map(|number| a.index.certificate(number).expect("read").expect("a certificate"))
        .collect();
    let [first, second, third] = &lines[..] else {
        panic!("{lines:?}")
    };
    let file = a.disk.list(".certificates").expect("list").pop().expect("a day");
    let hour = a.disk.list(&format!(".certificates/{file}")).expect("list");
    assert_eq!(hour.len(), 1);
    let file = a.disk.path(&format!(".certificates/{file}/{}", hour[0]));
    // What check finds after a rebuild, and how many lines were left out of it.
    let found = |lines: &[&String]| {
        let lines: Vec<&str> = lines.iter().map(|line| line.as_str()).collect();
        std::fs::write(&file, lines.join("\n") + "\n").expect("written");
        let dir = tempfile::tempdir().expect("folder");
        let anew = Index::open(dir.path(), &Default::default()).expect("index");
        let told = indexer::rebuild(&a.disk, &Default::default(), &anew, |_| {}).expect("rebuild");
        (findings_of(&a, &anew), told.left_out.len())
    };
    assert_eq!(found(&[first, second, third]), (vec![], 0));
    assert_eq!(found(&[third, first, second]), (vec![], 0), "in any order");
    let broken = Invariant::DeletionsAreCertified;
    for missing in [[second, third], [first, third]] {
        let (found, _) = found(&missing);
        assert!(found.contains(&broken), "one is missing: {found:?}");
    }
    let other = signed_again(second, "\"reason\":\"age\"", "\"reason\":\"quota\"");
    assert_eq!(
        found(&[first, &other, third]),
        (vec![broken], 0),
        "another one was put there"
    );
    assert_eq!(
        found(&[first, second, &other, third]),
        (vec![], 1),
        "of two the first counts"
    );
    let damaged = second.replacen("\"reason\":\"age\"", "\"reason\":\"agf\"", 1);
    let (found, left_out) = found(&[first, &damaged, third]);
    assert!(
        found.contains(&broken) && left_out == 1,
        "one is damaged: {found:?}"
    );
}

#[test]
fn certificates_come_back_with_a_rebuild_and_holes_stay_explained() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    a.record_many(lobby, 0..6);
    a.record(lobby, minute(75), 10, 60_000);
    a.record_many(lobby, 9..12);
    a.index
        .put_hold(&hold("case", "lobby", minute(20), minute(30)))
        .expect("hold");
    a.disk
        .put_small(
            ".holds/case.1.json",
            &a.index.holds().expect("holds")[0].to_json(),
        )
        .expect("file");
    reap(&mut a.reaper(keep_minutes(60), quick()), 150);
    assert_eq!(a.sequences(lobby), [2, 7, 8, 9]);
    assert_eq!(findings(&a), []);

    let anew = a.rebuilt();
    assert_eq!(anew.rows(lobby), a.rows(lobby));
    assert_eq!(certificates(&anew.index), certificates(&a.index));
    assert_eq!(
        anew.index.holds().expect("holds"),
        a.index.holds().expect("holds")
    );
    let gaps = |a: &Archive| a.index.gaps(lobby, archive::TimeRange::ALL).expect("gaps");
    assert_eq!(gaps(&anew), gaps(&a));
    assert_eq!(
        anew.index.end(lobby).expect("end"),
        a.index.end(lobby).expect("end")
    );
    assert_eq!(findings(&anew), []);
    // The chain goes on, and what is held is held.
    reap(&mut anew.reaper(keep_minutes(60), quick()), 500);
    assert_eq!(anew.sequences(lobby), [2]);
    assert_eq!(certificates(&anew.index).len(), 2);
    assert_eq!(findings(&anew), []);
}

/// Everything from the step with this number on fails, as for a process that was killed.
#[derive(Debug)]
struct KilledAt(AtomicU64);

impl Faults for KilledAt {
    fn at(&self, _: Step, _: &Path) -> Answer {
        match self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        {
            Ok(_) => Answer::GoOn,
            Err(_) => Answer::Fail(5),
        }
    }
}

fn recorded() -> (Archive, StreamNo) {
    let a = Archive::in_memory();
    let lobby = a.camera("lobby", 5);
    a.record_many(lobby, 0..12);
    a.index
        .put_hold(&hold("case", "lobby", minute(20), minute(30)))
        .expect("hold");
    (a, lobby)
}

#[test]
fn a_kill_at_any_step_of_a_deletion_leaves_each_segment_one_certificate() {
    let mut steps = 0;
    loop {
        let (a, lobby) = recorded();
        // The same archive, through a disk and an index that fail from this step on.
        let faults = Arc::new(KilledAt(AtomicU64::new(u64::MAX)));
        let a = a.faulty(faults.clone());
        let rules = Rules::new(vec![keep_minutes(60)]).expect("sound");
        let mut reaper = Reaper::new(a.index.clone(), a.disk.clone(), rules, quick(), key()).expect("reaper");
        // The clock's mark is no part of a deletion.
        reap(&mut reaper, 60);
        faults.0.store(steps, Ordering::Relaxed);
        let whole =
            reaper.pass(minute(150), 150 * MINUTE_US as u64).is_ok() && faults.0.load(Ordering::Relaxed) > 0;
        drop(reaper);
        faults.0.store(u64::MAX, Ordering::Relaxed);
        let a = a.reopen();
        reap(&mut a.reaper(keep_minutes(60), quick()), 150);
        assert_eq!(a.sequences(lobby), [2, 9, 10, 11], "killed at step {steps}");
        let once: BTreeMap<u64, usize> = [0, 1, 3, 4, 5, 6, 7, 8].map(|seq| (seq, 1)).into();
        let (certified, filed) = told(&a, "lobby");
        assert_eq!(certified, once, "killed at step {steps}");
        // A line that was written and not synced may have been written once more.
        assert!(filed.keys().eq(once.keys()), "killed at step {steps}: {filed:?}");
        a.assert_clean();
        if whole {
            break;
        }
        steps += 1;
    }
    assert!(steps > 20, "{steps} steps");
}
