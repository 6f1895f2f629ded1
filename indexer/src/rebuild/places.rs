//! Where segments lie.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use archive::disk::Disk;
use archive::layout::{SegmentName, parse_segment_path, parse_stream_dir, stream_dir};
use archive::store::{Objects, StoreError, Stores};
use archive::{ArchiveError, Epoch, StreamId, Tier, WallTime};

use crate::copies::Copies;
use crate::error::IndexError;
use crate::pool::in_order;

/// Streams whose objects are listed side by side.
const LISTS_AT_ONCE: usize = 8;

/// Segments by their names, in the order of their sequences.
pub type SegmentFiles = BTreeMap<StreamId, Vec<SegmentName>>;

/// Every segment file below the root of `disk`, by stream, in the order of their sequences. Files that are
/// not named like segments are listed apart.
pub fn list_segments(disk: &Disk) -> Result<(SegmentFiles, Vec<String>), IndexError> {
    let mut found = SegmentFiles::new();
    let mut unknown = Vec::new();
    let mut folders = vec![(String::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for name in disk.list(&folder)? {
            // What begins with a dot is the service's own, `lost+found` the file system's.
            if depth == 0 && (name.starts_with('.') || name == "lost+found") {
                continue;
            }
            let path = if folder.is_empty() {
                name
            } else {
                format!("{folder}/{name}")
            };
            if depth < 5 && disk.path(&path).is_dir() {
                folders.push((path, depth + 1));
                continue;
            }
            match parse_segment_path(&path) {
                Ok((stream, name)) => found.entry(stream).or_default().push(name),
                // What a service beside us has removed since is none.
                Err(_) if disk.path(&path).exists() => unknown.push(path),
                Err(_) => {}
            }
        }
    }
    found
        .values_mut()
        .for_each(|names| names.sort_unstable_by_key(|n| (n.seq, n.epoch)));
    unknown.sort_unstable();
    Ok((found, unknown))
}

/// Where the copies of a segment were found: the hot tier, or the length of an object.
#[derive(Clone, Default)]
pub(super) struct Found {
    hot: bool,
    warm: Option<u64>,
    cold: Option<u64>,
}

impl Found {
    /// Every place, the nearest first, with the length of what is there; that of a file is not known.
    pub(super) fn places(&self) -> impl Iterator<Item = (Tier, u64)> {
        let hot = self.hot.then_some((Tier::Hot, 0));
        hot.into_iter().chain(self.objects())
    }

    fn objects(&self) -> impl Iterator<Item = (Tier, u64)> {
        [(Tier::Warm, self.warm), (Tier::Cold, self.cold)]
            .into_iter()
            .filter_map(|(tier, len)| Some((tier, len?)))
    }

    fn set(&mut self, tier: Tier, len: u64) {
        match tier {
            Tier::Hot => self.hot = true,
            Tier::Warm => self.warm = Some(len),
            Tier::Cold => self.cold = Some(len),
        }
    }

    /// What stands there is not the segment.
    pub(super) fn forget(&mut self, tier: Tier) {
        match tier {
            Tier::Hot => self.hot = false,
            Tier::Warm => self.warm = None,
            Tier::Cold => self.cold = None,
        }
    }

    /// What the index says of a segment of `len` bytes that was found here; `None` for one that never left the disk.
    /// A copy of another length is none.
    pub(super) fn copies(&self, len: u64) -> Option<Copies> {
        let whole = self.objects().filter(|(_, there)| *there == len);
        let tiers = self
            .hot
            .then_some(Tier::Hot)
            .into_iter()
            .chain(whole.map(|(tier, _)| tier));
        Copies::found(tiers)
    }
}

/// What a name sorts by: of a segment that was thinned, what counts comes before what it was.
type Place = (u64, Epoch, WallTime, Reverse<u8>);

/// The segments of a stream in the order of sequences, with the places where each was found.
type OfStream = Vec<(SegmentName, Found)>;

/// Where footage lies: all names of the hot tier, and which streams have objects.
pub(super) struct Everywhere {
    hot: SegmentFiles,
    stored: Vec<(Tier, BTreeSet<StreamId>)>,
    /// What is not named like a segment.
    pub(super) unknown: Vec<String>,
}

impl Everywhere {
    /// Looks for streams in all places. Returns them in order.
    pub(super) fn list(disk: &Disk, stores: &Stores) -> Result<(Vec<StreamId>, Self), IndexError> {
        let (hot, unknown) = list_segments(disk)?;
        let mut all = Self {
            hot,
            stored: Vec::new(),
            unknown,
        };
        for tier in [Tier::Warm, Tier::Cold] {
            if let Some(objects) = stores.of(tier) {
                let streams = list_streams(objects, tier, &mut all.unknown).map_err(ArchiveError::from)?;
                all.stored.push((tier, streams));
            }
        }
        let mut streams: BTreeSet<StreamId> = all.hot.keys().cloned().collect();
        streams.extend(all.stored.iter().flat_map(|(_, streams)| streams).cloned());
        Ok((streams.into_iter().collect(), all))
    }

    /// The segments of each of `streams`; their objects are listed several streams at a time. Those of the hot tier
    /// are given out once.
    pub(super) fn segments(
        &mut self,
        streams: &[StreamId],
        stores: &Stores,
    ) -> Result<Vec<OfStream>, IndexError> {
        let mut lists = Vec::new();
        for (i, stream) in streams.iter().enumerate() {
            let has = |(tier, all): &(Tier, BTreeSet<StreamId>)| all.contains(stream).then_some((i, *tier));
            lists.extend(self.stored.iter().filter_map(has));
        }
        let mut found: Vec<BTreeMap<Place, Found>> = Vec::new();
        let key = |name: &SegmentName| (name.seq, name.epoch, name.start, Reverse(name.generation));
        for stream in streams {
            let mut of_stream: BTreeMap<_, Found> = BTreeMap::new();
            for name in self.hot.remove(stream).unwrap_or_default() {
                of_stream.entry(key(&name)).or_default().set(Tier::Hot, 0);
            }
            found.push(of_stream);
        }
        let list = |(i, tier): &(usize, Tier)| {
            let stream = streams.get(*i).map(stream_dir).unwrap_or_default();
            let mut names = Vec::new();
            let listed = stores.of(*tier).map_or(Ok(()), |objects| {
                objects.for_each(&stream, |path, len| names.push((path, len)))
            });
            listed.map(|()| names)
        };
        in_order(&lists, LISTS_AT_ONCE, list, |(i, tier), names| {
            for (path, len) in names.map_err(ArchiveError::from)? {
                match (parse_segment_path(&path), found.get_mut(*i)) {
                    (Ok((_, name)), Some(of_stream)) => {
                        of_stream.entry(key(&name)).or_default().set(*tier, len);
                    }
                    _ => self.unknown.push(format!("{tier}: {path}")),
                }
            }
            Ok::<_, IndexError>(())
        })?;
        let named = |((seq, epoch, start, Reverse(generation)), found)| {
            let name = SegmentName {
                start,
                seq,
                epoch,
                generation,
            };
            (name, found)
        };
        Ok(found
            .into_iter()
            .map(|of_stream| of_stream.into_iter().map(named).collect())
            .collect())
    }
}

/// The streams of which a store has something: their folders, three deep.
fn list_streams(
    objects: &Objects,
    tier: Tier,
    unknown: &mut Vec<String>,
) -> Result<BTreeSet<StreamId>, StoreError> {
    let mut streams = BTreeSet::new();
    let mut folders = vec![String::new()];
    for depth in 0..3 {
        let mut below = Vec::new();
        for folder in folders {
            let (inside, files) = objects.folder(&folder)?;
            // What begins with a dot is the service's own.
            let is_own = |path: &String| depth == 0 && path.starts_with('.');
            below.extend(inside.into_iter().filter(|path| !is_own(path)));
            let strange = files.into_iter().filter(|path| !is_own(path));
            unknown.extend(strange.map(|path| format!("{tier}: {path}")));
        }
        folders = below;
    }
    for folder in folders {
        match parse_stream_dir(&folder) {
            Ok(stream) => drop(streams.insert(stream)),
            Err(_) => objects.for_each(&folder, |path, _| unknown.push(format!("{tier}: {path}")))?,
        }
    }
    Ok(streams)
}
