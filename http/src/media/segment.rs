//! Which pieces a byte range of a segment's file is read in.

use std::ops::Range;
use std::sync::{Arc, Once, OnceLock};

use archive::segment::SegmentReader;
use archive::{ArchiveError, FragmentEntry};
use bytes::Bytes;
use indexer::SegmentRow;

use super::Job;
use crate::auth::StreamHandle;

/// The first piece is small, so that the first byte goes out soon.
const FIRST_BYTES: u64 = 64 << 10;
/// Later pieces. A direct read of this size costs half of what one of a quarter does.
const PIECE_BYTES: u64 = 1 << 20;
/// What lies further than this behind the beginning of a range is read around the page cache: it is a
/// download, not a fragment that the next viewer asks for too.
const CACHED_BYTES: u64 = 1 << 20;

/// A segment's file, opened by the first read of it.
struct File {
    stream: StreamHandle,
    row: SegmentRow,
    reader: OnceLock<SegmentReader>,
    /// Switches it to reads around the page cache, once.
    direct: Once,
}

impl File {
    fn reader(&self) -> Result<&SegmentReader, ArchiveError> {
        if let Some(reader) = self.reader.get() {
            return Ok(reader);
        }
        let opened = self.stream.open(&self.row)?;
        Ok(self.reader.get_or_init(|| opened))
    }
}

/// The reads for `range` of the segment `row` of `stream`.
pub(crate) fn pieces(
    stream: StreamHandle,
    row: SegmentRow,
    range: Range<u64>,
) -> impl Iterator<Item = Job> + Send + Unpin {
    let file = Arc::new(File {
        stream,
        row,
        reader: OnceLock::new(),
        direct: Once::new(),
    });
    cut(range.clone()).into_iter().map(move |piece| {
        let file = Arc::clone(&file);
        let download = piece.start - range.start >= CACHED_BYTES;
        Job::Read(Box::new(move || {
            let reader = file.reader()?;
            if download {
                file.direct.call_once(|| {
                    reader.set_direct();
                });
            }
            let len = usize::try_from(piece.end - piece.start).unwrap_or(usize::MAX);
            Ok(vec![reader.read_aligned(piece.start, len)?])
        }))
    })
}

/// Cuts a range into pieces: a small one up to a boundary, then large ones.
fn cut(range: Range<u64>) -> Vec<Range<u64>> {
    let mut pieces = Vec::new();
    let mut at = range.start;
    let mut end = (at / FIRST_BYTES + 1) * FIRST_BYTES;
    while at < range.end {
        pieces.push(at..end.min(range.end));
        at = end;
        end += PIECE_BYTES;
    }
    pieces
}

/// The bytes of one fragment. Blocks.
pub(crate) fn read(reader: &SegmentReader, entry: &FragmentEntry) -> Result<Bytes, ArchiveError> {
    reader.read(entry.offset, entry.len as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_tile_a_range_and_end_on_boundaries() {
        for range in [0..0, 0..1, 4096..(3 << 20), 123_456..9_876_543] {
            let pieces = cut(range.clone());
            let mut at = range.start;
            for piece in &pieces {
                assert!(piece.start == at && piece.end > at && piece.end - piece.start <= PIECE_BYTES);
                assert!(piece.end == range.end || piece.end % FIRST_BYTES == 0);
                at = piece.end;
            }
            assert_eq!(at, range.end);
        }
    }
}
