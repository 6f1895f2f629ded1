//! Which pieces of files were asked for lately: what nobody asks for twice need not pass through the page cache.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use archive::SegmentId;

/// Pieces remembered at most, twice over: a minute of fifty viewers.
const PIECES_MAX: usize = 2048;

static ASKED: Mutex<Asked> = Mutex::new(Asked::new());

/// Whether the piece of `segment` that begins at `start` was asked for lately.
pub(super) fn is_asked_again(segment: SegmentId, start: u64) -> bool {
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    asked.again((segment, start))
}

type Place = (SegmentId, u64);

/// Forgets by halves: when `new` is full, it takes the place of `old`.
struct Asked {
    new: BTreeSet<Place>,
    old: BTreeSet<Place>,
}

impl Asked {
    const fn new() -> Self {
        Self {
            new: BTreeSet::new(),
            old: BTreeSet::new(),
        }
    }

    fn again(&mut self, place: Place) -> bool {
        if self.new.len() >= PIECES_MAX {
            self.old = std::mem::take(&mut self.new);
        }
        !self.new.insert(place) || self.old.contains(&place)
    }
}

#[cfg(test)]
mod tests {
    use archive::StreamNo;

    use super::*;

    #[test]
    fn what_was_asked_for_is_remembered_for_a_while_and_then_forgotten() {
        let mut asked = Asked::new();
        let stream = StreamNo(1);
        let place = |seq| (SegmentId { stream, seq }, 4096);
        assert!(!asked.again(place(0)) && asked.again(place(0)));
        assert!((1..=PIECES_MAX as u64).all(|seq| !asked.again(place(seq))));
        assert!(asked.again(place(0)));
        assert!((9000..9000 + 3 * PIECES_MAX as u64).all(|seq| !asked.again(place(seq))));
        assert!(!asked.again(place(0)));
        assert!(asked.new.len() <= PIECES_MAX && asked.old.len() <= PIECES_MAX);
    }
}
