//! What the child was told, kept outside the archive: the oracle.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use archive::{GapCause, WallTime};
use serde::{Deserialize, Serialize};

/// A fragment as its camera sent it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) camera: String,
    pub(crate) from: WallTime,
    pub(crate) to: WallTime,
    /// The SHA-256 of its samples.
    pub(crate) hash: [u8; 32],
}

/// One line of the account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// A step is about to be taken.
    Step(String),
    /// The start is over: the archive records.
    Started,
    /// The archive is being stopped.
    Stopping,
    /// The fault happens now, at this step on this file.
    Fired(String, String),
    /// A reader sees this fragment: it is durable.
    Acked(Sent),
    /// A reader sees that this is missing.
    Missing(Sent, GapCause),
    /// What ended before this may be deleted from now on.
    MayGo(WallTime),
    /// The archive says that it cannot go on.
    Failed(String),
    /// Everything was done.
    Done,
}

/// A file that only grows; a line is there whole or not at all when the writer is killed.
#[derive(Clone, Debug)]
pub(crate) struct Account(Arc<File>);

impl Account {
    pub(crate) fn append_to(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self(Arc::new(file.expect("an account")))
    }

    pub(crate) fn tell(&self, told: &Told) {
        let mut line = serde_json::to_vec(told).expect("JSON");
        line.push(b'\n');
        (&*self.0).write_all(&line).expect("a line of the account");
    }

    pub(crate) fn read(path: &Path) -> Vec<Told> {
        let text = std::fs::read_to_string(path).expect("an account");
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("a line"))
            .collect()
    }
}
