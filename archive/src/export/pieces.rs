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

/// A stretch of the assembled file that comes from one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    /// Where it begins in the assembled file.
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) source: Source,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Source {
    Memory(Bytes),
    /// A segment file from this byte on.
    File {
        segment: SegmentId,
        from: u64,
    },
}

/// Appends `len` bytes of `source`, joining them to the last extent where they follow it in their file.
/// Extents count from the first of them until [`shift`] is applied.
pub(super) fn append(extents: &mut Vec<Extent>, source: Source, len: u64) {
    if len == 0 {
        return;
    }
    let mut start = 0;
    if let Some(last) = extents.last_mut() {
        if let (
            Source::File {
                segment: a,
                from: last_from,
            },
            Source::File { segment: b, from },
        ) = (&last.source, &source)
            && a == b
            && last_from + last.len == *from
        {
            last.len += len;
            return;
        }
        start = last.start + last.len;
    }
    extents.push(Extent { start, len, source });
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
        Self {
            head,
            extents,
            next,
            rest: range,
        }
    }
}

impl Pieces {
    /// The last piece that is a file's: its segment, and where it ends there.
    pub fn last_of_file(&self) -> Option<(SegmentId, u64)> {
        let all = self.extents.get(self.next..)?;
        let wanted = all.get(..all.partition_point(|e| e.start < self.rest.end))?;
        wanted.iter().rev().find_map(|extent| match extent.source {
            Source::File { segment, from } => {
                Some((segment, from + extent.len.min(self.rest.end - extent.start)))
            }
            Source::Memory(_) => None,
        })
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
            let from = self.rest.start - extent.start;
            let to = extent.len.min(self.rest.end - extent.start);
            match &extent.source {
                Source::Memory(bytes) => Piece::Memory(bytes.slice(from as usize..to as usize)),
                Source::File { segment, from: at } => Piece::File {
                    segment: *segment,
                    range: at + from..at + to,
                },
            }
        };
        self.rest.start += piece.len();
        Some(piece)
    }
}
