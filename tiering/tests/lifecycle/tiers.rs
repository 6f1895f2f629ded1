//! Segments move down the tiers. Stores are folders here; `archive/tests/stores.rs` holds the others to the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use archive::layout::segment_path;
use archive::store::{Objects, Store, StoreConfig, Stores};
use archive::{StreamNo, Tier, WallTime};
use indexer::check::{Finding, Invariant};
use indexer::{CopyState, SegmentRow};
use tierline_tiering::{Below, Mover, RetentionRule, Rules};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::archive_of_segments::{Archive, deep_check, minute};
use crate::steps::Steps;

pub(crate) const BELOW: Below = Below {
    warm: true,
    cold: true,
};

/// An archive with two more tiers below its own.
pub(crate) struct Tiered {
    pub(crate) archive: Archive,
    pub(crate) stores: Stores,
    pub(crate) folders: tempfile::TempDir,
    pub(crate) runtime: Runtime,
    pub(crate) steps: Arc<Steps>,
}

impl Tiered {
    pub(crate) fn new() -> Self {
        Self::of(Archive::new(), None)
    }

    /// With what may be copied to the warm tier in a second.
    pub(crate) fn of(archive: Archive, rate: Option<u64>) -> Self {
        let folders = tempfile::tempdir().expect("folder");
        let runtime = Runtime::new().expect("runtime");
        let steps = Arc::new(Steps::default());
        let store = |name: &str| {
            let url = url::Url::from_directory_path(folders.path().join(name)).expect("url");
            let config = StoreConfig {
                rate,
                ..StoreConfig::at(url)
            };
            Some(Objects {
                store: Store::open(&config).expect("store").with_faults(steps.clone()),
                cache: None,
                runtime: runtime.handle().clone(),
                turns: Arc::new(Semaphore::new(4)),
            })
        };
        Self {
            archive,
            stores: Stores {
                warm: store("warm"),
                cold: store("cold"),
            },
            folders,
            runtime,
            steps,
        }
    }

    /// With sealed segments of ten minutes each, of one camera.
    pub(crate) fn with_segments(count: i64) -> (Self, StreamNo) {
        let t = Self::new();
        let stream = t.archive.camera("lobby", 5);
        t.archive.record_many(stream, 0..count);
        (t, stream)
    }

    pub(crate) fn mover(&self, rule: &RetentionRule) -> Mover {
        let rules = Rules::with_tiers(vec![rule.clone()], BELOW).expect("sound");
        let (index, disk) = (self.archive.index.clone(), self.archive.disk.clone());
        let handle = self.runtime.handle().clone();
        Mover::new(
            index,
            disk,
            self.stores.clone(),
            rules,
            Duration::from_secs(60),
            handle,
        )
    }

    /// The folder that is a tier's store.
    pub(crate) fn root(&self, tier: Tier) -> PathBuf {
        self.folders.path().join(tier.as_str())
    }

    /// Where the copy of a segment lies on a tier.
    pub(crate) fn file(&self, row: &SegmentRow, tier: Tier) -> PathBuf {
        let stream = self.archive.index.stream_id(row.id.stream).expect("stream");
        match tier {
            Tier::Hot => self.archive.file(row),
            tier => self
                .folders
                .path()
                .join(tier.as_str())
                .join(segment_path(&stream, &row.name())),
        }
    }

    /// Passes at `now` until nothing is under way any more.
    pub(crate) fn settle(&self, mover: &mut Mover, now: WallTime) {
        self.settle_with(mover, now, true, 0);
    }

    fn settle_with(&self, mover: &mut Mover, now: WallTime, trusted: bool, short: u64) {
        let monotonic_us = now.micros_since(minute(0)).unsigned_abs();
        self.settle_at(mover, (now, monotonic_us), trusted, short);
    }

    /// The same by two clocks, of which only the second never jumps.
    pub(crate) fn settle_at(&self, mover: &mut Mover, at: (WallTime, u64), trusted: bool, short: u64) {
        mover.pass(at.0, trusted, short, at.1).expect("pass");
        while mover.moved().under_way + mover.moved().leaving > 0 {
            std::thread::sleep(Duration::from_millis(5));
            mover.go_on(at.0, trusted, at.1).expect("pass");
        }
    }

    /// On which tiers each segment lies, by its row and by its files; both must say the same.
    pub(crate) fn tiers(&self, stream: StreamNo) -> Vec<String> {
        let rows = self.archive.rows(stream);
        rows.iter()
            .map(|row| {
                let copies = self.archive.index.copies(row).expect("copies");
                let mut on = String::new();
                for tier in Tier::ALL {
                    let known = copies.state(tier) == CopyState::Whole;
                    assert_eq!(self.file(row, tier).exists(), known, "{tier}: {row:?} {copies:?}");
                    if known {
                        on.push_str(&tier.as_str()[..1]);
                    }
                }
                assert!(
                    on.starts_with(&row.tier.as_str()[..1]),
                    "read from the nearest: {row:?}"
                );
                on
            })
            .collect()
    }

    pub(crate) fn findings(&self) -> Vec<Finding> {
        deep_check(&self.archive.index, &self.archive.disk, &self.stores)
    }
}

/// Ten minutes on hot, thirty on warm.
pub(crate) fn rule() -> RetentionRule {
    RetentionRule {
        hot: Some(Duration::from_secs(600)),
        warm: Some(Duration::from_secs(1800)),
        ..RetentionRule::default()
    }
}

#[test]
fn segments_are_copied_at_once_and_leave_each_tier_when_their_time_has_come() {
    let (t, stream) = Tiered::with_segments(4);
    let mut mover = t.mover(&rule());
    t.settle(&mut mover, minute(39));
    assert_eq!(
        t.tiers(stream),
        ["hw", "hw", "hw", "hw"],
        "nothing leaves before the grace is over"
    );
    assert_eq!(t.findings(), []);
    t.settle(&mut mover, minute(42));
    assert_eq!(t.tiers(stream), ["wc", "w", "w", "hw"]);
    t.settle(&mut mover, minute(44));
    assert_eq!(t.tiers(stream), ["c", "w", "w", "hw"]);
    assert_eq!(t.findings(), []);
    t.settle(&mut mover, minute(200));
    t.settle(&mut mover, minute(202));
    assert_eq!(t.tiers(stream), ["c", "c", "c", "c"]);
    assert_eq!(t.findings(), []);
}

#[test]
fn what_was_left_half_done_is_done_by_the_next_process() {
    let (t, stream) = Tiered::with_segments(3);
    {
        // It is gone before it can tell that the copies were made.
        let mut mover = t.mover(&rule());
        mover.pass(minute(30), true, 0, 0).expect("pass");
        let rows = t.archive.rows(stream);
        while !rows.iter().all(|row| t.file(row, Tier::Warm).exists()) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    // One of them is not what it should be.
    let row = &t.archive.rows(stream)[1];
    std::fs::write(t.file(row, Tier::Warm), "something else").expect("written");
    let mut mover = t.mover(&rule());
    t.settle(&mut mover, minute(30));
    assert_eq!(t.tiers(stream), ["hw", "hw", "hw"]);
    assert_eq!(t.findings(), []);
    assert_eq!(mover.moved().copies, 3);
}

#[test]
fn a_clock_that_is_doubted_moves_nothing_off_and_a_full_disk_only_what_lies_elsewhere_too() {
    let (t, stream) = Tiered::with_segments(4);
    let keep = RetentionRule::default();
    let mut mover = t.mover(&keep);
    t.settle_with(&mut mover, minute(400), false, 0);
    t.settle_with(&mut mover, minute(500), false, 0);
    assert_eq!(t.tiers(stream), ["hw", "hw", "hw", "hw"]);
    let one = t.archive.rows(stream)[0].bytes;
    t.settle_with(&mut mover, minute(500), false, one + 1);
    assert_eq!(
        t.tiers(stream),
        ["w", "w", "hw", "hw"],
        "the oldest make room, and no more than needed"
    );
    assert_eq!(t.findings(), []);
}

#[test]
fn check_names_copies_that_are_missing_changed_or_unknown() {
    let (t, stream) = Tiered::with_segments(4);
    let mut mover = t.mover(&rule());
    t.settle(&mut mover, minute(40));
    t.settle(&mut mover, minute(42));
    let rows = t.archive.rows(stream);
    assert_eq!(t.findings(), []);
    let file = t.file(&rows[1], Tier::Warm);
    let sound = std::fs::read(&file).expect("read");
    let mut damaged = sound.clone();
    damaged[10_000] ^= 1;
    std::fs::write(&file, damaged).expect("write");
    assert!(t.findings().iter().any(|f| f.invariant == Invariant::Readable));
    std::fs::remove_file(&file).expect("remove");
    assert!(
        t.findings()
            .iter()
            .any(|f| f.invariant == Invariant::RowsHaveBytes)
    );
    std::fs::write(&file, sound).expect("write");
    assert_eq!(t.findings(), []);
    // A copy that nobody knows of is left alone and named.
    std::fs::copy(&file, t.file(&rows[1], Tier::Hot)).expect("copy");
    std::fs::copy(&file, file.with_file_name("59-59Z.77.1.mp4")).expect("copy");
    let findings = t.findings();
    assert_eq!(findings.len(), 2, "{findings:#?}");
    assert!(findings.iter().all(|f| f.invariant == Invariant::FilesAreKnown));
}

#[test]
fn the_last_copy_above_goes_only_when_the_one_that_counts_was_looked_at_once_more() {
    let (t, stream) = Tiered::with_segments(2);
    let mut mover = t.mover(&rule());
    t.settle(&mut mover, minute(20));
    let rows = t.archive.rows(stream);
    let file = t.file(&rows[0], Tier::Warm);
    let sound = std::fs::read(&file).expect("read");
    std::fs::write(&file, &sound[4096..]).expect("write");
    t.settle(&mut mover, minute(35));
    assert_eq!(
        t.archive.rows(stream)[0].tier,
        Tier::Hot,
        "its copy is not what was verified"
    );
    assert_eq!(
        t.archive.rows(stream)[1].tier,
        Tier::Warm,
        "and it holds up no other"
    );
}

#[test]
fn a_segment_that_cannot_be_copied_keeps_no_other_on_the_disk() {
    let (t, stream) = Tiered::with_segments(4);
    let rows = t.archive.rows(stream);
    let aside = t.file(&rows[1], Tier::Hot).with_extension("aside");
    std::fs::rename(t.file(&rows[1], Tier::Hot), &aside).expect("moved");
    let mut mover = t.mover(&rule());
    t.settle(&mut mover, minute(39));
    t.settle(&mut mover, minute(41));
    let tiers: Vec<Tier> = t.archive.rows(stream).iter().map(|row| row.tier).collect();
    assert_eq!(tiers, [Tier::Warm, Tier::Hot, Tier::Warm, Tier::Hot]);
    assert!(mover.moved().unreplicated_s >= 20 * 60);
    std::fs::rename(aside, t.file(&rows[1], Tier::Hot)).expect("moved");
    assert_eq!(t.findings(), []);
}

#[test]
fn a_file_that_was_damaged_replaces_no_object_that_is_sound() {
    let (t, stream) = Tiered::with_segments(1);
    let row = &t.archive.rows(stream)[0];
    // An earlier process was killed between the copy and the word of it.
    let (hot, warm) = (t.file(row, Tier::Hot), t.file(row, Tier::Warm));
    let sound = std::fs::read(&hot).expect("read");
    std::fs::create_dir_all(warm.parent().expect("folder")).expect("folder");
    std::fs::write(&warm, &sound).expect("write");
    let mut damaged = sound.clone();
    damaged[20_000] ^= 1;
    std::fs::write(&hot, damaged).expect("write");
    let mut mover = t.mover(&rule());
    t.settle(&mut mover, minute(9));
    assert_eq!(std::fs::read(&warm).expect("read"), sound);
    assert_eq!(t.archive.rows(stream)[0].tier, Tier::Hot);
    std::fs::write(&hot, &sound).expect("write");
    let mut mover = t.mover(&rule());
    t.settle(&mut mover, minute(9));
    assert_eq!(t.tiers(stream), ["hw"]);
}

#[test]
fn what_a_rebuild_finds_in_a_store_counts_when_it_was_verified_and_not_before() {
    let (t, stream) = Tiered::with_segments(2);
    let mut mover = t.mover(&rule());
    t.settle(&mut mover, minute(20));
    let rows = t.archive.rows(stream);
    // The same length, and something else in it.
    let file = t.file(&rows[0], Tier::Warm);
    let mut bytes = std::fs::read(&file).expect("read");
    bytes[30_000] ^= 1;
    std::fs::write(&file, bytes).expect("write");
    let dir = tempfile::tempdir().expect("folder");
    let anew = indexer::Index::open(dir.path(), &Default::default()).expect("index");
    indexer::rebuild(&t.archive.disk, &t.stores, &anew, |_| {}).expect("rebuild");
    assert!(
        indexer::compare(&t.archive.index, &anew)
            .expect("compare")
            .is_empty()
    );
    let rules = Rules::with_tiers(vec![rule()], BELOW).expect("sound");
    let (disk, handle) = (t.archive.disk.clone(), t.runtime.handle().clone());
    let grace = Duration::from_secs(60);
    let anew = Arc::new(anew);
    let mut mover = Mover::new(anew.clone(), disk, t.stores.clone(), rules, grace, handle);
    t.settle(&mut mover, minute(35));
    assert!(t.file(&rows[0], Tier::Hot).exists(), "nothing was verified yet");
    t.settle(&mut mover, minute(37));
    let checked = deep_check(&anew, &t.archive.disk, &t.stores);
    assert_eq!(checked, [], "and the wrong one was replaced");
}
