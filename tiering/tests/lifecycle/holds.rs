//! What is under a hold stays, keeps nothing else from going, and is never lost in a race.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use archive::{GapCause, HoldId, TimeRange, WallTime};
use indexer::{Cause, Hold, HoldKind, Release, SegmentState};
use tierline_tiering::RetentionRule;

use crate::archive_of_segments::{Archive, keep_minutes, minute, noon, quick, reap};

pub(crate) fn hold(id: &str, camera: &str, from: WallTime, to: WallTime) -> Hold {
    Hold {
        id: id.parse().expect("id"),
        version: 1,
        kind: HoldKind::Legal,
        camera: camera.parse().expect("id"),
        streams: Vec::new(),
        from,
        to,
        reason: "case 12".into(),
        author: "guard desk".into(),
        created: noon(),
        until: None,
        released: None,
    }
}

fn release(at: WallTime) -> Release {
    Release {
        at,
        by: "guard desk".into(),
        reason: "case closed".into(),
    }
}

fn id(text: &str) -> HoldId {
    text.parse().expect("id")
}

fn told(a: &Archive, stream: archive::StreamNo) -> Vec<(WallTime, Option<WallTime>, GapCause)> {
    let gaps = a.index.gaps(stream, TimeRange::ALL).expect("gaps");
    gaps.iter().map(|g| (g.from, g.to, g.cause)).collect()
}

#[test]
fn what_is_held_stays_and_what_follows_it_goes_and_the_archive_is_sound_at_each_step() {
    let a = Archive::new();
    let (lobby, yard) = (a.camera("lobby", 5), a.camera("yard", 5));
    a.record_many(lobby, 0..30);
    a.record_many(yard, 0..30);
    // From within the fifth segment to within the sixth.
    let gone = a
        .index
        .put_hold(&hold("case", "lobby", minute(45), minute(51)))
        .expect("hold");
    assert_eq!(gone, []);
    let mut reaper = a.reaper(keep_minutes(60), quick());
    reap(&mut reaper, 200);
    assert_eq!(a.sequences(lobby)[..4], [4, 5, 14, 15]);
    assert_eq!(a.sequences(yard)[0], 14);
    let expected = [
        (noon(), Some(minute(40)), GapCause::Retention),
        (minute(60), Some(minute(140)), GapCause::Retention),
    ];
    assert_eq!(told(&a, lobby), expected);
    a.assert_clean();

    // Time passes, everything else goes, and the service starts anew.
    drop(reaper);
    let a = a.reopen();
    let mut reaper = a.reaper(keep_minutes(60), quick());
    reap(&mut reaper, 1000);
    assert_eq!(a.sequences(lobby), [4, 5]);
    assert_eq!(a.index.end(lobby).expect("end").map(|end| end.next_seq), Some(30));
    a.assert_clean();
    // Recording goes on behind all that ever was.
    assert_eq!(a.record(lobby, minute(1000), 10, 60_000).id.seq, 30);
    a.assert_clean();

    let released = a
        .index
        .release_hold(&id("case"), &release(minute(1001)))
        .expect("release");
    assert_eq!(released.map(|hold| hold.version), Some(2));
    reap(&mut reaper, 1005);
    assert_eq!(a.sequences(lobby), [30]);
    // What was held joins what went before and after it.
    assert_eq!(
        told(&a, lobby)[0],
        (noon(), Some(minute(300)), GapCause::Retention)
    );
    assert_eq!(a.index.end(lobby).expect("end").map(|end| end.next_seq), Some(31));
    a.assert_clean();
}

#[test]
fn a_hold_outlasts_a_restart_and_ends_when_its_time_has_come() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    a.record_many(lobby, 0..6);
    let until = Hold {
        until: Some(minute(500)),
        ..hold("case", "lobby", minute(0), minute(10))
    };
    a.index.put_hold(&until).expect("hold");
    let a = a.reopen();
    let mut reaper = a.reaper(keep_minutes(60), quick());
    reap(&mut reaper, 499);
    assert_eq!(a.sequences(lobby), [0]);
    reap(&mut reaper, 500);
    assert_eq!(a.sequences(lobby), [0; 0]);
    a.assert_clean();
}

#[test]
fn neither_quota_nor_space_reach_what_is_held_and_it_counts_towards_no_quota() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    let bytes: u64 = (0..10)
        .map(|i| a.record(lobby, minute(10 * i), 10, 60_000).bytes)
        .sum();
    a.index
        .put_hold(&hold("case", "lobby", minute(0), minute(50)))
        .expect("hold");
    let quota = RetentionRule {
        quota: Some(bytes * 4 / 10),
        ..RetentionRule::default()
    };
    reap(&mut a.reaper(quota, quick()), 200);
    // Five are held, four fit.
    assert_eq!(a.sequences(lobby), [0, 1, 2, 3, 4, 6, 7, 8, 9]);
    let full = tierline_tiering::TieringConfig {
        reserve: Some(u64::MAX),
        ..quick()
    };
    reap(&mut a.reaper(RetentionRule::default(), full), 200);
    assert_eq!(a.sequences(lobby), [0, 1, 2, 3, 4]);
    a.assert_clean();
}

#[test]
fn a_hold_says_what_it_comes_too_late_for() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    a.record_many(lobby, 0..10);
    reap(&mut a.reaper(keep_minutes(60), quick()), 100);
    // Marked, and its file not removed yet.
    let rows = a.rows(lobby);
    let cause = Cause {
        reason: "age".into(),
        rule: String::new(),
    };
    a.index
        .begin_deletion(&[(rows[0].clone(), cause)], minute(100))
        .expect("begin");
    let gone = a
        .index
        .put_hold(&hold("case", "lobby", minute(35), minute(55)))
        .expect("hold");
    let ranges: Vec<_> = gone
        .iter()
        .map(|gone| (gone.range.from(), gone.range.to()))
        .collect();
    assert_eq!(ranges, [(minute(35), minute(50))]);
    assert_eq!(gone[0].stream.camera.as_str(), "lobby");
}

#[test]
fn an_interrupted_deletion_behind_a_hold_is_finished() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    a.record_many(lobby, 0..10);
    a.index
        .put_hold(&hold("case", "lobby", minute(0), minute(20)))
        .expect("hold");
    let rows = a.rows(lobby);
    let cause = Cause {
        reason: "age".into(),
        rule: String::new(),
    };
    let doomed: Vec<_> = rows[..5].iter().map(|row| (row.clone(), cause.clone())).collect();
    let begun = a.index.begin_deletion(&doomed, minute(100)).expect("begin");
    assert_eq!(begun.iter().map(|row| row.id.seq).collect::<Vec<_>>(), [2, 3, 4]);
    std::fs::remove_file(a.file(&rows[3])).expect("remove");
    let a = a.reopen();
    a.assert_clean();
    let mut reaper = a.reaper(keep_minutes(6000), quick());
    reap(&mut reaper, 100);
    assert_eq!(a.sequences(lobby), [0, 1, 5, 6, 7, 8, 9]);
    assert_eq!(reaper.progress().resumed.segments, 3);
    a.assert_clean();
}

/// Holds are put while deletions begin, on two threads that meet at each turn. After a hold is acknowledged, nothing
/// that it covers begins to be deleted: the deletion that began before is told with the hold.
#[test]
fn ten_thousand_holds_race_deletions_and_no_acknowledged_one_loses() {
    const TURNS: u64 = 10_000;
    let a = Archive::in_memory();
    let lobby = a.camera("lobby", 5);
    a.record_many(lobby, 0..4);
    let rows = a.rows(lobby);
    let (turn, held, spared) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            for n in 1..=TURNS {
                while turn.load(Ordering::Acquire) < n {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::yield_now();
                }
                let row = &rows[n as usize % rows.len()];
                let cause = Cause {
                    reason: "age".into(),
                    rule: String::new(),
                };
                let begun = a
                    .index
                    .begin_deletion(&[(row.clone(), cause)], minute(100))
                    .expect("begin");
                spared.fetch_add(u64::from(begun.is_empty()), Ordering::Relaxed);
                held.store(n, Ordering::Release);
            }
        });
        for n in 1..=TURNS {
            let row = &rows[n as usize % rows.len()];
            let hold = hold(&format!("h{n}"), "lobby", row.wall_start, row.wall_end);
            // Whoever is first is first in one turn of four; in the others they meet.
            if n % 4 != 0 {
                turn.store(n, Ordering::Release);
            }
            while n % 4 == 1 && held.load(Ordering::Acquire) < n {
                std::thread::yield_now();
            }
            for _ in 0..n % 64 * 40 {
                std::hint::spin_loop();
            }
            let gone = a.index.put_hold(&hold).expect("hold");
            turn.store(n, Ordering::Release);
            let acknowledged = gone.is_empty();
            while held.load(Ordering::Acquire) < n {
                std::thread::yield_now();
            }
            let now = a.index.segment(row.id).expect("row").expect("a row");
            let safe = !acknowledged || now.state != SegmentState::Deleting;
            stop.store(!safe, Ordering::Relaxed);
            assert!(safe, "turn {n}: {now:?} goes although it is held");
            a.index
                .release_hold(&id(&format!("h{n}")), &release(minute(100)))
                .expect("release");
            // As if nothing had happened.
            let mut again = indexer::Batch::default();
            again.segment(row);
            a.index.commit(again).expect("commit");
        }
    });
    let spared = spared.load(Ordering::Relaxed);
    assert!(
        (TURNS / 4..=TURNS * 3 / 4).contains(&spared),
        "{spared} of {TURNS} were spared"
    );
}
