//! One file that has no row is taken into the index.

use archive::StreamId;
use archive::disk::Disk;
use archive::layout::{SegmentName, segment_path};
use archive::segment::SegmentReader;

use super::told::{read_proven, refused};
use crate::batch::Batch;
use crate::error::IndexError;
use crate::index::Index;
use crate::rows::{Ended, SegmentRow, SegmentState};

/// Adds one segment file to the index, as its own bytes tell it, once they are durable. Returns how many
/// fragments it has; 0 when it has none and was left out. A file that does not continue what the index knows
/// of the stream is refused.
pub fn adopt(disk: &Disk, index: &Index, stream: &StreamId, name: &SegmentName) -> Result<u32, IndexError> {
    let path = segment_path(stream, name);
    let reader = SegmentReader::open(disk, &path)?;
    let told = read_proven(&reader, index.ensure_stream(stream)?, stream, name)?;
    let no = told.row.id.stream;
    let follows = |end: Ended| {
        told.row.id.seq == end.next_seq && told.prev == end.head && told.row.wall_start >= end.wall_end
    };
    if !index.end(no)?.is_none_or(follows) {
        return Err(refused(&reader, "it does not continue the segment before it").into());
    }
    disk.make_durable(&path)?;
    if told.entries.is_empty() {
        return Ok(0);
    }
    // Rows and fragments first, then the seal, which reads what was committed.
    let mut batch = Batch::default();
    if index.init(&told.init.hash)?.is_none() {
        batch.init(&told.init);
    }
    batch.segment(&SegmentRow {
        state: SegmentState::Open,
        ..told.row.clone()
    });
    let count = told.row.fragments;
    told.entries
        .into_iter()
        .for_each(|entry| batch.fragment(told.row.id, entry));
    index.commit(batch)?;
    if told.row.state == SegmentState::Sealed {
        let mut seal = Batch::default();
        seal.seal(&told.row);
        index.commit(seal)?;
    }
    Ok(count)
}
