//! Which segments are deleted next, by the reasons and in the order of [`policy`](crate::policy).

use std::collections::BTreeMap;

use archive::WallTime;
use indexer::{Ends, Going};

use super::flow::crossing;
use super::look::{Group, Look, Stream, finite};
use crate::policy::Candidate;

/// The next segments that go, in order. A stream is known as far as its oldest segments were read.
pub(super) fn next(look: &Look<'_>) -> Vec<Going> {
    let mut ahead = Ahead {
        look,
        taken: vec![0; look.streams.len()],
        groups: groups(look),
        short_s: look.full_s,
        freed: 0.0,
    };
    let mut going = Vec::new();
    while going.len() < look.input.next_max
        && let Some(one) = ahead.soonest()
    {
        going.extend(ahead.take(&one));
    }
    going
}

/// What a camera uses under a rule that has a quota.
struct Used {
    members: Vec<usize>,
    bytes: f64,
    quota: f64,
    rate: f64,
}

fn groups<'a>(look: &Look<'a>) -> BTreeMap<Group<'a>, Used> {
    let mut groups: BTreeMap<Group<'_>, Used> = BTreeMap::new();
    for (i, stream) in look.streams.iter().enumerate() {
        let Some(quota) = stream.rule.quota else { continue };
        let used = groups
            .entry((&stream.now.id.camera, stream.now.rule))
            .or_insert(Used {
                members: Vec::new(),
                bytes: 0.0,
                quota: quota as f64,
                rate: 0.0,
            });
        used.members.push(i);
        used.bytes += stream.now.all.bytes.saturating_sub(stream.now.held_fast) as f64;
        used.rate += stream.now.rate;
    }
    groups
}

struct Ahead<'l, 'a> {
    look: &'l Look<'a>,
    taken: Vec<usize>,
    groups: BTreeMap<Group<'a>, Used>,
    /// In how many seconds the disk is short of space.
    short_s: Option<f64>,
    /// Bytes of those that were taken for space so far.
    freed: f64,
}

/// The head of a stream, and when it goes.
struct One {
    at: WallTime,
    reason: Ends,
    stream: usize,
    segment: Candidate,
}

impl Ahead<'_, '_> {
    fn heads(&self) -> impl Iterator<Item = (usize, &Stream<'_>, Candidate)> {
        let with_head = |(i, stream): (usize, _)| {
            let stream: &Stream<'_> = stream;
            let segment = stream.now.oldest.get(*self.taken.get(i)?)?;
            Some((i, stream, *segment))
        };
        self.look.streams.iter().enumerate().filter_map(with_head)
    }

    fn soonest(&self) -> Option<One> {
        // As in a pass: of those that are due at once, age comes before quota and quota before space.
        let found = [self.by_age(), self.by_quota(), self.by_space()];
        found.into_iter().flatten().min_by_key(|one| one.at)
    }

    fn by_age(&self) -> Option<One> {
        let due = self.heads().filter_map(|(stream, s, segment)| {
            let by_rule = finite(s.age_s).map(|age_s| later(segment.wall_end, age_s));
            let at = by_rule.or(s.removal_ends)?.max(later(segment.wall_end, s.min_s));
            Some(self.one(at, Ends::Age, stream, segment))
        });
        due.min_by_key(|one| (one.at, one.stream))
    }

    fn by_quota(&self) -> Option<One> {
        let due = self.groups.values().filter_map(|used| {
            let over_s = seconds_until(used.quota - used.bytes, used.rate)?;
            let over = later(self.look.input.now, over_s);
            let heads = self.heads().filter(|(i, ..)| used.members.contains(i));
            let due = heads.map(|(i, s, segment)| {
                let at = over.max(later(segment.wall_end, s.min_s));
                self.one(at, Ends::Quota, i, segment)
            });
            due.min_by_key(|one| (one.at, one.segment.wall_end, one.stream))
        });
        due.min_by_key(|one| (one.at, one.stream))
    }

    fn by_space(&self) -> Option<One> {
        let short = later(self.look.input.now, self.short_s?);
        let heads = self.heads().filter(|(_, s, _)| !s.evicts);
        let due = heads.map(|(i, s, segment)| {
            let at = short.max(later(segment.wall_end, s.min_s));
            let order = (segment.wall_end.hour(), s.now.priority, segment.wall_end, i);
            (at, order, segment)
        });
        let (at, (.., i), segment) = due.min_by_key(|(at, order, _)| (*at, *order))?;
        Some(self.one(at, Ends::Space, i, segment))
    }

    fn one(&self, at: WallTime, reason: Ends, stream: usize, segment: Candidate) -> One {
        One {
            at: at.max(self.look.input.now),
            reason,
            stream,
            segment,
        }
    }

    fn take(&mut self, one: &One) -> Option<Going> {
        let (at, reason, segment) = (one.at, one.reason, one.segment);
        if reason == Ends::Space {
            self.freed += segment.bytes as f64;
            let room = self.look.room(self.look.input.disk.reserve);
            self.short_s = crossing(&self.look.hot_flows(), room + self.freed);
        }
        if let Some(taken) = self.taken.get_mut(one.stream) {
            *taken += 1;
        }
        for used in self
            .groups
            .values_mut()
            .filter(|used| used.members.contains(&one.stream))
        {
            used.bytes -= segment.bytes as f64;
        }
        let id = &self.look.streams.get(one.stream)?.now.id;
        Some(Going {
            camera: id.camera.clone(),
            stream: id.stream.clone(),
            until: segment.wall_end,
            bytes: segment.bytes,
            at,
            reason,
        })
    }
}

/// How long `rate` takes for `bytes`; at once when there is nothing left, never when nothing comes.
fn seconds_until(bytes: f64, rate: f64) -> Option<f64> {
    if bytes <= 0.0 {
        Some(0.0)
    } else {
        finite(bytes / rate)
    }
}

fn later(from: WallTime, seconds: f64) -> WallTime {
    from.plus_micros((seconds * 1e6) as i64)
}
