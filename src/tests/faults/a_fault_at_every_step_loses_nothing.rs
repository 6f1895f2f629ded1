//! Everything that writes to an archive is done again and again, and each time another step goes wrong.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::account::Told;
use crate::child::Ended;
use crate::dice::asked;
use crate::faults::{Fault, Plan};
use crate::judge::judge;
use crate::site::Site;
use crate::template::Template;
use crate::workload::Work;

/// Cores are few, and a process waits for its committer half of the time.
const AT_ONCE: usize = 3;

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
    let fired = ended.fired().map(|(step, _)| step.to_owned());
    let died = matches!(fault, Fault::Kill | Fault::Torn);
    if let Some(failure) = ended.failure() {
        if !may_fail(&ended) {
            problems.push(format!("one fault ended it all: {failure}"));
        }
    } else if !(ended.is_done() || died && fired.is_some()) {
        problems.push("it ended without a word".to_owned());
    }
    if costs_nothing(fault, ended.fired()) {
        let missing = ended.told.iter().filter(|told| matches!(told, Told::Missing(..)));
        problems.extend(missing.map(|told| format!("one fault cost footage: {told:?}")));
    }
    problems.extend(judge(&Site::within(&folder), 2, Plan::default()).findings);
    let _ = std::fs::remove_dir_all(&folder);
    let seed = template.seed();
    let place = ended.fired().map(|(step, file)| format!("{step} {file}"));
    let tell = |what| format!("{fault:?} at step {at} ({place:?}), seed {seed}: {what}");
    (fired, problems.into_iter().map(tell).collect())
}

/// Whether all footage is kept all the same: what one file does not take, the next one does, and what the
/// index does not take it is told again. A segment that cannot even begin because the disk is full is a gap, and
/// so is what comes while the index is full.
fn costs_nothing(fault: Fault, fired: Option<(&str, &str)>) -> bool {
    let at_commit = matches!(fired, Some(("Commit", _)));
    matches!(fault, Fault::Eio | Fault::Short) || fault == Fault::Full && at_commit
}

/// Without its index nothing goes on, and nothing may be said to be durable. A full disk is no reason while the
/// archive records; a start and a stop need space.
fn may_fail(ended: &Ended) -> bool {
    match ended.failure().is_some_and(|what| what.contains("No space")) {
        true => !ended.was_recording(),
        false => matches!(ended.fired(), Some(("Commit" | "Committed", _))),
    }
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
        // A seam that nobody asks would have no problems either.
        assert!(points >= 3, "{fault:?} met {points} steps");
        problems.extend(done.problems);
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn a_fault_at_every_step_loses_nothing() {
    let kinds = [
        (Fault::Kill, 1),
        (Fault::Eio, 1),
        (Fault::Full, 7),
        (Fault::FullFor(7), 7),
        (Fault::Short, 7),
        (Fault::Torn, 7),
    ];
    campaign(asked("TIERLINE_SEED", 1), &kinds);
}

#[test]
#[ignore = "soak: every kind of fault at every step, with TIERLINE_SOAK_SEEDS seeds"]
fn soak_a_fault_at_every_step_loses_nothing() {
    let kinds = [
        (Fault::Kill, 1),
        (Fault::Eio, 1),
        (Fault::Full, 1),
        (Fault::FullFor(3), 1),
        (Fault::FullFor(20), 1),
        (Fault::Short, 1),
        (Fault::Torn, 1),
    ];
    let first = asked("TIERLINE_SEED", 1);
    for seed in first..first + asked("TIERLINE_SOAK_SEEDS", 10) {
        campaign(seed, &kinds);
    }
}
