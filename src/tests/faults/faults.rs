//! What is put into the seam: one fault at one step, or a guarantee left out for a control.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use archive::seam::{Answer, Faults, Step};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

use crate::account::{Account, Told};
use crate::site::Site;

/// How a step goes wrong.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// The disk fails once.
    Eio,
    /// The disk is full once.
    Full,
    /// The disk is full for so many steps that need space.
    FullFor(u64),
    /// A write stops half way, and goes on when asked again.
    Short,
    /// A write stops half way, and the process dies.
    Torn,
    /// The process dies before the step.
    Kill,
    /// A new segment is made, and the process dies when it is durable and has no row.
    Rowless,
    /// Footage cannot be written from this sync on, and the process dies right after it.
    Sick,
}

/// A guarantee that a control leaves out.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Omission {
    /// Segments are not synced.
    DataSync,
    /// The index is not synced.
    RowSync,
    /// Segments are synced after their rows.
    Order,
    /// Folders are not synced.
    DirSync,
}

/// What is to go wrong in one run.
#[derive(Copy, Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The fault, and at which of the steps that it applies to, counted from 1.
    pub(crate) fault: Option<(Fault, u64)>,
    pub(crate) omission: Option<Omission>,
    /// Whether every step is written down.
    pub(crate) trace: bool,
    /// Whether space is really set aside. In memory that takes most of the time, and shows nothing.
    pub(crate) reserve: bool,
    /// Whether the file system is to seem to have no O_DIRECT.
    pub(crate) buffered: bool,
}

impl Fault {
    /// Whether this can happen at a step.
    pub(crate) fn applies(self, step: Step) -> bool {
        match self {
            Self::Kill => true,
            Self::Eio => step != Step::ProbeDirect,
            Self::Full | Self::FullFor(_) => matches!(
                step,
                Step::CreateDir
                    | Step::Create
                    | Step::Reserve
                    | Step::Write
                    | Step::Rename
                    | Step::Commit
                    | Step::Committed
            ),
            Self::Short | Self::Torn => step == Step::Write,
            Self::Rowless => matches!(step, Step::Create),
            Self::Sick => true,
        }
    }
}

/// The seam of one run.
#[derive(Debug)]
pub(crate) struct Planned {
    plan: Plan,
    steps: AtomicU64,
    account: Account,
    /// There when the disk is sick.
    sick: PathBuf,
    /// Files whose sync was put off.
    unsynced: Mutex<Vec<PathBuf>>,
}

impl Planned {
    pub(crate) fn new(plan: Plan, site: &Site) -> Self {
        Self {
            plan,
            steps: AtomicU64::new(0),
            account: Account::append_to(&site.account),
            sick: site.account.with_file_name("hot.sick"),
            unsynced: Mutex::default(),
        }
    }

    fn fire(&self, step: Step, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.account
            .tell(&Told::Fired(format!("{step:?}"), name.into_owned()));
    }

    fn omit(&self, omission: Omission, step: Step, path: &Path) -> Answer {
        match (omission, step) {
            (Omission::DataSync, Step::SyncData | Step::SyncFile)
            | (Omission::RowSync, Step::Commit)
            | (Omission::DirSync, Step::SyncDir) => Answer::Pretend,
            (Omission::Order, Step::SyncData) => {
                self.unsynced.lock().expect("a lock").push(path.to_owned());
                Answer::Pretend
            }
            (Omission::Order, Step::Committed) => {
                for path in self.unsynced.lock().expect("a lock").drain(..) {
                    let _ = File::open(path).and_then(|file| file.sync_data());
                }
                Answer::GoOn
            }
            _ => Answer::GoOn,
        }
    }
}

impl Faults for Planned {
    fn at(&self, step: Step, path: &Path) -> Answer {
        if let Some(omission) = self.plan.omission {
            return self.omit(omission, step, path);
        }
        if self.plan.trace {
            self.account.tell(&Told::Step(format!("{step:?}")));
        }
        let ordinary = match step {
            Step::ProbeDirect if self.plan.buffered => Answer::Fail(Errno::INVAL.raw_os_error()),
            Step::Reserve if !self.plan.reserve => Answer::Pretend,
            _ => Answer::GoOn,
        };
        let Some((fault, at)) = self.plan.fault else {
            return ordinary;
        };
        let made = || self.steps.load(Ordering::SeqCst) >= at;
        if fault == Fault::Rowless && step == Step::Commit && made() {
            self.fire(step, path);
            die();
        }
        if !fault.applies(step) || fault == Fault::Rowless && made() {
            return ordinary;
        }
        let now = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        let lasts = match fault {
            Fault::FullFor(steps) => steps,
            // What a process does after half a write does not matter any more.
            Fault::Torn => 2,
            Fault::Sick => u64::MAX - at,
            _ => 1,
        };
        if !(at..at + lasts).contains(&now) {
            return ordinary;
        }
        if now == at && fault != Fault::Rowless {
            self.fire(step, path);
        }
        match fault {
            // The next sync is the one that fails; what follows it does not happen.
            Fault::Sick if self.sick.exists() => die(),
            Fault::Sick if step == Step::SyncData => {
                std::fs::write(&self.sick, "tierlinefragment").expect("a mark");
                ordinary
            }
            Fault::Sick | Fault::Rowless => ordinary,
            Fault::Eio => Answer::Fail(Errno::IO.raw_os_error()),
            Fault::Full | Fault::FullFor(_) => Answer::Fail(Errno::NOSPC.raw_os_error()),
            Fault::Short => Answer::Short(4096),
            Fault::Torn if now == at => Answer::Short(4096),
            Fault::Torn | Fault::Kill => die(),
        }
    }
}

/// Nothing runs after this, as after `kill -9`.
pub(crate) fn die() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    loop {
        std::thread::park();
    }
}
