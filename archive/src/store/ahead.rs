//! What is asked of a store before it is needed, for somebody who reads an object in order.
//!
//! Who has read some in order, or asked for much, is read for ahead: at most twice what was read so far or a quarter of what
//! is left of the request, nothing behind that, and within bounds for each reader and for all of them. The blocks lie here until they are read or their reader goes,
//! since the cache may give them up before. With their reader ends what was not begun.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::StoreError;
use super::cache::{BLOCK_BYTES, Object};

/// Blocks that are asked for by one request. With as many a GB costs MinIO half of what it does block by block.
const STRETCH_BLOCKS: u64 = 16;
/// Blocks behind what is needed that one reader has at most: two requests are under way, or one and what it gave.
const READER_BLOCKS: u64 = 32;
/// Of what somebody asked for and has not read yet, so much counts as if it were read.
const PROMISED_SHARE: u64 = 8;
/// Of what somebody is about to read, so much is asked for before he does.
const BEGUN_BYTES: u64 = 2 * BLOCK_BYTES;
/// Blocks behind the end of a request that goes on where another ended: the next one is likely to do so too.
const PLAYBACK_BLOCKS: u64 = 4;
/// Who has read so much in order is likely to go on with what follows the object, and is close to its end when no more than
/// the second is left.
const LONG_BYTES: u64 = 8 * BLOCK_BYTES;
const END_BYTES: u64 = 8 * BLOCK_BYTES;
/// What an order may leave out or read again: boxes between samples, and blocks that are checked whole.
const SLACK_BYTES: u64 = BLOCK_BYTES;

/// A block that was read ahead, and its leave to take memory.
pub(super) type Block = (Result<Bytes, StoreError>, OwnedSemaphorePermit);

/// How far somebody has read in order, and what was asked for ahead.
#[derive(Debug, Default)]
pub(super) struct Order {
    read: Range<u64>,
    /// Where reads end; at the end of the object where nobody said.
    until: Option<u64>,
    /// Whether the reads go on where those for another request ended, as a player's do.
    goes_on: bool,
    /// They come to the end of the object: what follows it is wanted, or was.
    ending: Option<bool>,
    asked: VecDeque<Asked>,
    last: Option<Last>,
}

/// Blocks that come by one request.
#[derive(Debug)]
struct Asked {
    numbers: Range<u64>,
    blocks: mpsc::Receiver<Block>,
}

/// The block that was read last, in which the next read often begins. What was not read ahead, the cache has.
#[derive(Debug)]
struct Last {
    number: u64,
    held: Option<(Bytes, OwnedSemaphorePermit)>,
}

impl Order {
    /// Reads end at `until`.
    pub(super) fn expect(&mut self, until: u64) {
        self.until = Some(until);
    }

    /// Whether its reader comes to the end of the object and is likely to go on with what follows it; true once.
    pub(super) fn is_ending(&mut self) -> bool {
        let is_new = self.ending == Some(true);
        self.ending = self.ending.map(|_| false);
        is_new
    }

    /// Where the reads ended.
    pub(super) fn end(&self) -> Option<u64> {
        (!self.read.is_empty()).then_some(self.read.end)
    }

    /// Somebody is about to read `range` of `object`, and has to learn something first: what is needed then is asked for
    /// meanwhile.
    pub(super) fn begin(&mut self, range: &Range<u64>, object: &Object, runtime: &Handle) {
        *self = Self {
            read: range.start..range.start,
            until: Some(range.end),
            goes_on: object.goes_on(range.start),
            ..Self::default()
        };
        let first = range.start / BLOCK_BYTES;
        let needed = range.end.min(range.start + BEGUN_BYTES).div_ceil(BLOCK_BYTES);
        let limit = range.end.div_ceil(BLOCK_BYTES);
        let ahead = blocks_ahead(promised(range), object.room().available_permits());
        // By one request, so that nothing stands in the way of its first block.
        let last = limit.min(needed + ahead).min(first + STRETCH_BLOCKS);
        self.ask_for(first..last, object, runtime);
    }

    /// Notes that `range` of `object` is read next, and asks for it and for what comes behind it.
    pub(super) fn read_on(&mut self, range: &Range<u64>, object: &Object, runtime: &Handle) {
        let is_begun = !(self.read.is_empty() && self.asked.is_empty());
        if !is_begun || range.start.abs_diff(self.read.end) > SLACK_BYTES {
            *self = Self {
                read: range.start..range.start,
                until: self.until,
                goes_on: self.until.is_some() && object.goes_on(range.start),
                ..Self::default()
            };
        }
        let until = self.until.unwrap_or(object.len()).max(range.end);
        self.ask(range, until.div_ceil(BLOCK_BYTES), object, runtime);
        self.read.end = self.read.end.max(range.end);
        let in_order = self.goes_on || self.read.end - self.read.start >= LONG_BYTES;
        let last = until + PLAYBACK_BLOCKS * BLOCK_BYTES >= object.len();
        if in_order && last && range.end + END_BYTES >= object.len() {
            self.ending.get_or_insert(true);
        }
        if self.goes_on && range.end == until {
            self.goes_on = false;
            play_on(until.div_ceil(BLOCK_BYTES), object, runtime);
        }
    }

    /// Asks for what is not on its way yet of `range`, and of what is read ahead behind it up to the block `limit`.
    fn ask(&mut self, range: &Range<u64>, limit: u64, object: &Object, runtime: &Handle) {
        let needed = range.end.div_ceil(BLOCK_BYTES);
        // Who asked for much is likely to read it, and need not have begun to.
        let promised = self.until.map_or(0, |until| promised(&(range.start..until)));
        let read = promised.max(self.read.end - self.read.start);
        let ahead = blocks_ahead(read, object.room().available_permits());
        let end = limit.min(needed + ahead);
        let read = self.last.as_ref().map_or(0, |last| last.number + 1);
        let asked = self.asked.back().map_or(0, |asked| asked.numbers.end);
        let mut next = read.max(asked).max(range.start / BLOCK_BYTES);
        while let Some(numbers) = next_request(next, needed, end, limit) {
            if !self.ask_for(numbers, object, runtime) {
                return;
            }
            next = self.asked.back().map_or(limit, |asked| asked.numbers.end);
        }
    }

    /// Asks for blocks by one request, for as many of them as there is room for; false where that is none.
    fn ask_for(&mut self, mut numbers: Range<u64>, object: &Object, runtime: &Handle) -> bool {
        let free = object.room().available_permits() as u64;
        numbers.end = numbers.end.min(numbers.start + free);
        let Some(room) = room_for(&numbers, object) else {
            return false;
        };
        let (to, blocks) = mpsc::channel(room.num_permits());
        runtime.spawn(object.clone().fetch(numbers.clone(), room, Some(to)));
        self.asked.push_back(Asked { numbers, blocks });
        true
    }

    /// The block `number` of `object`, which was asked for, or is now.
    pub(super) async fn block(&mut self, object: &Object, number: u64) -> Result<Bytes, StoreError> {
        let last = self.last.as_ref().filter(|last| last.number == number);
        if let Some((block, _)) = last.and_then(|last| last.held.as_ref()) {
            return Ok(block.clone());
        }
        let held = self.take(number).await;
        let block = match &held {
            Some((block, _)) => block.clone(),
            None => object.block(number).await?,
        };
        self.last = Some(Last { number, held });
        Ok(block)
    }

    /// A block that was asked for. One that could not be had ahead is not among them: it is asked for again.
    async fn take(&mut self, number: u64) -> Option<(Bytes, OwnedSemaphorePermit)> {
        while let Some(asked) = self.asked.front_mut() {
            if asked.numbers.start > number {
                return None;
            }
            match asked.blocks.recv().await {
                Some((Ok(block), room)) => {
                    asked.numbers.start += 1;
                    if asked.numbers.start > number {
                        return Some((block, room));
                    }
                }
                Some((Err(_), _)) => self.asked.clear(),
                None => drop(self.asked.pop_front()),
            }
        }
        None
    }
}

/// What counts as read of what somebody asked for.
fn promised(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start) / PROMISED_SHARE
}

/// Has blocks from `first` on read for whoever asks for them next.
pub(super) fn play_on(first: u64, object: &Object, runtime: &Handle) {
    let numbers = first..object.blocks().min(first + PLAYBACK_BLOCKS);
    if let Some(room) = room_for(&numbers, object) {
        runtime.spawn(object.clone().fetch(numbers, room, None));
    }
}

/// Leave to read these ahead, if there is any to be had.
fn room_for(numbers: &Range<u64>, object: &Object) -> Option<OwnedSemaphorePermit> {
    let count = numbers.end.saturating_sub(numbers.start);
    let count = u32::try_from(count).ok().filter(|count| *count > 0)?;
    Arc::clone(object.room()).try_acquire_many_owned(count).ok()
}

/// How many blocks are read ahead for somebody who has read `read` bytes in order, where there is room for `free` more:
/// nobody has more than what is left to others, so that nobody is left with nothing.
fn blocks_ahead(read: u64, free: usize) -> u64 {
    (2 * read / BLOCK_BYTES).min(READER_BLOCKS).min(free as u64)
}

/// The blocks from `next` on that are asked for by one request, if any are: all up to `needed`, and up to `end` as many
/// as make a request worth it. Nothing behind `limit` will ever be asked for. A block that is needed alone is not asked
/// for ahead.
fn next_request(next: u64, needed: u64, end: u64, limit: u64) -> Option<Range<u64>> {
    let last = end.min(next + STRETCH_BLOCKS);
    let count = last.saturating_sub(next);
    let worth_it = if next < needed {
        count > 1
    } else {
        let most = end.saturating_sub(needed).min(STRETCH_BLOCKS);
        count > 0 && (count >= (most * 3 / 4).max(2) || last == limit)
    };
    worth_it.then_some(next..last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_ahead_than_was_read_twice_over_and_than_is_left_to_others() {
        assert_eq!(blocks_ahead(500 << 10, 64), 0);
        assert_eq!(blocks_ahead(5 << 20, 64), 10);
        assert_eq!(blocks_ahead(1 << 30, 64), READER_BLOCKS);
        assert_eq!(blocks_ahead(1 << 30, 3), 3);
    }

    #[test]
    fn requests_are_large_where_nobody_waits_for_them() {
        // Needed now: what is there is asked for, with what comes behind it; one alone is simply read.
        assert_eq!(next_request(0, 3, 3, 100), Some(0..3));
        assert_eq!(next_request(0, 3, 6, 100), Some(0..6));
        assert_eq!(next_request(0, 1, 1, 100), None);
        // Ahead: most of what may be, but for the end.
        assert_eq!(next_request(12, 6, 22, 100), None);
        assert_eq!(next_request(10, 6, 22, 100), Some(10..22));
        // Where there is less room they are smaller.
        assert_eq!(next_request(11, 6, 14, 100), None);
        assert_eq!(next_request(8, 6, 14, 100), Some(8..14));
        assert_eq!(next_request(6, 6, 40, 100), Some(6..22));
        assert_eq!(next_request(98, 98, 100, 100), Some(98..100));
        // Nothing twice.
        assert_eq!(next_request(40, 6, 30, 100), None);
        assert_eq!(next_request(100, 100, 100, 100), None);
    }
}
