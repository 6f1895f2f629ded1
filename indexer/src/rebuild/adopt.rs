//! One file that has no row is taken into the index.

use archive::StreamId;
use archive::disk::Disk;
use archive::layout::{SegmentName, segment_path};
use archive::segment::SegmentReader;

use super::add;
use super::told::{proven_footer, read, refused};
use crate::batch::Batch;
use crate::error::IndexError;
use crate::index::Index;
use crate::rows::Ended;

/// Adds one segment file to the index, as its own bytes tell it, once they are durable. Returns how many
/// fragments it has; 0 when it has none and was left out. A file that does not continue what the index knows
/// of the stream is refused.
pub fn adopt(disk: &Disk, index: &Index, stream: &StreamId, name: &SegmentName) -> Result<u32, IndexError> {
    let mut batch = Batch::default();
    let reader = SegmentReader::open(disk, &segment_path(stream, name))?;
    let told = read(&reader, index, &mut batch, stream, name, proven_footer)?;
    let no = told.row.id.stream;
    let follows = |end: Ended| {
        told.row.id.seq == end.next_seq && told.prev == end.head && told.row.wall_start >= end.wall_end
    };
    if !index.end(no)?.is_none_or(follows) {
        return Err(refused(&reader, "it does not continue the segment before it"));
    }
    disk.make_durable(&segment_path(stream, name))?;
    add(index, batch, vec![told])
}
