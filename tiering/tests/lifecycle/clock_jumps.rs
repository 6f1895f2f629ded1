use std::sync::Arc;
use std::time::Duration;

use archive::{StreamNo, TimeRange};
use indexer::{ARCHIVE_TIME, Index, rebuild};
use tierline_tiering::{Reaper, RetentionRule, Rules, TieringConfig};

use crate::archive_of_segments::{Archive, DAY_US, MINUTE_US, ample, keep_minutes, key, minute};
use crate::full_disk::SmallDisk;
use crate::moves::{self, A_DAY_WITH_A_JUMP, JUMPS, STARTS};
use crate::tiers::{Tiered, rule};

const HOUR_MIN: i64 = 60;

fn recorded() -> (Archive, StreamNo) {
    recorded_in(Archive::new())
}

fn recorded_in(a: Archive) -> (Archive, StreamNo) {
    let lobby = a.camera("lobby", 5);
    a.record_many(lobby, 0..12);
    (a, lobby)
}

fn elapsed(minutes: i64) -> u64 {
    (minutes * MINUTE_US).unsigned_abs()
}

#[test]
fn a_clock_a_month_ahead_deletes_nothing_until_it_ran_steadily_for_the_time_to_confirm() {
    let (a, lobby) = recorded();
    let config = TieringConfig {
        clock_confirm: Duration::from_secs(6 * 3600),
        ..ample()
    };
    let mut reaper = a.reaper(keep_minutes(24 * 60), config);
    reaper.pass(minute(120), 0).expect("pass");
    let ahead = |m: i64| minute(120 + m).plus_micros(30 * DAY_US);
    for m in 1..=6 * HOUR_MIN {
        reaper.pass(ahead(m), elapsed(m)).expect("pass");
        assert_eq!(a.rows(lobby).len(), 12, "after {m} minutes");
        assert!(reaper.progress().clock_doubted);
        assert_eq!(reaper.progress().archive_time, minute(120 + m));
    }
    reaper
        .pass(ahead(6 * HOUR_MIN + 1), elapsed(6 * HOUR_MIN + 1))
        .expect("pass");
    assert_eq!(a.rows(lobby).len(), 0);
    assert!(!reaper.progress().clock_doubted);
    a.assert_clean();
}

#[test]
fn a_clock_a_month_ahead_after_a_restart_deletes_nothing_either_however_often() {
    let (mut a, lobby) = recorded();
    a.reaper(keep_minutes(24 * 60), ample())
        .pass(minute(120), 0)
        .expect("pass");
    for start in 0..5 {
        a = a.reopen();
        let mut reaper = a.reaper(keep_minutes(24 * 60), ample());
        for m in [0, 1, 12 * HOUR_MIN, 23 * HOUR_MIN] {
            let wall = minute(121 + m).plus_micros(30 * DAY_US);
            reaper.pass(wall, elapsed(m)).expect("pass");
            assert_eq!(a.rows(lobby).len(), 12, "start {start}, after {m} minutes");
        }
    }
    // An ordinary restart with the right time goes on at once.
    a = a.reopen();
    let mut reaper = a.reaper(keep_minutes(60), ample());
    reaper.pass(minute(125), 0).expect("pass");
    assert_eq!(a.rows(lobby).len(), 6);
}

#[test]
fn a_minimum_holds_against_a_clock_that_jumped_even_when_space_is_needed() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let media = dir.path().join("media");
    let Some(_disk) = SmallDisk::mount(&media, 64 << 20) else {
        return;
    };
    let (a, lobby) = recorded_in(Archive::on(dir, &media));
    std::fs::write(a.disk.path("someone-elses-file"), vec![1; 40 << 20]).expect("write");
    let rule = RetentionRule {
        min: Some(Duration::from_secs(60 * 60)),
        ..RetentionRule::default()
    };
    // Everything past its minimum has to go.
    let mut reaper = a.reaper(
        rule,
        TieringConfig {
            reserve: Some(32 << 20),
            ..ample()
        },
    );
    reaper.pass(minute(50), 0).expect("pass");
    assert_eq!(a.rows(lobby).len(), 12);
    reaper
        .pass(minute(51).plus_micros(30 * DAY_US), elapsed(1))
        .expect("pass");
    assert_eq!(a.rows(lobby).len(), 12);
    // By the clock that did not jump two segments are older than an hour now.
    reaper
        .pass(minute(80).plus_micros(30 * DAY_US), elapsed(30))
        .expect("pass");
    assert_eq!(a.rows(lobby).len(), 10);
    assert_eq!(reaper.progress().space.segments, 2);
}

#[test]
fn an_index_that_was_made_anew_on_a_machine_whose_clock_is_ahead_deletes_nothing() {
    let (a, lobby) = recorded();
    let dir = tempfile::tempdir().expect("folder");
    let anew = |name: &str| {
        let anew = Index::open(&dir.path().join(name), &Default::default()).expect("index");
        rebuild(&a.disk, &Default::default(), &anew, |_| {}).expect("rebuild");
        Arc::new(anew)
    };
    let pass = |index: &Arc<Index>, minutes: i64| {
        let rules = Rules::new(vec![keep_minutes(60)]).expect("sound");
        let mut reaper = Reaper::new(index.clone(), a.disk.clone(), rules, ample(), key()).expect("reaper");
        reaper.pass(minute(minutes), 0).expect("pass");
        let left = index.segments(lobby, TimeRange::ALL).expect("rows").len();
        (left, reaper.progress().clock_doubted)
    };
    let index = anew("a");
    assert_eq!(pass(&index, 120 + 24 * 60 * 365), (12, true));
    // As far ahead as an ordinary restart makes it.
    assert_eq!(pass(&index, 125), (6, false));

    // What was known of the time is not forgotten for what footage tells.
    let told = Index::open(&dir.path().join("c"), &Default::default()).expect("index");
    told.set_mark(ARCHIVE_TIME, minute(7)).expect("mark");
    rebuild(&a.disk, &Default::default(), &told, |_| {}).expect("rebuild");
    assert_eq!(told.mark(ARCHIVE_TIME).expect("mark"), Some(minute(7)));
}

/// All but the last lie in stores alone.
#[test]
fn a_clock_that_jumps_deletes_nothing_from_a_store_before_its_time_and_what_is_due_at_it() {
    for (jump, starts) in JUMPS
        .into_iter()
        .flat_map(|jump| STARTS.map(|starts| (jump, starts)))
    {
        let (t, stream) = Tiered::with_segments(4);
        let rule = RetentionRule {
            max: Some(Duration::from_secs(24 * 3600)),
            ..rule()
        };
        let mut mover = t.mover(&rule);
        for n in [39, 42, 44] {
            t.settle(&mut mover, minute(n));
        }
        assert_eq!(t.tiers(stream), ["c", "w", "w", "hw"]);
        let mut reaper = moves::reaper(&t, &rule, ample());
        let mut pass_at = |n: i64, off: i64| {
            if starts.contains(&n) {
                reaper = moves::reaper(&t, &rule, ample());
            }
            while reaper.pass(minute(n).plus_micros(off), elapsed(n)).expect("pass") || reaper.is_under_way()
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            t.tiers(stream)
        };
        for (n, is_wrong) in A_DAY_WITH_A_JUMP {
            let tiers = pass_at(n, if is_wrong { jump } else { 0 });
            assert_eq!(
                tiers,
                ["c", "w", "w", "hw"],
                "{jump} us, {starts:?}, after {n} minutes"
            );
        }
        let left = [1451, 1459, 1460, 1480].map(|n| pass_at(n, 0).join(" "));
        assert_eq!(
            left,
            ["w w hw", "w w hw", "w hw", ""],
            "{jump} us, {starts:?}, a day old"
        );
        assert_eq!(t.findings(), [], "and nothing is left in the stores");
    }
}
