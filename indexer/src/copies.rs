//! Where a segment's copies are: a state machine, and the row that keeps it.
//!
//! Every copy goes its own way, forwards only: absent, being copied, whole, being deleted, absent. One of those that
//! are whole is the authority: the copy that counts when others are thrown away. It moves by [`Event::Copied`] and
//! [`Event::Trusted`] alone, that is, when a copy was verified.

use archive::codec::{Decoder, Encoder};
use archive::{Malformed, StreamNo, Tier, WallTime};
use rocksdb::WriteBatch;

use crate::coverage::Borders;
use crate::db::{COPIES, META};
use crate::error::IndexError;
use crate::index::Index;
use crate::keys;
use crate::rows::SegmentRow;

/// What a copy is going through.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum CopyState {
    /// There is none.
    #[default]
    Absent,
    /// It is being made: something may stand under its name, which nobody reads.
    Copying,
    /// It is there and was verified.
    Whole,
    /// It is being removed: nobody reads it any more.
    Deleting,
}

/// A step in the life of a copy.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// A copy is about to be made.
    CopyBegun(Tier),
    /// It was verified: it is the authority now, if it lies on a colder tier than the one that was.
    Copied(Tier),
    /// A copy is about to be removed.
    DeletionBegun(Tier),
    /// It was seen to be gone.
    Deleted(Tier),
    /// A whole copy was read from its first byte to its last and is what was recorded: it is the authority now, in
    /// place of one that was found not to be.
    Trusted(Tier),
}

/// Why a step may not be taken.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Forbidden {
    /// A copy goes its way forwards only.
    #[error("a copy that is {0:?} cannot take this step")]
    OutOfOrder(CopyState),
    /// The authority goes with the segment, never before it.
    #[error("this copy is the one that counts")]
    Authority,
}

/// All copies of a sealed segment.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Copies {
    /// The copy that counts. It is whole, always.
    pub authority: Tier,
    states: [CopyState; 3],
    /// When the authority moved last.
    pub since: WallTime,
    /// The CRC-64/NVME of all bytes of the file; 0 until a copy was made.
    pub crc64: u64,
    /// What it adds to coverage where others do too, once its table is not in the index any more.
    pub(crate) borders: Option<Borders>,
}

impl Copies {
    /// A segment that never left the disk on which it was recorded.
    pub fn hot_only() -> Self {
        let mut copies = Self {
            authority: Tier::Hot,
            states: [CopyState::Absent; 3],
            since: WallTime::MIN,
            crc64: 0,
            borders: None,
        };
        copies.set(Tier::Hot, CopyState::Whole);
        copies
    }

    /// A segment that was found on these tiers, the fastest first; `None` when only the hot one has it. The fastest
    /// counts, because it is the one that was read; the others may be unverified, and are until they were looked at.
    pub(crate) fn found(tiers: impl Iterator<Item = Tier>) -> Option<Self> {
        let mut copies = Self {
            states: [CopyState::Absent; 3],
            ..Self::hot_only()
        };
        let mut count = 0;
        for tier in tiers {
            if count == 0 {
                copies.authority = tier;
                copies.set(tier, CopyState::Whole);
            } else {
                copies.set(tier, CopyState::Copying);
            }
            count += 1;
        }
        (count > 1 || copies.state(Tier::Hot) == CopyState::Absent).then_some(copies)
    }

    /// What the copy on a tier is going through.
    pub fn state(&self, tier: Tier) -> CopyState {
        self.states.get(tier as usize).copied().unwrap_or_default()
    }

    fn set(&mut self, tier: Tier, state: CopyState) {
        if let Some(slot) = self.states.get_mut(tier as usize) {
            *slot = state;
        }
    }

    /// Whether it tells the same of each copy as `other`.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.authority, self.states, self.crc64) == (other.authority, other.states, other.crc64)
    }

    /// The tiers on which something stands or may stand under the segment's name.
    pub fn present(&self) -> impl Iterator<Item = Tier> {
        let states = self.states;
        Tier::ALL
            .into_iter()
            .zip(states)
            .filter(|(_, state)| *state != CopyState::Absent)
            .map(|(tier, _)| tier)
    }

    /// The tier that is read: the fastest that has a whole copy.
    pub fn nearest(&self) -> Tier {
        let whole = Tier::ALL
            .into_iter()
            .find(|tier| self.state(*tier) == CopyState::Whole);
        whole.unwrap_or(self.authority)
    }

    /// What follows when `event` happens at `now`. A step that was taken already changes nothing.
    pub fn after(mut self, event: Event, now: WallTime) -> Result<Self, Forbidden> {
        use CopyState::{Absent, Copying, Deleting, Whole};
        let (tier, next) = match event {
            Event::CopyBegun(tier) => (tier, Copying),
            Event::Copied(tier) => (tier, Whole),
            Event::DeletionBegun(tier) => (tier, Deleting),
            Event::Deleted(tier) => (tier, Absent),
            Event::Trusted(tier) => return self.trust(tier, now),
        };
        let state = self.state(tier);
        match (state, next) {
            (state, next) if state == next => return Ok(self),
            (Whole, Deleting) if self.authority == tier => return Err(Forbidden::Authority),
            (Absent, Copying) | (Copying, Whole) | (Whole | Copying, Deleting) | (Deleting, Absent) => {}
            (state, _) => return Err(Forbidden::OutOfOrder(state)),
        }
        self.set(tier, next);
        // A copy that is fetched back to a faster tier is one more, and not the one that counts.
        if next == Whole && tier > self.authority {
            self.authority = tier;
            self.since = now;
        }
        Ok(self)
    }

    fn trust(mut self, tier: Tier, now: WallTime) -> Result<Self, Forbidden> {
        match self.state(tier) {
            CopyState::Whole if self.authority == tier => {}
            CopyState::Whole => (self.authority, self.since) = (tier, now),
            state => return Err(Forbidden::OutOfOrder(state)),
        }
        Ok(self)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::default();
        e.u8(self.authority as u8);
        let states = self
            .states
            .iter()
            .rev()
            .fold(0, |bits, state| bits << 2 | *state as u8);
        e.u8(states);
        e.zigzag(self.since.micros() / archive::time::SECOND_US);
        e.u64(self.crc64);
        if let Some(borders) = &self.borders {
            borders.encode(&mut e);
        }
        e.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut d = Decoder(bytes);
        let authority = Tier::ALL
            .get(usize::from(d.u8()?))
            .copied()
            .ok_or(Malformed("unknown tier"))?;
        let bits = d.u8()?;
        let state = |tier: Tier| match bits >> (2 * tier as u8) & 3 {
            0 => CopyState::Absent,
            1 => CopyState::Copying,
            2 => CopyState::Whole,
            _ => CopyState::Deleting,
        };
        let copies = Self {
            authority,
            states: Tier::ALL.map(state),
            since: WallTime::from_micros(d.zigzag()?.saturating_mul(archive::time::SECOND_US)),
            crc64: d.u64()?,
            borders: if d.0.is_empty() {
                None
            } else {
                Some(Borders::decode(&mut d)?)
            },
        };
        d.end()?;
        if bits >> 6 != 0 || copies.state(authority) != CopyState::Whole {
            return Err(Malformed("no copy counts"));
        }
        Ok(copies)
    }
}

impl Index {
    /// The copies of a segment. One that has only ever lain on the hot tier has no row for them.
    pub fn copies(&self, row: &SegmentRow) -> Result<Copies, IndexError> {
        let key = keys::at(row.id.stream, row.wall_start);
        let bytes = self.db.get_pinned_cf(self.cf(COPIES)?, key)?;
        let copies = bytes.map_or_else(|| Ok(Copies::hot_only()), |bytes| Copies::decode(&bytes));
        copies.map_err(IndexError::bad_row(COPIES))
    }

    /// Whether any segment has something on a tier. Reads all rows of copies up to the first that has, but only where
    /// there ever was one.
    pub fn has_copies_on(&self, tier: Tier) -> Result<bool, IndexError> {
        if self.db.get_pinned_cf(self.cf(META)?, used(tier))?.is_none() {
            return Ok(false);
        }
        let mut it = self.db.raw_iterator_cf(self.cf(COPIES)?);
        it.seek_to_first();
        while let Some(row) = it.value() {
            let copies = Copies::decode(row).map_err(IndexError::bad_row(COPIES))?;
            if copies.state(tier) != CopyState::Absent {
                return Ok(true);
            }
            it.next();
        }
        it.status()?;
        Ok(false)
    }

    pub(crate) fn put_copies(
        &self,
        out: &mut WriteBatch,
        stream: StreamNo,
        wall_start: WallTime,
        copies: &Copies,
    ) -> Result<(), IndexError> {
        out.put_cf(self.cf(COPIES)?, keys::at(stream, wall_start), copies.encode());
        for tier in copies.present().filter(|tier| *tier != Tier::Hot) {
            out.put_cf(self.cf(META)?, used(tier), []);
        }
        Ok(())
    }
}

/// Stands in the index once something was put on a tier.
fn used(tier: Tier) -> String {
    format!("tier.{tier}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn events() -> impl Iterator<Item = Event> {
        Tier::ALL.into_iter().flat_map(|tier| {
            [
                Event::CopyBegun(tier),
                Event::Copied(tier),
                Event::DeletionBegun(tier),
                Event::Deleted(tier),
                Event::Trusted(tier),
            ]
        })
    }

    /// Every state that any sequence of events leads to.
    fn reachable() -> Vec<Copies> {
        let mut seen = HashSet::new();
        let mut all = vec![Copies::hot_only()];
        let mut at = 0;
        while let Some(copies) = all.get(at).copied() {
            at += 1;
            for event in events() {
                if let Ok(next) = copies.after(event, WallTime::MIN)
                    && seen.insert((next.authority, next.states))
                {
                    all.push(next);
                }
            }
        }
        all
    }

    #[test]
    fn whatever_happens_one_whole_copy_counts_and_the_nearest_is_whole() {
        let all = reachable();
        assert!(all.len() > 30, "{} states", all.len());
        for copies in all {
            assert_eq!(copies.state(copies.authority), CopyState::Whole, "{copies:?}");
            assert_eq!(copies.state(copies.nearest()), CopyState::Whole, "{copies:?}");
            assert_eq!(Copies::decode(&copies.encode()), Ok(copies));
        }
    }

    #[test]
    fn every_step_leads_forwards_and_taking_it_again_changes_nothing() {
        let next_of = |state| match state {
            CopyState::Absent => [CopyState::Copying, CopyState::Copying],
            CopyState::Copying => [CopyState::Whole, CopyState::Deleting],
            CopyState::Whole => [CopyState::Deleting, CopyState::Deleting],
            CopyState::Deleting => [CopyState::Absent, CopyState::Absent],
        };
        for copies in reachable() {
            for event in events() {
                let Ok(next) = copies.after(event, WallTime::MIN) else {
                    continue;
                };
                assert_eq!(next.after(event, WallTime::MAX), Ok(next), "{copies:?} {event:?}");
                let moved: Vec<_> = Tier::ALL
                    .into_iter()
                    .filter(|tier| next.state(*tier) != copies.state(*tier))
                    .collect();
                assert!(moved.len() <= 1, "{copies:?} {event:?}");
                for tier in moved {
                    let (from, to) = (copies.state(tier), next.state(tier));
                    assert!(next_of(from).contains(&to), "{copies:?} {event:?}");
                }
            }
        }
    }

    #[test]
    fn authority_moves_only_to_a_copy_that_was_just_verified() {
        for copies in reachable() {
            for event in events() {
                let Ok(next) = copies.after(event, WallTime::MIN) else {
                    continue;
                };
                if next.authority != copies.authority {
                    let was = match event {
                        Event::Copied(tier) if tier == next.authority => CopyState::Copying,
                        Event::Trusted(tier) if tier == next.authority => CopyState::Whole,
                        other => panic!("{copies:?} {other:?}"),
                    };
                    assert_eq!(copies.state(next.authority), was);
                }
            }
            let own = Event::DeletionBegun(copies.authority);
            assert_eq!(copies.after(own, WallTime::MIN), Err(Forbidden::Authority));
        }
    }

    #[test]
    fn the_copy_that_counts_can_be_replaced_once_another_was_read_whole_and_never_otherwise() {
        for copies in reachable() {
            let bad = copies.authority;
            for tier in Tier::ALL.into_iter().filter(|tier| *tier != bad) {
                let trusted = copies.after(Event::Trusted(tier), WallTime::MIN);
                assert_eq!(
                    trusted.is_ok(),
                    copies.state(tier) == CopyState::Whole,
                    "{copies:?}"
                );
                let Ok(trusted) = trusted else { continue };
                let steps = [
                    Event::DeletionBegun(bad),
                    Event::Deleted(bad),
                    Event::CopyBegun(bad),
                    Event::Copied(bad),
                ];
                let replaced = steps.iter().try_fold(trusted, |copies, step| {
                    assert_eq!(copies.authority, tier);
                    copies.after(*step, WallTime::MIN)
                });
                let replaced = replaced.expect("every step is allowed");
                assert_eq!(replaced.authority, bad.max(tier), "the colder one counts again");
            }
        }
    }

    #[test]
    fn a_row_whose_authority_is_not_there_is_refused() {
        let mut copies = Copies::hot_only();
        copies.authority = Tier::Warm;
        assert!(Copies::decode(&copies.encode()).is_err());
    }
}
