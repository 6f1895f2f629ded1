//! Keeps beside the footage, in the hot folder and in every store, what must outlast the index: holds, and deletion
//! certificates.
//!
//! What is to be there follows from the index, and what is there from a look at the place. So nothing has to be
//! remembered over a restart, and what somebody removed comes back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use archive::disk::Disk;
use archive::store::{Objects, StoreError, Stores};
use archive::time::SECOND_US;
use archive::{ArchiveError, Tier, WallTime};
use indexer::{HOLDS_FOLDER, Hold, Index, IndexError, certificates_path, hold_path, parse_certificate};

use crate::aside::{Aside, Done};

/// After a failure a place is left alone for so long.
const REST_US: u64 = 30 * SECOND_US.unsigned_abs();
/// Certificates go to a store once an hour, or when there are so many, or so many bytes of them: not each by itself,
/// because object stores do not cope with many small ones.
const CERTIFICATES_EVERY_US: u64 = 3600 * SECOND_US.unsigned_abs();
const CERTIFICATES_MAX: u64 = 1000;
const CERTIFICATES_BYTES_MAX: usize = 4 << 20;
/// Files that are written in one pass to one place.
const FILES_MAX: usize = 64;

/// Writes what is missing, a pass at a time.
pub(crate) struct Filing {
    index: Arc<Index>,
    disk: Disk,
    stores: Stores,
    places: HashMap<Tier, Place>,
}

/// What is known of a tier.
#[derive(Default)]
struct Place {
    /// The names that are there; `None` until somebody looked.
    there: Option<HashSet<String>>,
    /// Of the holds of this epoch all are there.
    complete: Option<u64>,
    rests_until_us: u64,
    /// When certificates are to go there next, however few.
    certificates_at_us: u64,
    /// What is being put into the store.
    under_way: Option<Putting>,
}

enum Putting {
    /// The holds of an epoch.
    Holds(u64, Aside<Filled>),
    /// Certificates up to this one, when that one was the last.
    Certificates(u64, u64, Aside<Result<(), StoreError>>),
}

/// The names that are there now, and whether those are all.
type Filled = (Option<HashSet<String>>, Result<bool, ArchiveError>);

impl Filing {
    pub(crate) fn new(index: Arc<Index>, disk: Disk, stores: Stores) -> Self {
        Self {
            index,
            disk,
            stores,
            places: HashMap::new(),
        }
    }

    /// Puts what is missing where it is missing. Stores are waited for elsewhere, and what came of it is taken in by the
    /// next pass. Failures are logged and tried again.
    pub(crate) fn pass(&mut self, monotonic_us: u64) -> Result<(), IndexError> {
        let epoch = self.index.hold_epoch();
        let mut holds = None;
        for tier in Tier::ALL {
            let objects = match (tier, self.stores.of(tier)) {
                (Tier::Hot, _) => None,
                (_, Some(objects)) => Some(objects),
                (_, None) => continue,
            };
            let place = self.places.entry(tier).or_default();
            place.take_in(&self.index, tier, monotonic_us)?;
            if place.under_way.is_some() || place.rests_until_us > monotonic_us {
                continue;
            }
            if place.complete == Some(epoch) {
                if let Some(objects) = objects {
                    place.begin_certificates(&self.index, objects, tier, monotonic_us)?;
                }
                continue;
            }
            let holds = match &holds {
                Some(holds) => Arc::clone(holds),
                None => Arc::clone(holds.insert(Arc::new(self.index.holds()?))),
            };
            let (there, disk) = (place.there.take(), self.disk.clone());
            match objects.cloned() {
                None => {
                    let filled = fill(there, &disk, None, &holds);
                    place.filled(filled, epoch, tier, monotonic_us);
                }
                Some(objects) => {
                    let runtime = objects.runtime.clone();
                    let work = move || fill(there, &disk, Some(&objects), &holds);
                    place.under_way = Some(Putting::Holds(epoch, Aside::begin(&runtime, work)));
                }
            }
        }
        Ok(())
    }
}

impl Place {
    /// Takes in what came of what was begun.
    fn take_in(&mut self, index: &Index, tier: Tier, monotonic_us: u64) -> Result<(), IndexError> {
        match self.under_way.take() {
            None => {}
            Some(Putting::Holds(epoch, aside)) => match aside.look() {
                Done::NotYet => self.under_way = Some(Putting::Holds(epoch, aside)),
                Done::Lost => {}
                Done::With(filled) => self.filled(filled, epoch, tier, monotonic_us),
            },
            Some(Putting::Certificates(upto, last, aside)) => match aside.look() {
                Done::NotYet => self.under_way = Some(Putting::Certificates(upto, last, aside)),
                Done::Lost => {}
                Done::With(Ok(())) => {
                    index.set_certificates_stored(tier, upto)?;
                    if upto == last {
                        self.certificates_at_us = monotonic_us.saturating_add(CERTIFICATES_EVERY_US);
                    }
                }
                Done::With(Err(error)) => {
                    self.rests_until_us = monotonic_us.saturating_add(REST_US);
                    tracing::warn!(%tier, %error, "deletion certificates cannot be stored: tried again");
                }
            },
        }
        Ok(())
    }

    fn filled(&mut self, (there, whole): Filled, epoch: u64, tier: Tier, monotonic_us: u64) {
        self.there = there;
        match whole {
            Ok(true) => self.complete = Some(epoch),
            Ok(false) => {}
            Err(error) => {
                self.rests_until_us = monotonic_us.saturating_add(REST_US);
                tracing::warn!(%tier, %error, "holds cannot be stored beside the footage: tried again");
            }
        }
    }

    /// Puts certificates into a store; the hot folder has them since they were issued.
    fn begin_certificates(
        &mut self,
        index: &Index,
        objects: &Objects,
        tier: Tier,
        monotonic_us: u64,
    ) -> Result<(), IndexError> {
        let last = index.last_certificate()?;
        let stored = index.certificates_stored(tier)?;
        let due = last - stored.min(last) >= CERTIFICATES_MAX || self.certificates_at_us <= monotonic_us;
        if stored >= last || !due {
            return Ok(());
        }
        let (upto, at, lines) = lines(index, stored + 1, last)?;
        let path = certificates_path(stored + 1, upto, at);
        let (store, wait) = (objects.store.clone(), objects.runtime.clone());
        let work = move || wait.block_on(store.put_bytes(&path, lines)).map(drop);
        let aside = Aside::begin(&objects.runtime, work);
        self.under_way = Some(Putting::Certificates(upto, last, aside));
        Ok(())
    }
}

/// The lines of certificates from `first` on, as many as go into one object: up to which they go, and when the first of
/// them was issued.
fn lines(index: &Index, first: u64, last: u64) -> Result<(u64, WallTime, Vec<u8>), IndexError> {
    let (mut upto, mut at, mut lines) = (first, WallTime::MIN, Vec::new());
    for number in first..=last.min(first + CERTIFICATES_MAX - 1) {
        let line = index.certificate(number)?.unwrap_or_default();
        if !lines.is_empty() && lines.len() + line.len() > CERTIFICATES_BYTES_MAX {
            break;
        }
        if number == first {
            at = parse_certificate(&line).map_or(at, |(certificate, _)| certificate.archive_time);
        }
        lines.extend_from_slice(line.as_bytes());
        lines.push(b'\n');
        upto = number;
    }
    Ok((upto, at, lines))
}

/// Puts the holds that are missing where `there` is what is known to be there.
fn fill(there: Option<HashSet<String>>, disk: &Disk, objects: Option<&Objects>, holds: &[Hold]) -> Filled {
    let mut there = match there.map_or_else(|| look(disk, objects), Ok) {
        Ok(there) => there,
        Err(e) => return (None, Err(e)),
    };
    let mut written = 0;
    for hold in holds {
        let path = hold_path(hold);
        if there.contains(&path) {
            continue;
        }
        if written == FILES_MAX {
            return (Some(there), Ok(false));
        }
        let json = hold.to_json();
        let put = match objects {
            None => disk.put_small(&path, &json),
            Some(Objects { store, runtime, .. }) => {
                let put = runtime.block_on(store.put_bytes(&path, json));
                put.map(drop).map_err(ArchiveError::from)
            }
        };
        if let Err(e) = put {
            return (Some(there), Err(e));
        }
        there.insert(path);
        written += 1;
    }
    (Some(there), Ok(true))
}

/// The names of what is there.
fn look(disk: &Disk, objects: Option<&Objects>) -> Result<HashSet<String>, ArchiveError> {
    let Some(objects) = objects else {
        let names = disk.list(HOLDS_FOLDER)?.into_iter();
        return Ok(names.map(|name| format!("{HOLDS_FOLDER}/{name}")).collect());
    };
    let mut there = HashSet::new();
    objects.for_each(HOLDS_FOLDER, |name, _| {
        there.insert(name);
    })?;
    Ok(there)
}
