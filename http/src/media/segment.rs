//! Which pieces a byte range of a segment's file is read in.

use std::ops::Range;
use std::sync::Arc;

use archive::segment::SegmentReader;
use archive::{ArchiveError, FragmentEntry};
use bytes::Bytes;

use super::Job;

/// The first piece is small, so that the first byte goes out soon.
const FIRST_BYTES: u64 = 64 << 10;
/// The second is in between.
const SECOND_BYTES: u64 = 256 << 10;
/// Later pieces. A direct read of this size costs half of what one of a quarter does.
const PIECE_BYTES: u64 = 1 << 20;
/// What lies further than this behind the beginning of a range is read around the page cache: it is a
/// download, not a fragment that the next viewer asks for too.
const CACHED_BYTES: u64 = 1 << 20;

/// The reads for `range` of an open segment.
pub(crate) fn pieces(reader: SegmentReader, range: Range<u64>) -> impl Iterator<Item = Job> + Send + Unpin {
    let reader = Arc::new(reader);
    cut(range.clone()).into_iter().map(move |piece| {
        let reader = Arc::clone(&reader);
        let download = piece.start - range.start >= CACHED_BYTES;
        Job::Read(Box::new(move || {
            let len = usize::try_from(piece.end - piece.start).unwrap_or(usize::MAX);
            if download {
                reader.set_direct();
                return Ok(vec![reader.read_aligned(piece.start, len)?]);
            }
            Ok(vec![reader.read(piece.start, len)?])
        }))
    })
}

/// Cuts a range into pieces that end on multiples of their size.
fn cut(range: Range<u64>) -> Vec<Range<u64>> {
    let mut pieces = Vec::new();
    let mut at = range.start;
    let mut sizes = [FIRST_BYTES, SECOND_BYTES].into_iter();
    while at < range.end {
        let size = sizes.next().unwrap_or(PIECE_BYTES);
        let end = ((at / size + 1) * size).min(range.end);
        pieces.push(at..end);
        at = end;
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
