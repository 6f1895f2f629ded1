//! How much of the disk could be freed at once: what has a copy elsewhere that counts.
//!
//! Rows are counted a bounded number at a time, round after round, so that no pass waits for all of them and no count
//! drifts away from the rows.

use std::collections::HashMap;

use archive::{StreamNo, Tier, WallTime};
use indexer::{CopyState, Index, IndexError, SegmentState};

/// Rows counted in one pass, in the first round and from then on.
const ROWS_FIRST: usize = 65_536;
const ROWS: usize = 4096;
/// Rows read at a time.
const PAGE_ROWS: usize = 512;

#[derive(Default)]
pub(super) struct Evictable {
    /// Of each stream, as it was counted last.
    bytes: HashMap<StreamNo, u64>,
    /// Streams that this round has not come to.
    left: Vec<StreamNo>,
    /// The stream that is being counted, how far, and what was found.
    counting: Option<(StreamNo, WallTime, u64)>,
    /// Whether every stream was counted once.
    complete: bool,
}

impl Evictable {
    /// What is known; `None` until every stream was counted once.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.complete.then(|| self.bytes.values().sum())
    }

    /// Counts on. Segments of a stream that begin before `off_hot` of it have left the disk.
    pub(super) fn count(
        &mut self,
        index: &Index,
        off_hot: impl Fn(StreamNo) -> WallTime,
    ) -> Result<(), IndexError> {
        let mut budget = if self.complete { ROWS } else { ROWS_FIRST };
        if self.left.is_empty() && self.counting.is_none() {
            self.left = index.streams().into_iter().map(|(no, _)| no).collect();
        }
        loop {
            let begun = || self.left.last().map(|no| (*no, off_hot(*no), 0));
            let Some((stream, from, bytes)) = self.counting.take().or_else(begun) else {
                self.complete = true;
                return Ok(());
            };
            if self.left.last() == Some(&stream) {
                self.left.pop();
            }
            match count_page(index, stream, from, budget.min(PAGE_ROWS))? {
                (more, None, _) => drop(self.bytes.insert(stream, bytes + more)),
                (more, Some(from), rows) => {
                    self.counting = Some((stream, from, bytes + more));
                    budget = budget.saturating_sub(rows);
                }
            }
            // A stream costs a look, whatever it has.
            budget = budget.saturating_sub(1);
            if budget == 0 {
                return Ok(());
            }
        }
    }
}

/// The bytes of `count` rows that could leave the disk, where the next ones begin if there are more, and how many it
/// were.
fn count_page(
    index: &Index,
    stream: StreamNo,
    from: WallTime,
    count: usize,
) -> Result<(u64, Option<WallTime>, usize), IndexError> {
    let rows = index.segments_from(stream, from, count)?;
    let mut bytes = 0;
    for row in rows
        .iter()
        .filter(|row| row.state == SegmentState::Sealed && row.tier == Tier::Hot)
    {
        let copies = index.copies(row)?;
        if copies.authority > Tier::Hot && copies.state(Tier::Hot) == CopyState::Whole {
            bytes += row.bytes;
        }
    }
    let next = rows.last().filter(|_| rows.len() == count);
    Ok((bytes, next.map(|row| row.wall_start.plus_micros(1)), rows.len()))
}
