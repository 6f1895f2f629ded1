//! How often a store that is a folder is asked for bytes.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use tierline_archive::seam::{Answer, Faults, Step};

/// Counts the blocks that are read of a folder, and holds reads while `gate` is taken.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    blocks: AtomicUsize,
    pub(crate) gate: RwLock<()>,
    /// Reads that fail, the first of which is so far away.
    pub(crate) fail: Mutex<Option<usize>>,
}

impl Faults for Counted {
    fn at(&self, step: Step, _: &Path) -> Answer {
        if step != Step::Fetch {
            return Answer::GoOn;
        }
        let number = self.blocks.fetch_add(1, Ordering::AcqRel);
        drop(self.gate.read());
        let fail = *self.fail.lock().expect("no panic");
        if fail == Some(number) {
            return Answer::Fail(5);
        }
        Answer::GoOn
    }
}

impl Counted {
    /// How many blocks were read until now.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Acquire) as u64
    }

    /// How many blocks were read, when no more are.
    pub(crate) fn settled(&self) -> u64 {
        let mut before = u64::MAX;
        loop {
            let now = self.blocks();
            if now == before {
                return now;
            }
            before = now;
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}
