//! Makes a smaller segment of a sealed one: some pictures go, the others stay as they are, bit for bit.
//!
//! See `docs/decisions/0013-a-thinned-segment-is-another-object.md`.
#![deny(clippy::indexing_slicing)]

mod carried;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod joined;
mod keep;
mod sei;

use std::sync::Arc;

use bytes::Bytes;

use super::{
    CheckedReader, ClosedFragment, Keep, Origin, OriginFragment, ReadFailure, Sealed, SegmentHeader,
    SegmentReader, SegmentWriter,
};
use crate::buffer::Pool;
use crate::disk::Disk;
use crate::error::{ArchiveError, Malformed};
use crate::fragment::FragmentEntry;
use crate::layout::segment_path;
use crate::time::{TimeRange, WallTime};
pub use carried::CarriedUnit;
use joined::Joined;
pub use keep::leans;
use sei::Coding;

/// Fragments that are hashed and written together.
const WRITE_FRAGMENTS: usize = 8;
/// A segment of which less than a tenth would go stays as it is.
const GAIN_PARTS_MIN: u64 = 10;

/// How a segment is thinned.
#[derive(Copy, Clone, Debug)]
pub struct Thinning<'a> {
    /// What stays.
    pub keep: Keep,
    /// Wall time of which everything stays.
    pub spared: &'a [TimeRange],
    /// Whether the next segment needs the end of this one to be decoded; see [`leans`].
    pub leaned_on: bool,
    /// Now.
    pub at: WallTime,
}

/// What has come of it: a sealed, durable segment on the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thinned {
    /// Who it is.
    pub header: SegmentHeader,
    /// Its length, and what the next segment is chained to.
    pub sealed: Sealed,
    /// Its fragments.
    pub entries: Vec<FragmentEntry>,
    /// Pictures before and after.
    pub pictures: (u64, u64),
}

/// Thins the segment `reader`, whose fragments the index knows as `entries`, and writes what stays to `disk` under a name
/// of its own. `None`, and nothing is written, when too little would go, or
/// what stays would not play. Every byte that is read is checked; after an
/// error nothing is left on the disk.
pub fn thin(
    disk: &Disk,
    pool: &Pool,
    reader: SegmentReader,
    entries: Arc<[FragmentEntry]>,
    how: &Thinning<'_>,
) -> Result<Option<Thinned>, ArchiveError> {
    let malformed = |what| reader.malformed(0, &Malformed(what));
    reader.verify_head()?;
    let (head, init, ..) = reader.head()?;
    let footer = reader.footer()?.filter(|footer| footer.header == head);
    let footer = footer.ok_or_else(|| malformed("a segment that is not sealed cannot be thinned"))?;
    if head.generation > 0 {
        return Err(malformed("the segment was thinned before"));
    }
    let rows = &footer.fragments;
    if rows.len() != entries.len() {
        return Err(malformed("the footer has not the fragments that the index knows"));
    }
    let stay = keep::plan(rows, how.keep, how.spared, how.leaned_on);
    let len = reader.len()?;
    let goes = bytes_that_go(rows, &stay);
    let coding = Coding::of(init.video().ok_or_else(|| malformed("no video"))?);
    // In H.264 the keyframe of an open GOP resets nothing, and decoders miss the pictures that went before it.
    let is_open = coding == Coding::H264 && rows.iter().any(keep::is_open);
    if is_open || goes < len / GAIN_PARTS_MIN {
        return Ok(None);
    }
    let header = SegmentHeader {
        generation: head.generation + 1,
        ..head
    };
    reader.set_direct();
    let mut source = CheckedReader::new(reader, entries);
    // What an earlier attempt may have left there is none of ours to keep: nobody reads it.
    disk.remove(&segment_path(&header.stream, &header.name()))?;
    let mut output = Output {
        writer: SegmentWriter::create(disk, pool, header.clone(), &init, len - goes)?,
        waiting: Vec::new(),
        entries: Vec::new(),
    };
    let mut origin = Origin {
        keep: how.keep,
        at: how.at,
        bytes: len,
        fragments: Vec::with_capacity(rows.len()),
    };
    let mut write = || -> Result<(), ArchiveError> {
        let mut open: Option<Joined> = None;
        for (i, (row, kept)) in (0u32..).zip(rows.iter().zip(&stay)) {
            let bytes = whole(&mut source, &row.entry)?;
            if kept.is_empty()
                && let Some(open) = &mut open
            {
                open.take_over(i, row, &bytes, coding)?;
            } else if let Some(done) = open.replace(Joined::begin(pool, i, row, kept, &bytes, coding)?) {
                output.push(done.close(pool)?)?;
            }
            let pictures = keep::video(row).map_or(0, |v| v.samples.len());
            origin.fragments.push(OriginFragment {
                leaf: row.leaf,
                range: row.entry.range(),
                pictures: pictures as u32,
                kept: kept.len() as u32,
                len: row.entry.len,
            });
        }
        if let Some(done) = open {
            output.push(done.close(pool)?)?;
        }
        output.flush()
    };
    if let Err(e) = write() {
        output.writer.discard();
        return Err(e);
    }
    let sum = |of: fn(&OriginFragment) -> u32| origin.fragments.iter().map(|f| u64::from(of(f))).sum();
    let pictures = (sum(|f| f.pictures), sum(|f| f.kept));
    let Output { writer, entries, .. } = output;
    let sealed = writer.seal_thinned(pool, &origin);
    let sealed = sealed.inspect_err(|_| {
        // It must not be taken for whole; the next attempt removes it if this does not.
        let _ = disk.remove(&segment_path(&header.stream, &header.name()));
    })?;
    Ok(Some(Thinned {
        header,
        sealed,
        entries,
        pictures,
    }))
}

/// The new segment while it is written.
struct Output {
    writer: SegmentWriter,
    waiting: Vec<ClosedFragment>,
    entries: Vec<FragmentEntry>,
}

impl Output {
    fn push(&mut self, fragment: ClosedFragment) -> Result<(), ArchiveError> {
        self.waiting.push(fragment);
        if self.waiting.len() >= WRITE_FRAGMENTS {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ArchiveError> {
        self.entries.extend(self.writer.append(&mut self.waiting)?);
        self.waiting.clear();
        Ok(())
    }
}

fn bytes_that_go(rows: &[super::FooterFragment], stay: &[Vec<usize>]) -> u64 {
    let of = |(row, kept): (&super::FooterFragment, &Vec<usize>)| {
        let samples = keep::video(row).map_or(&[][..], |v| &v.samples);
        let all: u64 = samples.iter().map(|s| u64::from(s.size)).sum();
        let kept = kept.iter().filter_map(|i| samples.get(*i));
        all - kept.map(|s| u64::from(s.size)).sum::<u64>()
    };
    rows.iter().zip(stay).map(of).sum()
}

/// The bytes of a fragment, in one piece.
fn whole(source: &mut CheckedReader, entry: &FragmentEntry) -> Result<Bytes, ArchiveError> {
    let range = entry.offset..entry.offset + u64::from(entry.len);
    let mut pieces = source.read(range).map_err(|ReadFailure { error, .. }| error)?;
    Ok(match pieces.len() {
        1 => pieces.pop().unwrap_or_default(),
        _ => pieces.concat().into(),
    })
}

#[cfg(test)]
mod tests;
