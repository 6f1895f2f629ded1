//! Reads that let no byte out which is not as it was written.
//!
//! Fragments are read in whole blocks and compared with the checksums in their boxes, which their leaves cover;
//! a box must also tell the same of its fragment as the index, so that a whole fragment out of another place is
//! not taken for this one. Head and end of the file are small and checked whole.

use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::Frame;
use super::sums::{SUM_BYTES, sum};
use super::{SegmentReader, padded};
use crate::error::{ArchiveError, Malformed};
use crate::fragment::FragmentEntry;

const SUM: u64 = SUM_BYTES as u64;

/// A read that gave nothing out.
#[derive(Debug)]
pub struct ReadFailure {
    /// Why.
    pub error: ArchiveError,
    /// The fragment whose bytes are not what was written, if it is that.
    pub damaged: Option<FragmentEntry>,
}

impl From<ArchiveError> for ReadFailure {
    fn from(error: ArchiveError) -> Self {
        Self { error, damaged: None }
    }
}

/// A segment file whose reads are checked. Sequential reads read nothing twice. All methods block.
#[derive(Debug)]
pub struct CheckedReader {
    reader: SegmentReader,
    /// All durable fragments, in order.
    fragments: Arc<[FragmentEntry]>,
    /// Of the fragment that was read last.
    block_sums: Option<BlockSums>,
    /// Checked bytes behind the end of the last read, and where they begin.
    ahead: (u64, Bytes),
}

#[derive(Debug)]
struct BlockSums {
    /// Which fragment.
    index: usize,
    /// Where its samples begin, counted from its own beginning.
    data_start: u64,
    sums: Vec<u64>,
}

impl CheckedReader {
    /// Checks the reads of `reader` against `fragments`, which are all that the index knows of this segment.
    pub fn new(reader: SegmentReader, fragments: Arc<[FragmentEntry]>) -> Self {
        Self {
            reader,
            fragments,
            block_sums: None,
            ahead: (0, Bytes::new()),
        }
    }

    /// The file, without checks.
    pub fn unchecked(&self) -> &SegmentReader {
        &self.reader
    }

    /// The file again.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn into_unchecked(self) -> SegmentReader {
        self.reader
    }

    /// The bytes `range` of the file in one piece or several. Up to a block more is read at each end.
    pub fn read(&mut self, range: Range<u64>) -> Result<Vec<Bytes>, ReadFailure> {
        if cfg!(feature = "without_checked_reads") {
            let len = (range.end - range.start) as usize;
            return Ok(vec![self.reader.read_aligned(range.start, len)?]);
        }
        let mut pieces = Vec::new();
        let mut at = range.start;
        while at < range.end {
            if !self.covers_ahead(at) {
                self.ahead = self.read_blocks(at, range.end)?;
            }
            let (start, bytes) = &self.ahead;
            let from = (at - start) as usize;
            let to = bytes.len().min((range.end - start) as usize);
            pieces.push(bytes.slice(from..to));
            at = start + to as u64;
        }
        // What was given out whole is not kept.
        if !self.covers_ahead(at) {
            self.ahead = (0, Bytes::new());
        }
        Ok(pieces)
    }

    fn covers_ahead(&self, at: u64) -> bool {
        let (start, bytes) = &self.ahead;
        (*start..start + bytes.len() as u64).contains(&at)
    }

    /// Checked bytes that hold `at`, and up to `until` if they lie in one piece.
    fn read_blocks(&mut self, at: u64, until: u64) -> Result<(u64, Bytes), ReadFailure> {
        let next = self.fragments.partition_point(|e| e.offset <= at);
        let Some(first) = next.checked_sub(1) else {
            return self.at_least(at, 0, self.read_head()?);
        };
        let all = Arc::clone(&self.fragments);
        let Some(entry) = all.get(first).filter(|e| at < end(e)) else {
            // Fragments leave no room between them: this is the end of the file.
            let footer = all.last().map_or(0, end);
            return self.at_least(at, footer, self.reader.checked_end(footer)?);
        };
        let start = entry.offset + (at - entry.offset) / SUM * SUM;
        let until = self.in_one_piece(start, until);
        let last = all.partition_point(|e| e.offset < until);
        let stop = all.get(last.wrapping_sub(1)).map_or(until, |e| {
            let wanted = until.min(end(e));
            (e.offset + (wanted - e.offset).next_multiple_of(SUM)).min(end(e))
        });
        let read = self.reader.read_aligned(start, (stop - start) as usize);
        let bytes = read.map_err(|error| self.cut_off(error, all.get(first..last).unwrap_or_default()))?;
        for (index, entry) in all.iter().enumerate().take(last).skip(first) {
            self.check(index, entry, start, &bytes)
                .map_err(|error| match error {
                    ArchiveError::Corrupt { .. } => ReadFailure {
                        error,
                        damaged: Some(entry.clone()),
                    },
                    error => self.cut_off(error, std::slice::from_ref(entry)),
                })?;
        }
        Ok((start, bytes))
    }

    /// How much of `start..until` to read at a time: what lies in one piece in memory is not copied for its end, which is
    /// read with what it belongs to.
    fn in_one_piece(&self, start: u64, until: u64) -> u64 {
        let border = self.reader.piece_end(start).filter(|border| *border < until);
        let Some(border) = border else { return until };
        let next = self.fragments.partition_point(|e| e.offset <= border);
        let entry = next.checked_sub(1).and_then(|of| self.fragments.get(of));
        let whole = entry.map(|e| e.offset + (border - e.offset) / SUM * SUM);
        whole
            .filter(|whole| *whole > start)
            .unwrap_or(until.min(start + SUM))
    }

    /// A file that ends before one of `wanted` does has lost that fragment.
    fn cut_off(&self, error: ArchiveError, wanted: &[FragmentEntry]) -> ReadFailure {
        let len = match &error {
            ArchiveError::Io { source, .. } if source.kind() == ErrorKind::UnexpectedEof => self.reader.len(),
            _ => return error.into(),
        };
        let lost = len.ok().and_then(|len| wanted.iter().find(|e| end(e) > len));
        let Some(lost) = lost else {
            return error.into();
        };
        let e = Malformed("the file ends before this fragment does");
        ReadFailure {
            error: self.reader.malformed(lost.offset, &e),
            damaged: Some(lost.clone()),
        }
    }

    /// The head of the file. A header that was damaged may still be a header: the first fragment tells which one
    /// it follows.
    fn read_head(&self) -> Result<Bytes, ArchiveError> {
        let (head, hash) = self.reader.checked_head()?;
        if let Some(first) = self.fragments.first() {
            let (frame, ..) = self.reader.frame(first.offset, end(first))?;
            if frame.prev != hash {
                let e = Malformed("the first fragment follows another header");
                return Err(self.reader.malformed(0, &e));
            }
        }
        Ok(head)
    }

    fn at_least(&self, at: u64, start: u64, bytes: Bytes) -> Result<(u64, Bytes), ReadFailure> {
        if at < start + bytes.len() as u64 {
            return Ok((start, bytes));
        }
        let e = Malformed("the file ends before what was asked for");
        Err(self.reader.malformed(at, &e).into())
    }

    /// Checks those blocks of a fragment that `bytes` hold, which begin at `start`.
    fn check(
        &mut self,
        index: usize,
        entry: &FragmentEntry,
        start: u64,
        bytes: &Bytes,
    ) -> Result<(), ArchiveError> {
        let known = self.block_sums.as_ref().is_some_and(|known| known.index == index);
        // A box that is given out is checked as it was read this time.
        if !known || start <= entry.offset {
            self.block_sums = Some(self.block_sums_of(index, entry, start, bytes)?);
        }
        let Some(known) = &self.block_sums else {
            return Ok(());
        };
        // In bytes of the fragment.
        let from = start.saturating_sub(entry.offset);
        let to = (start + bytes.len() as u64).min(end(entry)) - entry.offset;
        let mut at = from;
        while at < to {
            let block_end = (at / SUM + 1) * SUM;
            let content = at.max(known.data_start).min(block_end)..block_end.min(to);
            let of_file = |offset: u64| (entry.offset + offset - start) as usize;
            let content = bytes
                .get(of_file(content.start.min(content.end))..of_file(content.end))
                .unwrap_or_default();
            if known.sums.get((at / SUM) as usize) != Some(&sum(content)) {
                let e = Malformed("a block of a fragment does not match its checksum");
                return Err(self.reader.malformed(entry.offset + at, &e));
            }
            at = block_end;
        }
        Ok(())
    }

    /// The checksums in a fragment's box, which is part of `bytes` if they reach back to it.
    fn block_sums_of(
        &self,
        index: usize,
        entry: &FragmentEntry,
        start: u64,
        bytes: &Bytes,
    ) -> Result<BlockSums, ArchiveError> {
        let here = entry
            .offset
            .checked_sub(start)
            .map(|skip| bytes.slice(skip as usize..));
        let parsed = here.as_ref().and_then(|here| {
            let (frame, len, _) = Frame::parse(here, entry.offset).ok()?;
            let moof_len = here
                .get(len..len + 4)?
                .first_chunk()
                .map(|n| u32::from_be_bytes(*n))?;
            Some((frame, (len + moof_len as usize + 8) as u64))
        });
        let (frame, data_start) = match parsed {
            Some(parsed) => parsed,
            None => {
                let (frame, _, _, head) = self.reader.frame(entry.offset, end(entry))?;
                (frame, head.len() as u64)
            }
        };
        if frame.index as usize != index || !same(&frame.entry, entry) {
            let e = Malformed("another fragment stands here than the index says");
            return Err(self.reader.malformed(entry.offset, &e));
        }
        Ok(BlockSums {
            index,
            data_start,
            sums: frame.sums,
        })
    }
}

/// Where the fragment behind this one begins.
fn end(entry: &FragmentEntry) -> u64 {
    padded(entry.offset + u64::from(entry.len))
}

/// Whether both tell the same; the index keeps notes elsewhere.
fn same(a: &FragmentEntry, b: &FragmentEntry) -> bool {
    let of = |e: &FragmentEntry| {
        (
            e.offset,
            e.len,
            e.wall_start,
            e.media_start,
            e.keyframe,
            e.run_start,
        )
    };
    of(a) == of(b)
}

#[cfg(test)]
mod tests;
