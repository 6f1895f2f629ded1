//! Accounts for every instant without media while it lasts.

use archive::fragment::NOTES_MAX;
use archive::{Gap, GapCause, Note, WallTime};

/// Pieces of one gap. Some notes of a fragment stay free for clock steps and losses.
const PIECES_MAX: usize = NOTES_MAX - 4;

/// The gap of a stream, in pieces of one cause each: they tile the time from the end of the last fragment
/// to the beginning of the next without holes or overlaps.
#[derive(Debug, Default, Clone)]
pub struct GapTracker {
    /// When each piece begins and why, in order; a piece ends where the next begins.
    pieces: Vec<(WallTime, GapCause)>,
}

impl GapTracker {
    /// Media ends at `from`. During a gap this only changes the cause.
    pub fn start(&mut self, from: WallTime, cause: GapCause) {
        if self.pieces.is_empty() {
            self.pieces.push((from, cause));
        } else {
            self.cause_changed(from, cause);
        }
    }

    /// From `at` on the gap has another cause. An `at` before the piece in progress replaces its cause, and
    /// outside a gap nothing happens.
    pub fn cause_changed(&mut self, at: WallTime, cause: GapCause) {
        let Some(&(from, _)) = self.pieces.last() else {
            return;
        };
        if at <= from {
            self.pieces.pop();
        }
        let at = at.max(from);
        if self.pieces.last().is_none_or(|&(_, last)| last != cause) {
            self.pieces.push((at, cause));
        }
        if self.pieces.len() > PIECES_MAX {
            self.join_shortest();
        }
    }

    /// Media begins again at `at`: the gap's pieces as notes for the fragment that begins there. None when
    /// no time was lost.
    pub fn media_resumed(&mut self, at: WallTime) -> Vec<Note> {
        let pieces = std::mem::take(&mut self.pieces);
        let ends = pieces.iter().skip(1).map(|&(next, _)| next).chain([at]);
        std::iter::zip(&pieces, ends)
            .map(|(&(from, cause), to)| Note::Gap {
                from,
                to: to.min(at),
                cause,
            })
            .filter(|note| matches!(note, Note::Gap { from, to, .. } if from < to))
            .collect()
    }

    /// The piece in progress.
    pub fn current(&self) -> Option<Gap> {
        self.pieces.last().map(|&(from, cause)| Gap {
            from,
            to: None,
            cause,
        })
    }

    /// All pieces of the gap in progress, in order; the last is open.
    pub fn pieces(&self) -> impl Iterator<Item = Gap> {
        let ends = self
            .pieces
            .iter()
            .skip(1)
            .map(|&(next, _)| Some(next))
            .chain([None]);
        std::iter::zip(&self.pieces, ends).map(|(&(from, cause), to)| Gap { from, to, cause })
    }

    /// Gives the shortest closed piece to the piece before it, or the first to its successor.
    fn join_shortest(&mut self) {
        let length = |i: usize| match (self.pieces.get(i), self.pieces.get(i + 1)) {
            (Some(&(from, _)), Some(&(to, _))) => to.micros_since(from),
            _ => i64::MAX,
        };
        let Some(shortest) = (0..self.pieces.len().saturating_sub(1)).min_by_key(|&i| length(i)) else {
            return;
        };
        let (from, _) = self.pieces.remove(shortest);
        if shortest == 0 {
            if let Some(first) = self.pieces.first_mut() {
                first.0 = from;
            }
        } else {
            // The neighbours may have the same cause now.
            self.pieces.dedup_by_key(|&mut (_, cause)| cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_micros(seconds * 1_000_000)
    }

    fn note(from: i64, to: i64, cause: GapCause) -> Note {
        Note::Gap {
            from: at(from),
            to: at(to),
            cause,
        }
    }

    #[test]
    fn a_gap_is_told_by_its_causes_in_order() {
        let mut gap = GapTracker::default();
        gap.start(at(10), GapCause::SessionLost);
        gap.cause_changed(at(12), GapCause::Unreachable);
        gap.cause_changed(at(20), GapCause::Unreachable);
        gap.cause_changed(at(30), GapCause::Refused);
        assert_eq!(
            gap.current(),
            Some(Gap {
                from: at(30),
                to: None,
                cause: GapCause::Refused
            })
        );
        assert!(gap.pieces().map(|g| g.to).eq([Some(at(12)), Some(at(30)), None]));
        assert_eq!(
            gap.media_resumed(at(31)),
            [
                note(10, 12, GapCause::SessionLost),
                note(12, 30, GapCause::Unreachable),
                note(30, 31, GapCause::Refused)
            ]
        );
        assert_eq!(gap.current(), None);
    }

    #[test]
    fn a_gap_without_length_leaves_no_note() {
        let mut gap = GapTracker::default();
        gap.start(at(10), GapCause::SessionLost);
        assert_eq!(gap.media_resumed(at(10)), []);
        gap.start(at(10), GapCause::SessionLost);
        assert_eq!(gap.media_resumed(at(9)), []);
        gap.cause_changed(at(11), GapCause::NoData);
        assert_eq!(gap.current(), None);
    }

    #[test]
    fn media_that_resumes_in_the_past_cuts_the_later_pieces() {
        let mut gap = GapTracker::default();
        gap.start(at(10), GapCause::SessionLost);
        gap.cause_changed(at(20), GapCause::Unreachable);
        gap.cause_changed(at(15), GapCause::Refused);
        assert_eq!(gap.media_resumed(at(18)), [note(10, 18, GapCause::SessionLost)]);
    }

    proptest! {
        #[test]
        fn notes_tile_the_gap_whatever_happens(
            first in 0..1000i64,
            changes in proptest::collection::vec((0..2000i64, 0..GapCause::ALL.len()), 0..60),
            end in 0..3000i64,
        ) {
            let mut gap = GapTracker::default();
            gap.start(at(first), GapCause::Connecting);
            for (when, cause) in changes {
                gap.cause_changed(at(when), GapCause::ALL[cause]);
                let causes: Vec<_> = gap.pieces().map(|g| g.cause).collect();
                prop_assert!(causes.len() <= PIECES_MAX && causes.windows(2).all(|w| w[0] != w[1]));
            }
            let mut next = at(first);
            for note in gap.media_resumed(at(end)) {
                let Note::Gap { from, to, .. } = note else { panic!("{note:?}") };
                prop_assert!(from == next && from < to);
                next = to;
            }
            prop_assert_eq!(next, at(end.max(first)));
        }
    }
}
