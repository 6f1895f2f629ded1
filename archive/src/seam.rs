//! The seam between the archive and its disk and stores: every step is told here before it is taken.
//!
//! A service runs with nothing in the seam, which costs a test for `None` at each step. Fault tests put
//! something in that counts the steps and makes one of them fail, stop short, or kill the process; controls
//! put something in that leaves a step out and pretends that it was taken.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What is about to be done.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Step {
    /// A folder is made.
    CreateDir,
    /// A file is written around the page cache to see whether its file system can do that.
    ProbeDirect,
    /// A file is made.
    Create,
    /// Space is set aside for a file.
    Reserve,
    /// Bytes are appended.
    Write,
    /// The bytes of a file become durable.
    SyncData,
    /// What was set aside and not used is given back, or what stands behind the end is cut off.
    Trim,
    /// A file that another process wrote becomes durable.
    SyncFile,
    /// The names in a folder become durable.
    SyncDir,
    /// A file is removed.
    Remove,
    /// An empty folder is removed.
    RemoveDir,
    /// A file is moved.
    Rename,
    /// A folder is listed.
    List,
    /// A file is opened for reading, or to be written again.
    Open,
    /// Bytes are read.
    Read,
    /// The disk is asked for its space.
    Space,
    /// The index is about to write and sync a batch. Pretending leaves out the sync alone.
    Commit,
    /// The index has done so, and nobody was told yet. A failure here is one whose outcome is unknown.
    Committed,
    /// A store is asked what it has under a name.
    LookUp,
    /// An object is about to be put into a store.
    Put,
    /// A part of it goes there.
    PutPart,
    /// All of it is there and gets its name, which must be free.
    PutEnd,
    /// It has its name, and nobody was told yet.
    PutEnded,
    /// What an upload that failed has left is removed.
    PutAbort,
    /// Bytes of an object are read.
    Fetch,
    /// An object is removed.
    Delete,
    /// It is gone, and nobody was told yet.
    Deleted,
    /// Objects are listed.
    ListObjects,
    /// A store is asked to make an object readable.
    Restore,
    /// It has been asked, and nobody was told yet.
    RestoreAsked,
}

/// What is to happen instead of a step.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Nothing else: the step is taken.
    GoOn,
    /// The step fails with this error number of the system.
    Fail(i32),
    /// A write takes so many bytes and says so, as a disk may. Other steps are taken.
    Short(usize),
    /// The step is left out and said to have been taken, where that is possible.
    Pretend,
}

/// Something that is asked before every step. It may end the process too.
pub trait Faults: Send + Sync + fmt::Debug {
    /// Says what becomes of a step on `path`.
    fn at(&self, step: Step, path: &Path) -> Answer;
}

/// What stands between the archive and the disk: nothing, or faults. Cloning shares it.
#[derive(Clone, Default, Debug)]
pub struct Seam(Option<Arc<dyn Faults>>);

impl Seam {
    /// A seam with faults in it.
    pub fn with(faults: Arc<dyn Faults>) -> Self {
        Self(Some(faults))
    }

    /// Asks before a step that may be left out; false when it is.
    pub fn may(&self, step: Step, path: &Path) -> io::Result<bool> {
        let Some(faults) = &self.0 else {
            return Ok(true);
        };
        match faults.at(step, path) {
            Answer::Fail(errno) => Err(io::Error::from_raw_os_error(errno)),
            Answer::Pretend => Ok(false),
            Answer::GoOn | Answer::Short(_) => Ok(true),
        }
    }

    /// Asks before a step that cannot be left out, because something comes of it.
    pub(crate) fn must(&self, step: Step, path: &Path) -> io::Result<()> {
        self.may(step, path).map(drop)
    }

    /// Asks before a write of `len` bytes: how many of them are to be written, `None` to pretend.
    pub(crate) fn write(&self, len: usize, path: &Path) -> io::Result<Option<usize>> {
        let Some(faults) = &self.0 else {
            return Ok(Some(len));
        };
        match faults.at(Step::Write, path) {
            Answer::GoOn => Ok(Some(len)),
            Answer::Fail(errno) => Err(io::Error::from_raw_os_error(errno)),
            Answer::Short(n) => Ok(Some(n.min(len))),
            Answer::Pretend => Ok(None),
        }
    }
}
