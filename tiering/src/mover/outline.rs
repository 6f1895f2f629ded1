//! What is put beside a segment that cannot be read at once: enough to index it anew.

use std::sync::Arc;

use archive::layout::outline_path;
use archive::segment::SegmentReader;
use archive::store::{Store, StoreError};

use super::copy::{io, unreadable};

/// Puts the outline of a segment into a store of an archive class, before its copy there may count.
pub(crate) async fn put(
    store: &Store,
    name: &str,
    reader: impl FnOnce() -> Arc<SegmentReader>,
) -> Result<(), StoreError> {
    if store.restoring().is_none() {
        return Ok(());
    }
    let reader = reader();
    let outline = tokio::task::spawn_blocking(move || reader.outline()).await;
    let outline = outline.map_err(|e| unreadable(io(e)))?.map_err(unreadable)?;
    store.keep_bytes(&outline_path(name), outline).await
}
