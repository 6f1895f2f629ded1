//! What follows a segment, made ready for whoever reads on. A player or a download that comes to the end of one would wait for
//! a store twice at the border: for the table of the next one, and for its first bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use archive::{ArchiveError, SegmentId, Tier};
use indexer::{IndexError, SegmentRow, SegmentState};
use tokio::sync::Semaphore;

use super::StreamHandle;

/// Segments that were made ready lately: several who play the same ask once.
const SEEN_MAX: usize = 16;
/// Segments that are made ready at a time; beyond that who reads on waits as he would have.
const AT_ONCE: usize = 4;

/// What was made ready lately.
#[derive(Debug)]
pub(super) struct Readied {
    seen: Mutex<VecDeque<SegmentId>>,
    turns: Arc<Semaphore>,
}

impl Default for Readied {
    fn default() -> Self {
        Self {
            seen: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Readied {
    /// Whether this was not made ready lately; it is from now on.
    fn is_new(&self, segment: SegmentId) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(&segment) {
            return false;
        }
        if seen.len() >= SEEN_MAX {
            seen.pop_front();
        }
        seen.push_back(segment);
        true
    }
}

impl StreamHandle {
    /// Has what follows a segment in a store ready soon. Does not block; what fails is asked for again by who needs it.
    pub(super) fn ready_next(&self, row: &SegmentRow) {
        let footage = self.footage();
        let Some(objects) = footage.stores().of(row.tier) else {
            return;
        };
        let Ok(turn) = Arc::clone(&footage.readied().turns).try_acquire_owned() else {
            return;
        };
        let (stream, row) = (self.clone(), row.clone());
        objects.runtime.spawn_blocking(move || {
            let _turn = turn;
            if let Err(error) = stream.ready_behind(&row) {
                tracing::debug!(stream = %stream.id(), segment = row.id.seq, %error, "what follows cannot be made ready");
            }
        });
    }

    fn ready_behind(&self, row: &SegmentRow) -> Result<(), ArchiveError> {
        let footage = self.footage();
        let behind = row.wall_start.plus_micros(1);
        let rows = footage.index().segments_from(row.id.stream, behind, 1);
        let next = rows.map_err(IndexError::into_archive)?.pop();
        let in_store = |next: &SegmentRow| next.state == SegmentState::Sealed && next.tier != Tier::Hot;
        let Some(next) = next.filter(in_store) else {
            return Ok(());
        };
        // What has to be restored first is asked for by who wants it.
        let archived = self.is_archived(&next).unwrap_or(true);
        if archived || !footage.readied().is_new(next.id) {
            return Ok(());
        }
        self.read_from(&next, next.tier)?.ready();
        // It stays at hand for whoever asks next.
        footage.table(&next).map(drop).map_err(IndexError::into_archive)
    }
}

#[cfg(test)]
mod tests {
    use archive::StreamNo;

    use super::*;

    #[test]
    fn several_who_play_the_same_ask_once() {
        let readied = Readied::default();
        let segment = |seq| SegmentId {
            stream: StreamNo(1),
            seq,
        };
        assert!(readied.is_new(segment(0)) && !readied.is_new(segment(0)));
        assert!((1..=SEEN_MAX as u64).all(|seq| readied.is_new(segment(seq))));
        assert!(readied.is_new(segment(0)), "it may have left the cache since");
    }
}
