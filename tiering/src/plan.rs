//! What a segment needs next on its way down the tiers: a pure decision about one segment.
//!
//! Each segment has up to four goals, reached in this order: a copy below, no copy on the hot tier, a copy on the
//! cold tier, no copy on the warm tier. The segments of a stream reach each goal oldest first.

use std::time::Duration;

use archive::{Tier, WallTime};
use indexer::{Copies, CopyState};

use crate::rules::{Below, RetentionRule};

/// What is wanted of a segment.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Goal {
    /// A verified copy below the hot tier.
    Copied,
    /// No copy on the hot tier any more.
    OffHot,
    /// A verified copy on the cold tier.
    Cooled,
    /// No copy on the warm tier any more.
    OffWarm,
}

impl Goal {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Copied, Self::OffHot, Self::Cooled, Self::OffWarm];

    /// The word under which the index keeps how far it is reached. It never changes.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Copied => "copied",
            Self::OffHot => "off_hot",
            Self::Cooled => "cooled",
            Self::OffWarm => "off_warm",
        }
    }
}

/// How far a segment is from a goal.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Progress {
    /// It is there.
    Reached,
    /// Its age has not come, nor that of those behind it.
    Young,
    /// It is old enough, and something else has to come first: a copy, or a grace.
    Waits,
    /// A copy is to be made.
    Copy(Tier),
    /// A copy is to be removed.
    Evict(Tier),
}

/// What a decision rests on beside the segment.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The time by which ages are judged.
    pub now: WallTime,
    /// Whether ages may be believed.
    pub clock_trusted: bool,
    /// Between a verified copy and the removal of the one that it replaces.
    pub grace: Duration,
    /// Whether the disk of the hot tier needs space.
    pub pressed: bool,
}

/// How far a sealed segment that ends at `wall_end` is from `goal`.
pub fn progress(
    goal: Goal,
    rule: &RetentionRule,
    below: Below,
    wall_end: WallTime,
    copies: &Copies,
    at: &Moment,
) -> Progress {
    let older = |age: Duration| i128::from(at.now.micros_since(wall_end)) >= age.as_micros() as i128;
    let aged = |age: Option<Duration>| at.clock_trusted && age.is_some_and(older);
    let since_us = at.now.micros_since(copies.since);
    // A copy from the future was made by a clock that was wrong.
    let after_grace = since_us < 0 || i128::from(since_us) >= at.grace.as_micros() as i128;
    let off = |tier: Tier, due: bool| match copies.state(tier) {
        CopyState::Absent => Progress::Reached,
        CopyState::Deleting => Progress::Evict(tier),
        CopyState::Whole | CopyState::Copying if !due => Progress::Young,
        CopyState::Whole | CopyState::Copying if copies.authority > tier && after_grace => {
            Progress::Evict(tier)
        }
        CopyState::Whole | CopyState::Copying => Progress::Waits,
    };
    let cools = aged(rule.cold_from(below));
    // What is left of a copy that was given up goes first.
    let copy = |tier: Tier| match copies.state(tier) {
        CopyState::Deleting => Progress::Evict(tier),
        // Another one counts for now, because this one was found wrong and is being mended.
        CopyState::Whole => Progress::Reached,
        CopyState::Absent | CopyState::Copying => Progress::Copy(tier),
    };
    match goal {
        Goal::Copied if copies.authority > Tier::Hot => Progress::Reached,
        Goal::Copied => rule.first_below(below).map_or(Progress::Waits, copy),
        Goal::OffHot => off(Tier::Hot, at.pressed || aged(rule.hot)),
        Goal::Cooled if copies.authority == Tier::Cold => Progress::Reached,
        Goal::Cooled | Goal::OffWarm if copies.authority < Tier::Cold && !cools => Progress::Young,
        Goal::Cooled if copies.authority == Tier::Warm => copy(Tier::Cold),
        Goal::Cooled => Progress::Waits,
        Goal::OffWarm if copies.authority < Tier::Cold => Progress::Waits,
        Goal::OffWarm => off(Tier::Warm, true),
    }
}

#[cfg(test)]
mod tests {
    use indexer::Event;
    use proptest::prelude::*;

    use super::*;

    const BELOW: Below = Below {
        warm: true,
        cold: true,
    };

    fn rule() -> RetentionRule {
        RetentionRule {
            hot: Some(Duration::from_secs(100)),
            warm: Some(Duration::from_secs(1000)),
            ..RetentionRule::default()
        }
    }

    fn seconds(s: i64) -> WallTime {
        WallTime::from_micros(1_800_000_000_000_000 + s * 1_000_000)
    }

    fn at(s: i64) -> Moment {
        Moment {
            now: seconds(s),
            clock_trusted: true,
            grace: Duration::from_secs(60),
            pressed: false,
        }
    }

    fn carry_out(copies: Copies, progress: Progress, now: WallTime) -> Copies {
        let steps = match progress {
            Progress::Reached | Progress::Young | Progress::Waits => return copies,
            Progress::Copy(tier) => [Event::CopyBegun(tier), Event::Copied(tier)],
            Progress::Evict(tier) => [Event::DeletionBegun(tier), Event::Deleted(tier)],
        };
        let taken = steps
            .iter()
            .try_fold(copies, |copies, step| copies.after(*step, now));
        taken.expect("every verdict can be carried out")
    }

    #[test]
    fn a_segment_is_copied_at_once_and_leaves_each_tier_when_its_time_has_come() {
        let mut copies = Copies::hot_only();
        let mut seen = Vec::new();
        for s in 0..1200 {
            for goal in Goal::ALL {
                let verdict = progress(goal, &rule(), BELOW, seconds(0), &copies, &at(s));
                if matches!(verdict, Progress::Copy(_) | Progress::Evict(_)) {
                    seen.push((s, verdict));
                }
                copies = carry_out(copies, verdict, seconds(s));
            }
        }
        assert_eq!(
            seen,
            [
                (0, Progress::Copy(Tier::Warm)),
                (100, Progress::Evict(Tier::Hot)),
                (1000, Progress::Copy(Tier::Cold)),
                (1060, Progress::Evict(Tier::Warm)),
            ]
        );
    }

    #[test]
    fn a_clock_that_is_doubted_ages_nothing_but_space_may_still_be_made_of_what_is_safe() {
        let doubted = Moment {
            clock_trusted: false,
            ..at(1_000_000)
        };
        let on_hot = Copies::hot_only();
        let both = carry_out(on_hot, Progress::Copy(Tier::Warm), seconds(0));
        let look = |goal, copies, at: &Moment| progress(goal, &rule(), BELOW, seconds(0), copies, at);
        assert_eq!(look(Goal::OffHot, &both, &doubted), Progress::Young);
        assert_eq!(look(Goal::Cooled, &both, &doubted), Progress::Young);
        let pressed = Moment {
            pressed: true,
            ..doubted
        };
        assert_eq!(look(Goal::OffHot, &both, &pressed), Progress::Evict(Tier::Hot));
        assert_eq!(look(Goal::OffHot, &on_hot, &pressed), Progress::Waits);
    }

    #[test]
    fn without_a_tier_below_nothing_moves() {
        let copies = Copies::hot_only();
        for goal in Goal::ALL {
            let verdict = progress(
                goal,
                &rule(),
                Below::default(),
                seconds(0),
                &copies,
                &at(1_000_000),
            );
            assert!(
                matches!(verdict, Progress::Waits | Progress::Young),
                "{verdict:?}"
            );
        }
    }

    fn event() -> impl Strategy<Value = Event> {
        (0..3usize, 0..5).prop_map(|(tier, kind)| {
            let tier = Tier::ALL[tier];
            match kind {
                0 => Event::CopyBegun(tier),
                1 => Event::Copied(tier),
                2 => Event::DeletionBegun(tier),
                3 => Event::Deleted(tier),
                _ => Event::Trusted(tier),
            }
        })
    }

    proptest! {
        /// Whatever a segment has been through, what is decided can be done, leaves a whole copy, and removes no
        /// copy before the grace is over.
        #[test]
        fn every_verdict_is_safe(
            events in prop::collection::vec(event(), 0..12),
            goal in 0..4usize, s in 0..2000i64, trusted: bool, pressed: bool,
            warm: bool, cold: bool,
        ) {
            let mut copies = Copies::hot_only();
            for event in events {
                copies = copies.after(event, seconds(0)).unwrap_or(copies);
            }
            let moment = Moment { clock_trusted: trusted, pressed, ..at(s) };
            let verdict = progress(Goal::ALL[goal], &rule(), Below { warm, cold }, seconds(0), &copies, &moment);
            if let Progress::Evict(tier) = verdict {
                prop_assert!(tier != copies.authority);
                prop_assert!(s >= 60 || copies.state(tier) == CopyState::Deleting);
            }
            let after = carry_out(copies, verdict, seconds(s));
            prop_assert_eq!(after.state(after.authority), CopyState::Whole);
        }
    }
}
