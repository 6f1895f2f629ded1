//! What a segment was before it was thinned goes when nobody wants it any more, and not a moment before.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use archive::disk::Disk;
use archive::layout::segment_path;
use archive::seam::{Answer, Faults, Step};
use archive::store::{Objects, Store, StoreConfig, Stores};
use archive::time::SECOND_US;
use archive::{SegmentId, Tier, WallTime};
use indexer::{Batch, Gone, Hold, Index, Release, SegmentRow};
use tierline_tiering::{Below, Mover, Rules, Thinner, ThinnerMoment, ThinnerParts};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::archive_of_segments::{Archive, MINUTE_US, minute};
use crate::holds::hold;
use crate::servers::{BUCKET, Kind, Server, keys_file};
use crate::thinning::{GRACE, generations, hot, moment, original, record, rule, settle};

/// A hold that is put when a step is taken on the file of this name.
#[derive(Debug)]
struct Plan {
    step: Step,
    name: String,
    index: Arc<Index>,
    hold: Hold,
}

/// Puts it at the first such step.
#[derive(Debug, Default)]
struct HoldAt {
    plan: Mutex<Option<Plan>>,
    answer: Mutex<Option<Vec<Gone>>>,
}

impl Faults for HoldAt {
    fn at(&self, step: Step, path: &Path) -> Answer {
        let mut plan = self.plan.lock().expect("a lock");
        let is_it = |p: &mut Plan| p.step == step && path.to_string_lossy().ends_with(&p.name);
        if let Some(p) = plan.take_if(is_it) {
            let gone = p.index.put_hold(&p.hold).expect("hold");
            *self.answer.lock().expect("a lock") = Some(gone);
        }
        Answer::GoOn
    }
}

/// A hold is put at a step on a file of the first segment's: what is answered, and whether the original is left.
fn held_at(step: Step, of: impl Fn(&SegmentRow) -> SegmentRow) -> (Vec<Gone>, bool) {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    record(&a, lobby, 0..2);
    let at = Arc::new(HoldAt::default());
    let mut thinner = Thinner::new(ThinnerParts {
        index: a.index.clone(),
        disk: Disk::with_faults(a.disk.root(), at.clone()).expect("disk"),
        stores: Stores::default(),
        rules: Rules::new(vec![rule()]).expect("sound"),
        grace: GRACE,
    });
    settle(&mut thinner, minute(25)).expect("passes");
    let row = a.rows(lobby)[0].clone();
    assert_eq!(row.generation, 1);
    let hold = hold("case", "lobby", minute(2), minute(3));
    let stream = a.index.stream_id(lobby).expect("stream");
    let name = segment_path(&stream, &of(&row).name());
    *at.plan.lock().expect("a lock") = Some(Plan {
        step,
        name,
        index: a.index.clone(),
        hold: hold.clone(),
    });
    settle(&mut thinner, minute(27)).expect("passes");
    let gone = at.answer.lock().expect("a lock").take().expect("it came to that");
    a.assert_clean();
    let is_left = a.file(&original(&row)).exists();
    // However long the hold lasts, and no longer.
    settle(&mut thinner, minute(28)).expect("passes");
    assert_eq!(a.file(&original(&row)).exists(), is_left);
    let release = Release {
        at: minute(28),
        by: "guard desk".into(),
        reason: "case closed".into(),
    };
    a.index.release_hold(&hold.id, &release).expect("released");
    settle(&mut thinner, minute(29)).expect("passes");
    assert!(!a.file(&original(&row)).exists());
    assert_eq!(a.index.thinnings().expect("rows"), []);
    a.assert_clean();
    (gone, is_left)
}

#[test]
fn a_hold_that_is_answered_while_the_thinner_version_is_looked_at_keeps_the_original() {
    assert_eq!(held_at(Step::Read, SegmentRow::clone), (vec![], true));
}

#[test]
fn a_hold_that_comes_when_the_original_is_going_is_told_so() {
    let (gone, is_left) = held_at(Step::Remove, original);
    let gone: Vec<_> = gone.iter().map(|g| (g.range.from(), g.range.to())).collect();
    assert_eq!((gone, is_left), (vec![(minute(2), minute(3))], false));
}

#[test]
fn a_clock_that_is_set_back_ends_no_grace() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    record(&a, lobby, 0..2);
    let mut thinner = hot(&a, rule());
    settle(&mut thinner, minute(25)).expect("passes");
    let original = a.file(&original(&a.rows(lobby)[0]));
    let busy = HashSet::new();
    let pass = |thinner: &mut Thinner, wall: WallTime, seconds: i64| {
        let at = ThinnerMoment {
            monotonic_us: (25 * MINUTE_US + seconds * SECOND_US).unsigned_abs(),
            ..moment(wall, &busy)
        };
        thinner.pass(&at).expect("pass");
        original.exists()
    };
    assert!(pass(&mut thinner, minute(24), 1));
    assert!(pass(&mut thinner, minute(24), 59));
    // The next process knows nothing of that clock, and begins the grace anew.
    let mut next = hot(&a, rule());
    assert!(pass(&mut next, minute(24), 70));
    assert!(pass(&mut next, minute(24), 129));
    assert!(!pass(&mut thinner, minute(24), 60), "and it ends");
    a.assert_clean();
}

#[test]
fn however_much_is_held_what_follows_is_thinned() {
    const HELD: i64 = 9000;
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    record(&a, lobby, 0..1);
    let first = a.rows(lobby)[0].clone();
    let mut batch = Batch::default();
    for i in 1..=HELD {
        batch.segment(&SegmentRow {
            id: SegmentId {
                stream: lobby,
                seq: i.unsigned_abs(),
            },
            wall_start: minute(9 + i),
            wall_end: minute(10 + i),
            ..first.clone()
        });
    }
    a.index.commit(batch).expect("commit");
    record(&a, lobby, 1000..1001);
    let held = hold("case", "lobby", minute(0), minute(9900));
    a.index.put_hold(&held).expect("hold");
    settle(&mut hot(&a, rule()), minute(20_000)).expect("passes");
    let thinned = generations(&a, lobby).into_iter().enumerate();
    let thinned: Vec<_> = thinned.filter(|(_, generation)| *generation > 0).collect();
    assert_eq!(thinned, [(HELD as usize + 1, 1)]);
}

#[test]
fn after_a_rebuild_the_original_in_a_bucket_goes_when_every_byte_of_the_other_was_read() {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(Kind::Minio, folder.path());
    let keys = keys_file(folder.path());
    let config = StoreConfig {
        endpoint: Some(server.endpoint().parse().expect("url")),
        allow_http: true,
        credentials_file: Some(keys),
        ..StoreConfig::at(format!("s3://{BUCKET}/site").parse().expect("url"))
    };
    let runtime = Runtime::new().expect("runtime");
    let store = Store::open(&config).expect("store");
    let stores = Stores {
        warm: Some(Objects {
            store: store.clone(),
            cache: None,
            runtime: runtime.handle().clone(),
            turns: Arc::new(Semaphore::new(4)),
        }),
        cold: None,
    };
    let below = Below {
        warm: true,
        cold: false,
    };
    let rule = tierline_tiering::RetentionRule {
        hot: Some(Duration::from_secs(600)),
        ..rule()
    };
    let rules = Rules::with_tiers(vec![rule], below).expect("sound");
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    record(&a, lobby, 0..1);
    let (index, disk, handle) = (a.index.clone(), a.disk.clone(), runtime.handle().clone());
    let mut mover = Mover::new(index, disk, stores.clone(), rules.clone(), GRACE, handle);
    let mut settle_mover = |now: WallTime| {
        let monotonic_us = now.micros_since(minute(0)).unsigned_abs();
        mover.look_again(lobby, minute(0)).expect("marks");
        mover.pass(now, true, 0, monotonic_us).expect("pass");
        while mover.moved().under_way + mover.moved().leaving > 0 {
            std::thread::sleep(Duration::from_millis(5));
            mover.go_on(now, true, monotonic_us).expect("pass");
        }
    };
    let thinner = |index: &Arc<Index>| {
        Thinner::new(ThinnerParts {
            index: index.clone(),
            disk: a.disk.clone(),
            stores: stores.clone(),
            rules: rules.clone(),
            grace: GRACE,
        })
    };
    settle_mover(minute(21));
    settle_mover(minute(23));
    settle(&mut thinner(&a.index), minute(24)).expect("passes");
    settle_mover(minute(24));
    settle_mover(minute(26));
    let row = a.rows(lobby)[0].clone();
    assert_eq!((row.generation, row.tier), (1, Tier::Warm));

    let dir = tempfile::tempdir().expect("folder");
    let anew = Arc::new(Index::open(dir.path(), &Default::default()).expect("index"));
    indexer::rebuild(&a.disk, &stores, &anew, |_| {}).expect("rebuild");
    assert_eq!(anew.thinnings().expect("rows").len(), 1);
    let stream = a.index.stream_id(lobby).expect("stream");
    let there = |row: &SegmentRow| {
        let name = segment_path(&stream, &row.name());
        runtime.block_on(store.stat(&name)).expect("answer").is_some()
    };
    assert!(there(&row) && there(&original(&row)));
    settle(&mut thinner(&anew), minute(30)).expect("passes");
    assert!(there(&row) && !there(&original(&row)));
    assert_eq!(anew.thinnings().expect("rows"), []);
}
