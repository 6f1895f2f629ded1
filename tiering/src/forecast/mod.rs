//! What becomes of the footage if everything goes on as it did over the last day: pure arithmetic.
//!
//! A stream brings so many bytes a second and keeps them up to an age. From that follows when a disk or a tier is full,
//! how long footage stays once it is, when what rules promise no longer fits, and what goes first. Footage of one
//! stream counts as spread evenly over its ages.

mod certain;
mod flow;
mod look;
mod next;
mod risks;

use std::time::Duration;

use archive::{StreamId, Tier, WallTime};
use indexer::Forecast;

pub use self::certain::{Bound, Contradiction, contradictions};
use self::look::Look;
use crate::policy::Candidate;
use crate::rules::Rules;

/// Footage of a stream on one tier.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub struct Held {
    /// Its bytes.
    pub bytes: u64,
    /// Where the oldest of it begins.
    pub since: Option<WallTime>,
}

/// A stream as it is now.
#[derive(Clone, PartialEq, Debug)]
pub struct StreamNow {
    /// Which.
    pub id: StreamId,
    /// The place of its rule.
    pub rule: usize,
    /// The priority of its camera.
    pub priority: u8,
    /// Whether it is to be recorded.
    pub recorded: bool,
    /// When its camera was removed.
    pub removed: Option<WallTime>,
    /// Bytes a second that it brings; 0 when it is not recorded.
    pub rate: f64,
    /// Its footage, each segment counted once.
    pub all: Held,
    /// Bytes of it that a hold covers, which count towards no quota; read only where its rule has one.
    pub held_fast: u64,
    /// Its footage by tier; a segment that is on two counts on both.
    pub on: [Held; 3],
    /// Its oldest segments, in order, that may go as far as their state goes.
    pub oldest: Vec<Candidate>,
}

impl StreamNow {
    fn on(&self, tier: Tier) -> Held {
        self.on.get(tier as usize).copied().unwrap_or_default()
    }
}

/// The disk of the hot tier as it is now.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct DiskNow {
    /// Its size.
    pub total: u64,
    /// Bytes that may still be written.
    pub free: u64,
    /// With less free, what may go makes room.
    pub reserve: u64,
    /// With less free, cameras are no longer recorded.
    pub low: u64,
}

/// What the tiers below may hold, where the configuration says so.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Capacity {
    /// The warm tier.
    pub warm: Option<u64>,
    /// The cold tier.
    pub cold: Option<u64>,
}

impl Capacity {
    /// That of a tier; the disk tells its own.
    pub fn of(&self, tier: Tier) -> Option<u64> {
        match tier {
            Tier::Hot => None,
            Tier::Warm => self.warm,
            Tier::Cold => self.cold,
        }
    }
}

/// All that a forecast rests on.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The time by which ages are judged.
    pub now: WallTime,
    /// Rules, by place.
    pub rules: &'a Rules,
    /// Every stream.
    pub streams: &'a [StreamNow],
    /// Whether all their footage has been counted.
    pub complete: bool,
    /// The disk.
    pub disk: DiskNow,
    /// What lies below it.
    pub capacity: Capacity,
    /// A minimum that breaks within this time is at risk.
    pub warn_before: Duration,
    /// Segments told that are deleted next.
    pub next_max: usize,
}

/// Makes it.
pub fn forecast(input: &Input<'_>) -> Forecast {
    let look = Look::new(input);
    Forecast {
        at: input.now,
        complete: input.complete,
        disk: look.disk(),
        tiers: [Tier::Warm, Tier::Cold]
            .into_iter()
            .filter_map(|tier| look.tier(tier))
            .collect(),
        rules: look.rules(),
        streams: look.streams.iter().map(|stream| look.stream(stream)).collect(),
        next: next::next(&look),
    }
}

/// Bytes for people: three digits and a unit.
pub(crate) fn size(bytes: f64) -> String {
    let units = [("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let unit = units.into_iter().find(|(_, scale)| bytes >= *scale);
    unit.map_or_else(
        || format!("{bytes:.0} B"),
        |(name, scale)| format!("{:.2} {name}", bytes / scale),
    )
}

#[cfg(test)]
mod tests;
