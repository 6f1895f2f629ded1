//! Whether requests follow each other, as those of a player do.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Ends of requests that are remembered.
const ENDS_MAX: usize = 256;
/// What follows begins no further from an end: reads begin and end with blocks that are checked whole.
const APART_MAX: u64 = 64 << 10;

/// Where requests ended lately, and of which objects.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<VecDeque<(u128, u64)>>);

impl Ends {
    /// A request for some of `object` ended at byte `end`.
    pub(super) fn note(&self, object: u128, end: u64) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.len() >= ENDS_MAX {
            ends.pop_front();
        }
        ends.push_back((object, end));
    }

    /// Whether one that begins at `start` goes on where another ended.
    pub(super) fn has(&self, object: u128, start: u64) -> bool {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.iter()
            .any(|(of, end)| *of == object && start.abs_diff(*end) <= APART_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_begins_where_another_ended_lately_follows_it() {
        let ends = Ends::default();
        ends.note(1, 10 << 20);
        assert!(ends.has(1, 10 << 20) && ends.has(1, (10 << 20) - 4096));
        assert!(!ends.has(2, 10 << 20) && !ends.has(1, 11 << 20) && !ends.has(1, 9 << 20));
        (0..ENDS_MAX).for_each(|n| ends.note(3, n as u64));
        assert!(!ends.has(1, 10 << 20));
    }
}
