//! What lies beside the footage in stores, in small objects: holds and certificates come back from there.

use archive::store::{StoreError, Stores};
use archive::{ArchiveError, Tier};

use crate::error::IndexError;

/// Reads what lies below `folder` in each store, and hands on where it lay and its bytes, or why they could not be had:
/// what has more than `bytes_max` is none of ours. A store that does not answer is an error, since what counts may lie in
/// it alone.
pub(crate) fn read_below(
    stores: &Stores,
    folder: &str,
    bytes_max: u64,
    mut take: impl FnMut(String, Result<Vec<u8>, String>) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    for tier in [Tier::Warm, Tier::Cold] {
        let Some(objects) = stores.of(tier) else { continue };
        let mut names = Vec::new();
        objects
            .for_each(folder, |name, len| names.push((name, len)))
            .map_err(ArchiveError::from)?;
        for (name, len) in names {
            let place = format!("{tier}: {name}");
            if len > bytes_max {
                take(place, Err(format!("{len} bytes are too many")))?;
                continue;
            }
            let read = objects.store.read(&name, 0..len);
            match objects.runtime.block_on(read) {
                Ok(bytes) => take(place, Ok(bytes.to_vec()))?,
                Err(e @ StoreError::Away { .. }) => return Err(ArchiveError::from(e).into()),
                Err(e) => take(place, Err(e.to_string()))?,
            }
        }
    }
    Ok(())
}
