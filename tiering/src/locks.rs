//! Locks in stores that stand in the way of a deletion: those that holds of ours have left are lifted. Who put a lock there
//! that is none of ours has to lift it.

use archive::store::{Store, StoreError};
use archive::{StreamId, TimeRange};
use indexer::{Hold, Index, SegmentRow};

/// Whether a hold covers this or once did.
pub(crate) fn was_held(holds: &[Hold], stream: &StreamId, range: TimeRange) -> bool {
    let mut of_stream = holds.iter().filter(|hold| hold.covers(stream));
    of_stream.any(|hold| hold.range().intersect(range).is_some())
}

/// Whether a lock on a copy of a segment may be ours. Reads all holds: for the rare case that a store says so.
pub(crate) fn was_ours(index: &Index, row: &SegmentRow) -> bool {
    let stream = index.stream_id(row.id.stream);
    let (Some(stream), Ok(holds)) = (stream, index.holds()) else {
        return false;
    };
    was_held(&holds, &stream, row.range())
}

/// Deletes an object that may be deleted whatever holds there are; where a lock of ours is on it, that is lifted before.
pub(crate) async fn unlocked<F: Future<Output = Result<(), StoreError>>>(
    store: &Store,
    name: &str,
    is_ours: impl FnOnce() -> bool,
    delete: impl Fn() -> F,
) -> Result<(), StoreError> {
    match delete().await {
        Err(StoreError::Held { .. }) if is_ours() => {}
        other => return other,
    }
    store.legal_hold(name, false).await?;
    tracing::info!(name, "a lock that a hold has left on a copy that goes is lifted");
    delete().await
}
