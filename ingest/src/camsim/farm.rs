//! All cameras of one farm and everything their threads share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::clock::FarmClock;
use super::counters::Tally;
use super::encoder::Encoder;
use super::link::Link;
use super::pacer::Pacer;
use super::packetize::Stamp;

/// The cameras, the pacers that drive them and the connections that are open.
pub(super) struct Farm {
    pub(super) clock: FarmClock,
    pub(super) tally: Tally,
    pub(super) pacers: Vec<Pacer>,
    cameras: Vec<Mutex<Encoder>>,
    drop_after: Option<Duration>,
    links: Mutex<HashMap<u64, Arc<Link>>>,
    links_opened: AtomicU64,
    stopping: AtomicBool,
}

impl Farm {
    /// A farm of `cameras`, shared out among `pacers` threads, that cuts each session after `drop_after`.
    pub(super) fn new(
        clock: FarmClock,
        cameras: Vec<Encoder>,
        pacers: usize,
        drop_after: Option<Duration>,
    ) -> Self {
        Self {
            clock,
            tally: Tally::default(),
            pacers: (0..pacers).map(|_| Pacer::default()).collect(),
            cameras: cameras.into_iter().map(Mutex::new).collect(),
            drop_after,
            links: Mutex::default(),
            links_opened: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        }
    }

    /// Camera `number`, locked; `None` if there is none of that number.
    pub(super) fn camera(&self, number: usize) -> Option<MutexGuard<'_, Encoder>> {
        Some(
            self.cameras
                .get(number)?
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Sends the frame of camera `number` that is due; returns when the next one is.
    pub(super) fn step(&self, number: usize, now: Instant, message: &mut Vec<u8>) -> Option<Instant> {
        self.camera(number)?
            .step(now, &self.clock, self.drop_after, message, &self.tally)
    }

    /// Answers a client and lets it receive camera `number` from the next frame on.
    pub(super) fn play(&self, number: usize, link: Arc<Link>, answer: impl FnOnce(Stamp) -> String) {
        let Some(mut encoder) = self.camera(number) else {
            return;
        };
        self.tally.join();
        let first = encoder.join(link, Instant::now(), &self.clock, answer);
        drop(encoder);
        if let (Some(due), Some(pacer)) = (first, self.pacers.get(number % self.pacers.len())) {
            pacer.schedule(number, due);
        }
    }

    /// Takes a new connection into the books and returns its number; `None` when the farm stops or already
    /// has `max` connections.
    pub(super) fn open(&self, link: &Arc<Link>, max: usize) -> Option<u64> {
        let mut links = self.links();
        if self.is_stopping() || links.len() >= max {
            return None;
        }
        let number = self.links_opened.fetch_add(1, Ordering::Relaxed);
        links.insert(number, link.clone());
        Some(number)
    }

    /// Ends a connection.
    pub(super) fn close(&self, number: u64) {
        if let Some(link) = self.links().remove(&number) {
            link.close();
        }
    }

    /// Ends all connections that are about camera `number`.
    pub(super) fn close_camera(&self, number: usize) {
        self.links()
            .values()
            .filter(|link| link.is_about(number))
            .for_each(|link| link.close());
    }

    /// Ends all connections and pacers.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.links().values().for_each(|link| link.close());
        self.pacers.iter().for_each(Pacer::stop);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Number of open connections.
    pub(super) fn links_open(&self) -> usize {
        self.links().len()
    }

    fn links(&self) -> MutexGuard<'_, HashMap<u64, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
