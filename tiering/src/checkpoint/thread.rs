//! The thread that makes checkpoints.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use archive::store::Objects;
use archive::time::HOUR_US;
use archive::{Clock, WallTime};
use indexer::Index;

use super::{CheckpointConfig, make};
use crate::error::TieringError;

/// When the last one was made.
const MARK: &str = "checkpoint";
/// How often is looked whether one is due.
const LOOK: Duration = Duration::from_secs(30);
/// After one that failed.
const AGAIN: Duration = Duration::from_secs(600);
/// A stop does not wait longer for a file that is on its way: what it leaves is none, and is removed later.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Makes checkpoints until it is stopped.
#[derive(Debug)]
pub struct Checkpointing {
    stop: mpsc::Sender<()>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Checkpointing {
    /// Starts the thread, which calls `begin` first. `work` is a folder on the disk of the index.
    pub fn start(
        index: Arc<Index>,
        work: PathBuf,
        objects: Objects,
        clock: Arc<dyn Clock>,
        config: CheckpointConfig,
        begin: impl FnOnce() + Send + 'static,
    ) -> Result<Self, TieringError> {
        let (stop, stopped) = mpsc::channel::<()>();
        let stopping = Arc::new(AtomicBool::new(false));
        let stops = stopping.clone();
        let run = move || {
            begin();
            let mut wait = Duration::ZERO;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = LOOK;
                let now = clock.wall();
                // An index that fails stops the service elsewhere.
                let last = index.mark(MARK).unwrap_or_default();
                if !is_due(last, now, config.every) {
                    continue;
                }
                let go_on = || !stops.load(Ordering::Relaxed);
                let begun = Instant::now();
                match make(&index, &work, &objects, config.keep, now, go_on) {
                    Ok(Some(bytes)) => {
                        let seconds = begun.elapsed().as_secs();
                        tracing::info!(bytes, seconds, "the index was copied to a store");
                        let _ = index.set_mark(MARK, now);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(%error, again_in_s = AGAIN.as_secs(), "the index cannot be copied to a store");
                        wait = AGAIN;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(run)?;
        Ok(Self {
            stop,
            stopping,
            thread,
        })
    }

    /// Stops, in the middle of a checkpoint too.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = self.stop.send(());
        let begun = Instant::now();
        while !self.thread.is_finished() && begun.elapsed() < STOP_MAX {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether a checkpoint is to be made, when the last one was made at `last`.
fn is_due(last: Option<WallTime>, now: WallTime, every: Duration) -> bool {
    // One from the future was made by a clock that was wrong.
    let since = last
        .map(|last| now.micros_since(last))
        .filter(|us| *us > -HOUR_US);
    since.is_none_or(|us| i128::from(us) >= every.as_micros() as i128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_due_when_there_is_none_or_its_time_has_come() {
        let every = Duration::from_secs(6 * 3600);
        let at = |hours: i64| WallTime::from_micros(1_800_000_000_000_000 + hours * HOUR_US);
        assert!(is_due(None, at(0), every));
        assert!(!is_due(Some(at(0)), at(5), every));
        assert!(is_due(Some(at(0)), at(6), every));
        assert!(is_due(Some(at(9000)), at(6), every), "the clock was wrong");
    }
}
