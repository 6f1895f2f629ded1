//! The thread that sends every frame of its share of the cameras when it is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::farm::Farm;

/// Frames that are due within this time are sent in one wake-up.
const BATCH: Duration = Duration::from_millis(1);

/// A pacer's letter box.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    inbox: Mutex<Inbox>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Inbox {
    joined: Vec<(Instant, usize)>,
    stopping: bool,
}

impl Pacer {
    /// Hands over a camera that somebody began to watch, with the time of its first frame.
    pub(super) fn schedule(&self, camera: usize, due: Instant) {
        self.inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .joined
            .push((due, camera));
        self.news.notify_one();
    }

    /// Ends [`Self::run`].
    pub(super) fn stop(&self) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).stopping = true;
        self.news.notify_one();
    }

    /// Sends frames until [`Self::stop`].
    pub(super) fn run(&self, farm: &Farm) {
        let mut due_next: BinaryHeap<Reverse<(Instant, usize)>> = BinaryHeap::new();
        let mut message = Vec::new();
        while self.wait(&mut due_next) {
            let now = Instant::now();
            while let Some(&Reverse((due, camera))) = due_next.peek()
                && due <= now + BATCH
            {
                due_next.pop();
                farm.tally.late(now.saturating_duration_since(due));
                if let Some(next) = farm.step(camera, now, &mut message) {
                    due_next.push(Reverse((next, camera)));
                }
            }
        }
    }

    /// Sleeps until a frame is due; false when it is time to stop.
    fn wait(&self, due_next: &mut BinaryHeap<Reverse<(Instant, usize)>>) -> bool {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            due_next.extend(inbox.joined.drain(..).map(Reverse));
            if inbox.stopping {
                return false;
            }
            inbox = match due_next.peek() {
                None => self.news.wait(inbox).unwrap_or_else(PoisonError::into_inner),
                Some(Reverse((due, _))) => {
                    let left = due.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return true;
                    }
                    self.news
                        .wait_timeout(inbox, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }
}
