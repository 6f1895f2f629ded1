//! What a simulated farm counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::link::Sent;

/// Counters since the start of the farm.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counters {
    /// Clients that receive frames now.
    pub active: u64,
    /// Frames sent, counted once per client.
    pub frames: u64,
    /// Bytes sent, framing and reports included.
    pub bytes: u64,
    /// Times that a client did not take a frame at once: it reads too slowly.
    pub stalls: u64,
    /// Connections cut because the client was too far behind.
    pub overruns: u64,
    /// The longest time that a frame was sent after it was due.
    pub late_max: Duration,
}

impl std::fmt::Display for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            active,
            frames,
            bytes,
            stalls,
            overruns,
            late_max,
        } = self;
        let (megabytes, late_ms) = (bytes / 1_000_000, late_max.as_secs_f64() * 1e3);
        write!(
            f,
            "active {active} frames {frames} MB {megabytes} stalls {stalls} overruns {overruns} late_max_ms {late_ms:.1}"
        )
    }
}

/// The running counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    active: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
    stalls: AtomicU64,
    overruns: AtomicU64,
    late_us_max: AtomicU64,
}

impl Tally {
    pub(super) fn join(&self) {
        self.active.fetch_add(1, Relaxed);
    }

    pub(super) fn leave(&self, clients: usize) {
        if clients > 0 {
            self.active.fetch_sub(clients as u64, Relaxed);
        }
    }

    /// Counts one message of `bytes` bytes to one client.
    pub(super) fn count(&self, sent: Sent, bytes: usize) {
        match sent {
            Sent::Closed => return,
            Sent::Overrun => drop(self.overruns.fetch_add(1, Relaxed)),
            Sent::Stalled => drop(self.stalls.fetch_add(1, Relaxed)),
            Sent::Whole => {}
        }
        self.frames.fetch_add(u64::from(bytes > 0), Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn late(&self, by: Duration) {
        self.late_us_max.fetch_max(by.as_micros() as u64, Relaxed);
    }

    pub(super) fn snapshot(&self) -> Counters {
        Counters {
            active: self.active.load(Relaxed),
            frames: self.frames.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            stalls: self.stalls.load(Relaxed),
            overruns: self.overruns.load(Relaxed),
            late_max: Duration::from_micros(self.late_us_max.load(Relaxed)),
        }
    }
}
