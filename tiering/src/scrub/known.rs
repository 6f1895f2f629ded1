//! What is known to be wrong: mended as soon as it can be.

use std::time::Duration;

use archive::{Tier, WallTime};
use indexer::{Fault, IndexError};

use super::Scrubber;
use super::repair::{Outcome, Stopped};

/// As many at a time.
const KNOWN_MAX: usize = 256;
/// A repair that failed is tried again after so long, and twice as long after each further failure, up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(6 * 3600));

impl Scrubber {
    /// Faults of which the time has come, and segments with damage whose copies nobody has blamed yet.
    pub(super) fn look_through_known(&mut self, now: WallTime, monotonic_us: u64) -> Result<(), IndexError> {
        let faults = self.index.faults(KNOWN_MAX)?;
        self.told.faults = faults.len() as u64;
        self.told.lost = faults.iter().filter(|fault| fault.lost).count() as u64;
        self.retries
            .retain(|of, _| faults.iter().any(|f| (f.segment, f.tier) == *of));
        for segment in self.index.damaged_segments(KNOWN_MAX)? {
            if faults.iter().any(|fault| fault.segment == segment) {
                continue;
            }
            for tier in Tier::ALL {
                self.look_again(segment, tier, now, monotonic_us)?;
            }
        }
        for fault in faults {
            let retry = self.retries.get(&(fault.segment, fault.tier));
            let is_due = retry.is_none_or(|(_, at_us)| *at_us <= monotonic_us);
            if is_due && !self.waiting.contains(&fault) {
                self.waiting.push_back(fault);
            }
        }
        Ok(())
    }

    /// Mends a copy, or puts it off.
    pub(super) fn mend(&mut self, fault: &Fault, now: WallTime, monotonic_us: u64) -> Result<(), IndexError> {
        let hands = self.hands.clone();
        let outcome = match hands.take(fault.segment) {
            Some(_mending) => self.repair(now).mend(fault),
            None => Ok(Outcome::Later("it is being copied".to_owned())),
        };
        let of = (fault.segment, fault.tier);
        let mut later = |why: Option<String>| {
            let (failures, at_us) = self.retries.entry(of).or_default();
            let wait = RETRY.0.saturating_mul(1 << (*failures).min(16)).min(RETRY.1);
            *failures += 1;
            *at_us = monotonic_us.saturating_add(wait.as_micros() as u64);
            if let Some(why) = why {
                tracing::warn!(
                    segment = fault.segment.seq, stream = fault.segment.stream.0, tier = %fault.tier, why,
                    again_in_s = wait.as_secs(), "a copy cannot be repaired now"
                );
            }
        };
        match outcome {
            Ok(Outcome::Gone) => {}
            Ok(Outcome::Repaired) => {
                tracing::info!(
                    segment = fault.segment.seq, stream = fault.segment.stream.0, tier = %fault.tier,
                    "a copy was made anew from another one"
                );
                self.told.repaired += 1;
            }
            Ok(Outcome::Lost) => later(None),
            Ok(Outcome::Later(why)) => later(Some(why)),
            Err(Stopped::Index(e)) => return Err(e),
            Err(e) => later(Some(e.to_string())),
        }
        Ok(())
    }
}
