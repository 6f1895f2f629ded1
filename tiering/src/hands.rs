//! Which thread has which segment in hand: one moves and deletes segments, another mends their copies, and no segment
//! is changed by both at a time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use archive::SegmentId;

/// Shared by both threads. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Hands(Arc<Mutex<InHand>>);

#[derive(Debug, Default)]
struct InHand {
    /// Segments of which copies are being made or removed elsewhere, or are about to be.
    moving: HashSet<SegmentId>,
    /// Segments whose copies are being mended.
    mending: HashSet<SegmentId>,
}

impl Hands {
    fn lock(&self) -> MutexGuard<'_, InHand> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of the thread that moves and deletes: until it is dropped no segment is taken for mending.
    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn(self.lock())
    }

    /// Takes a segment for mending; `None` while it is being moved. Waits for the other's turn to end.
    pub(crate) fn take(&self, segment: SegmentId) -> Option<Mending<'_>> {
        let mut all = self.lock();
        if all.moving.contains(&segment) || !all.mending.insert(segment) {
            return None;
        }
        Some(Mending { all: self, segment })
    }
}

/// See [`Hands::turn`].
pub(crate) struct Turn<'a>(MutexGuard<'a, InHand>);

impl Turn<'_> {
    /// Segments that are to be left alone.
    pub(crate) fn mending(&self) -> &HashSet<SegmentId> {
        &self.0.mending
    }

    /// Says which segments are still being moved when the turn is over.
    pub(crate) fn leave(&mut self, moving: HashSet<SegmentId>) {
        self.0.moving = moving;
    }
}

/// A segment that is being mended until this is dropped.
pub(crate) struct Mending<'a> {
    all: &'a Hands,
    segment: SegmentId,
}

impl Drop for Mending<'_> {
    fn drop(&mut self) {
        self.all.lock().mending.remove(&self.segment);
    }
}

#[cfg(test)]
mod tests {
    use archive::StreamNo;

    use super::*;

    #[test]
    fn a_segment_is_in_one_hand_at_a_time() {
        let segment = |seq| SegmentId {
            stream: StreamNo(1),
            seq,
        };
        let hands = Hands::default();
        hands.turn().leave(HashSet::from([segment(1)]));
        assert!(hands.take(segment(1)).is_none(), "it is being copied");
        let mending = hands.take(segment(2)).expect("free");
        assert!(hands.take(segment(2)).is_none(), "it is being mended");
        assert_eq!(*hands.turn().mending(), HashSet::from([segment(2)]));
        drop(mending);
        assert!(hands.turn().mending().is_empty());
        hands.turn().leave(HashSet::new());
        assert!(hands.take(segment(1)).is_some());
    }
}
