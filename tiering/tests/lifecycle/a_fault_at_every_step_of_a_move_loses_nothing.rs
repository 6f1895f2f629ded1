//! A segment goes all its way, from the disk to the last tier and out of the archive, again and again, and each time
//! another step of it goes wrong: the process dies there, or the step fails, or the disk is full.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use archive::layout::segment_path;
use archive::store::{Objects, Store, StoreConfig, Stores};
use archive::{Sha256, Tier, TimeRange};
use indexer::check::{CheckOptions, check};
use indexer::{CopyState, IndexError, SegmentRow};
use tempfile::TempDir;
use tierline_tiering::{Below, Mover, Reaper, RetentionRule, Rules};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::archive_of_segments::{Archive, MINUTE_US, ample, key, minute};
use crate::killed::{self, Child, fork};
use crate::steps::{Fault, Steps};

/// Cores are few, and a process waits for its disk half of the time.
const AT_ONCE: usize = 2;
const GRACE: Duration = Duration::from_secs(60);
/// When something is due of segments of ten minutes: copied, off the disk, cooled, off the warm tier. What failed is
/// tried again in the minutes behind.
const ARRIVES: [i64; 14] = [30, 32, 34, 42, 44, 46, 52, 54, 56, 62, 64, 66, 67, 68];
/// When the last of them is older than its rule keeps anything.
const DELETED: [i64; 5] = [96, 97, 98, 99, 100];

/// Ten minutes on the disk, thirty on warm, and deleted after an hour.
fn rules() -> Rules {
    let rule = RetentionRule {
        hot: Some(Duration::from_secs(600)),
        warm: Some(Duration::from_secs(1800)),
        cold: Some(Duration::from_secs(3600)),
        ..RetentionRule::default()
    };
    let below = Below {
        warm: true,
        cold: true,
    };
    Rules::with_tiers(vec![rule], below).expect("sound")
}

/// An archive as it was recorded, to be copied.
struct Template {
    dir: TempDir,
    /// What each file is, by its name.
    hashes: BTreeMap<String, Sha256>,
}

impl Template {
    fn new(segments: i64) -> Self {
        let archive = Archive::new();
        let stream = archive.camera("lobby", 5);
        archive.record_many(stream, 0..segments);
        let name =
            |row: &SegmentRow| segment_path(&archive.index.stream_id(stream).expect("stream"), &row.name());
        let rows = archive.rows(stream);
        let hashes = rows.iter().map(|row| (name(row), hash(&archive.file(row))));
        let hashes = hashes.collect();
        Self {
            dir: archive.close(),
            hashes,
        }
    }

    fn fork(&self) -> TempDir {
        fork(self.dir.path())
    }
}

fn hash(file: &Path) -> Sha256 {
    Sha256::of(&std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display())))
}

/// Regular files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// One process on an archive.
struct Process {
    archive: Archive,
    stores: Stores,
    reaper: Reaper,
    mover: Mover,
    runtime: Runtime,
    steps: Arc<Steps>,
    /// The archive's folder.
    folder: PathBuf,
}

impl Process {
    fn start(dir: TempDir) -> Self {
        let steps = Arc::new(Steps::default());
        let folder = dir.path().to_owned();
        let archive = Archive::with_faults(dir, steps.clone());
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = threads.expect("runtime");
        let store = |name: &str| {
            let url = url::Url::from_directory_path(folder.join(name)).expect("url");
            let store = Store::open(&StoreConfig::at(url))
                .expect("store")
                .with_faults(steps.clone());
            runtime.block_on(store.clear_unfinished()).expect("cleared");
            Some(Objects {
                store,
                cache: None,
                runtime: runtime.handle().clone(),
                turns: Arc::new(Semaphore::new(4)),
            })
        };
        let stores = Stores {
            warm: store("warm"),
            cold: store("cold"),
        };
        let (index, disk) = (archive.index.clone(), archive.disk.clone());
        let reaper = Reaper::new(index.clone(), disk.clone(), rules(), ample(), key()).expect("reaper");
        let mover = Mover::new(
            index,
            disk,
            stores.clone(),
            rules(),
            GRACE,
            runtime.handle().clone(),
        );
        Self {
            reaper: reaper.with_stores(stores.clone()),
            archive,
            stores,
            mover,
            runtime,
            steps,
            folder,
        }
    }

    /// What the service does at this minute, until nothing is under way. False when the process is dead.
    fn minute(&mut self, m: i64) -> bool {
        match self.try_minute(m) {
            // The next pass tries again.
            Err(e) if e.is_disk_full() => true,
            Err(_) => false,
            Ok(()) => !self.steps.is_dead(),
        }
    }

    fn try_minute(&mut self, m: i64) -> Result<(), IndexError> {
        let (now, monotonic_us) = (minute(m), (m * MINUTE_US).unsigned_abs());
        self.reaper.spare(self.mover.busy());
        while self.reaper.pass(now, monotonic_us)? {}
        let at = self.reaper.progress();
        assert!(!at.clock_doubted);
        self.mover.pass(at.archive_time, true, 0, monotonic_us)?;
        let moved = |mover: &Mover| mover.moved().under_way + mover.moved().leaving;
        while moved(&self.mover) > 0 && !self.steps.is_dead() {
            std::thread::sleep(Duration::from_millis(2));
            self.mover.go_on(at.archive_time, true, monotonic_us)?;
        }
        Ok(())
    }

    /// Ends as a kill does; the archive's folder.
    fn end(self) -> TempDir {
        drop((self.reaper, self.mover, self.stores));
        self.runtime.shutdown_timeout(Duration::from_secs(5));
        self.archive.close()
    }

    fn rows(&self) -> Vec<SegmentRow> {
        let streams = self.archive.index.streams();
        let rows = |(no, _): &(archive::StreamNo, archive::StreamId)| {
            self.archive
                .index
                .segments_all_states(*no, TimeRange::ALL)
                .expect("rows")
        };
        streams.iter().flat_map(rows).collect()
    }

    fn file(&self, row: &SegmentRow, tier: Tier) -> PathBuf {
        let stream = self.archive.index.stream_id(row.id.stream).expect("stream");
        let folder = match tier {
            Tier::Hot => "media",
            tier => tier.as_str(),
        };
        self.folder.join(folder).join(segment_path(&stream, &row.name()))
    }

    /// Whatever is wrong with the archive as it is now.
    fn problems(&self, template: &Template) -> Vec<String> {
        let options = CheckOptions {
            deep: true,
            running: false,
        };
        let index = &self.archive.index;
        self.steps.rests.store(true, Ordering::Release);
        let checked = check(index, &self.archive.disk, &self.stores, options, |_, _| {});
        self.steps.rests.store(false, Ordering::Release);
        let mut problems: Vec<String> = match checked {
            Ok(findings) => findings.iter().map(ToString::to_string).collect(),
            Err(e) => vec![e.to_string()],
        };
        for row in self.rows() {
            if row.state == indexer::SegmentState::Deleting {
                continue;
            }
            let copies = index.copies(&row).expect("copies");
            for tier in Tier::ALL
                .into_iter()
                .filter(|tier| copies.state(*tier) == CopyState::Whole)
            {
                let file = self.file(&row, tier);
                let known = template.hashes.iter().find(|(name, _)| file.ends_with(name));
                let known = known.map(|(_, hash)| *hash);
                if !file.exists() {
                    problems.push(format!("{tier}: {} is not there", file.display()));
                } else if known != Some(hash(&file)) {
                    problems.push(format!("{tier}: {} is not what was recorded", file.display()));
                }
            }
        }
        problems
    }
}

/// One life of an archive with a fault in it: at which step that was, and what is wrong afterwards.
fn one(template: &Template, fault: Fault, at: u64) -> (Option<String>, Vec<String>) {
    let process = Process::start(template.fork());
    process.steps.plan(fault, at);
    rest_of_a_life(template, process, 0, fault, at)
}

/// The same with a process of its own, which is killed for good.
fn one_of_its_own(template: &Template, at: u64) -> (Option<String>, Vec<String>) {
    let Some(killed) = killed::kill(CHILD, template.dir.path(), at, "") else {
        return (None, Vec::new());
    };
    let mut minutes = killed.said.lines().filter_map(|line| line.strip_prefix(MINUTE));
    let minute = minutes.next_back().expect("a minute").parse().expect("a number");
    let process = Process::start(killed.archive());
    let mut problems = process.problems(template);
    let (_, found) = rest_of_a_life(template, process, minute, Fault::RealKill, at);
    problems.extend(found);
    (Some(killed.step), problems)
}

const CHILD: &str = "a_fault_at_every_step_of_a_move_loses_nothing::the_life_of_a_child";
/// What stands before the minute that a child has begun.
const MINUTE: &str = "minute ";

#[test]
#[ignore = "what a child process of the other tests runs"]
fn the_life_of_a_child() {
    let Some(child) = Child::of_somebody() else {
        return;
    };
    let mut process = Process::start(child.archive());
    process.steps.plan(Fault::RealKill, child.at);
    for m in ARRIVES.iter().chain(&DELETED) {
        println!("\n{MINUTE}{m}");
        assert!(process.minute(*m));
    }
}

/// How it goes on from a minute, and what is wrong at its end.
fn rest_of_a_life(
    template: &Template,
    mut process: Process,
    from: i64,
    fault: Fault,
    at: u64,
) -> (Option<String>, Vec<String>) {
    let mut problems = Vec::new();
    let mut fired = None;
    let phases = [
        (ARRIVES.as_slice(), "arrives"),
        (DELETED.as_slice(), "is deleted"),
    ];
    let left = |minutes: &[i64]| minutes.iter().any(|m| *m >= from);
    for (minutes, what) in phases.into_iter().filter(|(minutes, _)| left(minutes)) {
        for m in minutes.iter().filter(|m| **m >= from) {
            if process.minute(*m) {
                continue;
            }
            fired = process.steps.fired().map(|step| format!("{step:?}"));
            process = Process::start(process.end());
            let found = process.problems(template);
            problems.extend(
                found
                    .into_iter()
                    .map(|found| format!("after a restart in minute {m}: {found}")),
            );
            process.minute(*m);
        }
        problems.extend(process.problems(template));
        let rows = process.rows();
        if what == "arrives" {
            for row in &rows {
                let copies = process.archive.index.copies(row).expect("copies");
                if copies.present().collect::<Vec<_>>() != [Tier::Cold] {
                    problems.push(format!("it did not arrive: {copies:?}"));
                }
            }
            if rows.len() != template.hashes.len() {
                problems.push(format!("{} of {} segments", rows.len(), template.hashes.len()));
            }
        } else if !rows.is_empty() {
            problems.push(format!("it was not deleted: {rows:?}"));
        }
    }
    let left = ["media", "warm", "cold"]
        .map(|folder| files(&process.folder.join(folder)))
        .concat();
    // Certificates stay.
    let of_footage = |file: &&PathBuf| file.extension().is_some_and(|e| e == "mp4");
    let unfinished = |file: &&PathBuf| file.parent().is_some_and(|above| above.ends_with(".unfinished"));
    let left: Vec<_> = left
        .iter()
        .filter(|file| of_footage(file) || unfinished(file))
        .collect();
    if !left.is_empty() {
        problems.push(format!("left behind: {left:?}"));
    }
    let fired = fired.or_else(|| process.steps.fired().map(|step| format!("{step:?}")));
    let tell = |what| format!("{fault:?} at step {at} ({fired:?}): {what}");
    let problems = problems.into_iter().map(tell).collect();
    process.end();
    (fired, problems)
}

/// One kind of fault at every `stride`th step, until all is done before it is reached.
fn at_every_step(template: &Template, fault: Fault, stride: u64) {
    let next = AtomicU64::new(0);
    let (points, problems) = (Mutex::new(BTreeMap::<String, u64>::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let at = 1 + stride * next.fetch_add(1, Ordering::SeqCst);
                    let (fired, found) = match fault {
                        Fault::RealKill => one_of_its_own(template, at),
                        _ => one(template, fault, at),
                    };
                    problems.lock().expect("a lock").extend(found);
                    let Some(step) = fired else { return };
                    *points.lock().expect("a lock").entry(step).or_default() += 1;
                }
            });
        }
    });
    let (points, problems) = (
        points.into_inner().expect("points"),
        problems.into_inner().expect("problems"),
    );
    println!("{fault:?}: {} points: {points:?}", points.values().sum::<u64>());
    // A seam that nobody asks would have no problems either.
    assert!(points.values().sum::<u64>() >= 10, "{points:?}");
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn a_kill_at_every_step_of_a_move_loses_nothing() {
    at_every_step(&Template::new(1), Fault::Kill, 1);
}

#[test]
fn a_step_of_a_move_that_fails_loses_nothing_and_is_taken_again() {
    at_every_step(&Template::new(1), Fault::Fails, 1);
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_move_loses_nothing() {
    at_every_step(&Template::new(1), Fault::Full(2), 2);
}

#[test]
fn a_real_kill_at_every_step_of_a_move_loses_nothing() {
    at_every_step(&Template::new(1), Fault::RealKill, 1);
}

#[test]
#[ignore = "soak: every kind of fault at every step, while three segments move at once"]
fn soak_a_fault_at_every_step_of_a_move_loses_nothing() {
    let template = Template::new(3);
    for fault in [
        Fault::Kill,
        Fault::Fails,
        Fault::Full(1),
        Fault::Full(3),
        Fault::Full(20),
    ] {
        at_every_step(&template, fault, 1);
    }
}
