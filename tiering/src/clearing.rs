//! Removes from the stores what lies there of segments whose deletion has begun, beside the thread that decides.
//!
//! A deletion that has begun is written in the index and never taken back, so that removing objects twice, or leaving
//! some to the next process, does no harm.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::disk::Disk;
use archive::store::{Objects, StoreError, Stores};
use archive::{ArchiveError, SegmentId, Tier};
use indexer::{Hold, Index, IndexError};

use crate::aside::{Aside, Done, PATIENCE};
use crate::locks::was_held;
use crate::removal::Doomed;
use crate::thinner::remove_former;

/// After so long no more objects of a lot are begun.
const REMOVING_MAX: Duration = Duration::from_secs(5);

/// What came of a segment: `None` where that is not known yet, or there was no time for it.
pub(crate) type Answer = Option<Result<(), ArchiveError>>;
type Answers = HashMap<SegmentId, Answer>;

/// Removes objects, one lot at a time.
pub(crate) struct Clearing {
    index: Arc<Index>,
    disk: Disk,
    stores: Stores,
    under_way: Option<Lot>,
    /// What came of segments that nobody has asked for since.
    answers: Answers,
}

struct Lot {
    of: Vec<Doomed>,
    work: Aside<Result<Answers, IndexError>>,
}

impl Clearing {
    pub(crate) fn new(index: Arc<Index>, disk: Disk, stores: Stores) -> Self {
        Self {
            index,
            disk,
            stores,
            under_way: None,
            answers: Answers::new(),
        }
    }

    /// The segments of which objects are being removed.
    pub(crate) fn under_way(&self) -> &[Doomed] {
        self.under_way.as_ref().map_or(&[], |lot| &lot.of)
    }

    /// What came of removing the objects of `doomed`, which is begun where nothing is under way. Segments of which only a
    /// file is left are not named.
    pub(crate) fn answers(&mut self, doomed: &[Doomed]) -> Result<Answers, IndexError> {
        self.take_in(Duration::ZERO)?;
        let mut in_stores = Vec::new();
        for one in doomed {
            if self.lies_in_stores(one)? {
                in_stores.push(one);
            }
        }
        let unknown = |one: &&&Doomed| !self.answers.contains_key(&one.row.id);
        let lot: Vec<Doomed> = in_stores
            .iter()
            .filter(unknown)
            .map(|one| (*one).clone())
            .collect();
        if self.under_way.is_none() && !lot.is_empty() {
            self.begin(lot);
            self.take_in(PATIENCE)?;
        }
        let answers = in_stores.iter().map(|one| {
            let id = one.row.id;
            (id, self.answers.remove(&id).flatten())
        });
        Ok(answers.collect())
    }

    /// Takes in what came of what was begun; whether there was something.
    pub(crate) fn take_in(&mut self, patience: Duration) -> Result<bool, IndexError> {
        let Some(lot) = &self.under_way else {
            return Ok(false);
        };
        match lot.work.look_for(patience) {
            Done::NotYet => return Ok(false),
            // The next pass begins anew.
            Done::Lost => {}
            Done::With(answers) => self.answers.extend(answers?),
        }
        self.under_way = None;
        Ok(true)
    }

    fn lies_in_stores(&self, one: &Doomed) -> Result<bool, IndexError> {
        let is_below = one.tiers.iter().any(|tier| *tier != Tier::Hot);
        Ok(is_below || has_former(&self.index, one)?)
    }

    fn begin(&mut self, of: Vec<Doomed>) {
        let (index, disk, stores) = (self.index.clone(), self.disk.clone(), self.stores.clone());
        let lot = of.clone();
        let work = Aside::begin_thread("deletion", move || clear(&index, &disk, &stores, lot));
        self.under_way = Some(Lot { of, work });
    }
}

/// Whether something is left of a segment as it was before it was thinned.
fn has_former(index: &Index, one: &Doomed) -> Result<bool, IndexError> {
    Ok(index.thinning(&one.row)?.is_some_and(|t| t.left().is_some()))
}

/// Removes the objects of all of them, and what is left of segments as they were before they were thinned.
fn clear(index: &Index, disk: &Disk, stores: &Stores, doomed: Vec<Doomed>) -> Result<Answers, IndexError> {
    let begun = Instant::now();
    let (mut thinned, mut others) = (Vec::new(), Vec::new());
    for one in doomed {
        if has_former(index, &one)? {
            &mut thinned
        } else {
            &mut others
        }
        .push(one);
    }
    let mut answers = remove_objects(index, stores, &others)?;
    // Each waits for its store by itself: nobody else waits behind them.
    let mut free = Vec::new();
    for one in thinned {
        if begun.elapsed() > REMOVING_MAX {
            answers.insert(one.row.id, None);
            continue;
        }
        match remove_former(index, disk, stores, &one.stream, &one.row)? {
            Ok(()) => free.push(one),
            Err(e) => drop(answers.insert(one.row.id, Some(Err(e)))),
        }
    }
    answers.extend(remove_objects(index, stores, &free)?);
    Ok(answers)
}

fn remove_objects(index: &Index, stores: &Stores, doomed: &[Doomed]) -> Result<Answers, IndexError> {
    let mut answers: Answers = doomed.iter().map(|one| (one.row.id, Some(Ok(())))).collect();
    for tier in [Tier::Warm, Tier::Cold] {
        let members: Vec<&Doomed> = doomed.iter().filter(|one| one.tiers.contains(&tier)).collect();
        if members.is_empty() {
            continue;
        }
        let names: Vec<String> = members.iter().map(|one| one.path()).collect();
        let mut told = match stores.expected(tier) {
            Ok(objects) => objects.delete_all(&names, REMOVING_MAX),
            Err(e) => names.iter().map(|_| Some(Err(e.clone()))).collect(),
        };
        if told.iter().any(is_held)
            && let Ok(objects) = stores.expected(tier)
        {
            unlock(objects, &index.holds()?, &members, &names, &mut told);
        }
        for (one, told) in members.into_iter().zip(told) {
            if !matches!(told, Some(Ok(()))) {
                answers.insert(one.row.id, told.map(|told| told.map_err(ArchiveError::from)));
            }
        }
    }
    Ok(answers)
}

fn is_held(answer: &Option<Result<(), StoreError>>) -> bool {
    matches!(answer, Some(Err(StoreError::Held { .. })))
}

/// Lifts the locks that holds of ours have left, and removes once more what they kept. Locks of others stay.
fn unlock(
    objects: &Objects,
    holds: &[Hold],
    doomed: &[&Doomed],
    names: &[String],
    answers: &mut [Option<Result<(), StoreError>>],
) {
    let ours: HashSet<String> = doomed
        .iter()
        .filter(|one| was_held(holds, &one.stream, one.row.range()))
        .map(|one| one.path())
        .collect();
    let (mut locked, mut places) = (Vec::new(), Vec::new());
    for (place, name) in names.iter().enumerate() {
        if answers.get(place).is_some_and(is_held) && ours.contains(name) {
            locked.push(name.clone());
            places.push(place);
        }
    }
    objects.legal_holds(&locked, false, REMOVING_MAX);
    // Of one whose lock was not lifted this tells so again.
    let again = objects.delete_all(&locked, REMOVING_MAX);
    for (place, answer) in places.into_iter().zip(again) {
        if let Some(before) = answers.get_mut(place) {
            *before = answer;
        }
    }
}
