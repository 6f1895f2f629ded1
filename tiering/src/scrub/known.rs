//! What is known to be wrong: mended as soon as it can be.

use std::time::Duration;

use archive::{SegmentId, Tier, WallTime};
use indexer::{Fault, IndexError};

use super::Scrubber;
use super::repair::{Outcome, Stopped};

/// As many wait to be mended at a time.
const KNOWN_MAX: usize = 256;
/// As many are read at a time, and pages of them before something else is done.
const PAGE_ROWS: usize = 256;
const PAGES_MAX: usize = 64;
/// A repair that failed is tried again after so long, and twice as long after each further failure, up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(6 * 3600));

/// How far what is known was looked through: the next look goes on from there.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The fault that was seen last, and how many were, and how many of them are lost.
    last: Option<(SegmentId, Tier)>,
    faults: u64,
    lost: u64,
    /// Segments with damage that were seen.
    damaged: usize,
}

impl Scrubber {
    /// Faults of which the time has come, and segments with damage whose copies nobody has blamed yet.
    pub(super) fn look_through_known(&mut self, now: WallTime, monotonic_us: u64) -> Result<(), IndexError> {
        self.look_through_damage(now, monotonic_us)?;
        for _ in 0..PAGES_MAX {
            if self.waiting.len() >= KNOWN_MAX {
                break;
            }
            let faults = self.index.faults_behind(self.round.last, PAGE_ROWS)?;
            let is_last = faults.len() < PAGE_ROWS;
            self.round.last = faults.last().map(|fault| (fault.segment, fault.tier));
            self.round.faults += faults.len() as u64;
            self.round.lost += faults.iter().filter(|fault| fault.lost).count() as u64;
            for fault in faults {
                let retry = self.retries.get(&(fault.segment, fault.tier));
                let is_due = retry.is_none_or(|(_, at_us)| *at_us <= monotonic_us);
                if is_due && !self.waiting.contains(&fault) {
                    self.waiting.push_back(fault);
                }
            }
            // At least so many, until all have been counted.
            self.told.faults = self.told.faults.max(self.round.faults);
            self.told.lost = self.told.lost.max(self.round.lost);
            if is_last {
                (self.told.faults, self.told.lost) = (self.round.faults, self.round.lost);
                (self.round.last, self.round.faults, self.round.lost) = (None, 0, 0);
                break;
            }
        }
        Ok(())
    }

    fn look_through_damage(&mut self, now: WallTime, monotonic_us: u64) -> Result<(), IndexError> {
        let seen = self.round.damaged;
        let damaged = self.index.damaged_segments(seen.saturating_add(KNOWN_MAX))?;
        let is_last = damaged.len() < seen.saturating_add(KNOWN_MAX);
        self.round.damaged = if is_last { 0 } else { damaged.len() };
        for segment in damaged.into_iter().skip(seen) {
            let faults = Tier::ALL.map(|tier| self.index.fault(segment, tier));
            let faults: Vec<_> = faults.into_iter().collect::<Result<_, _>>()?;
            if faults.iter().any(Option::is_some) {
                continue;
            }
            for tier in Tier::ALL {
                self.look_again(segment, tier, now, monotonic_us)?;
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
        // Right behind a read that failed some servers answer nothing, whatever they are asked for.
        if matches!(outcome, Ok(Outcome::Later(_)) | Err(Stopped::Archive(_))) && fault.tier != Tier::Hot {
            self.rest(fault.tier, monotonic_us);
        }
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
            Ok(Outcome::Gone) => drop(self.retries.remove(&of)),
            Ok(Outcome::Repaired) => {
                self.retries.remove(&of);
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
