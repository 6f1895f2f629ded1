//! Byte ranges of the assembled file, and where their bytes come from.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::id::SegmentId;

/// Bytes of the assembled file that come from one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// These bytes.
    Memory(Bytes),
    /// Bytes of a segment file. Never empty.
    File {
        /// The segment.
        segment: SegmentId,
        /// Where in its file.
        range: Range<u64>,
    },
}

impl Piece {
    /// In bytes.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { range, .. } => range.end - range.start,
        }
    }
}

/// A stretch of the assembled file that lies in one stretch of a segment file.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    /// Where it begins in the assembled file.
    pub(super) start: u64,
    pub(super) segment: SegmentId,
    /// Where it begins in the segment file.
    pub(super) from: u64,
    pub(super) len: u64,
}

/// Appends `len` bytes at `from` of `segment`, joining them to the last extent where they follow it.
/// Extents count from the first of them until [`shift`] is applied.
pub(super) fn append(extents: &mut Vec<Extent>, segment: SegmentId, from: u64, len: u64) {
    let mut start = 0;
    if let Some(last) = extents.last_mut() {
        if last.segment == segment && last.from + last.len == from {
            last.len += len;
            return;
        }
        start = last.start + last.len;
    }
    if len > 0 {
        extents.push(Extent { start, segment, from, len });
    }
}

/// Moves all extents back by `by` bytes, for what stands in front of them.
pub(super) fn shift(extents: &mut [Extent], by: u64) {
    extents.iter_mut().for_each(|e| e.start += by);
}

/// The pieces of a byte range, in order.
#[derive(Clone, Debug)]
pub struct Pieces {
    head: Bytes,
    extents: Arc<[Extent]>,
    /// The first extent that may still hold bytes of `rest`.
    next: usize,
    rest: Range<u64>,
}

impl Pieces {
    pub(super) fn new(head: Bytes, extents: Arc<[Extent]>, range: Range<u64>) -> Self {
        let next = extents.partition_point(|e| e.start + e.len <= range.start);
        Self { head, extents, next, rest: range }
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.rest.is_empty() {
            return None;
        }
        let head_len = self.head.len() as u64;
        let piece = if self.rest.start < head_len {
            let end = self.rest.end.min(head_len);
            Piece::Memory(self.head.slice(self.rest.start as usize..end as usize))
        } else {
            let extent = self.extents.get(self.next)?;
            self.next += 1;
            let at = |virtual_offset: u64| extent.from + (virtual_offset - extent.start);
            let end = self.rest.end.min(extent.start + extent.len);
            Piece::File { segment: extent.segment, range: at(self.rest.start)..at(end) }
        };
        self.rest.start += piece.len();
        Some(piece)
    }
}
