//! Segments whose bytes nobody can read at once, for who wants to read them all.

use archive::layout::segment_path;
use archive::store::Stores;
use archive::{ArchiveError, TimeRange};

use crate::error::IndexError;
use crate::index::Index;
use crate::rows::SegmentState;

/// The names of the segments that would have to be restored before their footage can be read. Asks the store for each
/// that lies in an archive class.
pub fn unreadable(index: &Index, stores: &Stores) -> Result<Vec<String>, IndexError> {
    let mut found = Vec::new();
    for (no, stream) in index.streams() {
        for row in index.segments(no, TimeRange::ALL)? {
            let objects = stores.of(row.tier).filter(|o| o.store.restoring().is_some());
            let Some(objects) = objects.filter(|_| row.state == SegmentState::Sealed) else {
                continue;
            };
            let name = segment_path(&stream, &row.name());
            let stat = objects.runtime.block_on(objects.store.stat(&name));
            // One that is missing is told by the check.
            if stat
                .map_err(ArchiveError::from)?
                .is_some_and(|stat| !stat.access.is_readable())
            {
                found.push(name);
            }
        }
    }
    Ok(found)
}
