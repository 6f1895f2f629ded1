//! The thread that scrubs: in the background of everything else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use archive::Clock;
use archive::disk::Disk;
use archive::segment::Pace;
use archive::store::Stores;
use indexer::{Index, IndexError};

use super::{ScrubConfig, Scrubber, plan};
use crate::error::TieringError;
use crate::hands::Hands;

/// How often is looked whether something is due.
const IDLE: Duration = Duration::from_secs(5);
/// A stop does not wait longer for a store: what a repair leaves half done is ended by the next process.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How often is looked whether recording has less to do again.
const LOADED: Duration = Duration::from_millis(250);

/// Scrubs until it is stopped.
#[derive(Debug)]
pub struct Scrubbing {
    stop: mpsc::Sender<()>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), IndexError>>,
}

impl Scrubbing {
    /// Starts the thread, which calls `begin` first. Retention has the same `hands`.
    pub fn start(
        index: Arc<Index>,
        disk: Disk,
        stores: Stores,
        clock: Arc<dyn Clock>,
        config: ScrubConfig,
        hands: Hands,
        begin: impl FnOnce() + Send + 'static,
    ) -> Result<Self, TieringError> {
        let (stop, stopped) = mpsc::channel::<()>();
        let stopping = Arc::new(AtomicBool::new(false));
        let pace = pace(index.clone(), config.rate, stopping.clone());
        let run = move || {
            begin();
            let mut scrubber = Scrubber::new(index, disk, stores, config, hands, pace);
            loop {
                let wait = match scrubber.step(clock.wall(), clock.monotonic_us()) {
                    Ok(true) => Duration::ZERO,
                    Ok(false) => IDLE,
                    Err(error) if error.is_disk_full() => {
                        tracing::error!(%error, "the index cannot grow: nothing is scrubbed until there is space");
                        IDLE
                    }
                    Err(error) => {
                        tracing::error!(%error, "the index failed: nothing is scrubbed any more");
                        return Err(error);
                    }
                };
                if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                    return Ok(());
                }
            }
        };
        let thread = std::thread::Builder::new().name("scrub".into()).spawn(run)?;
        Ok(Self {
            stop,
            stopping,
            thread,
        })
    }

    /// Whether it has ended by itself, which it does only when the index fails.
    pub fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops when the copy in hand was looked at, which then is done without delay.
    pub fn stop(self) -> Result<(), TieringError> {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = self.stop.send(());
        let begun = Instant::now();
        while !self.thread.is_finished() {
            if begun.elapsed() > STOP_MAX {
                tracing::warn!("a store keeps a scrub from ending: it is not waited for");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        match self.thread.join() {
            Ok(result) => Ok(result?),
            // The panic was reported where it happened.
            Err(_) => Ok(()),
        }
    }
}

/// Waits as long as the bytes take at `rate`, and while recording has much to do.
fn pace(index: Arc<Index>, rate: u64, stopping: Arc<AtomicBool>) -> Pace {
    // What is left to wait for: a read of a few bytes is not worth it.
    let owed = Mutex::new(Duration::ZERO);
    Pace::new(move |bytes| {
        let is_stopping = || stopping.load(Ordering::Relaxed);
        let mut owed = owed.lock().unwrap_or_else(PoisonError::into_inner);
        *owed += Duration::from_secs_f64(bytes as f64 / rate as f64);
        while !is_stopping() && *owed >= Duration::from_millis(10) {
            let now = (*owed).min(LOADED);
            std::thread::sleep(now);
            *owed -= now;
        }
        let pulse = index.pulse();
        while !is_stopping() && plan::is_loaded(&pulse.keeping(), pulse.waited()) {
            std::thread::sleep(LOADED);
        }
    })
}
