//! A store that has just not answered is not asked: otherwise everybody who wants something would wait for it, one after
//! the other.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long a store that did not answer is not asked again.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Whether a store is left alone for a moment, and why.
#[derive(Debug, Default)]
pub(super) struct AwayUntil(Mutex<Option<(Instant, String)>>);

impl AwayUntil {
    /// Why it is not asked, while it is not.
    pub(super) fn why(&self) -> Option<String> {
        let until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until
            .as_ref()
            .filter(|(until, _)| Instant::now() < *until)
            .map(|(_, why)| why.clone())
    }

    /// It took `waited` to learn that it is away: so long it is not asked.
    pub(super) fn note(&self, why: &str, waited: Duration) {
        let until = Instant::now() + waited.clamp(REST.0, REST.1);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((until, why.to_owned()));
    }
}
