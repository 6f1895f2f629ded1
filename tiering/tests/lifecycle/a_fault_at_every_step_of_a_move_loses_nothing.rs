//! A segment goes all its way, from the disk to the last tier and out of the archive, again and again, and each time
//! another step of it goes wrong: the process dies there, or the step fails, or the disk is full. On one of the ways it
//! is thinned in between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use archive::layout::segment_path;
use archive::seam::Step;
use archive::store::{Objects, Store, StoreConfig, Stores};
use archive::time::SECOND_US;
use archive::{Sha256, Tier, TimeRange, WallTime};
use indexer::check::{CheckOptions, check};
use indexer::{CopyState, IndexError, SegmentRow};
use tempfile::TempDir;
use tierline_tiering::{
    Below, Mover, Reaper, Replaced, RetentionRule, Rules, Thinner, ThinnerMoment, ThinnerParts, tell_replaced,
};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::archive_of_segments::{Archive, MINUTE_US, ample, key, noon};
use crate::killed::{self, Child, fork};
use crate::servers::{BUCKET, Kind, Server, keys_file};
use crate::steps::{Fault, Steps};
use crate::thinning;

/// Cores are few, and a process waits for its disk half of the time.
const AT_ONCE: usize = 2;
const GRACE: Duration = Duration::from_secs(60);
/// When something is due of segments of ten minutes: copied, off the disk, thinned, the thinned one copied and off the disk
/// and what it was gone, cooled, off the warm tier. What failed is tried again in the minutes behind.
const ARRIVES: [i64; 21] = [
    30, 32, 34, 36, 37, 38, 39, 42, 44, 46, 52, 54, 56, 62, 64, 66, 67, 68, 76, 78, 80,
];
/// When the last of them is older than its rule keeps anything, for longer than a disk here is full. The first is there so
/// that the clock does not seem to jump.
const DELETED: [i64; 26] = [
    99, 122, 123, 124, 125, 126, 127, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140, 141,
    142, 143, 144, 145, 146,
];

/// Which way segments go.
#[derive(Clone, Debug, Default)]
struct Way {
    /// The server that keeps them, and a name that nobody else has there. Without, the tiers are folders beside the archive.
    server: Option<(String, String)>,
    /// Keyframes alone stay of what is 25 minutes old, and lies on the warm tier then.
    thins: bool,
}

impl Way {
    fn store(&self, tier: &str, folder: &Path) -> StoreConfig {
        let Some((endpoint, name)) = &self.server else {
            return StoreConfig::at(url::Url::from_directory_path(folder.join(tier)).expect("url"));
        };
        StoreConfig {
            endpoint: Some(endpoint.parse().expect("url")),
            allow_http: true,
            credentials_file: Some(keys_file(folder)),
            ..StoreConfig::at(format!("s3://{BUCKET}/{name}/{tier}").parse().expect("url"))
        }
    }

    /// For a child.
    fn told(&self) -> String {
        let (endpoint, name) = self.server.clone().unwrap_or_default();
        format!("{} {endpoint} {name}", self.thins)
    }

    fn from(told: &str) -> Self {
        let mut words = told.split(' ');
        let mut word = || words.next().expect("three words").to_owned();
        let thins = word() == "true";
        let (endpoint, name) = (word(), word());
        Self {
            server: Some((endpoint, name)).filter(|(endpoint, _)| !endpoint.is_empty()),
            thins,
        }
    }
}

/// Ten minutes on the disk, thirty on warm, and deleted after an hour and a half.
fn rules(way: &Way) -> Rules {
    let rule = RetentionRule {
        thin_after: way.thins.then_some(Duration::from_secs(1500)),
        hot: Some(Duration::from_secs(600)),
        warm: Some(Duration::from_secs(1800)),
        cold: Some(Duration::from_secs(5400)),
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
        thinning::record(&archive, stream, 0..segments);
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
    way: Way,
    stores: Stores,
    reaper: Reaper,
    mover: Mover,
    thinner: Thinner,
    runtime: Runtime,
    steps: Arc<Steps>,
    /// The archive's folder.
    folder: PathBuf,
}

impl Process {
    fn start(dir: TempDir, way: &Way) -> Self {
        let steps = Arc::new(Steps::default());
        let folder = dir.path().to_owned();
        let archive = Archive::with_faults(dir, steps.clone());
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = threads.expect("runtime");
        let store = |name: &str| {
            let store = Store::open(&way.store(name, &folder))
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
        let reaper = Reaper::new(index.clone(), disk.clone(), rules(way), ample(), key()).expect("reaper");
        let mut mover = Mover::new(
            index.clone(),
            disk.clone(),
            stores.clone(),
            rules(way),
            GRACE,
            runtime.handle().clone(),
        );
        mover.resume().expect("marks");
        let thinner = Thinner::new(ThinnerParts {
            index,
            disk,
            stores: stores.clone(),
            rules: rules(way),
            grace: GRACE,
        });
        Self {
            reaper: reaper.with_stores(stores.clone()),
            archive,
            way: way.clone(),
            stores,
            mover,
            thinner,
            runtime,
            steps,
            folder,
        }
    }

    /// What the service does in this minute, until nothing is under way. False when the process is dead.
    fn minute(&mut self, m: i64) -> bool {
        // While the index cannot grow, each pass tries again.
        for second in 0..59 {
            match self.pass(m * MINUTE_US + second * SECOND_US) {
                Err(e) if e.is_disk_full() => {}
                Err(_) => return false,
                Ok(()) => return !self.steps.is_dead(),
            }
        }
        true
    }

    /// The same at a moment after noon.
    fn pass(&mut self, us: i64) -> Result<(), IndexError> {
        let (now, monotonic_us) = (noon().plus_micros(us), us.unsigned_abs());
        self.reaper.spare(self.mover.busy());
        while self.reaper.pass(now, monotonic_us)? {}
        let at = self.reaper.progress();
        assert!(!at.clock_doubted);
        self.mover.pass(at.archive_time, true, 0, monotonic_us)?;
        self.thin(Thinner::pass, at.archive_time, monotonic_us)?;
        let moved = |mover: &Mover| mover.moved().under_way + mover.moved().leaving;
        while (moved(&self.mover) > 0 || self.thinner.is_under_way()) && !self.steps.is_dead() {
            std::thread::sleep(Duration::from_millis(2));
            self.thin(Thinner::go_on, at.archive_time, monotonic_us)?;
            self.mover.go_on(at.archive_time, true, monotonic_us)?;
        }
        Ok(())
    }

    /// Thins, and tells the others what was replaced.
    fn thin(
        &mut self,
        step: fn(&mut Thinner, &ThinnerMoment<'_>) -> Result<Vec<Replaced>, IndexError>,
        now: WallTime,
        monotonic_us: u64,
    ) -> Result<(), IndexError> {
        let at = ThinnerMoment {
            now,
            clock_trusted: true,
            monotonic_us,
            busy: &self.mover.busy(),
        };
        let replaced = step(&mut self.thinner, &at)?;
        tell_replaced(&replaced, &mut self.reaper, Some(&mut self.mover))
    }

    /// Ends as a kill does; the archive's folder.
    fn end(self) -> TempDir {
        drop((self.reaper, self.mover, self.thinner, self.stores));
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

    /// All bytes of a copy, if it is there.
    fn bytes(&self, name: &str, tier: Tier) -> Option<Vec<u8>> {
        let Some(objects) = self.stores.of(tier) else {
            return std::fs::read(self.archive.disk.path(name)).ok();
        };
        let store = &objects.store;
        self.runtime.block_on(async {
            let len = store.stat(name).await.expect("an answer")?.len;
            Some(store.read(name, 0..len).await.expect("bytes").to_vec())
        })
    }

    /// What lies on the disk and in the stores, but for certificates.
    fn left(&self) -> Vec<String> {
        let of_footage = |file: &PathBuf| file.extension().is_some_and(|e| e == "mp4");
        let unfinished = |file: &PathBuf| file.parent().is_some_and(|above| above.ends_with(".unfinished"));
        let on_disks = ["media", "warm", "cold"].map(|folder| files(&self.folder.join(folder)));
        let on_disks = on_disks.concat().into_iter();
        let on_disks = on_disks.filter(|file| of_footage(file) || unfinished(file));
        let mut left: Vec<String> = on_disks.map(|file| file.display().to_string()).collect();
        for tier in [Tier::Warm, Tier::Cold] {
            let store = &self.stores.of(tier).expect("a store").store;
            let listed = self.runtime.block_on(store.list("default", None, 100));
            left.extend(listed.expect("a list").into_iter().map(|(name, _)| name));
        }
        left
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
                let stream = index.stream_id(row.id.stream).expect("stream");
                let name = segment_path(&stream, &row.name());
                // What is in a thinned one was checked above, by its own hashes and the chain.
                let is_thinned = row.generation > 0;
                match self.bytes(&name, tier) {
                    None => problems.push(format!("{tier}: {name} is not there")),
                    Some(bytes) if !is_thinned && template.hashes.get(&name) != Some(&Sha256::of(&bytes)) => {
                        problems.push(format!("{tier}: {name} is not what was recorded"));
                    }
                    Some(_) => {}
                }
            }
        }
        self.steps.rests.store(false, Ordering::Release);
        problems
    }
}

/// One life of an archive with a fault in it: at which step that was, and what is wrong afterwards.
fn one(template: &Template, way: &Way, fault: Fault, at: u64) -> (Option<String>, Vec<String>) {
    let process = Process::start(template.fork(), way);
    process.steps.plan(fault, at);
    rest_of_a_life(template, process, 0, fault, at)
}

/// The same with a process of its own, which is killed for good.
fn one_of_its_own(template: &Template, way: &Way, at: u64) -> (Option<String>, Vec<String>) {
    let Some(killed) = killed::kill(CHILD, template.dir.path(), at, &way.told()) else {
        return (None, Vec::new());
    };
    let mut minutes = killed.said.lines().filter_map(|line| line.strip_prefix(MINUTE));
    let minute = minutes.next_back().expect("a minute").parse().expect("a number");
    let process = Process::start(killed.archive(), way);
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
    let mut process = Process::start(child.archive(), &Way::from(&child.told));
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
            let way = process.way.clone();
            process = Process::start(process.end(), &way);
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
                if (row.generation == 1) != process.way.thins {
                    problems.push(format!("it was thinned or was not: {row:?}"));
                }
            }
            if rows.len() != template.hashes.len() {
                problems.push(format!("{} of {} segments", rows.len(), template.hashes.len()));
            }
        } else if !rows.is_empty() {
            problems.push(format!("it was not deleted: {rows:?}"));
        }
    }
    process.steps.rests.store(true, Ordering::Release);
    let left = process.left();
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
fn at_every_step(template: &Template, way: &Way, fault: Fault, stride: u64) {
    let next = AtomicU64::new(0);
    let (points, problems) = (Mutex::new(BTreeMap::<String, u64>::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let at = 1 + stride * next.fetch_add(1, Ordering::SeqCst);
                    let mut way = way.clone();
                    if let Some((_, name)) = &mut way.server {
                        *name = format!("{name}-{at}");
                    }
                    let (fired, found) = match fault {
                        Fault::RealKill => one_of_its_own(template, &way, at),
                        _ => one(template, &way, fault, at),
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
    assert!(problems.is_empty(), "{problems:#?}");
    // A seam that nobody asks would have no problems either.
    let all: &[&[Step]] = match fault {
        Fault::Full(_) => &[&[Step::Commit, Step::Committed], &[Step::PutPart, Step::PutEnd]],
        _ => &STEPS,
    };
    let met = |step: &Step| points.contains_key(&format!("{step:?}"));
    let missing: Vec<_> = (all.iter())
        .filter(|steps| stride == 1 && !steps.iter().any(met))
        .collect();
    assert!(
        missing.is_empty(),
        "nothing went wrong at {missing:?}: {points:?}"
    );
    assert!(points.values().sum::<u64>() >= 10, "{points:?}");
}

/// What there is on every way. Threads change the order of steps from life to life, so that one of two may be met by chance
/// in none of them, but not all of what belongs together.
const STEPS: [&[Step]; 6] = [
    &[Step::Commit, Step::Committed],
    &[Step::LookUp],
    &[Step::Put, Step::PutPart, Step::PutEnded],
    &[Step::Fetch],
    &[Step::Delete, Step::Deleted],
    &[Step::Remove, Step::SyncDir],
];

#[test]
fn a_kill_at_every_step_of_a_move_loses_nothing() {
    at_every_step(&Template::new(1), &Way::default(), Fault::Kill, 1);
}

#[test]
fn a_step_of_a_move_that_fails_loses_nothing_and_is_taken_again() {
    at_every_step(&Template::new(1), &Way::default(), Fault::Fails, 1);
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_move_loses_nothing() {
    at_every_step(&Template::new(1), &Way::default(), Fault::Full(2), 2);
}

#[test]
fn a_real_kill_at_every_step_of_a_move_loses_nothing() {
    at_every_step(&Template::new(1), &Way::default(), Fault::RealKill, 1);
}

/// A real kill over a real server, and thinned on the way.
fn killed_through_minio(stride: u64) {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(Kind::Minio, folder.path());
    let way = Way {
        server: Some((server.endpoint(), "way".to_owned())),
        thins: true,
    };
    at_every_step(&Template::new(1), &way, Fault::RealKill, stride);
}

#[test]
fn a_real_kill_on_the_way_through_minio_and_while_it_is_thinned_there_loses_nothing() {
    killed_through_minio(5);
}

#[test]
#[ignore = "soak: a real kill at every step of the way through MinIO, where it is thinned too"]
fn soak_a_real_kill_at_every_step_of_the_way_through_minio_loses_nothing() {
    killed_through_minio(1);
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
        at_every_step(&template, &Way::default(), fault, 1);
    }
    let thins = Way {
        thins: true,
        ..Way::default()
    };
    for fault in [Fault::Kill, Fault::Fails] {
        at_every_step(&template, &thins, fault, 1);
    }
}
