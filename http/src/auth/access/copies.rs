//! The copies of a segment, opened for reading.

use std::ops::Range;

use archive::layout::segment_path;
use archive::segment::{CheckedReader, SegmentReader};
use archive::{ArchiveError, FragmentEntry, Malformed, Tier};
use indexer::{CopyState, IndexError, SegmentRow};

use super::StreamHandle;
use crate::auth::footage_file::FootageFile;

impl StreamHandle {
    /// Opens a segment of this stream, wherever it lies. Blocks.
    pub(crate) fn open(&self, row: &SegmentRow) -> Result<FootageFile, ArchiveError> {
        self.open_at(row, None)
    }

    /// The same to read `range` in order: a store is asked for its beginning while it is asked for the table that it has
    /// to be checked against.
    pub(crate) fn open_range(
        &self,
        row: &SegmentRow,
        range: Range<u64>,
    ) -> Result<FootageFile, ArchiveError> {
        self.open_at(row, Some(range))
    }

    fn open_at(&self, row: &SegmentRow, range: Option<Range<u64>>) -> Result<FootageFile, ArchiveError> {
        let first = self.read_from(row, row.tier).inspect(|reader| {
            if let Some(range) = range {
                reader.begin(range);
            }
        });
        let opened = match first.and_then(|reader| self.checked(row, reader)) {
            Ok(reader) => Ok((row.tier, reader)),
            // It has moved since its row was read.
            Err(e) if e.is_not_found() => self.reader(row),
            Err(e) => Err(e),
        };
        let (tier, reader) = opened.inspect_err(|e| self.is_archived_after_all(row, e))?;
        Ok(FootageFile::new(self.clone(), row.clone(), tier, reader))
    }

    /// Opens a segment where it lies now, which its row may not say any more.
    pub(in crate::auth) fn reader(&self, row: &SegmentRow) -> Result<(Tier, CheckedReader), ArchiveError> {
        let now = self
            .footage
            .index
            .segment(row.id)
            .map_err(IndexError::into_archive)?;
        let now = match now {
            Some(now) if now.generation != row.generation => self
                .former(&now, row.generation)
                .map_err(IndexError::into_archive)?,
            now => now,
        };
        let tier = now.map_or(row.tier, |now| now.tier);
        let first = self.read_from(row, tier);
        match first.and_then(|reader| self.checked(row, reader)) {
            Ok(reader) => Ok((tier, reader)),
            Err(e) if e.is_not_found() => {
                let other = self.elsewhere(row, tier)?.into_iter().next().ok_or(e)?;
                self.suspect(row, tier);
                Ok(other)
            }
            Err(e) => Err(e),
        }
    }

    /// The other whole copies of a segment, when the one on `wrong` cannot be read; the nearest first.
    pub(in crate::auth) fn elsewhere(
        &self,
        row: &SegmentRow,
        wrong: Tier,
    ) -> Result<Vec<(Tier, CheckedReader)>, ArchiveError> {
        let copies = self.footage.index.copies(row).map_err(IndexError::into_archive)?;
        let mut others = Vec::new();
        // What was thinned since is going, wherever it lies.
        if !self.is_current(row).map_err(IndexError::into_archive)? {
            return Ok(others);
        }
        for tier in Tier::ALL {
            if tier != wrong
                && copies.state(tier) == CopyState::Whole
                && let Ok(reader) = self.read_from(row, tier)
            {
                others.push((tier, self.checked(row, reader)?));
            }
        }
        Ok(others)
    }

    /// Has a copy looked at that was found wrong.
    pub(in crate::auth) fn suspect(&self, row: &SegmentRow, tier: Tier) {
        self.footage.index.suspects().add(row.id, tier);
    }

    fn checked(&self, row: &SegmentRow, reader: SegmentReader) -> Result<CheckedReader, ArchiveError> {
        let fragments = match self.is_current(row).map_err(IndexError::into_archive)? {
            true => self.footage.table(row).map_err(IndexError::into_archive)?,
            // Of what was thinned since, the index has the fragments no more; its own footer has.
            false => told(row, &reader)?,
        };
        Ok(CheckedReader::new(reader, fragments.into()))
    }

    pub(in crate::auth) fn read_from(
        &self,
        row: &SegmentRow,
        tier: Tier,
    ) -> Result<SegmentReader, ArchiveError> {
        let name = segment_path(&self.id, &row.name());
        SegmentReader::on(tier, &self.footage.disk, &self.footage.stores, &name, row.bytes)
    }
}

/// The fragments of a segment that is `row`, as its footer tells them.
fn told(row: &SegmentRow, reader: &SegmentReader) -> Result<Vec<FragmentEntry>, ArchiveError> {
    const OTHER: Malformed = Malformed("the footer of a segment is not what the index said of it");
    let told = reader.contents()?;
    let told = told.filter(|told| told.link == row.head && told.entries.len() == row.fragments as usize);
    told.map(|told| told.entries)
        .ok_or(ArchiveError::Malformed(OTHER))
}
