//! One file that has no row is taken into the index.

use archive::disk::Disk;
use archive::layout::{SegmentName, segment_path};
use archive::segment::SegmentReader;
use archive::{Sha256, StreamId, WallTime};

use super::add;
use super::told::{proven_footer, read, refused};
use crate::batch::Batch;
use crate::error::IndexError;
use crate::index::Index;

/// Adds one segment file to the index, as its own bytes tell it, once they are durable. Returns how many
/// fragments it has; 0 when it has none and was left out. A file that does not continue what the index knows
/// of the stream is refused.
pub fn adopt(disk: &Disk, index: &Index, stream: &StreamId, name: &SegmentName) -> Result<u32, IndexError> {
    let mut batch = Batch::default();
    let reader = SegmentReader::open(disk, &segment_path(stream, name))?;
    let told = read(&reader, index, &mut batch, stream, name, proven_footer)?;
    let no = told.row.id.stream;
    let last = index
        .last_segment(no)?
        .map(|row| (row.id.seq + 1, row.head, row.wall_end));
    let ended = index.ended(no)?.map(|e| (e.next_seq, e.head, e.wall_end));
    let follows = |(seq, head, end): (u64, Sha256, WallTime)| {
        told.row.id.seq == seq && told.prev == head && told.row.wall_start >= end
    };
    if !last.or(ended).is_none_or(follows) {
        return Err(refused(&reader, "it does not continue the segment before it"));
    }
    disk.make_durable(&segment_path(stream, name))?;
    add(index, batch, vec![told])
}
