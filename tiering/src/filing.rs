//! Keeps beside the footage, in the hot folder and in every store, what must outlast the index: holds, and deletion
//! certificates.
//!
//! What is to be there follows from the index, and what is there from a look at the place. So nothing has to be
//! remembered over a restart, and what somebody removed comes back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use archive::disk::Disk;
use archive::store::{Objects, Stores};
use archive::time::SECOND_US;
use archive::{ArchiveError, Tier, WallTime};
use indexer::{HOLDS_FOLDER, Hold, Index, IndexError, certificates_path, hold_path, parse_certificate};

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
}

impl Filing {
    pub(crate) fn new(index: Arc<Index>, disk: Disk, stores: Stores) -> Self {
        Self {
            index,
            disk,
            stores,
            places: HashMap::new(),
        }
    }

    /// Puts what is missing where it is missing. Failures are logged and tried again.
    pub(crate) fn pass(&mut self, monotonic_us: u64) -> Result<(), IndexError> {
        self.certificates(monotonic_us)?;
        let epoch = self.index.hold_epoch();
        let mut holds = None;
        for tier in Tier::ALL {
            let objects = match (tier, self.stores.of(tier)) {
                (Tier::Hot, _) => None,
                (_, Some(objects)) => Some(objects),
                (_, None) => continue,
            };
            let place = self.places.entry(tier).or_default();
            if place.complete == Some(epoch) || place.rests_until_us > monotonic_us {
                continue;
            }
            let holds = match &mut holds {
                Some(holds) => holds,
                none => none.insert(self.index.holds()?),
            };
            match place.fill(&self.disk, objects, holds) {
                Ok(true) => place.complete = Some(epoch),
                Ok(false) => {}
                Err(error) => {
                    place.rests_until_us = monotonic_us.saturating_add(REST_US);
                    tracing::warn!(%tier, %error, "holds cannot be stored beside the footage: tried again");
                }
            }
        }
        Ok(())
    }
}

impl Filing {
    /// Puts certificates into the stores; the hot folder has them since they were issued.
    fn certificates(&mut self, monotonic_us: u64) -> Result<(), IndexError> {
        let last = self.index.last_certificate()?;
        for tier in [Tier::Warm, Tier::Cold] {
            let Some(objects) = self.stores.of(tier) else {
                continue;
            };
            let place = self.places.entry(tier).or_default();
            let stored = self.index.certificates_stored(tier)?;
            let due = last - stored.min(last) >= CERTIFICATES_MAX || place.certificates_at_us <= monotonic_us;
            if stored >= last || !due || place.rests_until_us > monotonic_us {
                continue;
            }
            let (upto, at, lines) = lines(&self.index, stored + 1, last)?;
            let path = certificates_path(stored + 1, upto, at);
            match objects.runtime.block_on(objects.store.put_bytes(&path, lines)) {
                Ok(_) => {
                    self.index.set_certificates_stored(tier, upto)?;
                    if upto == last {
                        place.certificates_at_us = monotonic_us.saturating_add(CERTIFICATES_EVERY_US);
                    }
                }
                Err(error) => {
                    place.rests_until_us = monotonic_us.saturating_add(REST_US);
                    tracing::warn!(%tier, %error, "deletion certificates cannot be stored: tried again");
                }
            }
        }
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

impl Place {
    /// Whether all are there now.
    fn fill(&mut self, disk: &Disk, objects: Option<&Objects>, holds: &[Hold]) -> Result<bool, ArchiveError> {
        let there = match &mut self.there {
            Some(there) => there,
            none => none.insert(look(disk, objects)?),
        };
        let mut written = 0;
        for hold in holds {
            let path = hold_path(hold);
            if there.contains(&path) {
                continue;
            }
            if written == FILES_MAX {
                return Ok(false);
            }
            let json = hold.to_json();
            match objects {
                None => disk.put_small(&path, &json)?,
                Some(Objects { store, runtime, .. }) => {
                    runtime.block_on(store.put_bytes(&path, json))?;
                }
            }
            there.insert(path);
            written += 1;
        }
        Ok(true)
    }
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
