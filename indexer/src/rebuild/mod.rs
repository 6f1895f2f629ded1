//! Makes the index anew from media files alone.

mod adopt;
mod places;
mod told;

use archive::disk::Disk;
use archive::layout::segment_path;
use archive::store::Stores;

use crate::batch::Batch;
use crate::certificates;
use crate::error::IndexError;
use crate::holds;
use crate::index::Index;
use crate::rows::{SegmentRow, SegmentState};

pub use self::adopt::adopt;
pub use self::places::{SegmentFiles, list_segments};
use self::places::{list_everywhere, open};
use self::told::{Told, own_footer, read};

/// Segments that are committed together.
const COMMIT_SEGMENTS: usize = 64;

/// What a rebuild found.
#[derive(Clone, Debug, Default)]
pub struct Rebuilt {
    /// Segments indexed.
    pub segments: u64,
    /// Fragments in them.
    pub fragments: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Holds that were found beside the footage.
    pub holds: u64,
    /// Deletion certificates that were found beside the footage.
    pub certificates: u64,
    /// Files that were left out, and why.
    pub left_out: Vec<(String, String)>,
}

impl Rebuilt {
    fn add(&mut self, index: &Index, batch: Batch, told: Vec<Told>) -> Result<(), IndexError> {
        self.segments += told.len() as u64;
        self.bytes += told.iter().map(|t| t.row.bytes).sum::<u64>();
        self.fragments += u64::from(add(index, batch, told)?);
        Ok(())
    }
}

/// Commits segments: rows and fragments first, then the seals, which read what was committed.
fn add(index: &Index, mut batch: Batch, told: Vec<Told>) -> Result<u32, IndexError> {
    let mut seals = Batch::default();
    let mut fragments = 0;
    let mut places = Batch::default();
    for Told {
        row,
        entries,
        copies,
        former,
        ..
    } in told
    {
        if entries.is_empty() {
            continue;
        }
        fragments += row.fragments;
        batch.segment(&SegmentRow {
            state: SegmentState::Open,
            ..row.clone()
        });
        entries.into_iter().for_each(|e| batch.fragment(row.id, e));
        if row.state == SegmentState::Sealed {
            seals.seal(&row);
            if let Some(copies) = copies {
                places.copies(&row, copies);
            }
            if let Some(former) = former {
                places.thinning(former);
            }
        }
    }
    index.commit(batch)?;
    index.commit(seals)?;
    index.commit(places)?;
    Ok(fragments)
}

/// Fills the empty `index` from the files below `disk` and the objects in `stores`. `progress` is told the number of
/// segments so far.
pub fn rebuild(
    disk: &Disk,
    stores: &Stores,
    index: &Index,
    mut progress: impl FnMut(&Rebuilt),
) -> Result<Rebuilt, IndexError> {
    let (streams, unknown) = list_everywhere(disk, stores)?;
    let mut result = Rebuilt::default();
    result.left_out.extend(
        unknown
            .into_iter()
            .map(|path| (path, "not named like a segment".to_owned())),
    );
    for (stream, names) in &streams {
        let mut batch = Batch::default();
        // The last one stays until the one behind it has told how much of it counts.
        let mut told: Vec<Told> = Vec::new();
        for (name, found) in names {
            let told_by = open(disk, stores, stream, name, found);
            let told_by =
                told_by.and_then(|reader| read(&reader, index, &mut batch, stream, name, own_footer));
            let why = match told_by {
                Ok(t) if t.entries.is_empty() => "no whole fragment".to_owned(),
                Ok(mut t) => {
                    t.copies = found.copies(t.row.bytes);
                    if told.last_mut().is_some_and(|last| last.take_former(&t)) {
                        continue;
                    }
                    if let Some(last) = told.last_mut() {
                        last.cut_before(&t);
                    }
                    if told.last().is_none_or(|last| last.is_before(&t)) {
                        if told.len() >= COMMIT_SEGMENTS {
                            result.add(index, std::mem::take(&mut batch), std::mem::take(&mut told))?;
                            progress(&result);
                        }
                        told.push(t);
                        continue;
                    }
                    "it overlaps the segment before it".to_owned()
                }
                Err(IndexError::Archive(e)) => e.to_string(),
                Err(e) => return Err(e),
            };
            result.left_out.push((segment_path(stream, name), why));
        }
        result.add(index, batch, told)?;
        progress(&result);
    }
    result.holds = holds::restore(disk, stores, index, &mut result.left_out)?;
    result.certificates = certificates::restore(disk, stores, index, &mut result.left_out)?;
    let epoch = streams.values().flatten().map(|(name, _)| name.epoch).max();
    index.raise_epoch(epoch.unwrap_or_default())?;
    Ok(result)
}
