//! Which cameras are not recorded because the disk is full.

use std::time::Duration;

use indexer::PRIORITY_MAX;

use crate::config::Thresholds;

/// Sheds everything, whatever its priority.
const ALL: u8 = PRIORITY_MAX + 1;
/// How long the reserve must stay free before one priority more is recorded again.
///
/// Short, since what is not recorded meanwhile is lost; the way from `low` up to the reserve already keeps
/// cameras from coming and going.
const CALM: Duration = Duration::from_secs(10);

/// Decides how many priorities give way.
///
/// The space between the thresholds `low` and `floor` is divided evenly among the priorities in use: as free
/// space sinks through it, one priority after the other gives way, the lowest first. Below `floor` all do.
/// Only when the whole reserve has been free for ten seconds is the next priority recorded again, and one
/// every ten seconds after that.
#[derive(Clone, Debug, Default)]
pub struct Shedding {
    below: u8,
    calm_since_us: Option<u64>,
}

impl Shedding {
    /// Cameras of a priority below this are shed.
    pub fn below(&self) -> u8 {
        self.below
    }

    /// Takes the free bytes after a pass; `priorities` are those in use. `deleting` says that more will be
    /// deleted in the next moment, so that only the floor matters now.
    pub fn observe(
        &mut self,
        free: u64,
        at: &Thresholds,
        priorities: &[u8],
        deleting: bool,
        monotonic_us: u64,
    ) -> u8 {
        let mut levels: Vec<u8> = priorities.iter().map(|p| p.saturating_add(1).min(ALL)).collect();
        levels.sort_unstable();
        levels.dedup();
        let needed = if free < at.floor {
            ALL
        } else if free < at.low && !deleting {
            let n = levels.len() as u128;
            let (sunk, band) = (u128::from(at.low - free), u128::from(at.low - at.floor));
            let steps = (sunk * n).div_ceil(band.max(1)).clamp(1, n.max(1)) as usize;
            levels.get(steps - 1).copied().unwrap_or(0)
        } else {
            0
        };
        if needed >= self.below {
            self.below = needed;
            self.calm_since_us = None;
        } else if free < at.reserve {
            self.calm_since_us = None;
        } else {
            let since = *self.calm_since_us.get_or_insert(monotonic_us);
            if u128::from(monotonic_us.saturating_sub(since)) >= CALM.as_micros() {
                // The next level that lets someone record who may not now.
                let shed = |below: u8| levels.iter().filter(|l| **l <= below).count();
                let lower = levels.iter().rev().find(|l| shed(**l) < shed(self.below));
                self.below = lower.copied().unwrap_or(0);
                self.calm_since_us = Some(monotonic_us);
            }
        }
        self.below
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: Thresholds = Thresholds {
        reserve: 1000,
        low: 400,
        floor: 100,
    };
    const SECOND: u64 = 1_000_000;

    #[test]
    fn the_lowest_priority_gives_way_first_and_all_do_at_the_floor() {
        let mut shedding = Shedding::default();
        let mut at = |free| shedding.observe(free, &AT, &[8, 2, 5, 5], false, 0);
        assert_eq!([at(1000), at(400), at(399), at(300)], [0, 0, 3, 3]);
        assert_eq!([at(299), at(199), at(100), at(99)], [6, 9, 9, 10]);
        assert_eq!(at(900), 10);
    }

    #[test]
    fn priorities_come_back_one_by_one_while_the_reserve_is_free() {
        let mut shedding = Shedding::default();
        let mut at = |free, s: u64| shedding.observe(free, &AT, &[2, 5, 8], false, s * SECOND);
        assert_eq!(at(50, 0), 10);
        assert_eq!([at(1000, 10), at(1000, 19), at(1000, 20)], [10, 10, 6]);
        assert_eq!(
            [at(1000, 24), at(999, 25), at(1000, 26), at(1000, 35)],
            [6, 6, 6, 6]
        );
        assert_eq!([at(1000, 36), at(1000, 45), at(1000, 46)], [3, 3, 0]);
    }

    #[test]
    fn nobody_gives_way_while_deletion_still_goes_on() {
        let mut shedding = Shedding::default();
        assert_eq!(shedding.observe(200, &AT, &[5], true, 0), 0);
        assert_eq!(shedding.observe(99, &AT, &[5], true, 0), 10);
    }

    #[test]
    fn without_cameras_only_the_floor_counts() {
        let mut shedding = Shedding::default();
        assert_eq!(shedding.observe(200, &AT, &[], false, 0), 0);
        assert_eq!(shedding.observe(0, &AT, &[], false, 0), 10);
        assert_eq!(shedding.observe(1000, &AT, &[], false, 0), 10);
        assert_eq!(shedding.observe(1000, &AT, &[], false, 60 * SECOND), 0);
    }

    proptest! {
        #[test]
        fn the_level_never_sinks_while_the_reserve_is_not_free(
            frees in proptest::collection::vec(0u64..1200, 1..100),
            priorities in proptest::collection::vec(0u8..=9, 0..6),
        ) {
            let mut shedding = Shedding::default();
            for (i, free) in frees.into_iter().enumerate() {
                let before = shedding.below();
                let after = shedding.observe(free, &AT, &priorities, false, i as u64 * 30 * SECOND);
                prop_assert!(after >= before || free >= AT.reserve);
                prop_assert!(after == ALL || free >= AT.floor);
                let all_shed = priorities.iter().all(|p| *p < after);
                prop_assert!(after < ALL || all_shed);
            }
        }
    }
}
