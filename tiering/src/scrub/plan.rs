//! Decides what is looked at next, when to keep still, and what becomes of a copy that is wrong. Purely.

use std::time::Duration;

use archive::time::HOUR_US;
use archive::{StreamNo, Tier, WallTime};
use indexer::{Copies, CopyState, Keeping, Sweep, SweepState};

use super::ScrubConfig;

/// Recording is left alone while the sessions' thread works more than this share of its time.
const BUSY: f32 = 0.7;
/// Or reads samples so late.
const BEHIND: Duration = Duration::from_millis(750);
/// Or complete fragments wait for the disk so long.
const WAITED: Duration = Duration::from_secs(2);

/// Whether recording has so much to do that nothing else should read.
pub fn is_loaded(keeping: &Keeping, waited: Duration) -> bool {
    keeping.shed > 0 || keeping.busy > BUSY || keeping.behind > BEHIND || waited > WAITED
}

/// How long ago, at most, something of a stream was looked at. `oldest` is the end of its first segment, whose bytes
/// were right when they were written.
pub fn age(state: &SweepState, oldest: WallTime, now: WallTime) -> Duration {
    // What a clock that was wrong has left behind says nothing.
    let last = state.last.filter(|last| last.micros_since(now) < HOUR_US);
    // What is gone since was not looked at, and does not have to be.
    let since = last.unwrap_or(WallTime::MIN).max(oldest);
    Duration::from_micros(now.micros_since(since).max(0).unsigned_abs())
}

/// A stream and a sweep over it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Which sweep.
    pub sweep: Sweep,
    /// Of which stream.
    pub stream: StreamNo,
    /// Whether one is in progress.
    pub begun: bool,
    /// See [`age`].
    pub age: Duration,
}

/// The sweep that is the most overdue. One that reads begins when half of its period is over, so that it has the
/// other half to come to its end.
pub fn next(config: &ScrubConfig, standings: impl IntoIterator<Item = Standing>) -> Option<Standing> {
    let due = standings.into_iter().filter_map(|standing| {
        let period = config.period(standing.sweep)?;
        let begins = match standing.sweep {
            Sweep::Light => period,
            Sweep::Deep(_) => period / 2,
        };
        let overdue = standing.age.as_secs_f64() / begins.as_secs_f64();
        (standing.begun || overdue >= 1.0).then_some((overdue, standing))
    });
    due.max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, standing)| standing)
}

/// The copies from which a wrong one on `bad` may be made anew, in the order in which they are tried. When the wrong
/// one is the one that counts, another takes its place: the coldest, which is next to count.
pub fn sources(copies: &Copies, bad: Tier) -> Vec<Tier> {
    let others = Tier::ALL
        .into_iter()
        .filter(|tier| *tier != bad && copies.state(*tier) == CopyState::Whole);
    let mut others: Vec<_> = others.collect();
    if copies.authority == bad {
        others.reverse();
    }
    others
}

#[cfg(test)]
mod tests {
    use archive::time::SECOND_US;
    use indexer::Event;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn day(n: i64) -> WallTime {
        WallTime::from_micros(1_800_000_000_000_000 + n * 24 * HOUR_US)
    }

    fn standing(sweep: Sweep, stream: u32, days: u32) -> Standing {
        Standing {
            sweep,
            stream: StreamNo(stream),
            begun: false,
            age: DAY * days,
        }
    }

    #[test]
    fn what_is_the_most_overdue_for_its_period_comes_first() {
        let config = ScrubConfig::default();
        let deep = Sweep::Deep;
        let next = |all: &[Standing]| next(&config, all.iter().copied()).map(|s| (s.sweep, s.stream.0));
        assert_eq!(
            next(&[
                standing(deep(Tier::Hot), 1, 14),
                standing(deep(Tier::Warm), 1, 44)
            ]),
            None
        );
        let late = [
            standing(deep(Tier::Hot), 1, 16),
            standing(deep(Tier::Hot), 2, 20),
            standing(deep(Tier::Warm), 1, 50),
        ];
        assert_eq!(next(&late), Some((deep(Tier::Hot), 2)));
        let light = [standing(Sweep::Light, 3, 2), late[1]];
        assert_eq!(next(&light), Some((Sweep::Light, 3)));
        assert_eq!(next(&[standing(deep(Tier::Cold), 1, 10_000)]), None, "it is off");
        let begun = Standing {
            begun: true,
            ..standing(deep(Tier::Warm), 9, 0)
        };
        assert_eq!(
            next(&[begun]),
            Some((deep(Tier::Warm), 9)),
            "what was begun is ended"
        );
    }

    #[test]
    fn ages_count_from_the_beginning_of_the_last_sweep_or_from_the_footage_itself() {
        let state = |last: Option<i64>| SweepState {
            last: last.map(day),
            ..SweepState::default()
        };
        assert_eq!(age(&state(None), day(1), day(40)), DAY * 39);
        assert_eq!(age(&state(Some(30)), day(1), day(40)), DAY * 10);
        assert_eq!(
            age(&state(Some(30)), day(38), day(40)),
            DAY * 2,
            "the rest was deleted"
        );
        assert_eq!(
            age(&state(Some(4000)), day(1), day(40)),
            DAY * 39,
            "a clock was wrong"
        );
        assert_eq!(age(&state(Some(30)), day(1), day(20)), DAY * 19);
        assert_eq!(age(&state(None), day(50), day(40)), Duration::ZERO);
    }

    #[test]
    fn recording_that_has_much_to_do_is_left_alone() {
        let calm = Keeping::default();
        assert!(!is_loaded(&calm, Duration::ZERO));
        assert!(is_loaded(&calm, Duration::from_secs(3)));
        let busy = Keeping { busy: 0.9, ..calm };
        let late = Keeping {
            behind: Duration::from_secs(1),
            ..calm
        };
        let shed = Keeping { shed: 1, ..calm };
        assert!([busy, late, shed].iter().all(|k| is_loaded(k, Duration::ZERO)));
    }

    #[test]
    fn a_copy_is_made_anew_from_the_nearest_unless_another_one_must_count_instead() {
        let step = |copies: Copies, event| copies.after(event, WallTime::from_micros(SECOND_US));
        let mut all = Copies::hot_only();
        for tier in [Tier::Warm, Tier::Cold] {
            for event in [Event::CopyBegun(tier), Event::Copied(tier)] {
                all = step(all, event).expect("allowed");
            }
        }
        assert_eq!(sources(&all, Tier::Hot), [Tier::Warm, Tier::Cold]);
        assert_eq!(sources(&all, Tier::Warm), [Tier::Hot, Tier::Cold]);
        assert_eq!(sources(&all, Tier::Cold), [Tier::Warm, Tier::Hot]);
        assert_eq!(sources(&Copies::hot_only(), Tier::Hot), []);
    }
}
