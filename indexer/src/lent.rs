//! Tables of segments whose bytes have left the hot tier: the index has none of its own for them any more.
//!
//! Whoever needs one reads the footer of the segment and lends its table to the index. It is found there for as long as
//! the loan lasts, and after that until there is no more room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use archive::{FragmentEntry, Malformed, Sha256, StreamNo, WallTime};

use crate::error::IndexError;
use crate::index::Index;
use crate::rows::{self, SegmentRow};

/// What is kept of tables that nobody needs just now: a month of a stream.
const KEPT_BYTES: usize = 16 << 20;

/// A segment in one of its generations.
type Key = (StreamNo, WallTime, u8);

/// A table that stays in the index for as long as this does.
#[derive(Clone, Debug)]
pub struct Loan(#[expect(dead_code, reason = "held, not read")] Arc<[u8]>);

#[derive(Debug, Default)]
pub(crate) struct Lent(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    by_segment: HashMap<Key, Table>,
    bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct Table {
    encoded: Arc<[u8]>,
    used: u64,
}

impl Tables {
    fn get(&mut self, key: Key) -> Option<Arc<[u8]>> {
        self.uses += 1;
        let table = self.by_segment.get_mut(&key)?;
        table.used = self.uses;
        Some(Arc::clone(&table.encoded))
    }

    /// Two who fetched the same one share what came first.
    fn put(&mut self, key: Key, encoded: Arc<[u8]>) -> Arc<[u8]> {
        if let Some(there) = self.get(key).filter(|there| **there == *encoded) {
            return there;
        }
        self.uses += 1;
        self.bytes += encoded.len();
        let table = Table {
            encoded: Arc::clone(&encoded),
            used: self.uses,
        };
        if let Some(before) = self.by_segment.insert(key, table) {
            self.bytes -= before.encoded.len();
        }
        encoded
    }

    /// Lets go of what was not used for the longest time, down to half of what may be kept, so that it is seldom done.
    fn trim(&mut self, kept_bytes: usize) {
        if self.bytes <= kept_bytes {
            return;
        }
        let mut idle: Vec<(u64, Key)> = Vec::new();
        for (key, table) in &self.by_segment {
            if Arc::strong_count(&table.encoded) == 1 {
                idle.push((table.used, *key));
            }
        }
        idle.sort_unstable();
        for (_, key) in idle {
            if self.bytes <= kept_bytes / 2 {
                return;
            }
            if let Some(table) = self.by_segment.remove(&key) {
                self.bytes -= table.encoded.len();
            }
        }
    }
}

impl Lent {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(row: &SegmentRow) -> Key {
    (row.id.stream, row.wall_start, row.generation)
}

impl Index {
    /// Has the fragments of a sealed segment at hand, as the segment itself tells them, with the hash that the next one is
    /// chained to. Refused when they are not what the row says.
    pub fn lend(
        &self,
        row: &SegmentRow,
        fragments: &[FragmentEntry],
        link: Sha256,
    ) -> Result<Loan, IndexError> {
        let ends =
            |f: &FragmentEntry| f.wall_end() == row.wall_end && f.offset + u64::from(f.len) <= row.bytes;
        let fits = link == row.head
            && fragments.len() == row.fragments as usize
            && fragments.first().is_some_and(|f| f.wall_start == row.wall_start)
            && fragments.last().is_some_and(ends);
        if !fits {
            const OTHER: Malformed = Malformed("the footer of a segment is not what the index says of it");
            return Err(archive::ArchiveError::Malformed(OTHER).into());
        }
        Ok(self.keep(row, fragments))
    }

    /// The same with what can still be told of a segment whose end is damaged: its first fragments, each of which is
    /// chained to the one before, from the head that the row names on.
    pub(crate) fn lend_beginning(&self, row: &SegmentRow, fragments: &[FragmentEntry]) -> Option<Loan> {
        let first = fragments.first()?;
        let fits = first.wall_start == row.wall_start && fragments.len() < row.fragments as usize;
        fits.then(|| self.keep(row, fragments))
    }

    /// Forgets a table that was lent, because the segment may tell more now.
    pub fn recall(&self, row: &SegmentRow) {
        let mut lent = self.lent.lock();
        if let Some(table) = lent.by_segment.remove(&key(row)) {
            lent.bytes -= table.encoded.len();
        }
    }

    fn keep(&self, row: &SegmentRow, fragments: &[FragmentEntry]) -> Loan {
        let mut lent = self.lent.lock();
        let kept = lent.put(key(row), rows::encode_table(fragments).into());
        lent.trim(KEPT_BYTES);
        Loan(kept)
    }

    /// A table that is at hand already.
    pub(crate) fn loan(&self, row: &SegmentRow) -> Option<Loan> {
        self.lent.lock().get(key(row)).map(Loan)
    }

    pub(crate) fn lent_table(&self, row: &SegmentRow) -> Result<Option<Vec<FragmentEntry>>, IndexError> {
        let encoded = self.lent.lock().get(key(row));
        let table = encoded.map(|encoded| rows::decode_table(&encoded)).transpose();
        table.map_err(IndexError::bad_row("lent"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(n: i64) -> Key {
        (StreamNo(1), WallTime::from_micros(n), 0)
    }

    #[test]
    fn what_is_in_use_stays_and_what_was_not_used_for_the_longest_time_goes() {
        let mut tables = Tables::default();
        let table = || -> Arc<[u8]> { vec![0; 100].into() };
        let held = table();
        tables.put(segment(0), Arc::clone(&held));
        (1..=10).for_each(|n| drop(tables.put(segment(n), table())));
        assert!(tables.get(segment(1)).is_some());
        tables.trim(1000);
        let left = (0..=10).filter(|n| tables.by_segment.contains_key(&segment(*n)));
        assert_eq!(
            left.collect::<Vec<_>>(),
            [0, 1, 8, 9, 10],
            "half of what may be kept"
        );
        assert_eq!(tables.bytes, 500);
        let again = tables.put(segment(0), table());
        assert!(Arc::ptr_eq(&again, &held), "who fetched it too has the same one");
        assert_eq!(tables.bytes, 500);
        tables.put(segment(0), vec![1; 100].into());
        assert_eq!(tables.bytes, 500, "another one takes its place");
    }
}
