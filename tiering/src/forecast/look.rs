//! What streams, the disk and the tiers come to.

use std::collections::BTreeMap;
use std::time::Duration;

use archive::{CameraId, Tier, WallTime};
use indexer::{DiskForecast, Ends, StreamForecast, TierBytes, TierForecast, days};

use super::flow::{Flow, Share, common_age, crossing};
use super::{Held, Input, StreamNow};
use crate::rules::RetentionRule;

/// Seconds until footage ends for one reason; infinite where it does not.
pub(super) fn seconds(age: Option<Duration>) -> f64 {
    age.map_or(f64::INFINITY, |age| age.as_secs_f64())
}

pub(super) fn finite(seconds: f64) -> Option<f64> {
    seconds.is_finite().then_some(seconds)
}

/// A stream and what its rule says of it.
pub(super) struct Stream<'a> {
    pub(super) now: &'a StreamNow,
    pub(super) rule: &'a RetentionRule,
    pub(super) min_s: f64,
    /// The age at which its rule ends its footage.
    pub(super) age_s: f64,
    /// When its footage ends because its camera was removed, where its rule does not end it.
    pub(super) removal_ends: Option<WallTime>,
    /// The age that the quota of its camera comes to.
    quota_s: f64,
    /// Whether it makes room on the disk by leaving it.
    pub(super) evicts: bool,
}

impl Stream<'_> {
    /// The age at which its footage ends if space never does it.
    fn kept_s(&self) -> f64 {
        self.age_s.min(self.quota_s).max(self.min_s)
    }

    /// The age at which its footage leaves the disk if space never does it.
    fn hot_s(&self) -> f64 {
        if self.evicts {
            seconds(self.rule.hot).min(self.kept_s())
        } else {
            self.kept_s()
        }
    }
}

/// The footage that one camera has under one rule: what a quota is about.
pub(super) type Group<'a> = (&'a CameraId, usize);

pub(super) struct Look<'a> {
    pub(super) input: &'a Input<'a>,
    pub(super) streams: Vec<Stream<'a>>,
    /// When the disk's reserve is reached.
    pub(super) full_s: Option<f64>,
    /// The age that footage reaches on it then.
    balance_s: Option<f64>,
}

impl<'a> Look<'a> {
    pub(super) fn new(input: &'a Input<'a>) -> Self {
        let rules = input.rules;
        let mut rates: BTreeMap<Group<'_>, f64> = BTreeMap::new();
        for stream in input.streams {
            *rates.entry((&stream.id.camera, stream.rule)).or_default() += stream.rate;
        }
        let of = |now: &'a StreamNow| {
            let rule = rules.at(now.rule)?;
            let rate = rates
                .get(&(&now.id.camera, now.rule))
                .copied()
                .unwrap_or_default();
            let quota_s = match rule.quota {
                Some(quota) if rate > 0.0 => quota as f64 / rate,
                _ => f64::INFINITY,
            };
            Some(Stream {
                now,
                rule,
                min_s: rule.age_min().as_secs_f64(),
                age_s: seconds(rules.age_max(rule, now.removed, input.now)),
                removal_ends: rules.removal_ends(rule, now.removed),
                quota_s,
                evicts: rule.first_below(rules.below()).is_some(),
            })
        };
        let mut look = Self {
            input,
            streams: input.streams.iter().filter_map(of).collect(),
            full_s: None,
            balance_s: None,
        };
        let room = look.room(input.disk.reserve);
        look.full_s = crossing(&look.hot_flows(), room);
        look.balance_s = common_age(&look.shares(), room);
        look
    }

    fn age_s(&self, since: Option<WallTime>) -> f64 {
        since.map_or(0.0, |since| {
            self.input.now.micros_since(since).max(0) as f64 / 1e6
        })
    }

    pub(super) fn at(&self, seconds: f64) -> WallTime {
        self.input.now.plus_micros((seconds * 1e6) as i64)
    }

    fn footage(&self) -> u64 {
        self.streams.iter().map(|s| s.now.on(Tier::Hot).bytes).sum()
    }

    /// What footage may take of the disk when so much is to stay free.
    pub(super) fn room(&self, free: u64) -> f64 {
        self.footage() as f64 + self.input.disk.free as f64 - free as f64
    }

    pub(super) fn flow(&self, stream: &Stream<'_>, held: Held, until_s: f64) -> Flow {
        Flow {
            rate: stream.now.rate,
            delay_s: 0.0,
            held: held.bytes as f64,
            span_s: self.age_s(held.since),
            until_s,
        }
    }

    pub(super) fn hot_flows(&self) -> Vec<Flow> {
        let flow = |s: &Stream<'_>| self.flow(s, s.now.on(Tier::Hot), s.hot_s());
        self.streams.iter().map(flow).collect()
    }

    fn shares(&self) -> Vec<Share> {
        let share = |s: &Stream<'_>| Share {
            rate: s.now.rate,
            least_s: if s.evicts { 0.0 } else { s.min_s },
            most_s: s.hot_s(),
        };
        self.streams.iter().map(share).collect()
    }

    pub(super) fn rate(&self) -> f64 {
        self.streams.iter().map(|s| s.now.rate).sum()
    }

    pub(super) fn disk(&self) -> DiskForecast {
        let (disk, footage) = (self.input.disk, self.footage());
        DiskForecast {
            total_bytes: disk.total,
            free_bytes: disk.free,
            reserve_bytes: disk.reserve,
            footage_bytes: footage,
            other_bytes: disk.total.saturating_sub(disk.free).saturating_sub(footage),
            bitrate_bps: bits(self.rate()),
            full_at: self.full_s.map(|s| self.at(s)),
            days_to_full: self.full_s.map(days),
            days_in_balance: self.balance_s.map(days),
        }
    }

    /// The footage of every stream on a tier below the disk: from which age on it is there, and until which.
    fn flows_on(&self, tier: Tier) -> Vec<Flow> {
        let below = self.input.rules.below();
        let flow = |s: &Stream<'_>| {
            let (first, cold_from) = (s.rule.first_below(below), s.rule.cold_from(below));
            let held = s.now.on(tier);
            let mut flow = self.flow(s, held, s.kept_s());
            match (tier, cold_from) {
                (Tier::Warm, Some(age)) => flow.until_s = age.as_secs_f64().min(s.kept_s()),
                (Tier::Cold, Some(age)) => {
                    // It comes when it has grown so old, and so does the oldest that is on the way.
                    let (from, oldest) = (age.as_secs_f64(), s.now.on(Tier::Warm).since);
                    flow.until_s = (s.kept_s() - from).max(0.0);
                    flow.span_s = (flow.span_s - from).max(0.0);
                    flow.delay_s = (from - self.age_s(oldest)).max(0.0);
                }
                _ if first != Some(tier) => flow.rate = 0.0,
                _ => {}
            }
            flow
        };
        self.streams.iter().map(flow).collect()
    }

    /// In how many seconds the capacity of a tier is reached.
    pub(super) fn tier_full_s(&self, tier: Tier) -> Option<f64> {
        let capacity = self.input.capacity.of(tier)?;
        crossing(&self.flows_on(tier), capacity as f64)
    }

    pub(super) fn tier(&self, tier: Tier) -> Option<TierForecast> {
        let below = self.input.rules.below();
        let there = if tier == Tier::Warm {
            below.warm
        } else {
            below.cold
        };
        there.then(|| {
            let flows = self.flows_on(tier);
            let balance: f64 = (flows.iter().filter(|f| f.rate > 0.0))
                .map(|f| f.rate * f.until_s)
                .sum();
            let full_s = self.tier_full_s(tier);
            TierForecast {
                tier,
                bytes: self.streams.iter().map(|s| s.now.on(tier).bytes).sum(),
                capacity_bytes: self.input.capacity.of(tier),
                balance_bytes: finite(balance).map(|bytes| bytes as u64),
                full_at: full_s.map(|s| self.at(s)),
                days_to_full: full_s.map(days),
            }
        })
    }

    /// How long a stream will hold its footage, and what ends it.
    pub(super) fn will_hold(&self, stream: &Stream<'_>) -> (f64, Option<Ends>) {
        let kept = stream.kept_s();
        let space = self
            .balance_s
            .filter(|_| !stream.evicts)
            .map(|s| s.max(stream.min_s));
        match space {
            Some(space) if space < kept => (space, Some(Ends::Space)),
            _ if stream.quota_s < stream.age_s => (kept, Some(Ends::Quota)),
            _ => (kept, finite(kept).map(|_| Ends::Age)),
        }
    }

    pub(super) fn stream(&self, stream: &Stream<'_>) -> StreamForecast {
        let now = stream.now;
        let (holds_s, ends) = self.will_hold(stream);
        let holds_s = finite(holds_s).filter(|_| now.recorded);
        StreamForecast {
            camera: now.id.camera.clone(),
            stream: now.id.stream.clone(),
            rule: self.input.rules.number(now.rule),
            recorded: now.recorded,
            bitrate_bps: bits(now.rate),
            bytes: TierBytes {
                hot: now.on(Tier::Hot).bytes,
                warm: now.on(Tier::Warm).bytes,
                cold: now.on(Tier::Cold).bytes,
            },
            oldest: now.all.since,
            days_held: now.all.since.map(|since| days(self.age_s(Some(since)))),
            days_will_hold: holds_s.map(days),
            ends: ends.filter(|_| now.recorded),
        }
    }
}

pub(super) fn bits(bytes_a_second: f64) -> u64 {
    (bytes_a_second * 8.0).round() as u64
}
