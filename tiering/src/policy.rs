//! Which segments to delete: a pure decision over the oldest segments of every stream.
//!
//! Three reasons, looked at in this order:
//! - **Age**: the segment is older than its rule keeps footage, or its rule keeps it until space is needed and its camera
//!   was removed longer ago than the grace. Only while the clock is trusted.
//! - **Quota**: a camera uses more than its rule allows for the streams it governs. The oldest of those
//!   streams' segments goes first.
//! - **Space**: less than the reserve is free. The oldest segment of all streams goes first, by the hour in
//!   which it ends; within an hour the camera of the lowest priority goes first.
//!
//! None of them reaches a segment that is younger than the minimum of its rule, and each takes the segments
//! of a stream in order, so that a segment which must stay keeps all that follow it. Segments under a hold are not
//! among them: they stay, and keep nothing else.

use std::collections::BTreeMap;

use archive::{CameraId, SegmentId, WallTime};

use crate::rules::{RetentionRule, Rules};

/// A segment that may be deleted as far as its state goes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Which.
    pub id: SegmentId,
    /// When its last fragment ends; ages count from here.
    pub wall_end: WallTime,
    /// Bytes that its deletion frees.
    pub bytes: u64,
}

/// One stream as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamView {
    /// Its camera.
    pub camera: CameraId,
    /// The priority of that camera, which it keeps when it is removed; 0 for footage without one.
    pub priority: u8,
    /// When that camera was removed.
    pub removed: Option<WallTime>,
    /// The place of its rule.
    pub rule: usize,
    /// Bytes of all its segments that no hold covers; read only where its rule has a quota.
    pub bytes: u64,
    /// Its oldest segments that no hold covers, in order.
    pub oldest: Vec<Candidate>,
    /// Whether more candidates follow those in `oldest`.
    pub more: bool,
    /// Whether its segments make room by leaving the hot tier, and are never deleted for that.
    pub evicts: bool,
}

/// All that a decision rests on.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The time by which ages are judged.
    pub now: WallTime,
    /// Whether segments may be deleted for their age.
    pub clock_trusted: bool,
    /// Rules, by place.
    pub rules: &'a Rules,
    /// Every stream.
    pub streams: &'a [StreamView],
    /// Bytes free on the disk.
    pub free: u64,
    /// Bytes that are to be free.
    pub reserve: u64,
    /// Segments to delete at most.
    pub deletions_max: usize,
}

/// Why a segment is deleted.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// Its rule keeps nothing so old.
    Age,
    /// Its camera uses more than its quota.
    Quota,
    /// The disk needs the space.
    Space,
}

impl Reason {
    /// The word used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Quota => "quota",
            Self::Space => "space",
        }
    }
}

/// A segment to delete.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The place of its stream in the input.
    pub stream: usize,
    /// The segment.
    pub segment: Candidate,
    /// Why.
    pub reason: Reason,
}

/// What is to be done. Everything that is not named is kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Decision {
    /// In the order in which to delete.
    pub delete: Vec<Verdict>,
    /// Streams of which the decision would have needed to see more segments: decide again with more. Empty
    /// when `deletions_max` is reached.
    pub starved: Vec<usize>,
}

/// Decides one pass.
pub fn decide(input: &Input<'_>) -> Decision {
    let mut pass = Pass {
        input,
        taken: vec![0; input.streams.len()],
        freed: 0,
        delete: Vec::new(),
    };
    if input.clock_trusted {
        pass.age();
    }
    pass.quota();
    pass.space();
    let full = pass.is_full();
    let starved = |i: &usize| !full && pass.starves(*i);
    Decision {
        starved: (0..input.streams.len()).filter(starved).collect(),
        delete: pass.delete,
    }
}

struct Pass<'a> {
    input: &'a Input<'a>,
    /// How many of each stream's oldest segments are to be deleted.
    taken: Vec<usize>,
    freed: u64,
    delete: Vec<Verdict>,
}

impl<'a> Pass<'a> {
    fn is_full(&self) -> bool {
        self.delete.len() >= self.input.deletions_max
    }

    fn streams(&self) -> impl Iterator<Item = (usize, &'a StreamView)> + use<'a> {
        self.input.streams.iter().enumerate()
    }

    fn rule(&self, stream: &StreamView) -> Option<&'a RetentionRule> {
        self.input.rules.at(stream.rule)
    }

    /// The segment of a stream that would be deleted next.
    fn next(&self, stream: usize) -> Option<Candidate> {
        let taken = *self.taken.get(stream)?;
        self.input.streams.get(stream)?.oldest.get(taken).copied()
    }

    /// Whether it is not known what would be deleted next.
    fn starves(&self, stream: usize) -> bool {
        self.next(stream).is_none() && self.input.streams.get(stream).is_some_and(|s| s.more)
    }

    fn age_us(&self, segment: Candidate) -> i64 {
        self.input.now.micros_since(segment.wall_end)
    }

    /// The segment of a stream that would be deleted next, if it is past its minimum. Without a minimum
    /// even footage from a future, which a wrong clock once wrote, gives way to space.
    fn next_past_min(&self, i: usize, stream: &StreamView) -> Option<Candidate> {
        let min = self.rule(stream)?.age_min();
        let segment = self.next(i)?;
        let past = min.is_zero() || i128::from(self.age_us(segment)) >= min.as_micros() as i128;
        past.then_some(segment)
    }

    fn take(&mut self, stream: usize, segment: Candidate, reason: Reason) {
        if let Some(taken) = self.taken.get_mut(stream) {
            *taken += 1;
        }
        self.freed = self.freed.saturating_add(segment.bytes);
        self.delete.push(Verdict {
            stream,
            segment,
            reason,
        });
    }

    fn age(&mut self) {
        for (i, stream) in self.streams() {
            let (rules, now) = (self.input.rules, self.input.now);
            let rule = self.rule(stream);
            let Some(max) = rule.and_then(|rule| rules.age_max(rule, stream.removed, now)) else {
                continue;
            };
            while !self.is_full()
                && let Some(segment) = self.next_past_min(i, stream)
                && i128::from(self.age_us(segment)) >= max.as_micros() as i128
            {
                self.take(i, segment, Reason::Age);
            }
        }
    }

    fn quota(&mut self) {
        let mut groups: BTreeMap<(&CameraId, usize), Vec<usize>> = BTreeMap::new();
        for (i, stream) in self.streams() {
            if self.rule(stream).is_some_and(|rule| rule.quota.is_some()) {
                groups.entry((&stream.camera, stream.rule)).or_default().push(i);
            }
        }
        for ((_, rule), members) in groups {
            let quota = self
                .input
                .rules
                .at(rule)
                .and_then(|r| r.quota)
                .unwrap_or(u64::MAX);
            let mut used: u64 = members.iter().map(|i| self.bytes_left(*i)).sum();
            while used > quota && !self.is_full() && !members.iter().any(|i| self.starves(*i)) {
                let oldest = members.iter().filter_map(|i| {
                    let stream = self.input.streams.get(*i)?;
                    let segment = self.next_past_min(*i, stream)?;
                    Some((segment.wall_end, *i, segment))
                });
                let Some((_, i, segment)) = oldest.min_by_key(|(end, i, _)| (*end, *i)) else {
                    break;
                };
                used = used.saturating_sub(segment.bytes);
                self.take(i, segment, Reason::Quota);
            }
        }
    }

    /// The bytes of a stream less those that are to be deleted already.
    fn bytes_left(&self, i: usize) -> u64 {
        let Some(stream) = self.input.streams.get(i) else {
            return 0;
        };
        let taken = self.taken.get(i).copied().unwrap_or(0);
        let gone: u64 = stream.oldest.iter().take(taken).map(|s| s.bytes).sum();
        stream.bytes.saturating_sub(gone)
    }

    fn space(&mut self) {
        let short = |freed: u64| self.input.free.saturating_add(freed) < self.input.reserve;
        if !short(self.freed) {
            return;
        }
        let key = |pass: &Self, i: usize, stream: &StreamView| {
            if stream.evicts {
                return None;
            }
            let segment = pass.next_past_min(i, stream)?;
            let order = (segment.wall_end.hour(), stream.priority, segment.wall_end, i);
            Some((order, segment))
        };
        let mut heads: BTreeMap<_, Candidate> = self.streams().filter_map(|(i, s)| key(self, i, s)).collect();
        let mut starved = self.streams().any(|(i, s)| !s.evicts && self.starves(i));
        while !starved
            && short(self.freed)
            && !self.is_full()
            && let Some(((.., i), segment)) = heads.pop_first()
        {
            self.take(i, segment, Reason::Space);
            heads.extend(self.input.streams.get(i).and_then(|s| key(self, i, s)));
            starved = self.starves(i);
        }
    }
}

#[cfg(test)]
mod tests;
