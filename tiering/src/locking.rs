//! Legal holds of the stores' own: where a bucket has object lock, an object under a hold is locked there too, so that
//! nobody with the keys of the store can delete it.
//!
//! What is to be locked follows from the index; locking twice changes nothing. So nothing has to be remembered. Stores are
//! waited for elsewhere, and what came of it is taken in by the next pass.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use archive::layout::segment_path;
use archive::store::{Objects, StoreError, Stores};
use archive::time::SECOND_US;
use archive::{StreamId, StreamNo, Tier, TimeRange, WallTime};
use indexer::{CopyState, Hold, Index, IndexError};

use crate::aside::{Aside, Done};

/// How often is looked for objects that came to a store while they were under a hold.
const EVERY_US: u64 = 60 * SECOND_US.unsigned_abs();
/// Locking takes so much of a pass at most; the rest follows in the next.
const LOCKING_MAX: Duration = Duration::from_secs(2);

/// Puts and lifts the locks, a pass at a time.
pub(crate) struct Locking {
    index: Arc<Index>,
    stores: Stores,
    tiers: HashMap<Tier, Locked>,
    epoch: u64,
    next_us: u64,
}

/// What is known of a store.
#[derive(Default)]
struct Locked {
    /// It has no object lock: said once.
    has_none: bool,
    /// Objects that were locked since the start, and such as were not to be any more.
    on: HashSet<String>,
    off: HashSet<String>,
    under_way: Option<Aside<Answers>>,
}

/// What a store said of each object: whether it is to be locked, its name, and the answer, where there was time.
type Answers = Vec<(bool, String, Option<Result<bool, StoreError>>)>;

impl Locking {
    pub(crate) fn new(index: Arc<Index>, stores: Stores) -> Self {
        Self {
            index,
            stores,
            tiers: HashMap::new(),
            epoch: 0,
            next_us: 0,
        }
    }

    /// Locks what is held at `now`, and lifts what is not any more.
    pub(crate) fn pass(&mut self, now: WallTime, monotonic_us: u64) -> Result<(), IndexError> {
        let mut whole = true;
        for (tier, locked) in &mut self.tiers {
            whole &= locked.take_in(&self.stores, *tier);
        }
        if !whole {
            self.next_us = 0;
        }
        let waits = self.tiers.values().any(|locked| locked.under_way.is_some());
        let epoch = self.index.hold_epoch();
        if waits || epoch == 0 || (epoch == self.epoch && monotonic_us < self.next_us) {
            return Ok(());
        }
        let holds = self.index.holds()?;
        for tier in [Tier::Warm, Tier::Cold] {
            let Some(objects) = self.stores.of(tier) else {
                continue;
            };
            let locked = self.tiers.entry(tier).or_default();
            if locked.has_none {
                continue;
            }
            let held = names(&self.index, tier, |no, _| self.index.held_ranges(no, now))?;
            let mut ended = names(&self.index, tier, |_, stream| Ok(ended(&holds, stream, now)))?;
            ended.retain(|name| !held.contains(name));
            locked.begin(objects, &held, &ended);
        }
        self.epoch = epoch;
        self.next_us = monotonic_us.saturating_add(EVERY_US);
        Ok(())
    }
}

/// The objects of a tier in some ranges of each stream.
fn names(
    index: &Index,
    tier: Tier,
    ranges: impl Fn(StreamNo, &StreamId) -> Result<Vec<TimeRange>, IndexError>,
) -> Result<HashSet<String>, IndexError> {
    let mut found = HashSet::new();
    for (no, stream) in index.streams() {
        for range in ranges(no, &stream)? {
            for row in index.segments(no, range)? {
                if index.copies(&row)?.state(tier) == CopyState::Whole {
                    found.insert(segment_path(&stream, &row.name()));
                }
            }
        }
    }
    Ok(found)
}

/// What holds covered that have ended.
fn ended(holds: &[Hold], stream: &StreamId, now: WallTime) -> Vec<TimeRange> {
    let ended = holds
        .iter()
        .filter(|hold| !hold.is_active(now) && hold.covers(stream));
    ended.map(Hold::range).collect()
}

impl Locked {
    /// Begins to lock objects, and to lift the locks of others, where that is not known to be done.
    fn begin(&mut self, objects: &Objects, held: &HashSet<String>, ended: &HashSet<String>) {
        self.on.retain(|name| held.contains(name));
        self.off.retain(|name| ended.contains(name));
        let on: Vec<String> = held.difference(&self.on).cloned().collect();
        let off: Vec<String> = ended.difference(&self.off).cloned().collect();
        if on.is_empty() && off.is_empty() {
            return;
        }
        let (runtime, objects) = (objects.runtime.clone(), objects.clone());
        let work = move || {
            let mut answers = Vec::new();
            for (is_on, names) in [(true, on), (false, off)] {
                let told = objects.legal_holds(&names, is_on, LOCKING_MAX);
                answers.extend(
                    names
                        .into_iter()
                        .zip(told)
                        .map(|(name, told)| (is_on, name, told)),
                );
            }
            answers
        };
        self.under_way = Some(Aside::begin(&runtime, work));
    }

    /// Takes in what came of it; false when something has to be tried again.
    fn take_in(&mut self, stores: &Stores, tier: Tier) -> bool {
        let answers = match self.under_way.take() {
            None => return true,
            Some(aside) => match aside.look() {
                Done::NotYet => {
                    self.under_way = Some(aside);
                    return true;
                }
                Done::Lost => return false,
                Done::With(answers) => answers,
            },
        };
        let mut whole = true;
        for (is_on, name, answer) in answers {
            let (is_so, other) = match is_on {
                true => (&mut self.on, &mut self.off),
                false => (&mut self.off, &mut self.on),
            };
            match answer {
                Some(Ok(true)) => {
                    other.remove(&name);
                    is_so.insert(name);
                }
                Some(Ok(false)) => {
                    self.has_none = true;
                    tracing::info!(
                        %tier, store = stores.of(tier).map_or("", |objects| objects.store.url()),
                        "the store has no object lock: holds keep footage from the rules here, not from others who have the store's keys"
                    );
                    return true;
                }
                // Deleted meanwhile, or hidden by somebody: looked at again with the others.
                Some(Err(error @ StoreError::Missing { .. })) => {
                    tracing::debug!(%tier, %error, "an object is not there for a legal hold");
                }
                // The store does not answer: looked at again at once.
                Some(Err(error)) => {
                    whole = false;
                    tracing::debug!(%tier, %error, "an object's legal hold cannot be changed now");
                }
                None => whole = false,
            }
        }
        whole
    }
}
