//! What is put between an archive and its disk, its index and its stores: one step that goes wrong.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use archive::seam::{Answer, Faults, Step};
use rustix::process::{Signal, getpid, kill_process};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// What stands before the step at which a process says that it is killed.
pub(crate) const KILLED_AT: &str = "killed at ";

/// How a step goes wrong.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Nothing happens any more from this step on, as after `kill -9`.
    Kill,
    /// `kill -9` of this process, which says before at which step.
    RealKill,
    /// It fails once.
    Fails,
    /// The disk is full for so many steps that need space.
    Full(u64),
}

/// Counts steps, and lets one of them go wrong.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    plan: Mutex<Option<(Fault, u64)>>,
    taken: AtomicU64,
    fired: Mutex<Option<Step>>,
    dead: AtomicBool,
    /// Whether somebody looks who is no part of it.
    pub(crate) rests: AtomicBool,
    /// Whether stores answer nothing at all.
    pub(crate) stores_away: AtomicBool,
}

impl Steps {
    /// From now on the step `at`, counted from 1, of those that this can happen to goes wrong.
    pub(crate) fn plan(&self, fault: Fault, at: u64) {
        *self.plan.lock().expect("a lock") = Some((fault, at));
    }

    /// At which step it was, if it was.
    pub(crate) fn fired(&self) -> Option<Step> {
        *self.fired.lock().expect("a lock")
    }

    /// Whether nothing happens any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    fn applies(fault: Fault, step: Step) -> bool {
        match fault {
            Fault::Kill | Fault::Fails => !matches!(step, Step::ProbeDirect | Step::Space),
            // Who dies before he reads leaves what the step before has left.
            Fault::RealKill => !matches!(step, Step::ProbeDirect | Step::Space | Step::Read),
            Fault::Full(_) => matches!(
                step,
                Step::Commit | Step::Committed | Step::PutPart | Step::PutEnd | Step::Write
            ),
        }
    }
}

impl Faults for Steps {
    fn at(&self, step: Step, _: &Path) -> Answer {
        let of_a_store = matches!(
            step,
            Step::LookUp | Step::Put | Step::Fetch | Step::Delete | Step::ListObjects | Step::Restore
        );
        if of_a_store && self.stores_away.load(Ordering::Acquire) {
            return Answer::Fail(EIO);
        }
        let Some((fault, at)) = *self.plan.lock().expect("a lock") else {
            return Answer::GoOn;
        };
        if !Self::applies(fault, step) || self.rests.load(Ordering::Acquire) {
            return Answer::GoOn;
        }
        let now = self.taken.fetch_add(1, Ordering::AcqRel) + 1;
        if now == at {
            *self.fired.lock().expect("a lock") = Some(step);
        }
        match fault {
            Fault::Kill if now >= at => {
                self.dead.store(true, Ordering::Release);
                Answer::Fail(EIO)
            }
            Fault::RealKill if now == at => {
                println!("\n{KILLED_AT}{step:?}");
                let killed = kill_process(getpid(), Signal::KILL);
                panic!("still alive: {killed:?}");
            }
            Fault::Fails if now == at => Answer::Fail(EIO),
            Fault::Full(steps) if (at..at + steps).contains(&now) => Answer::Fail(ENOSPC),
            _ => Answer::GoOn,
        }
    }
}
