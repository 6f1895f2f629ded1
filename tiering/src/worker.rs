//! The thread that makes passes.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use archive::Clock;
use archive::disk::Disk;
use indexer::{Index, IndexError};

use crate::config::TieringConfig;
use crate::error::TieringError;
use crate::progress::Progress;
use crate::reaper::Reaper;
use crate::rules::Rules;

/// Between two passes while there is more to delete, so that recording gets its turn at the disk.
const BREATH: Duration = Duration::from_millis(100);

/// Deletes segments until it is stopped.
#[derive(Debug)]
pub struct Worker {
    stop: mpsc::Sender<()>,
    progress: Arc<Mutex<Progress>>,
    thread: JoinHandle<Result<(), IndexError>>,
}

impl Worker {
    /// Starts the thread; its first pass finishes deletions that were left half way. Call it after recovery
    /// has sealed what was left open. While it runs, nobody else deletes segments.
    pub fn start(
        index: Arc<Index>,
        disk: Disk,
        clock: Arc<dyn Clock>,
        rules: Rules,
        config: TieringConfig,
    ) -> Result<Self, TieringError> {
        let (stop, stopped) = mpsc::channel::<()>();
        let interval = config.interval;
        let mut reaper = Reaper::new(index, disk, rules, config)?;
        let progress = Arc::new(Mutex::new(reaper.progress()));
        let shared = progress.clone();
        let run = move || loop {
            let more = reaper.pass(clock.wall(), clock.monotonic_us());
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = reaper.progress();
            let pause = match more {
                Ok(true) => BREATH,
                Ok(false) => interval,
                Err(e) if e.is_disk_full() => {
                    tracing::error!(error = %e, "the index cannot grow: nothing can be deleted until there is space");
                    interval
                }
                Err(e) => {
                    tracing::error!(error = %e, "the index failed: nothing is deleted any more");
                    return Err(e);
                }
            };
            if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return Ok(());
            }
        };
        let thread = std::thread::Builder::new().name("retention".into()).spawn(run)?;
        Ok(Self {
            stop,
            progress,
            thread,
        })
    }

    /// Counters and the state after the last pass.
    pub fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has ended by itself, which it does only when the index fails.
    pub fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops after the pass in progress.
    pub fn stop(self) -> Result<(), TieringError> {
        let _ = self.stop.send(());
        match self.thread.join() {
            Ok(result) => Ok(result?),
            // The panic was reported where it happened.
            Err(_) => Ok(()),
        }
    }
}
