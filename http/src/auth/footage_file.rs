//! A segment's file as it is given out: every byte checked, and damage told to the index.

use std::ops::Range;

use archive::segment::CheckedReader;
use archive::{ArchiveError, FragmentEntry, Tier, TrackSamples};
use bytes::Bytes;
use indexer::{Batch, Damage, SegmentRow, SegmentState};

use super::access::StreamHandle;

/// An open segment. All methods block.
pub(crate) struct FootageFile {
    stream: StreamHandle,
    row: SegmentRow,
    /// Where the copy lies that is read.
    tier: Tier,
    reader: CheckedReader,
    direct: bool,
}

/// What the other copies of a segment have in place of what is wrong in one.
enum Elsewhere {
    /// What was recorded.
    Right(Vec<Bytes>),
    /// Nothing better.
    Wrong,
    /// A copy that cannot be asked now.
    Unknown,
}

impl FootageFile {
    pub(super) fn new(stream: StreamHandle, row: SegmentRow, tier: Tier, reader: CheckedReader) -> Self {
        Self {
            stream,
            row,
            tier,
            reader,
            direct: false,
        }
    }

    /// Reads from now on go around the page cache where the file system can.
    pub(crate) fn set_direct(&mut self) {
        if !std::mem::replace(&mut self.direct, true) {
            self.reader.unchecked().set_direct();
        }
    }

    /// Says that somebody wants all up to `until`, in order, and nothing behind it.
    pub(crate) fn expect(&self, until: u64) {
        self.reader.unchecked().expect(until);
    }

    /// Who comes to the end of this one in order is likely to go on with the next.
    fn look_ahead(&self) {
        if self.reader.unchecked().is_ending() {
            self.stream.ready_next(&self.row);
        }
    }

    /// The bytes `range`. When they are not what was written, they are read once more from the disk itself, and then
    /// from the other copies of the segment; if none has them, the fragment is said to be damaged, and readers pass it
    /// over from now on.
    pub(crate) fn read(&mut self, range: Range<u64>) -> Result<Vec<Bytes>, ArchiveError> {
        let first = match self.reader.read(range.clone()) {
            Ok(bytes) => {
                self.look_ahead();
                return Ok(bytes);
            }
            Err(failure) => failure,
        };
        if first.error.is_not_found() {
            // It has moved to another tier since it was opened.
            (self.tier, self.reader) = self.stream.reader(&self.row)?;
            self.direct = false;
            return match self.reader.read(range.clone()) {
                Ok(bytes) => Ok(bytes),
                Err(failure) if failure.error.is_not_found() => match self.read_elsewhere(&range)? {
                    Elsewhere::Right(bytes) => Ok(bytes),
                    Elsewhere::Wrong | Elsewhere::Unknown => Err(failure.error),
                },
                Err(failure) => Err(failure.error),
            };
        }
        self.stream.is_archived_after_all(&self.row, &first.error);
        if !matches!(first.error, ArchiveError::Corrupt { .. }) {
            return Err(first.error);
        }
        // What lies in the page cache or in ours is dropped.
        self.reader.unchecked().distrust_cache()?;
        self.direct = true;
        let failure = match self.reader.read(range.clone()) {
            Ok(bytes) => {
                tracing::warn!(error = %first.error, "footage was wrong in memory and right on the disk");
                return Ok(bytes);
            }
            Err(failure) => failure,
        };
        match self.read_elsewhere(&range)? {
            Elsewhere::Right(bytes) => return Ok(bytes),
            // It is not lost.
            Elsewhere::Unknown => {}
            Elsewhere::Wrong => {
                if let Some(entry) = &failure.damaged {
                    self.damaged(entry, &failure.error);
                }
            }
        }
        Err(failure.error)
    }

    /// Reads from another copy, from now on too if it is right there, and has the wrong one looked at.
    fn read_elsewhere(&mut self, range: &Range<u64>) -> Result<Elsewhere, ArchiveError> {
        let mut unknown = false;
        for (tier, mut reader) in self.stream.elsewhere(&self.row, self.tier)? {
            match reader.read(range.clone()) {
                Ok(bytes) => {
                    tracing::error!(
                        stream = %self.stream.id(), segment = self.row.id.seq, tier = %self.tier, instead = %tier,
                        "a copy is wrong: another one is read"
                    );
                    self.stream.suspect(&self.row, self.tier);
                    (self.tier, self.reader) = (tier, reader);
                    self.direct = false;
                    return Ok(Elsewhere::Right(bytes));
                }
                Err(failure) => {
                    let error = failure.error;
                    unknown |= !error.is_not_found() && !matches!(error, ArchiveError::Corrupt { .. });
                }
            }
        }
        if unknown {
            self.stream.suspect(&self.row, self.tier);
            return Ok(Elsewhere::Unknown);
        }
        Ok(Elsewhere::Wrong)
    }

    /// The bytes of `ranges`, which lie close together, in one read. What lies between may be damaged.
    pub(crate) fn read_all(&mut self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ArchiveError> {
        let bounds = (ranges.iter().map(|r| r.start).min()).zip(ranges.iter().map(|r| r.end).max());
        let Some((start, end)) = bounds else {
            return Ok(Vec::new());
        };
        match self.reader.read(start..end) {
            Ok(read) => {
                self.look_ahead();
                let pieces = ranges.iter().flat_map(|range| cut_out(&read, start, range));
                Ok(pieces.collect())
            }
            Err(failure)
                if matches!(failure.error, ArchiveError::Corrupt { .. }) || failure.error.is_not_found() =>
            {
                let one = ranges.iter().map(|range| self.read(range.clone()));
                Ok(one.collect::<Result<Vec<_>, _>>()?.concat())
            }
            Err(failure) => {
                self.stream.is_archived_after_all(&self.row, &failure.error);
                Err(failure.error)
            }
        }
    }

    /// The bytes of one fragment.
    pub(crate) fn fragment(&mut self, entry: &FragmentEntry) -> Result<Vec<Bytes>, ArchiveError> {
        self.read(entry.offset..entry.offset + u64::from(entry.len))
    }

    /// The samples of those of `entries` that are not damaged.
    pub(crate) fn samples(
        &self,
        entries: Vec<FragmentEntry>,
    ) -> Result<Vec<(FragmentEntry, Vec<TrackSamples>)>, ArchiveError> {
        let sealed = self.row.state == SegmentState::Sealed;
        let mut wrong = Vec::new();
        let damaged =
            |entry: &FragmentEntry, error: &ArchiveError| wrong.push((entry.clone(), error.to_string()));
        let found = self.reader.unchecked().sound_samples(entries, sealed, damaged);
        let mut sound = found.inspect_err(|error| self.stream.is_archived_after_all(&self.row, error))?;
        if wrong.is_empty() {
            return Ok(sound);
        }
        let others = self.stream.elsewhere(&self.row, self.tier)?;
        for (entry, error) in wrong {
            let mut found = others
                .iter()
                .filter_map(|(_, reader)| reader.unchecked().samples(&entry).ok());
            match found.next() {
                Some(tracks) => {
                    self.stream.suspect(&self.row, self.tier);
                    sound.push((entry, tracks));
                }
                None => self.damaged(&entry, &error),
            }
        }
        sound.sort_by_key(|(entry, _)| entry.offset);
        Ok(sound)
    }

    fn damaged(&self, entry: &FragmentEntry, error: &dyn std::fmt::Display) {
        tracing::error!(
            stream = %self.stream.id(), segment = self.row.id.seq, from = %entry.wall_start, %error,
            "footage is damaged: it is not given out; `tierline check --deep` looks for more"
        );
        // What was thinned since has other fragments, which are not damaged.
        if !self.stream.is_current(&self.row).unwrap_or(false) {
            return;
        }
        let mut batch = Batch::default();
        batch.damage(Damage::of(self.row.id, entry, self.stream.now()));
        if let Err(error) = self.stream.note(batch) {
            tracing::error!(%error, "the damage could not be noted");
        }
        // If only the way to the copy was bad, the look at it says so, and the damage is forgotten.
        self.stream.suspect(&self.row, self.tier);
    }
}

/// The part of `pieces` that is `range`; they follow each other and begin at `start`.
fn cut_out(pieces: &[Bytes], start: u64, range: &Range<u64>) -> Vec<Bytes> {
    let mut at = start;
    let mut out = Vec::with_capacity(1);
    for piece in pieces {
        let end = at + piece.len() as u64;
        let part = range.start.max(at)..range.end.min(end);
        if part.start < part.end {
            out.push(piece.slice((part.start - at) as usize..(part.end - at) as usize));
        }
        at = end;
    }
    out
}
