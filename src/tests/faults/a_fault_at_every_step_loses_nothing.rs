//! Everything that writes to an archive is done again and again, and each time another step goes wrong.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::child::{Ended, finish};
use crate::faults::{Fault, Plan};
use crate::judge::judge;
use crate::site::{Site, copy, folder};
use crate::workload::{Job, Work};

/// Cores are few, and a process waits for its committer half of the time.
const AT_ONCE: usize = 3;

/// An archive that a kill left behind, from which every run begins.
pub(crate) struct Template {
    folder: tempfile::TempDir,
    seed: u64,
}

impl Template {
    /// Records twice, and dies the second time when a group is durable whose rows are not.
    pub(crate) fn new(seed: u64) -> Self {
        let folder = folder();
        let template = Self { folder, seed };
        let traced = Plan {
            trace: true,
            ..Plan::default()
        };
        let rehearsal = template.folder.path().join("rehearsal");
        std::fs::create_dir(&rehearsal).expect("a folder");
        let ended = template.run(&rehearsal, Work::Everything, traced, 0, false);
        assert!(ended.is_done(), "without a fault: {ended:?}");
        let clip = find_segment(&rehearsal.join("hot")).expect("a segment");
        std::fs::copy(clip, template.clip()).expect("a clip");
        // The last commit of a group with a new segment in it.
        let steps = ended.steps();
        let create = steps
            .iter()
            .rposition(|step| *step == "Create")
            .expect("a new segment");
        let behind = steps.iter().skip(create).position(|step| *step == "Commit");
        let at = create + behind.expect("a commit") + 1;
        let origin = template.origin();
        std::fs::create_dir(&origin).expect("a folder");
        let kill = Plan {
            fault: Some((Fault::Kill, at as u64)),
            ..Plan::default()
        };
        let ended = template.run(&origin, Work::Everything, kill, 0, false);
        assert_eq!(ended.fired().map(|f| f.0), Some("Commit"));
        template
    }

    fn origin(&self) -> PathBuf {
        self.folder.path().join("origin")
    }

    fn clip(&self) -> PathBuf {
        self.folder.path().join("clip.mp4")
    }

    /// A copy of what the kill left.
    pub(crate) fn fork(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        copy(&self.origin(), &folder);
        folder
    }

    pub(crate) fn run(&self, folder: &Path, work: Work, plan: Plan, run: i64, import: bool) -> Ended {
        finish(&Job {
            site: Site::within(folder),
            work,
            plan,
            run,
            seed: self.seed,
            clip: import.then(|| self.clip()),
        })
    }
}

fn find_segment(folder: &Path) -> Option<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|e| e.path())
        .collect();
    entries.sort();
    entries.iter().find_map(|path| match path.is_dir() {
        true => find_segment(path),
        false => path
            .extension()
            .is_some_and(|end| end == "mp4")
            .then(|| path.clone()),
    })
}

/// One kind of fault at every `stride`th step, until the work is done before it is reached.
fn at_every_step(template: &Template, fault: Fault, first: u64, stride: u64) -> Campaign {
    let next = AtomicU64::new(0);
    let campaign = Mutex::new(Campaign::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let at = first + stride * next.fetch_add(1, Ordering::SeqCst);
                    let (fired, problems) = one(template, fault, at);
                    let mut campaign = campaign.lock().expect("a lock");
                    let Some(step) = fired else {
                        campaign.problems.extend(problems);
                        return;
                    };
                    *campaign.points.entry(step).or_default() += 1;
                    campaign.problems.extend(problems);
                }
            });
        }
    });
    campaign.into_inner().expect("a lock")
}

/// One run with a fault, a start after it, and what is wrong then. Says at which step the fault was.
fn one(template: &Template, fault: Fault, at: u64) -> (Option<String>, Vec<String>) {
    let folder = template.fork(&format!("{fault:?}-{at}"));
    let plan = Plan {
        fault: Some((fault, at)),
        ..Plan::default()
    };
    let ended = template.run(&folder, Work::Everything, plan, 1, true);
    let mut problems = Vec::new();
    if ended.panicked {
        problems.push("the process panicked".to_owned());
    }
    let fired = ended.fired().map(|(step, _)| step.to_owned());
    let died = matches!(fault, Fault::Kill | Fault::Torn);
    if let Some(failure) = ended.failure() {
        if !may_fail(&ended) {
            problems.push(format!("one fault ended it all: {failure}"));
        }
    } else if !ended.is_done() && !(died && fired.is_some()) {
        problems.push("it ended without a word".to_owned());
    }
    problems.extend(judge(&Site::within(&folder), 2).findings);
    let _ = std::fs::remove_dir_all(&folder);
    let seed = template.seed;
    let place = ended.fired().map(|(step, file)| format!("{step} {file}"));
    let tell = |what| format!("{fault:?} at step {at} ({place:?}), seed {seed}: {what}");
    (fired, problems.into_iter().map(tell).collect())
}

/// Without its index nothing goes on, and nothing may be said to be durable. A full disk is no reason, once
/// the archive records.
fn may_fail(ended: &Ended) -> bool {
    let of_index = matches!(ended.fired(), Some(("Commit" | "Committed", _)));
    let is_full = ended.failure().is_some_and(|what| what.contains("No space"));
    of_index && !(is_full && ended.had_started())
}

#[derive(Default)]
struct Campaign {
    /// How often a fault was at each kind of step.
    points: BTreeMap<String, u64>,
    problems: Vec<String>,
}

fn campaign(seed: u64, kinds: &[(Fault, u64)]) {
    let begun = Instant::now();
    let template = Template::new(seed);
    let mut problems = Vec::new();
    for (fault, stride) in kinds {
        let first = 1 + seed % stride;
        let done = at_every_step(&template, *fault, first, *stride);
        let points: u64 = done.points.values().sum();
        println!(
            "{fault:?}: {points} points, {} problems, {:.1} s so far: {:?}",
            done.problems.len(),
            begun.elapsed().as_secs_f32(),
            done.points
        );
        problems.extend(done.problems);
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn a_fault_at_every_step_loses_nothing() {
    let seed = crate::dice::asked("TIERLINE_SEED", 1);
    campaign(
        seed,
        &[
            (Fault::Kill, 1),
            (Fault::Eio, 1),
            (Fault::Full, 3),
            (Fault::FullFor(7), 3),
            (Fault::Short, 3),
            (Fault::Torn, 3),
        ],
    );
}
