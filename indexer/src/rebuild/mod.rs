//! Makes the index anew from media files alone.
//!
//! Segments are read on several threads, the head and the footer of each in one read, without the sample tables, and taken
//! in the order of their streams; the rows of each are written at once.

mod adopt;
mod places;

mod remembered;
mod told;

use archive::disk::Disk;
use archive::layout::{SegmentName, segment_path};
use archive::segment::SegmentReader;
use archive::store::Stores;
use archive::{ArchiveError, Epoch, Malformed, StreamId, StreamNo};

use crate::bulk::Loader;
use crate::certificates;
use crate::error::IndexError;
use crate::holds;
use crate::index::Index;
use crate::marks::keep_time;
use crate::rows::SegmentState;

pub use self::adopt::adopt;
use self::places::{Everywhere, Found};
pub use self::places::{SegmentFiles, list_segments};
use self::remembered::remembered;
use self::told::{Told, read_own};
use crate::pool::in_order;

/// Threads that read files: more than cores, because they wait for the disk.
const READERS_PER_CORE: usize = 2;
/// Threads that read objects: they wait for the network.
const READERS_OF_OBJECTS: usize = 16;
/// Streams whose objects are listed at a time.
const STREAMS_AT_ONCE: usize = 64;
/// After so many segments `progress` is told.
const PROGRESS_SEGMENTS: u64 = 1000;

/// What a rebuild found.
#[derive(Clone, Debug, Default)]
pub struct Rebuilt {
    /// Segments indexed.
    pub segments: u64,
    /// Fragments in them.
    pub fragments: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Segments that were taken from a checkpoint.
    pub remembered: u64,
    /// Holds that were found beside the footage.
    pub holds: u64,
    /// Deletion certificates that were found beside the footage.
    pub certificates: u64,
    /// Files that were left out, and why.
    pub left_out: Vec<(String, String)>,
}

/// A segment that is to be read.
struct Item<'a> {
    no: StreamNo,
    stream: &'a StreamId,
    name: SegmentName,
    found: Found,
}

/// Fills the empty `index` from the files below `disk` and the objects in `stores`. `progress` is told the number of
/// segments so far. What cannot be read, because it was removed meanwhile or is damaged, is left out and named.
pub fn rebuild(
    disk: &Disk,
    stores: &Stores,
    index: &Index,
    progress: impl FnMut(&Rebuilt),
) -> Result<Rebuilt, IndexError> {
    rebuild_from(None, disk, stores, index, progress)
}

/// The same with a `checkpoint` of the index that was lost: what it knows of a sealed segment is taken from it, where
/// the segment was found with the length that it had, and is not read again.
pub fn rebuild_from(
    checkpoint: Option<&Index>,
    disk: &Disk,
    stores: &Stores,
    index: &Index,
    progress: impl FnMut(&Rebuilt),
) -> Result<Rebuilt, IndexError> {
    let (streams, mut everywhere) = Everywhere::list(disk, stores)?;
    index.ensure_streams(&streams)?;
    let mut filling = Filling {
        loader: Loader::new(index),
        pending: None,
        result: Rebuilt::default(),
        progress,
    };
    let mut epoch = Epoch::default();
    for group in streams.chunks(STREAMS_AT_ONCE) {
        let mut items = Vec::new();
        for (stream, found) in group.iter().zip(everywhere.segments(group, stores)?) {
            let Some(no) = index.stream_no(stream)? else {
                continue;
            };
            epoch = found.iter().map(|(name, _)| name.epoch).fold(epoch, Epoch::max);
            items.extend(found.into_iter().map(|(name, found)| Item {
                no,
                stream,
                name,
                found,
            }));
        }
        let read = |item: &Item<'_>| match checkpoint.map(|known| remembered(known, disk, item)) {
            Some(Ok(Some(told))) => Ok((told, true)),
            // What is wrong with it is no reason to give up the footage.
            Some(Ok(None) | Err(_)) | None => read(disk, stores, item).map(|told| (told, false)),
        };
        in_order(&items, readers(stores), read, |item, told| {
            filling.take(item, told)
        })?;
    }
    let unknown = everywhere.unknown.into_iter();
    let mut result = filling.finish()?;
    result
        .left_out
        .extend(unknown.map(|path| (path, "not named like a segment".to_owned())));
    result.holds = holds::restore(disk, stores, index, &mut result.left_out)?;
    result.certificates = certificates::restore(disk, stores, index, &mut result.left_out)?;
    index.raise_epoch(epoch)?;
    keep_time(index, checkpoint)?;
    Ok(result)
}

fn readers(stores: &Stores) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let waits = stores.warm.is_some() || stores.cold.is_some();
    (cores * READERS_PER_CORE).max(if waits { READERS_OF_OBJECTS } else { 1 })
}

/// Reads a segment from the nearest place that has all of it. One that is not sealed there may be cut off.
fn read(disk: &Disk, stores: &Stores, item: &Item<'_>) -> Result<Told, ArchiveError> {
    let path = segment_path(item.stream, &item.name);
    let mut found = item.found.clone();
    let mut unsealed = None;
    let mut failure = None;
    for (tier, len) in item.found.places() {
        let archived = stores
            .of(tier)
            .filter(|objects| objects.store.restoring().is_some());
        let reader = match archived {
            Some(objects) => SegmentReader::of_object_as_it_is(objects, &path),
            None => SegmentReader::on(tier, disk, stores, &path, len),
        };
        let told = reader.and_then(|reader| read_own(&reader, item.no, item.stream, &item.name));
        match told {
            Ok(mut told) if told.row.state == SegmentState::Sealed => {
                told.copies = found.copies(told.row.bytes);
                return Ok(told);
            }
            Ok(told) => unsealed = unsealed.or(Some(told)),
            Err(e) => failure = failure.or(Some(e)),
        }
        found.forget(tier);
    }
    const NOWHERE: Malformed = Malformed("it was found nowhere");
    unsealed.ok_or_else(|| failure.unwrap_or(ArchiveError::Malformed(NOWHERE)))
}

/// An index that is being filled.
struct Filling<'a, P> {
    loader: Loader<'a>,
    /// The last segment stays until the one behind it has told how much of it counts.
    pending: Option<Told>,
    result: Rebuilt,
    progress: P,
}

impl<P: FnMut(&Rebuilt)> Filling<'_, P> {
    fn take(&mut self, item: &Item<'_>, told: Result<(Told, bool), ArchiveError>) -> Result<(), IndexError> {
        let why = match told {
            Ok((told, _)) if told.row.fragments == 0 => "no whole fragment".to_owned(),
            Ok((told, is_remembered)) => {
                let before = self.pending.as_mut();
                let mut before = before.filter(|before| before.row.id.stream == told.row.id.stream);
                if before.as_mut().is_some_and(|before| before.take_former(&told)) {
                    return Ok(());
                }
                let follows = before.is_none_or(|before| {
                    before.cut_before(&told);
                    before.is_before(&told)
                });
                if follows {
                    self.result.remembered += u64::from(is_remembered);
                    self.flush()?;
                    self.pending = Some(told);
                    return Ok(());
                }
                "it overlaps the segment before it".to_owned()
            }
            Err(e) => e.to_string(),
        };
        self.result
            .left_out
            .push((segment_path(item.stream, &item.name), why));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), IndexError> {
        let Some(told) = self.pending.take() else {
            return Ok(());
        };
        let (copies, parts) = (told.copies.as_ref(), told.parts);
        self.loader
            .add(&told.row, &told.entries, copies, parts, &told.init)?;
        self.loader.add_known(&told.gaps, &told.incidents)?;
        if let Some(former) = &told.former {
            self.loader.add_former(former)?;
        }
        self.result.segments += 1;
        self.result.bytes += told.row.bytes;
        self.result.fragments += u64::from(told.row.fragments);
        if self.result.segments.is_multiple_of(PROGRESS_SEGMENTS) {
            (self.progress)(&self.result);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Rebuilt, IndexError> {
        self.flush()?;
        self.loader.finish()?;
        (self.progress)(&self.result);
        Ok(self.result)
    }
}
