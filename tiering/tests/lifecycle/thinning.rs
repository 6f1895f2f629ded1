//! Old segments give way to thinner ones: at every instant one of the two is there, whole.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use archive::layout::segment_path;
use archive::seam::{Answer, Faults, Step};
use archive::segment::{FragmentBuilder, Keep, SegmentReader, verify};
use archive::store::Stores;
use archive::time::SECOND_US;
use archive::{StreamNo, Tier, TimeRange, WallTime};
use indexer::{Batch, CopyState, Damage, Index, SegmentRow, ThinningStep};
use tierline_tiering::{
    Below, RetentionRule, Rules, ThinKeep, Thinner, ThinnerMoment, ThinnerParts, TieringConfig,
};

use crate::archive_of_segments::{Archive, ample, deep_check, minute};
use crate::holds::hold;
use crate::killed::{self, Child};
use crate::steps::{Fault, Steps};
use crate::tiers::{BELOW, Tiered};

pub(crate) const GRACE: Duration = Duration::from_secs(60);

/// Ten pictures in ten seconds: a keyframe and small ones.
fn gop(i: i64, fragment: &mut FragmentBuilder) -> u8 {
    for p in 0..10 {
        let bytes = if p == 0 { 1500 } else { 900 };
        fragment.push_video(i * 900_000 + p * 90_000, p == 0, &vec![(i + p) as u8; bytes]);
    }
    // Something moves from 100 s to 120 s of each segment.
    if matches!(i, 10 | 11) { 120 } else { 64 }
}

pub(crate) fn record(a: &Archive, stream: StreamNo, places: std::ops::Range<i64>) {
    for i in places {
        let (row, writer) = a.begin_with(stream, minute(10 * i), 10, &gop);
        a.seal(row, writer);
    }
}

/// Keyframes of what is older than ten minutes.
pub(crate) fn rule() -> RetentionRule {
    RetentionRule {
        thin_after: Some(Duration::from_secs(600)),
        ..RetentionRule::default()
    }
}

pub(crate) fn thinner(a: &Archive, rule: RetentionRule, stores: &Stores, below: Below) -> Thinner {
    Thinner::new(ThinnerParts {
        index: a.index.clone(),
        disk: a.disk.clone(),
        stores: stores.clone(),
        rules: Rules::with_tiers(vec![rule], below).expect("sound"),
        grace: GRACE,
    })
}

pub(crate) fn hot(a: &Archive, rule: RetentionRule) -> Thinner {
    thinner(a, rule, &Stores::default(), Below::default())
}

pub(crate) fn moment(now: WallTime, busy: &HashSet<archive::SegmentId>) -> ThinnerMoment<'_> {
    ThinnerMoment {
        now,
        clock_trusted: true,
        monotonic_us: now.micros_since(minute(0)).unsigned_abs(),
        busy,
    }
}

/// Passes at `now` until nothing is under way any more. Returns what was replaced.
pub(crate) fn settle(
    thinner: &mut Thinner,
    now: WallTime,
) -> Result<Vec<(SegmentRow, SegmentRow)>, indexer::IndexError> {
    let busy = HashSet::new();
    let at = moment(now, &busy);
    let mut replaced = thinner.pass(&at)?;
    while thinner.is_under_way() {
        std::thread::sleep(Duration::from_millis(2));
        replaced.extend(thinner.go_on(&at)?);
    }
    Ok(replaced)
}

pub(crate) fn generations(a: &Archive, stream: StreamNo) -> Vec<u8> {
    a.rows(stream).iter().map(|row| row.generation).collect()
}

pub(crate) fn original(row: &SegmentRow) -> SegmentRow {
    SegmentRow {
        generation: 0,
        ..row.clone()
    }
}

#[test]
fn segments_give_way_when_they_are_old_and_what_they_were_goes_after_the_grace() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    record(&a, lobby, 0..4);
    let before = a.rows(lobby);
    let coverage = a.index.coverage(lobby, TimeRange::ALL).expect("coverage");
    let mut thinner = hot(&a, rule());
    // At 35 minutes those that end at 10 and at 20 are due.
    let replaced = settle(&mut thinner, minute(35)).expect("passes");
    assert_eq!(generations(&a, lobby), [1, 1, 0, 0]);
    assert_eq!(replaced.len(), 2);
    a.assert_clean();
    let rows = a.rows(lobby);
    for (old, new) in before.iter().zip(&rows).take(2) {
        assert_eq!(
            (old.range(), old.head, old.init),
            (new.range(), new.head, new.init)
        );
        assert!(new.bytes * 2 < old.bytes, "{} of {}", new.bytes, old.bytes);
        assert!(a.file(old).exists() && a.file(new).exists());
    }
    assert_eq!(
        a.index.coverage(lobby, TimeRange::ALL).expect("coverage"),
        coverage
    );
    let timeline = a.index.timeline(lobby, TimeRange::ALL).expect("timeline");
    let runs: Vec<_> = timeline
        .runs
        .iter()
        .map(|r| (r.range.from(), r.thinned))
        .collect();
    assert_eq!(runs, [(minute(0), true), (minute(20), false)]);
    assert_eq!(timeline.gaps, []);

    settle(&mut thinner, minute(35).plus(GRACE / 2)).expect("passes");
    assert!(
        before.iter().all(|old| a.file(old).exists()),
        "not before the grace"
    );
    settle(&mut thinner, minute(37)).expect("passes");
    assert_eq!(a.index.thinnings().expect("rows"), []);
    assert!(!a.file(&before[0]).exists() && !a.file(&before[1]).exists());
    assert!(a.file(&before[2]).exists());
    a.assert_clean();
    assert_eq!(
        settle(&mut thinner, minute(39)).expect("passes"),
        [],
        "and it is done once"
    );
}

#[test]
fn rows_of_thinned_segments_stay_small() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    record(&a, lobby, 0..2);
    settle(&mut hot(&a, rule()), minute(1000)).expect("passes");
    assert_eq!(generations(&a, lobby), [1, 1]);
    // The rest of a row is its key, of twelve bytes, and that of its sequence.
    let dir = tempfile::tempdir().expect("folder");
    let anew = Index::open(dir.path(), &Default::default()).expect("index");
    indexer::rebuild(&a.disk, &Stores::default(), &anew, |_| {}).expect("rebuild");
    let told = indexer::compare(&a.index, &anew).expect("compare");
    assert_eq!(told, [], "and an index made anew tells the same");
}

#[test]
fn full_rate_stays_around_what_moves_and_every_nth_gop_elsewhere() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    record(&a, lobby, 0..2);
    let rule = RetentionRule {
        thin_keep: Some(ThinKeep(Keep::EveryNthGop(4))),
        thin_spare_activity: Some(100),
        thin_spare_around: Some(Duration::from_secs(5)),
        ..rule()
    };
    settle(&mut hot(&a, rule), minute(25)).expect("passes");
    assert_eq!(generations(&a, lobby), [1, 0]);
    a.assert_clean();
    let row = &a.rows(lobby)[0];
    let starts: Vec<i64> = (a.index.table(row).expect("table").iter())
        .map(|e| e.wall_start.micros_since(minute(0)) / (10 * SECOND_US))
        .collect();
    // What moves in the next segment, 100 s into it, spares nothing here.
    assert_eq!(
        starts,
        [0, 4, 8, 9, 10, 11, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56]
    );
}

#[test]
fn neither_a_doubted_clock_nor_damage_nor_a_copy_under_way_lets_a_segment_be_thinned() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    record(&a, lobby, 0..3);
    let mut thinner = hot(&a, rule());
    let busy = HashSet::new();
    let doubted = ThinnerMoment {
        clock_trusted: false,
        ..moment(minute(1000), &busy)
    };
    thinner.pass(&doubted).expect("pass");
    assert!(!thinner.is_under_way());

    let rows = a.rows(lobby);
    let entry = &a.index.table(&rows[0]).expect("table")[3];
    let mut batch = Batch::default();
    batch.damage(Damage::of(rows[0].id, entry, minute(30)));
    a.index.commit(batch).expect("commit");
    // The second is being copied: its version is written, and waits.
    let busy = HashSet::from([rows[1].id]);
    let at = moment(minute(1000), &busy);
    thinner.pass(&at).expect("pass");
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(thinner.go_on(&at).expect("pass"), []);
    }
    assert!(thinner.is_under_way());
    assert_eq!(generations(&a, lobby), [0, 0, 0]);
    settle(&mut thinner, minute(1000)).expect("passes");
    assert_eq!(
        generations(&a, lobby),
        [0, 1, 1],
        "and the damaged one holds up no other"
    );
}

#[test]
fn what_comes_up_while_a_version_is_written_keeps_the_original() {
    for what in ["a hold", "damage", "a doubted clock"] {
        let a = Archive::new();
        let lobby = a.camera("lobby", 5);
        record(&a, lobby, 0..1);
        let row = a.rows(lobby)[0].clone();
        let mut thinner = hot(&a, rule());
        // It is being copied: its version is written, and waits.
        let busy = HashSet::from([row.id]);
        let at = moment(minute(1000), &busy);
        thinner.pass(&at).expect("pass");
        while !thinner_has_written(&a, &row) {
            std::thread::sleep(Duration::from_millis(2));
            assert_eq!(thinner.go_on(&at).expect("pass"), []);
        }
        let mut clock_trusted = true;
        match what {
            "a hold" => drop(
                a.index
                    .put_hold(&hold("case", "lobby", minute(2), minute(3)))
                    .expect("hold"),
            ),
            "damage" => {
                let entry = &a.index.table(&row).expect("table")[3];
                let mut batch = Batch::default();
                batch.damage(Damage::of(row.id, entry, minute(1000)));
                a.index.commit(batch).expect("commit");
            }
            _ => clock_trusted = false,
        }
        let busy = HashSet::new();
        let at = ThinnerMoment {
            clock_trusted,
            ..moment(minute(1000), &busy)
        };
        while thinner.is_under_way() {
            std::thread::sleep(Duration::from_millis(2));
            assert_eq!(thinner.go_on(&at).expect("pass"), [], "{what}");
        }
        assert_eq!(a.rows(lobby), std::slice::from_ref(&row), "{what}");
        assert!(a.file(&row).exists() && !thinner_has_written(&a, &row), "{what}");
    }
}

/// Whether the file of the next generation is there.
fn thinner_has_written(a: &Archive, row: &SegmentRow) -> bool {
    let next = SegmentRow {
        generation: row.generation + 1,
        ..row.clone()
    };
    a.file(&next).exists()
}

#[test]
fn a_segment_that_is_deleted_takes_both_versions_with_it() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    record(&a, lobby, 0..3);
    let before = a.rows(lobby);
    settle(&mut hot(&a, rule()), minute(25)).expect("passes");
    let after = a.rows(lobby);
    assert_eq!(generations(&a, lobby), [1, 0, 0]);
    // The second is being written anew when the first two are deleted.
    let mut thinner = hot(&a, rule());
    let busy = HashSet::new();
    thinner.pass(&moment(minute(31), &busy)).expect("pass");
    let keep = RetentionRule {
        max: Some(Duration::from_secs(600)),
        ..RetentionRule::default()
    };
    let mut reaper = a.reaper(keep, ample());
    reaper.pass(minute(31), 0).expect("pass");
    assert_eq!(a.sequences(lobby), [2]);
    settle(&mut thinner, minute(31)).expect("passes");
    for row in [&before[0], &after[0]] {
        assert!(!a.file(row).exists());
    }
    let second = SegmentRow {
        generation: 1,
        ..before[1].clone()
    };
    assert!(!a.file(&second).exists(), "what was written for nothing is gone");
    assert_eq!(a.index.thinnings().expect("rows"), []);
    a.assert_clean();
}

#[test]
fn a_quota_counts_what_is_left() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    record(&a, lobby, 0..4);
    let all: u64 = a.rows(lobby).iter().map(|row| row.bytes).sum();
    let rule = RetentionRule {
        quota: Some(all),
        ..rule()
    };
    let mut reaper = a.reaper(rule.clone(), TieringConfig { ..ample() });
    reaper.pass(minute(40), 0).expect("pass");
    for (before, after) in settle(&mut hot(&a, rule), minute(1000)).expect("passes") {
        reaper.replaced(&before, &after);
    }
    assert_eq!(reaper.progress().thinned.segments, 4);
    record(&a, lobby, 4..6);
    reaper.pass(minute(60), 0).expect("pass");
    assert_eq!(a.rows(lobby).len(), 6, "thinned ones make room for more");
}

#[test]
fn an_original_that_is_safe_in_a_store_goes_only_when_the_thinned_one_is_there_too() {
    let t = Tiered::new();
    let (a, rule) = (
        &t.archive,
        RetentionRule {
            hot: Some(Duration::from_secs(600)),
            ..rule()
        },
    );
    let lobby = a.camera("lobby", 5);
    record(a, lobby, 0..3);
    let mut mover = t.mover(&rule);
    t.settle(&mut mover, minute(21));
    t.settle(&mut mover, minute(23));
    let before = a.rows(lobby);
    assert_eq!(before[0].tier, Tier::Warm, "it has left the disk");
    let mut thinner = thinner(a, rule.clone(), &t.stores, BELOW);
    let replaced = settle(&mut thinner, minute(23)).expect("passes");
    let after = a.rows(lobby)[0].clone();
    assert_eq!((replaced.len(), after.generation, after.tier), (1, 1, Tier::Hot));
    assert_eq!(t.findings(), []);
    // However long it takes.
    settle(&mut thinner, minute(29)).expect("passes");
    assert!(t.file(&original(&after), Tier::Warm).exists());
    for (_, after) in replaced {
        mover
            .look_again(after.id.stream, after.wall_start)
            .expect("marks");
    }
    t.settle(&mut mover, minute(29));
    assert_eq!(
        a.index
            .copies(&a.rows(lobby)[0])
            .expect("copies")
            .state(Tier::Warm),
        CopyState::Whole
    );
    settle(&mut thinner, minute(29)).expect("passes");
    assert!(!t.file(&original(&after), Tier::Warm).exists());
    assert!(t.file(&after, Tier::Warm).exists());
    t.settle(&mut mover, minute(31));
    t.settle(&mut mover, minute(33));
    assert!(
        !t.file(&after, Tier::Hot).exists(),
        "and goes down like any other"
    );
    assert_eq!(t.findings(), []);
}

#[test]
fn a_thinned_version_that_is_not_what_was_written_removes_no_original() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    record(&a, lobby, 0..2);
    settle(&mut hot(&a, rule()), minute(25)).expect("passes");
    let row = a.rows(lobby)[0].clone();
    let file = a.file(&row);
    let sound = std::fs::read(&file).expect("read");
    let mut damaged = sound.clone();
    damaged[20_000] ^= 1;
    std::fs::write(&file, damaged).expect("write");
    settle(&mut hot(&a, rule()), minute(28)).expect("passes");
    assert!(a.file(&original(&row)).exists());
    std::fs::write(&file, sound).expect("write");
    settle(&mut hot(&a, rule()), minute(29)).expect("passes");
    assert!(!a.file(&original(&row)).exists());
    a.assert_clean();
}

#[test]
fn an_index_made_anew_takes_the_thinned_version_and_has_the_original_removed() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    record(&a, lobby, 0..3);
    settle(&mut hot(&a, rule()), minute(35)).expect("passes");
    assert_eq!(generations(&a, lobby), [1, 1, 0]);
    // One of the two was not written to its end.
    let rows = a.rows(lobby);
    let torn = std::fs::read(a.file(&rows[1])).expect("read");
    std::fs::write(a.file(&rows[1]), &torn[..20 * 4096]).expect("write");
    let dir = tempfile::tempdir().expect("folder");
    let anew = Arc::new(Index::open(dir.path(), &Default::default()).expect("index"));
    let told = indexer::rebuild(&a.disk, &Stores::default(), &anew, |_| {}).expect("rebuild");
    assert_eq!(told.left_out.len(), 1, "{:?}", told.left_out);
    let no = anew.streams()[0].0;
    let found: Vec<_> = anew.segments(no, TimeRange::ALL).expect("segments");
    assert_eq!(
        found.iter().map(|row| row.generation).collect::<Vec<_>>(),
        [1, 0, 0]
    );
    let left = anew.thinnings().expect("rows");
    assert!(matches!(&left[..], [one] if matches!(one.step, ThinningStep::Replaced { .. })));
    let mut thinner = Thinner::new(ThinnerParts {
        index: anew.clone(),
        disk: a.disk.clone(),
        stores: Stores::default(),
        rules: Rules::new(vec![rule()]).expect("sound"),
        grace: GRACE,
    });
    settle(&mut thinner, minute(35)).expect("passes");
    settle(&mut thinner, minute(37)).expect("passes");
    assert!(rows.iter().take(2).all(|row| !a.file(&original(row)).exists()));
    assert_eq!(deep_check(&anew, &a.disk, &Stores::default()), []);
}

/// Ends the process before a step that changes something: from then on nothing is done any more.
#[derive(Debug)]
struct Kill {
    steps_left: AtomicI64,
}

impl Faults for Kill {
    fn at(&self, step: Step, _: &Path) -> Answer {
        const EIO: i32 = 5;
        let changes = !matches!(
            step,
            Step::Open | Step::Read | Step::List | Step::Space | Step::ProbeDirect
        );
        let left = match changes {
            true => self.steps_left.fetch_sub(1, Ordering::SeqCst),
            false => self.steps_left.load(Ordering::SeqCst),
        };
        if left <= 0 {
            Answer::Fail(EIO)
        } else {
            Answer::GoOn
        }
    }
}

/// Two segments, of which one is due.
fn one_is_due() -> (Archive, StreamNo) {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    record(&a, lobby, 0..2);
    (a, lobby)
}

/// It is thinned, and what it was is removed.
fn thin_it(a: &Archive) -> Result<(), indexer::IndexError> {
    let mut thinner = hot(a, rule());
    settle(&mut thinner, minute(25))?;
    settle(&mut thinner, minute(27)).map(drop)
}

/// What a process that was killed after `steps` left behind is whole, and the next one finishes it.
fn assert_finished_by_the_next(a: &Archive, lobby: StreamNo, steps: &str) {
    a.assert_clean();
    let row = a.rows(lobby)[0].clone();
    let reader = SegmentReader::open(
        &a.disk,
        &segment_path(&a.index.stream_id(lobby).expect("id"), &row.name()),
    );
    let found = verify(&reader.expect("open")).expect("whole");
    assert_eq!(found.header.generation, row.generation, "after {steps}");
    let mut thinner = hot(a, rule());
    settle(&mut thinner, minute(28)).expect("passes");
    settle(&mut thinner, minute(29)).expect("passes");
    assert_eq!(generations(a, lobby), [1, 0], "after {steps}");
    assert_eq!(a.index.thinnings().expect("rows"), [], "after {steps}");
    assert!(!a.file(&original(&a.rows(lobby)[0])).exists(), "after {steps}");
    a.assert_clean();
}

#[test]
fn a_kill_at_every_step_leaves_one_of_the_two_whole_and_the_next_start_finishes() {
    let mut kills = 0;
    for steps in 0.. {
        let (a, lobby) = one_is_due();
        let kill = Arc::new(Kill {
            steps_left: AtomicI64::new(i64::MAX),
        });
        let faults: Arc<dyn Faults> = kill.clone();
        let a = a.faulty(faults);
        kill.steps_left.store(steps, Ordering::SeqCst);
        let done = thin_it(&a);
        let is_over = done.is_ok() && kill.steps_left.load(Ordering::SeqCst) > 0;
        assert_finished_by_the_next(&a.without_faults(), lobby, &format!("{steps} steps"));
        if is_over {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 12, "{kills} steps");
}

const CHILD: &str = "thinning::the_life_of_a_child";

#[test]
#[ignore = "what a child process of the next test runs"]
fn the_life_of_a_child() {
    let Some(child) = Child::of_somebody() else {
        return;
    };
    let steps = Arc::new(Steps::default());
    let a = Archive::with_faults(child.archive(), steps.clone());
    steps.plan(Fault::RealKill, child.at);
    thin_it(&a).expect("it is not killed");
}

#[test]
fn a_process_that_is_killed_at_any_step_leaves_one_of_the_two_whole_and_the_next_one_finishes() {
    let (template, lobby) = one_is_due();
    let template = template.close();
    let mut points = BTreeMap::<String, u64>::new();
    for at in 1.. {
        let Some(killed) = killed::kill(CHILD, template.path(), at, "") else {
            break;
        };
        let after = format!("{} at step {at}", killed.step);
        assert_finished_by_the_next(&Archive::of(killed.archive()), lobby, &after);
        *points.entry(killed.step).or_default() += 1;
    }
    println!("{} points: {points:?}", points.values().sum::<u64>());
    let of = |step: Step| points.get(&format!("{step:?}")).copied().unwrap_or_default();
    assert!(
        of(Step::Write) > 0 && of(Step::Commit) >= 3 && of(Step::Remove) > 0,
        "{points:?}"
    );
}
