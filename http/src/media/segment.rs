//! Which pieces a byte range of a segment's file is read in.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use indexer::{SegmentRow, SegmentState};

use super::Job;
use super::again::is_asked_again;
use super::crowd::piece_bytes;
use crate::auth::{FootageFile, StreamHandle};

/// The first piece is small, so that the first byte goes out soon.
const FIRST_BYTES: u64 = 64 << 10;
/// What lies further than this behind the beginning of a range is a download, and never read through the page cache.
const CACHED_BYTES: u64 = 1 << 20;

/// The reads for `range` of the segment `row` of `stream`.
///
/// Putting a fragment into the page cache costs three times what reading it around that costs. So only what several
/// ask for, as viewers of one live stream do, is read through it; and the first piece of what was recorded earlier,
/// which may be there. What is being recorded is not: it was written around the page cache a moment ago.
pub(crate) fn pieces(
    stream: StreamHandle,
    row: SegmentRow,
    range: Range<u64>,
) -> impl Iterator<Item = Job> + Send + Unpin {
    // Opened by the first read. One read follows another, so nobody waits for the lock.
    let file = Arc::new(Mutex::new(None));
    let is_live = row.state == SegmentState::Open;
    let first_bytes = if is_live { piece_bytes() } else { FIRST_BYTES };
    cut(range.clone(), first_bytes, piece_bytes).map(move |piece| {
        let (file, stream, row) = (Arc::clone(&file), stream.clone(), row.clone());
        let behind = piece.start - range.start;
        let maybe_cached = behind == 0 && !is_live;
        let cached = maybe_cached || behind < CACHED_BYTES && is_asked_again(row.id, piece.start);
        Job::on(row.tier, move || {
            let mut open = file.lock().unwrap_or_else(PoisonError::into_inner);
            let file: &mut FootageFile = match open.as_mut() {
                Some(file) => file,
                None => {
                    let file = open.insert(stream.open_range(&row, piece.start..range.end)?);
                    file.expect(range.end);
                    file
                }
            };
            if !cached {
                file.set_direct();
            }
            file.read(piece)
        })
    })
}

/// Cuts a range into pieces that end on boundaries: one of `first` bytes, then those of `size`.
fn cut(range: Range<u64>, first: u64, size: impl Fn() -> u64) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    let mut end = at / FIRST_BYTES * FIRST_BYTES + first;
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
            for first in [FIRST_BYTES, PIECE_BYTES_MAX] {
                let pieces: Vec<_> = cut(range.clone(), first, || PIECE_BYTES_MAX).collect();
                let mut at = range.start;
                for piece in &pieces {
                    assert!(
                        piece.start == at && piece.end > at && piece.end - piece.start <= PIECE_BYTES_MAX
                    );
                    assert!(piece.end == range.end || piece.end % FIRST_BYTES == 0);
                    at = piece.end;
                }
                assert_eq!(at, range.end);
            }
        }
    }
}
