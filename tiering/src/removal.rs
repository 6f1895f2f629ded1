//! Removes every copy of segments whose deletion has begun: objects, each seen to be gone, then files, whose folders are
//! synced.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use archive::disk::Disk;
use archive::layout::segment_path;
use archive::store::{Objects, StoreError, Stores};
use archive::{ArchiveError, StreamId, Tier, WallTime};
use indexer::{Hold, Index, IndexError, Place, SegmentRow};

use crate::locks::was_held;
use crate::policy::Reason;

/// Removing takes so much of a pass at most, where stores are slow: the disk has to be looked at too.
const REMOVING_MAX: Duration = Duration::from_secs(5);
/// Folders of hours that ended less than this ago stay, empty or not: recording may be about to use them.
const FOLDER_REST_US: i64 = 2 * archive::time::HOUR_US;

/// A segment whose deletion has begun.
#[derive(Clone, Debug)]
pub(crate) struct Doomed {
    pub(crate) stream: StreamId,
    pub(crate) row: SegmentRow,
    /// `None` when it was begun in an earlier pass or process.
    pub(crate) reason: Option<Reason>,
    /// Where something stands or may stand under its name.
    pub(crate) tiers: Vec<Tier>,
}

impl Doomed {
    fn path(&self) -> String {
        segment_path(&self.stream, &self.row.name())
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    /// Of these nothing is left.
    pub(crate) gone: Vec<Doomed>,
    /// Of so many something resisted. Others are left for the next pass.
    pub(crate) failed: u64,
}

/// The tiers as certificates name them, and how a copy is seen to be gone from each.
pub(crate) fn places(stores: &Stores) -> Vec<Place> {
    let place = |tier, at: String, verified: &str| Place {
        tier,
        at,
        verified: verified.to_owned(),
    };
    let mut places = vec![place(
        Tier::Hot,
        "local disk".to_owned(),
        "unlinked, folder synced",
    )];
    for tier in [Tier::Warm, Tier::Cold] {
        let store = stores.of(tier).map(|objects| objects.store.url().to_owned());
        places.extend(store.map(|url| place(tier, url, "deleted, then HEAD found nothing")));
    }
    places
}

/// Removes all copies of `doomed`, for each stream in the order of time: if one resists, those after it wait.
/// Nothing of them is held any more; a lock in a store that a hold of ours has left is lifted.
pub(crate) fn remove(
    index: &Index,
    disk: &Disk,
    stores: &Stores,
    doomed: Vec<Doomed>,
    now: WallTime,
) -> Result<Removed, IndexError> {
    let begun = Instant::now();
    let mut left = remove_objects(index, stores, &doomed)?;
    let mut by_folder: BTreeMap<String, Vec<(String, Doomed)>> = BTreeMap::new();
    for one in doomed {
        let path = one.path();
        let folder = path
            .rsplit_once('/')
            .map_or(String::new(), |(folder, _)| folder.to_owned());
        by_folder.entry(folder).or_default().push((path, one));
    }
    let mut removed = Removed::default();
    let mut folders = BTreeSet::new();
    let mut stuck = BTreeSet::new();
    for (folder, members) in by_folder {
        // The rest is found again by the next pass.
        if begun.elapsed() > 2 * REMOVING_MAX {
            break;
        }
        let stream = members.first().map(|(_, one)| one.stream.clone());
        if stream.as_ref().is_some_and(|s| stuck.contains(s)) {
            continue;
        }
        let object = members.iter().find_map(|(path, _)| left.remove(path));
        let paths: Vec<&str> = members.iter().map(|(path, _)| path.as_str()).collect();
        let files = match object {
            Some(Some(error)) => Err(ArchiveError::from(error)),
            Some(None) => {
                stuck.extend(stream);
                continue;
            }
            None => disk.remove_all(&paths),
        };
        if let Err(e) = files {
            tracing::error!(error = %e, "segments cannot be deleted: tried again in the next pass");
            removed.failed += members.len() as u64;
            stuck.extend(stream);
            continue;
        }
        let rested = |row: &SegmentRow| now.micros_since(row.wall_start.hour()) >= FOLDER_REST_US;
        if members.iter().all(|(_, one)| rested(&one.row)) {
            folders.insert(folder);
        }
        removed.gone.extend(members.into_iter().map(|(_, one)| one));
    }
    remove_empty(disk, &folders);
    Ok(removed)
}

/// Removes the objects of all of them; tells which are left, and why: `None` where there was no time.
fn remove_objects(
    index: &Index,
    stores: &Stores,
    doomed: &[Doomed],
) -> Result<HashMap<String, Option<StoreError>>, IndexError> {
    let mut left = HashMap::new();
    for tier in [Tier::Warm, Tier::Cold] {
        let names: Vec<String> = doomed
            .iter()
            .filter(|one| one.tiers.contains(&tier))
            .map(Doomed::path)
            .collect();
        if names.is_empty() {
            continue;
        }
        let mut answers = match stores.expected(tier) {
            Ok(objects) => objects.delete_all(&names, REMOVING_MAX),
            Err(e) => names.iter().map(|_| Some(Err(e.clone()))).collect(),
        };
        if answers.iter().any(is_held)
            && let Ok(objects) = stores.expected(tier)
        {
            unlock(objects, &index.holds()?, doomed, &names, &mut answers);
        }
        for (name, answer) in names.into_iter().zip(answers) {
            match answer {
                Some(Ok(())) => {}
                Some(Err(e)) => drop(left.insert(name, Some(e))),
                None => drop(left.insert(name, None)),
            }
        }
    }
    Ok(left)
}

fn is_held(answer: &Option<Result<(), StoreError>>) -> bool {
    matches!(answer, Some(Err(StoreError::Held { .. })))
}

/// Lifts the locks that holds of ours have left, and removes once more what they kept. Locks of others stay.
fn unlock(
    objects: &Objects,
    holds: &[Hold],
    doomed: &[Doomed],
    names: &[String],
    answers: &mut [Option<Result<(), StoreError>>],
) {
    let ours: HashSet<String> = doomed
        .iter()
        .filter(|one| was_held(holds, &one.stream, one.row.range()))
        .map(Doomed::path)
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

/// Removes folders of hours, and of the days above them, where nothing is left in them.
fn remove_empty(disk: &Disk, folders: &BTreeSet<String>) {
    for hour in folders {
        let day = hour.rsplit_once('/').map(|(day, _)| day);
        for folder in [Some(hour.as_str()), day].into_iter().flatten() {
            match disk.remove_if_empty(folder) {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => {
                    tracing::warn!(error = %e, "an empty folder stays");
                    break;
                }
            }
        }
    }
}
