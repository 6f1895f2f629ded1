//! The copies of a segment, opened for reading.

use archive::layout::segment_path;
use archive::segment::{CheckedReader, SegmentReader};
use archive::{ArchiveError, FragmentEntry, Malformed, Tier};
use indexer::{CopyState, IndexError, SegmentRow};

use super::StreamHandle;
use crate::auth::footage_file::{FootageFile, unreadable};

impl StreamHandle {
    /// Opens a segment of this stream, wherever it lies. Blocks.
    pub(crate) fn open(&self, row: &SegmentRow) -> Result<FootageFile, ArchiveError> {
        let (tier, reader) = match self.read_from(row, row.tier) {
            Ok(reader) => (row.tier, self.checked(row, reader)?),
            // It has left the disk since its row was read.
            Err(e) if e.is_not_found() => self.reader(row)?,
            Err(e) => return Err(e),
        };
        Ok(FootageFile::new(self.clone(), row.clone(), tier, reader))
    }

    /// Opens a segment where it lies now, which its row may not say any more.
    pub(in crate::auth) fn reader(&self, row: &SegmentRow) -> Result<(Tier, CheckedReader), ArchiveError> {
        let now = self.footage.index.segment(row.id).map_err(unreadable)?;
        let now = match now {
            Some(now) if now.generation != row.generation => {
                self.former(&now, row.generation).map_err(unreadable)?
            }
            now => now,
        };
        let tier = now.map_or(row.tier, |now| now.tier);
        match self.read_from(row, tier) {
            Ok(reader) => Ok((tier, self.checked(row, reader)?)),
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
        let copies = self.footage.index.copies(row).map_err(unreadable)?;
        let mut others = Vec::new();
        // What was thinned since is going, wherever it lies.
        if !self.is_current(row).map_err(unreadable)? {
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
        // Of what has left the hot tier or was thinned since, the index has no fragments; its own footer has.
        let known = match self.is_current(row).map_err(unreadable)? {
            true => self.footage.index.table(row),
            false => Err(IndexError::Elsewhere(Vec::new())),
        };
        let fragments = match known {
            Ok(fragments) => fragments,
            Err(IndexError::Elsewhere(_)) => told(&reader)?,
            Err(e) => return Err(unreadable(e)),
        };
        Ok(CheckedReader::new(reader, fragments.into()))
    }

    fn read_from(&self, row: &SegmentRow, tier: Tier) -> Result<SegmentReader, ArchiveError> {
        let name = segment_path(&self.id, &row.name());
        SegmentReader::on(tier, &self.footage.disk, &self.footage.stores, &name, row.bytes)
    }
}

/// The fragments of a sealed segment, as its footer tells them.
fn told(reader: &SegmentReader) -> Result<Vec<FragmentEntry>, ArchiveError> {
    const NONE: Malformed = Malformed("a sealed segment without a footer");
    let footer = reader.footer_without_samples()?;
    let footer = footer.ok_or(ArchiveError::Malformed(NONE))?;
    Ok(footer.fragments.into_iter().map(|f| f.entry).collect())
}
