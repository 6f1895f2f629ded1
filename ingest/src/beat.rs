//! How much of its time the sessions' thread works.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Told by the runtime when its thread has nothing to do, and when it goes on.
#[derive(Debug, Default)]
pub(crate) struct Beat {
    /// When the thread last began to rest, and how much longer than asked the system let it sleep.
    resting: Mutex<Option<(Instant, Duration)>>,
    rested_us: AtomicU64,
}

impl Beat {
    /// There is nothing to do: lets more arrive first.
    pub(crate) fn rest(&self, pause: Duration) {
        let began = Instant::now();
        std::thread::sleep(pause);
        let over = began.elapsed().saturating_sub(pause);
        *self.resting.lock().unwrap_or_else(PoisonError::into_inner) = Some((began, over));
    }

    /// There is something to do.
    pub(crate) fn work(&self) {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((began, over)) = resting {
            // A thread that is not let run does not rest.
            let rested = began.elapsed().saturating_sub(over);
            let us = u64::try_from(rested.as_micros()).unwrap_or(u64::MAX);
            self.rested_us.fetch_add(us, Ordering::Relaxed);
        }
    }

    /// How long it has rested, ever.
    pub(crate) fn rested_us(&self) -> u64 {
        self.rested_us.load(Ordering::Relaxed)
    }
}
