//! Copies that a reader found wrong while another one served: told here so that they are put right soon. In memory
//! only; a scrub finds them anyhow.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use archive::{SegmentId, Tier};

/// More are not remembered.
pub const SUSPECTS_MAX: usize = 1024;

/// A copy that was found wrong.
pub type Suspect = (SegmentId, Tier);

/// Copies that were found wrong and not looked at since.
#[derive(Debug, Default)]
pub struct Suspects(Mutex<BTreeSet<Suspect>>);

impl Suspects {
    /// A reader found this copy wrong.
    pub fn add(&self, segment: SegmentId, tier: Tier) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < SUSPECTS_MAX {
            all.insert((segment, tier));
        }
    }

    /// The next one to look at.
    pub fn take(&self) -> Option<Suspect> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }
}
