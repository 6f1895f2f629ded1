//! What rules come to, and what breaks their minimums.

use std::collections::BTreeMap;
use std::time::Duration;

use archive::units::format_duration;
use archive::{CameraId, Tier};
use indexer::{Risk, RiskCause, RuleForecast, days};

use super::flow::{Flow, crossing};
use super::look::{Look, Stream, bits, finite};
use super::size;
use crate::rules::RetentionRule;

impl Look<'_> {
    pub(super) fn rules(&self) -> Vec<RuleForecast> {
        let breaks = self.disk_breaks();
        let rules = (0..).map_while(|place| Some((place, self.input.rules.at(place)?)));
        let told = rules.filter_map(|(place, rule)| {
            let streams: Vec<_> = self.streams.iter().filter(|s| s.now.rule == place).collect();
            let number = self.input.rules.number(place);
            (number.is_some() || !streams.is_empty()).then(|| self.rule(number, rule, &streams, &breaks))
        });
        told.collect()
    }

    fn rule(
        &self,
        number: Option<usize>,
        rule: &RetentionRule,
        streams: &[&Stream<'_>],
        breaks: &BTreeMap<u8, f64>,
    ) -> RuleForecast {
        let risks = self.risks(rule, streams, breaks);
        let recorded = streams.iter().filter(|s| s.now.recorded);
        let holds_s = recorded
            .map(|s| self.will_hold(s).0)
            .fold(f64::INFINITY, f64::min);
        let max = self.input.rules.age_max(rule, None, self.input.now);
        let mut told = RuleForecast {
            rule: number,
            cameras: rule.cameras.iter().map(ToString::to_string).collect(),
            streams: rule.streams.iter().map(ToString::to_string).collect(),
            min_days: rule.min.map(|min| days(min.as_secs_f64())),
            max_days: max.map(|max| days(max.as_secs_f64())),
            governs: streams.len(),
            bytes: streams.iter().map(|s| s.now.all.bytes).sum(),
            bitrate_bps: bits(streams.iter().map(|s| s.now.rate).sum()),
            days_will_hold: finite(holds_s).map(days),
            at_risk: false,
            risks,
        };
        let soon = days(self.input.warn_before.as_secs_f64());
        told.at_risk = told.breaks().is_some_and(|risk| risk.days <= soon);
        told
    }

    /// For each priority of a stream whose minimum lies on the disk: in how many seconds even that has no room, when
    /// all cameras of lower priorities have given way.
    fn disk_breaks(&self) -> BTreeMap<u8, f64> {
        let promises = |s: &&Stream<'_>| s.now.recorded && !s.evicts && s.min_s > 0.0;
        let priorities = self.streams.iter().filter(promises).map(|s| s.now.priority);
        let limit = self.room(self.input.disk.low);
        let mut breaks = BTreeMap::new();
        for priority in priorities {
            breaks.entry(priority).or_insert_with(|| {
                let protected = |s: &Stream<'_>| {
                    let until_s = if s.evicts { 0.0 } else { s.min_s };
                    let mut flow = self.flow(s, s.now.on(Tier::Hot), until_s);
                    if s.now.priority < priority {
                        flow.rate = 0.0;
                    }
                    flow
                };
                crossing(&self.streams.iter().map(protected).collect::<Vec<_>>(), limit)
            });
        }
        breaks
            .into_iter()
            .filter_map(|(priority, s)| Some((priority, s?)))
            .collect()
    }

    fn risks(&self, rule: &RetentionRule, streams: &[&Stream<'_>], breaks: &BTreeMap<u8, f64>) -> Vec<Risk> {
        let Some(min) = rule.min.filter(|min| !min.is_zero()) else {
            return Vec::new();
        };
        let recorded: Vec<_> = streams.iter().filter(|s| s.now.recorded).collect();
        let mut risks = Vec::new();
        let mut add = |cause, seconds: f64, why| {
            risks.push(Risk {
                cause,
                at: self.at(seconds),
                days: days(seconds),
                why,
            });
        };
        let on_disk = recorded.iter().filter(|s| !s.evicts);
        if let Some(seconds) = on_disk
            .filter_map(|s| breaks.get(&s.now.priority))
            .copied()
            .reduce(f64::min)
        {
            add(RiskCause::Disk, seconds, self.why_disk(min));
        }
        for tier in [Tier::Warm, Tier::Cold] {
            let into = |s: &&&Stream<'_>| s.rule.first_below(self.input.rules.below()) == Some(tier);
            if recorded.iter().any(into)
                && let Some(seconds) = self.tier_breaks_s(tier)
            {
                add(RiskCause::Tier, seconds, self.why_tier(tier));
            }
        }
        if let Some((camera, seconds)) = self.quota_breaks(rule, streams) {
            let quota = rule.quota.unwrap_or_default();
            add(RiskCause::Quota, seconds, why_quota(camera, min, quota));
        }
        risks.sort_by_key(|risk| risk.at);
        risks
    }

    /// When the disk is full because a tier below takes nothing any more.
    fn tier_breaks_s(&self, tier: Tier) -> Option<f64> {
        let full_s = self.tier_full_s(tier)?;
        let hot: f64 = self.hot_flows().iter().map(|flow| flow.after(full_s)).sum();
        let room = (self.room(self.input.disk.low) - hot).max(0.0);
        Some(full_s + room / self.rate().max(1.0))
    }

    /// The camera whose quota is the first to be used up by footage under its minimum.
    fn quota_breaks<'s>(
        &self,
        rule: &RetentionRule,
        streams: &[&'s Stream<'_>],
    ) -> Option<(&'s CameraId, f64)> {
        let quota = rule.quota?;
        let mut cameras: BTreeMap<&CameraId, Vec<Flow>> = BTreeMap::new();
        for stream in streams {
            let flow = self.flow(stream, stream.now.all, stream.min_s);
            cameras.entry(&stream.now.id.camera).or_default().push(flow);
        }
        let broken = cameras
            .into_iter()
            .filter_map(|(camera, flows)| Some((camera, crossing(&flows, quota as f64)?)));
        broken.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn why_disk(&self, min: Duration) -> String {
        let on_disk = self.streams.iter().filter(|s| !s.evicts);
        let needed: f64 = on_disk.map(|s| s.now.rate * s.min_s).sum();
        format!(
            "footage that may not go (`min`, here {}) comes to {} on the disk at this rate, and it has {}: new footage of \
             the cameras with the lowest priority will not be recorded; lower `min`, add space, or record less",
            format_duration(min),
            size(needed),
            size(self.room(self.input.disk.low).max(0.0)),
        )
    }

    fn why_tier(&self, tier: Tier) -> String {
        let capacity = self.input.capacity.of(tier).unwrap_or_default();
        format!(
            "the {tier} tier reaches its capacity of {} at this rate; after that footage stays on the disk until that is \
             full, and then is not recorded; raise the capacity, or let footage leave the {tier} tier sooner",
            size(capacity as f64),
        )
    }
}

fn why_quota(camera: &CameraId, min: Duration, quota: u64) -> String {
    format!(
        "the minimum ({}) of camera {camera} does not fit into its quota of {} at this rate: the minimum is kept and the \
         quota exceeded; raise `quota` or lower `min`",
        format_duration(min),
        size(quota as f64),
    )
}
