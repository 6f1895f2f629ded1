//! What is put beside a segment that cannot be read at once: enough to index it anew.

use archive::layout::outline_path;
use archive::store::{Store, StoreError};

use super::copy::{Origin, io, unreadable};

/// Puts the outline of a segment into a store of an archive class, before its copy there may count.
pub(super) async fn put(origin: &Origin, store: &Store, name: &str) -> Result<(), StoreError> {
    if store.restoring().is_none() {
        return Ok(());
    }
    let reader = origin.reader();
    let outline = tokio::task::spawn_blocking(move || reader.outline()).await;
    let outline = outline.map_err(|e| unreadable(io(e)))?.map_err(unreadable)?;
    store.keep_bytes(&outline_path(name), outline).await
}
