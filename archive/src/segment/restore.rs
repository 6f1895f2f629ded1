//! Makes the file of a segment anew from copies of it, of which any may be damaged somewhere.

use std::sync::Arc;

use bytes::Bytes;

use super::{CheckedReader, SegmentReader, padded, verify};
use crate::buffer::{Pool, SlabBuf};
use crate::disk::Disk;
use crate::error::{ArchiveError, Malformed};
use crate::fragment::FragmentEntry;
use crate::id::Sha256;

/// Files that are being made stand here; what a kill leaves there is of no use.
const FOLDER: &str = ".repair";

/// What the file is to be.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The name of the segment.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What the next segment is chained to.
    pub head: Sha256,
    /// All its fragments, in order.
    pub fragments: Arc<[FragmentEntry]>,
}

/// Puts the file of a sealed segment on `disk` in place of what stands there. Every stretch comes from the first of
/// `copies` in which it is right; the whole is verified and durable before it gets its name, so that a reader finds
/// the one file or the other.
pub fn restore(
    disk: &Disk,
    pool: &Pool,
    what: &Restored,
    copies: Vec<SegmentReader>,
) -> Result<(), ArchiveError> {
    let temporary = format!("{FOLDER}/{}", what.name.replace('/', "_"));
    disk.remove(&temporary)?;
    let made = write(disk, pool, what, copies, &temporary).and_then(|()| look(disk, what, &temporary));
    match made {
        Ok(()) => disk.rename(&temporary, &what.name),
        Err(e) => {
            let _ = disk.remove(&temporary);
            Err(e)
        }
    }
}

/// Removes what a kill left half made.
pub fn forget_half_restored(disk: &Disk) -> Result<(), ArchiveError> {
    let left: Vec<String> = disk.list(FOLDER)?;
    let paths: Vec<String> = left.iter().map(|name| format!("{FOLDER}/{name}")).collect();
    disk.remove_all(&paths.iter().map(String::as_str).collect::<Vec<_>>())
}

fn write(
    disk: &Disk,
    pool: &Pool,
    what: &Restored,
    copies: Vec<SegmentReader>,
    temporary: &str,
) -> Result<(), ArchiveError> {
    let mut copies: Vec<_> = copies
        .into_iter()
        .map(|reader| CheckedReader::new(reader, what.fragments.clone()))
        .collect();
    let mut file = disk.create(temporary, what.bytes)?;
    for range in stretches(&what.fragments, what.bytes) {
        let mut buf = SlabBuf::new(pool);
        let pieces = read(&mut copies, &range)?;
        pieces.iter().for_each(|piece| buf.extend(piece));
        file.append(&[&buf], 0)?;
    }
    file.trim()?;
    file.sync_data()
}

/// Before the first fragment, each fragment, behind the last.
fn stretches(fragments: &[FragmentEntry], bytes: u64) -> Vec<std::ops::Range<u64>> {
    let last = fragments.last().map(|f| padded(f.offset + u64::from(f.len)));
    let mut starts: Vec<u64> = std::iter::once(0)
        .chain(fragments.iter().map(|f| f.offset))
        .chain(last)
        .filter(|at| *at < bytes)
        .collect();
    starts.dedup();
    let ends = starts.iter().skip(1).copied().chain([bytes]);
    starts.iter().zip(ends).map(|(from, to)| *from..to).collect()
}

fn read(copies: &mut [CheckedReader], range: &std::ops::Range<u64>) -> Result<Vec<Bytes>, ArchiveError> {
    let mut failure = None;
    for copy in copies {
        match copy.read(range.clone()) {
            Ok(pieces) => return Ok(pieces),
            Err(e) => failure = failure.or(Some(e.error)),
        }
    }
    Err(failure.unwrap_or(ArchiveError::Malformed(Malformed("no copy is there to read"))))
}

/// Reads what was written from the disk itself.
fn look(disk: &Disk, what: &Restored, temporary: &str) -> Result<(), ArchiveError> {
    let reader = SegmentReader::open(disk, temporary)?;
    reader.distrust_cache()?;
    let found = verify(&reader)?;
    if found.sealed && found.link == what.head && reader.len()? == what.bytes {
        return Ok(());
    }
    Err(reader.malformed(0, &Malformed("the copies are those of another segment")))
}
