//! Copies that are not needed any more: which, and how many at a time.

use std::collections::VecDeque;
use std::time::Duration;

use archive::Tier;
use indexer::{CopyState, IndexError};

use super::find::Due;
use super::job::{Doing, Job};
use super::{Mover, needed};
use crate::plan::{Goal, Moment, Progress, progress};
use crate::room::missing;

/// Copies that are found for removal in one pass.
const LEAVING_MAX: usize = 512;
/// Copies that are being removed at a time.
const LEAVING_AT_ONCE: usize = 32;

impl Mover {
    /// Bytes that are to leave the disk, by what was found on it, when it is looked at every `interval`.
    pub fn short(&self, found: &crate::progress::Progress, interval: Duration) -> u64 {
        let comes = u128::from(self.rate()) * interval.as_millis() / 1000;
        let comes = u64::try_from(comes).unwrap_or(u64::MAX);
        missing(found.free_bytes, found.reserve_bytes, comes)
    }

    /// Copies that are not needed any more. What an age asks for goes anyhow; what only the disk does, up to what it
    /// needs.
    pub(super) fn find_leaving(
        &mut self,
        at: &Moment,
        short: u64,
        monotonic_us: u64,
    ) -> Result<VecDeque<Due>, IndexError> {
        let pressed = Moment {
            pressed: short > 0,
            ..*at
        };
        let found = self.due(&pressed, &[Goal::OffHot], monotonic_us)?;
        let mut freed: u64 = (self.under_way.values())
            .filter(|job| job.frees_hot())
            .map(|job| job.row.bytes)
            .sum();
        let mut leaving = VecDeque::new();
        for due in found {
            if self.is_aged(&due, at) || freed < short {
                freed += due.row.bytes;
                leaving.push_back(due);
            }
        }
        leaving.extend(self.due(at, &[Goal::OffWarm], monotonic_us)?);
        leaving.truncate(LEAVING_MAX);
        Ok(leaving)
    }

    /// Whether a copy is to go from the hot tier even if there is space.
    fn is_aged(&self, due: &Due, at: &Moment) -> bool {
        let stream = self.name(due.row.id);
        let rule = stream.and_then(|stream| self.rules.rule_for(&stream));
        rule.is_some_and(|rule| {
            let below = self.rules.below();
            let progress = progress(Goal::OffHot, rule, below, due.row.wall_end, &due.copies, at);
            matches!(progress, Progress::Evict(_))
        })
    }

    /// Begins to remove copies while there is room for more: the one that counts is looked at, the index told that the
    /// other goes, that one removed and seen to be gone, and the index told again.
    pub(super) fn begin_leaving(&mut self, monotonic_us: u64) -> Result<(), IndexError> {
        let mut leaving = self.under_way.values().filter(|job| !job.is_copy()).count();
        while leaving < LEAVING_AT_ONCE
            && let Some(due) = self.leaving.pop_front()
        {
            let Progress::Evict(tier) = due.progress else {
                continue;
            };
            // A store that has not answered one is not asked for all of them.
            let rests = |tier: &Tier| {
                let pause = self.resting.get(tier);
                pause.is_some_and(|pause| pause.lasts(monotonic_us))
            };
            if needed(&due.copies, tier).iter().any(rests) {
                continue;
            }
            // It may have waited here for a while.
            if self.under_way.contains_key(&due.row.id) || !self.is_as_it_was(&due.row, &due.copies)? {
                continue;
            }
            // One that is going already is read by nobody, and there is nothing more to ask.
            let doing = match due.copies.state(tier) {
                CopyState::Deleting => Doing::Removing(tier),
                _ => Doing::Confirming(tier),
            };
            leaving += 1;
            let job = Job {
                row: due.row,
                copies: due.copies,
                doing,
            };
            self.start(job, monotonic_us);
        }
        Ok(())
    }
}
