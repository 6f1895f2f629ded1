//! How much of a body is read at a time: the more bodies are being sent, the less, so that memory stays bounded.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A piece while few bodies are sent. What a piece costs beside its bytes is the change from the thread that reads
/// to the one that sends; with pieces of half the size, whole files cost a quarter more CPU.
pub(super) const PIECE_BYTES_MAX: u64 = 2 << 20;
/// A piece while many are.
const PIECE_BYTES_CROWDED: u64 = 1 << 20;
/// More bodies than this are a crowd.
const FEW: usize = 4;

/// Bodies that are being sent by this process.
static BODIES: AtomicUsize = AtomicUsize::new(0);

/// One body, counted until its bytes are gone.
pub(super) struct Counted(());

impl Counted {
    pub(super) fn new() -> Self {
        BODIES.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        BODIES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The size of the next piece.
pub(super) fn piece_bytes() -> u64 {
    if BODIES.load(Ordering::Relaxed) > FEW {
        PIECE_BYTES_CROWDED
    } else {
        PIECE_BYTES_MAX
    }
}
