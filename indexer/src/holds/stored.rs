//! Holds as they lie in the archive itself: beside the footage, in the hot folder and in every store. From there they
//! come back when the index is lost.

use std::collections::BTreeMap;

use archive::HoldId;
use archive::disk::Disk;
use archive::store::Stores;

use super::Hold;
use crate::beside::read_below;
use crate::error::IndexError;
use crate::index::Index;

/// Where they lie. What begins with a dot is the service's own.
pub const HOLDS_FOLDER: &str = ".holds";
/// A larger one is none of ours.
const BYTES_MAX: u64 = 64 << 10;

/// The name of a version of a hold, in the hot folder and in stores. A version never changes: who wrote it once need
/// not look at it again.
pub fn hold_path(hold: &Hold) -> String {
    format!("{HOLDS_FOLDER}/{}.{}.json", hold.id, hold.version)
}

/// Holds that were found in the archive.
#[derive(Clone, Debug, Default)]
pub struct StoredHolds {
    /// Of each hold the newest version.
    pub holds: Vec<Hold>,
    /// What could not be read, and why.
    pub left_out: Vec<(String, String)>,
    pub(super) found: BTreeMap<HoldId, Hold>,
}

impl StoredHolds {
    pub(super) fn take(&mut self, place: String, bytes: Result<Vec<u8>, String>) {
        let read = bytes.and_then(|bytes| serde_json::from_slice::<Hold>(&bytes).map_err(|e| e.to_string()));
        // It could not be released: that takes a later version.
        let read = read.and_then(|hold| match (hold.version, &hold.released) {
            (u32::MAX, None) => Err("no hold has so many versions".to_owned()),
            _ => Ok(hold),
        });
        match read {
            Ok(hold) => {
                let known = self.found.get(&hold.id).map(|known| known.version);
                if known.is_none_or(|known| known < hold.version) {
                    self.found.insert(hold.id.clone(), hold);
                }
            }
            Err(why) => self.left_out.push((place, why)),
        }
    }
}

/// Reads every hold that lies in the hot folder or in a store. A store that does not answer is an error: the newest
/// version of a hold may lie in it alone.
pub fn stored_holds(disk: &Disk, stores: &Stores) -> Result<StoredHolds, IndexError> {
    let mut all = StoredHolds::default();
    for name in disk.list(HOLDS_FOLDER)? {
        // One that was being written when the service was killed.
        if name.ends_with(".new") {
            continue;
        }
        let path = format!("{HOLDS_FOLDER}/{name}");
        let bytes = disk.read_small(&path, BYTES_MAX).map_err(|e| e.to_string());
        all.take(path, bytes);
    }
    read_below(stores, HOLDS_FOLDER, BYTES_MAX, |place, bytes| {
        all.take(place, bytes);
        Ok(())
    })?;
    all.holds = std::mem::take(&mut all.found).into_values().collect();
    Ok(all)
}

/// Brings back into `index` the holds that lie in the archive. Tells how many, and adds to `left_out` what could not be
/// read.
pub(crate) fn restore(
    disk: &Disk,
    stores: &Stores,
    index: &Index,
    left_out: &mut Vec<(String, String)>,
) -> Result<u64, IndexError> {
    let found = stored_holds(disk, stores)?;
    for hold in &found.holds {
        index.put_hold(hold)?;
    }
    left_out.extend(found.left_out);
    Ok(found.holds.len() as u64)
}
