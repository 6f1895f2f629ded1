//! Where segments lie.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use archive::disk::Disk;
use archive::layout::{SegmentName, parse_segment_path, segment_path};
use archive::segment::SegmentReader;
use archive::store::Stores;
use archive::{ArchiveError, Epoch, StreamId, Tier, WallTime};

use crate::copies::Copies;
use crate::error::IndexError;

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
        .for_each(|names| names.sort_unstable_by_key(|n| (n.seq, n.epoch, n.generation)));
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
    fn objects(&self) -> impl Iterator<Item = (Tier, u64)> {
        [(Tier::Warm, self.warm), (Tier::Cold, self.cold)]
            .into_iter()
            .filter_map(|(tier, len)| Some((tier, len?)))
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

/// Every segment by its stream, in the order of sequences, with the places where it was found.
pub(super) type Everywhere = BTreeMap<StreamId, Vec<(SegmentName, Found)>>;

/// What a name sorts by: of a segment that was thinned, what counts comes before what it was.
type Place = (u64, Epoch, WallTime, Reverse<u8>);

pub(super) fn list_everywhere(disk: &Disk, stores: &Stores) -> Result<(Everywhere, Vec<String>), IndexError> {
    let (files, mut unknown) = list_segments(disk)?;
    let mut all: BTreeMap<StreamId, BTreeMap<Place, Found>> = BTreeMap::new();
    let key = |name: &SegmentName| (name.seq, name.epoch, name.start, Reverse(name.generation));
    for (stream, names) in files {
        let of_stream = all.entry(stream).or_default();
        for name in names {
            of_stream.entry(key(&name)).or_default().hot = true;
        }
    }
    for tier in [Tier::Warm, Tier::Cold] {
        let Some(objects) = stores.of(tier) else { continue };
        let listed = objects.for_each("", |path, len| {
            let Ok((stream, name)) = parse_segment_path(&path) else {
                // What begins with a dot is the service's own.
                if !path.starts_with('.') {
                    unknown.push(format!("{tier}: {path}"));
                }
                return;
            };
            let found = all.entry(stream).or_default().entry(key(&name)).or_default();
            match tier {
                Tier::Cold => found.cold = Some(len),
                _ => found.warm = Some(len),
            }
        });
        listed.map_err(ArchiveError::from)?;
    }
    let in_order = |found: BTreeMap<Place, Found>| {
        let named = |((seq, epoch, start, Reverse(generation)), found)| {
            let name = SegmentName {
                start,
                seq,
                epoch,
                generation,
            };
            (name, found)
        };
        found.into_iter().map(named).collect()
    };
    Ok((
        all.into_iter()
            .map(|(stream, found)| (stream, in_order(found)))
            .collect(),
        unknown,
    ))
}
/// Opens the nearest copy that was found.
pub(super) fn open(
    disk: &Disk,
    stores: &Stores,
    stream: &StreamId,
    name: &SegmentName,
    found: &Found,
) -> Result<SegmentReader, IndexError> {
    let path = segment_path(stream, name);
    let (tier, len) = match found.objects().next() {
        Some(object) if !found.hot => object,
        _ => (Tier::Hot, 0),
    };
    match stores
        .of(tier)
        .filter(|objects| objects.store.restoring().is_some())
    {
        Some(objects) => Ok(SegmentReader::of_object_as_it_is(objects, &path)?),
        None => Ok(SegmentReader::on(tier, disk, stores, &path, len)?),
    }
}
