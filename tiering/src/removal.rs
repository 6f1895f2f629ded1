//! Removes the files of segments whose deletion has begun, after their objects were seen to be gone, and syncs their
//! folders.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use archive::disk::Disk;
use archive::layout::segment_path;
use archive::store::Stores;
use archive::{SegmentId, StreamId, Tier, WallTime};
use indexer::{Place, SegmentRow};

use crate::clearing::Answer;
use crate::policy::Reason;

/// Removing takes so much of a pass at most: the disk has to be looked at too.
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
    pub(crate) fn path(&self) -> String {
        segment_path(&self.stream, &self.row.name())
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    /// Of these nothing is left.
    pub(crate) gone: Vec<Doomed>,
    /// Something of these, or of what has to go before them, could not be removed. Others wait for a store, or for the
    /// next pass.
    pub(crate) resisting: HashSet<SegmentId>,
    /// Of so many something resisted.
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

/// Removes the files of `doomed`, for each stream in the order of time: if something of one resists, those after it
/// wait. `answers` says what came of their objects.
pub(crate) fn remove_files(
    disk: &Disk,
    doomed: Vec<Doomed>,
    mut answers: HashMap<SegmentId, Answer>,
    now: WallTime,
) -> Removed {
    let begun = Instant::now();
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
    // Streams of which something is left, and whether it resists.
    let mut stuck: BTreeMap<Option<StreamId>, bool> = BTreeMap::new();
    for (folder, members) in by_folder {
        // The rest is found again by the next pass.
        if begun.elapsed() > REMOVING_MAX {
            break;
        }
        let stream = members.first().map(|(_, one)| one.stream.clone());
        let ids = members.iter().map(|(_, one)| one.row.id);
        if let Some(resists) = stuck.get(&stream) {
            removed.resisting.extend(ids.filter(|_| *resists));
            continue;
        }
        let mut objects = members.iter().filter_map(|(_, one)| answers.remove(&one.row.id));
        let paths: Vec<&str> = members.iter().map(|(path, _)| path.as_str()).collect();
        let files = match objects.find(|answer| !matches!(answer, Some(Ok(())))) {
            Some(Some(answer)) => answer,
            Some(None) => {
                stuck.insert(stream, false);
                continue;
            }
            None => disk.remove_all(&paths),
        };
        if let Err(e) = files {
            tracing::error!(error = %e, "segments cannot be deleted: tried again in the next pass");
            removed.failed += members.len() as u64;
            removed.resisting.extend(ids);
            stuck.insert(stream, true);
            continue;
        }
        let rested = |row: &SegmentRow| now.micros_since(row.wall_start.hour()) >= FOLDER_REST_US;
        if members.iter().all(|(_, one)| rested(&one.row)) {
            folders.insert(folder);
        }
        removed.gone.extend(members.into_iter().map(|(_, one)| one));
    }
    remove_empty(disk, &folders);
    removed
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
