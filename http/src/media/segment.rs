//! Which pieces a byte range of a segment's file is read in.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use indexer::SegmentRow;

use super::Job;
use super::crowd::piece_bytes;
use crate::auth::{FootageFile, StreamHandle};

/// The first piece is small, so that the first byte goes out soon.
const FIRST_BYTES: u64 = 64 << 10;
/// What lies further than this behind the beginning of a range is read around the page cache: it is a
/// download, not a fragment that the next viewer asks for too.
const CACHED_BYTES: u64 = 1 << 20;

/// The reads for `range` of the segment `row` of `stream`.
pub(crate) fn pieces(
    stream: StreamHandle,
    row: SegmentRow,
    range: Range<u64>,
) -> impl Iterator<Item = Job> + Send + Unpin {
    // Opened by the first read. One read follows another, so nobody waits for the lock.
    let file = Arc::new(Mutex::new(None));
    cut(range.clone(), piece_bytes).map(move |piece| {
        let (file, stream, row) = (Arc::clone(&file), stream.clone(), row.clone());
        let download = piece.start - range.start >= CACHED_BYTES;
        Job::Read(Box::new(move || {
            let mut open = file.lock().unwrap_or_else(PoisonError::into_inner);
            let file: &mut FootageFile = match open.as_mut() {
                Some(file) => file,
                None => open.insert(stream.open(&row)?),
            };
            if download {
                file.set_direct();
            }
            file.read(piece)
        }))
    })
}

/// Cuts a range into pieces: a small one up to a boundary, then those of `size`.
fn cut(range: Range<u64>, size: impl Fn() -> u64) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    let mut end = (at / FIRST_BYTES + 1) * FIRST_BYTES;
    std::iter::from_fn(move || {
        let piece = at..end.min(range.end);
        at = end;
        end += size();
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::crowd::PIECE_BYTES_MAX;

    #[test]
    fn pieces_tile_a_range_and_end_on_boundaries() {
        for range in [0..0, 0..1, 4096..(3 << 20), 123_456..9_876_543] {
            let pieces: Vec<_> = cut(range.clone(), || PIECE_BYTES_MAX).collect();
            let mut at = range.start;
            for piece in &pieces {
                assert!(piece.start == at && piece.end > at && piece.end - piece.start <= PIECE_BYTES_MAX);
                assert!(piece.end == range.end || piece.end % FIRST_BYTES == 0);
                at = piece.end;
            }
            assert_eq!(at, range.end);
        }
    }
}
