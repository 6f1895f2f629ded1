//! The child process: this program once more, with a job in its environment.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::account::{Account, Told};
use crate::workload::{Job, run};

const JOB: &str = "TIERLINE_FAULTS_JOB";

/// Not a test: what a child runs. Without a job it does nothing.
#[test]
#[ignore = "what a child process of the other tests runs"]
fn the_job_of_a_child() {
    if let Ok(job) = std::env::var(JOB) {
        run(&serde_json::from_str(&job).expect("a job"));
    }
}

/// Starts a process with a job.
pub(crate) fn start(job: &Job) -> Child {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["--exact", "--ignored", "child::the_job_of_a_child"]);
    command.env(JOB, serde_json::to_string(job).expect("JSON"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    command.spawn().expect("a child")
}

/// Runs a process to its end, whatever that is. Returns everything that was told on this archive so far,
/// and how much of it by this process. Fails if it panicked or was aborted.
pub(crate) fn finish(job: &Job) -> Ended {
    let before = match job.site.account.exists() {
        true => Account::read(&job.site.account).len(),
        false => 0,
    };
    let status = start(job).wait().expect("a child");
    let ended = status.success() || status.signal() == Some(Signal::KILL.as_raw());
    assert!(
        ended,
        "the child panicked or was aborted: {status}, {:?}",
        job.plan
    );
    let told = Account::read(&job.site.account);
    Ended {
        told: told.get(before..).unwrap_or_default().to_vec(),
    }
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// What it told.
    pub(crate) told: Vec<Told>,
}

impl Ended {
    /// Where the fault was, if it was reached.
    pub(crate) fn fired(&self) -> Option<(&str, &str)> {
        self.told.iter().find_map(|told| match told {
            Told::Fired(step, file) => Some((step.as_str(), file.as_str())),
            _ => None,
        })
    }

    /// Whether it recorded at the end: not starting yet, and not stopping.
    pub(crate) fn was_recording(&self) -> bool {
        let begun = self.told.iter().any(|told| matches!(told, Told::Started));
        begun && !self.told.iter().any(|told| matches!(told, Told::Stopping))
    }

    pub(crate) fn is_done(&self) -> bool {
        self.told.iter().any(|told| matches!(told, Told::Done))
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        self.told.iter().find_map(|told| match told {
            Told::Failed(what) => Some(what.as_str()),
            _ => None,
        })
    }

    pub(crate) fn steps(&self) -> Vec<&str> {
        let steps = self.told.iter().filter_map(|told| match told {
            Told::Step(name) => Some(name.as_str()),
            _ => None,
        });
        steps.collect()
    }
}
