//! Where a segment lies.

use serde::{Deserialize, Serialize};

/// A class of storage.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Local disk: where segments are written.
    #[default]
    Hot,
    /// An object store that answers at once.
    Warm,
    /// An archive class or a cheaper bucket.
    Cold,
}
