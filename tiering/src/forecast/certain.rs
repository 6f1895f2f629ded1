//! What can be seen to break before it begins to: promises that do not fit into what there is, whatever is there now.

use std::collections::BTreeMap;
use std::fmt;

use archive::units::format_duration;
use archive::{CameraId, Tier};

use super::{Capacity, StreamNow, size};
use crate::rules::{RetentionRule, Rules};

/// What a promise does not fit into.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Bound {
    /// The quota of the rule with this number, for a camera.
    Quota(usize, CameraId),
    /// The disk, for all that does not leave it.
    Disk,
    /// The capacity of a tier.
    Tier(Tier),
}

/// A promise that cannot be kept.
#[derive(Clone, PartialEq, Debug)]
pub struct Contradiction {
    /// What it does not fit into.
    pub bound: Bound,
    /// The number of the rule that asks for the most.
    pub rule: usize,
    /// How long it promises to keep footage.
    min: String,
    needed: f64,
    there: f64,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rule, min, needed, there) = (self.rule, &self.min, size(self.needed), size(self.there));
        write!(f, "rule {rule} of [[rules]]: ")?;
        match &self.bound {
            Bound::Quota(_, camera) => write!(
                f,
                "`min` ({min}) of camera {camera} takes {needed} at the rate of its last day, and its `quota` is {there}: raise \
                 `quota` or lower `min`"
            ),
            Bound::Disk => write!(
                f,
                "`min` ({min}) of all footage that does not leave the disk takes {needed} at the rates of the last day, and the \
                 disk has {there} for it: lower `min`, add space, or configure [tiers.warm]"
            ),
            Bound::Tier(tier) => write!(
                f,
                "`min` ({min}) of the footage on the {tier} tier takes {needed} at the rates of the last day, and `capacity` of \
                 [tiers.{tier}] is {there}: raise it or lower `min`"
            ),
        }
    }
}

/// What asks for space in one place.
#[derive(Default)]
struct Demand {
    needed: f64,
    /// By the number of the rule.
    rules: BTreeMap<usize, f64>,
}

impl Demand {
    fn add(&mut self, rule: usize, bytes: f64) {
        self.needed += bytes;
        *self.rules.entry(rule).or_default() += bytes;
    }
}

/// All of them, of streams whose rates are known; `disk` is what footage may take of it at most.
pub fn contradictions(
    rules: &Rules,
    streams: &[StreamNow],
    disk: u64,
    capacity: Capacity,
) -> Vec<Contradiction> {
    let mut demands: BTreeMap<Bound, (f64, Demand)> = BTreeMap::new();
    for stream in streams {
        let (Some(rule), Some(number)) = (rules.at(stream.rule), rules.number(stream.rule)) else {
            continue;
        };
        let needed = stream.rate * rule.age_min().as_secs_f64();
        let mut add = |bound: Bound, there: u64, bytes: f64| {
            let (_, demand) = demands
                .entry(bound)
                .or_insert_with(|| (there as f64, Demand::default()));
            demand.add(number, bytes);
        };
        if let Some(quota) = rule.quota {
            add(Bound::Quota(number, stream.id.camera.clone()), quota, needed);
        }
        match rule.first_below(rules.below()) {
            None => add(Bound::Disk, disk, needed),
            Some(tier) => {
                if let Some(there) = capacity.of(tier) {
                    add(Bound::Tier(tier), there, stream.rate * age_on(rule, rules, tier));
                }
            }
        }
    }
    let broken = demands
        .into_iter()
        .filter(|(_, (there, demand))| demand.needed > *there);
    let told = broken.filter_map(|(bound, (there, demand))| {
        let rule = *demand.rules.iter().max_by(|a, b| a.1.total_cmp(b.1))?.0;
        Some(Contradiction {
            bound,
            rule,
            min: format_duration(rules.at(rule - 1)?.age_min()),
            needed: demand.needed,
            there,
        })
    });
    told.collect()
}

/// How many seconds of its minimum footage spends on the first tier below the disk.
fn age_on(rule: &RetentionRule, rules: &Rules, tier: Tier) -> f64 {
    let leaves = rule.cold_from(rules.below()).filter(|_| tier == Tier::Warm);
    leaves
        .map_or(rule.age_min(), |leaves| leaves.min(rule.age_min()))
        .as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rules::Below;

    const DAY: Duration = Duration::from_secs(86_400);
    /// What a camera brings in a day.
    const DAY_BYTES: u64 = 86_400_000;

    fn streams(cameras: &[(&str, usize)]) -> Vec<StreamNow> {
        let stream = |(camera, rule): &(&str, usize)| StreamNow {
            id: archive::StreamId {
                tenant: Default::default(),
                camera: camera.parse().expect("id"),
                stream: "main".parse().expect("id"),
            },
            rule: *rule,
            priority: 5,
            recorded: true,
            removed: None,
            rate: 1000.0,
            all: Default::default(),
            held_fast: 0,
            on: Default::default(),
            oldest: Vec::new(),
        };
        cameras.iter().map(stream).collect()
    }

    fn min(days: u32) -> RetentionRule {
        RetentionRule {
            min: Some(days * DAY),
            ..RetentionRule::default()
        }
    }

    fn told(rules: &Rules, streams: &[StreamNow], disk: u64, warm: Option<u64>) -> Vec<String> {
        let capacity = Capacity { warm, cold: None };
        let found = contradictions(rules, streams, disk * DAY_BYTES, capacity);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn minimums_that_fit_exactly_are_kept_and_a_day_more_is_not() {
        let rules = Rules::new(vec![min(5)]).expect("sound");
        let both = streams(&[("lobby", 0), ("gate", 0)]);
        assert_eq!(told(&rules, &both, 10, None), [""; 0]);
        let found = told(&rules, &both, 9, None);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("rule 1 of [[rules]]: `min` (5d)") && found[0].contains("864.00 MB"),
            "{found:?}"
        );
    }

    #[test]
    fn a_quota_is_held_against_the_minimum_of_each_camera() {
        let rule = RetentionRule {
            quota: Some(4 * DAY_BYTES),
            ..min(5)
        };
        let rules = Rules::new(vec![rule]).expect("sound");
        let found = told(&rules, &streams(&[("lobby", 0), ("gate", 0)]), 1000, None);
        assert_eq!(found.len(), 2);
        assert!(
            found[1].contains("camera lobby") && found[1].contains("345.60 MB"),
            "{found:?}"
        );
    }

    #[test]
    fn the_rule_that_asks_for_the_most_is_named() {
        let gate = RetentionRule {
            cameras: vec!["gate".into()],
            ..min(2)
        };
        let rules = Rules::new(vec![gate, min(30)]).expect("sound");
        let found = told(&rules, &streams(&[("gate", 0), ("lobby", 1)]), 10, None);
        assert!(
            found[0].starts_with("rule 2 of [[rules]]: `min` (30d)"),
            "{found:?}"
        );
    }

    #[test]
    fn footage_that_leaves_the_disk_is_held_against_the_tier_that_it_goes_to() {
        let below = Below {
            warm: true,
            cold: false,
        };
        let rules = Rules::with_tiers(vec![min(5)], below).expect("sound");
        let lobby = streams(&[("lobby", 0)]);
        assert_eq!(told(&rules, &lobby, 1, None), [""; 0]);
        assert_eq!(told(&rules, &lobby, 1, Some(5 * DAY_BYTES)), [""; 0]);
        let found = told(&rules, &lobby, 1, Some(4 * DAY_BYTES));
        assert!(found[0].contains("[tiers.warm]"), "{found:?}");
        // What goes on to the cold tier after two days fits.
        let cools = RetentionRule {
            warm: Some(2 * DAY),
            ..min(5)
        };
        let rules = Rules::with_tiers(
            vec![cools],
            Below {
                warm: true,
                cold: true,
            },
        )
        .expect("sound");
        assert_eq!(told(&rules, &lobby, 1, Some(2 * DAY_BYTES)), [""; 0]);
    }
}
