//! The media of segments against their rows.

use std::collections::BTreeSet;

use archive::layout::segment_path;
use archive::segment::{SegmentReader, scan, verify};
use archive::{ArchiveError, FragmentEntry, Sha256, StreamId, Tier};

use super::{Checker, Invariant};
use crate::copies::CopyState;
use crate::coverage::Borders;
use crate::error::IndexError;
use crate::index::Index;
use crate::rows::{SegmentRow, SegmentState};

impl Checker<'_> {
    fn open(&self, tier: Tier, path: &str) -> Result<SegmentReader, ArchiveError> {
        match tier {
            Tier::Hot => SegmentReader::open(self.disk, path),
            tier => SegmentReader::of_object_as_it_is(self.stores.expected(tier)?, path),
        }
    }

    /// The file of one segment against its row; `before` is the sequence and the last hash of the one before it.
    pub(super) fn segment(
        &mut self,
        stream: &StreamId,
        row: &SegmentRow,
        before: &mut Option<(u64, Sha256)>,
    ) -> Result<(), IndexError> {
        if row.state == SegmentState::Deleting {
            return Ok(());
        }
        let path = segment_path(stream, &row.name());
        let reader = match self.open(row.tier, &path) {
            Ok(reader) => reader,
            Err(e) if e.is_not_found() => {
                self.missing.push((path, row.clone()));
                return Ok(());
            }
            Err(e) => {
                self.find(
                    Invariant::Readable,
                    path,
                    e.to_string(),
                    "see that the disk and the rights to its files are in order",
                );
                return Ok(());
            }
        };
        let known = match row.state {
            SegmentState::Sealed => self.index.stored_table(row)?,
            _ => Some(self.index.table(row)?),
        };
        let borders = self.index.copies(row)?.borders;
        if let Err((invariant, what)) = self.media(row, &reader, (known, borders), before) {
            let remedy = match invariant {
                Invariant::Readable | Invariant::RowsHaveBytes => {
                    "restore the file from a copy; until then readers leave out what does not match"
                }
                _ => "restore the file from a copy; if it is the index that is wrong, run `tierline rebuild`",
            };
            self.find(invariant, path.clone(), what, remedy);
        }
        if self.options.deep && row.state == SegmentState::Sealed {
            self.other_copies(row, &path)?;
        }
        Ok(())
    }

    /// Every byte of the copies that are not read as long as the nearest is there.
    fn other_copies(&mut self, row: &SegmentRow, path: &str) -> Result<(), IndexError> {
        let copies = self.index.copies(row)?;
        for tier in Tier::ALL {
            if tier == row.tier || copies.state(tier) != CopyState::Whole {
                continue;
            }
            let read = self
                .open(tier, path)
                .and_then(|reader| match reader.is_outline() {
                    // What would have to be restored is verified by its store's checksum.
                    true => Ok(row.head),
                    false => verify(&reader).map(|found| found.link),
                });
            let what = match read {
                Ok(head) if head == row.head => continue,
                Ok(_) => "its last hash is not the one in the index".to_owned(),
                // A service beside us may have moved it; that it is missing was said by the list of its store.
                Err(e) if e.is_not_found() => continue,
                Err(e) => e.to_string(),
            };
            let remedy = "a service repairs it from another copy, in its next scrub";
            self.find(Invariant::Readable, format!("{tier}: {path}"), what, remedy);
        }
        Ok(())
    }

    /// Files that are not there: a service beside us may have deleted or moved them since the index was opened.
    pub(super) fn missing(&mut self) -> Result<(), IndexError> {
        let missing = std::mem::take(&mut self.missing);
        let now = match self.options.running && !missing.is_empty() {
            true => Some(Index::open_read_only(self.index.db.path())?),
            false => None,
        };
        for (path, row) in missing {
            let known = now
                .as_ref()
                .map_or(Ok(Some(row.clone())), |now| now.segment(row.id))?;
            let is_there = |now: SegmentRow| now.state != SegmentState::Deleting && now.tier == row.tier;
            if known.is_some_and(is_there) {
                self.find(
                    Invariant::RowsHaveBytes,
                    path,
                    "the file is missing".into(),
                    "restore it from a copy",
                );
            }
        }
        Ok(())
    }

    fn media(
        &self,
        row: &SegmentRow,
        reader: &SegmentReader,
        (known, borders): (Option<Vec<FragmentEntry>>, Option<Borders>),
        before: &mut Option<(u64, Sha256)>,
    ) -> Result<(), (Invariant, String)> {
        let broken = |e: archive::ArchiveError| (Invariant::Readable, e.to_string());
        let (header, ..) = reader.head().map_err(broken)?;
        let mut link = None;
        let len = reader.len().map_err(broken)?;
        if len < row.bytes || (row.state == SegmentState::Sealed && len != row.bytes) {
            return Err((
                Invariant::RowsHaveBytes,
                format!("{len} bytes where the index says {}", row.bytes),
            ));
        }
        let found: Vec<(FragmentEntry, Sha256)> = match row.state {
            SegmentState::Sealed => {
                let footer = reader.footer().map_err(broken)?;
                let footer =
                    footer.ok_or((Invariant::Readable, "sealed, but without a footer".to_owned()))?;
                // What would have to be restored is told by `unreadable`.
                if self.options.deep && !reader.is_outline() {
                    verify(reader).map_err(broken)?;
                }
                link = footer.origin.as_ref().map(|_| footer.link());
                footer.fragments.into_iter().map(|f| (f.entry, f.leaf)).collect()
            }
            _ => {
                let trust_until = if self.options.deep { 0 } else { u64::MAX };
                if self.options.deep {
                    reader.verify_head().map_err(broken)?;
                }
                let scanned = scan(reader, trust_until).map_err(broken)?;
                let whole: Vec<_> = scanned
                    .fragments
                    .into_iter()
                    .map(|f| (f.row.entry, f.row.leaf))
                    .collect();
                let expected = known.as_ref().map_or(0, Vec::len);
                if whole.len() < expected {
                    return Err((
                        Invariant::Readable,
                        format!(
                            "{} of {expected} fragments are whole: {}",
                            whole.len(),
                            scanned.stopped.unwrap_or_default()
                        ),
                    ));
                }
                whole
            }
        };
        let entries = match known {
            Some(entries) => entries,
            None => told_alone(&found, borders)?,
        };
        let offsets: BTreeSet<u64> = entries.iter().map(|e| e.offset).collect();
        if offsets.len() != entries.len() || row.fragments as usize != entries.len() {
            return Err((
                Invariant::TablesAgree,
                format!(
                    "{} fragments where the segment's row says {}",
                    entries.len(),
                    row.fragments
                ),
            ));
        }
        for (entry, (told, _)) in entries.iter().zip(&found) {
            let told = without_notes(told);
            if *entry != told {
                return Err((
                    Invariant::TablesAgree,
                    format!("the index and the file tell a fragment differently: {entry:?} against {told:?}"),
                ));
            }
        }
        let head = entries
            .len()
            .checked_sub(1)
            .and_then(|i| found.get(i))
            .map(|f| f.1);
        // The next segment is chained to what was recorded, whatever thinning has left of it.
        if link.or(head) != Some(row.head) {
            return Err((
                Invariant::ChainHolds,
                "its last hash is not the one in the index".into(),
            ));
        }
        let links = before
            .replace((row.id.seq, row.head))
            .filter(|(seq, _)| seq + 1 == row.id.seq)
            .is_none_or(|(_, head)| head == header.prev);
        if !links {
            return Err((
                Invariant::ChainHolds,
                "it does not link to the segment before it".into(),
            ));
        }
        Ok(())
    }
}

fn without_notes(entry: &FragmentEntry) -> FragmentEntry {
    FragmentEntry {
        notes: Vec::new(),
        ..entry.clone()
    }
}

/// The fragments of a segment whose table the index does not have, which is right when it knows what remains of it.
fn told_alone(
    found: &[(FragmentEntry, Sha256)],
    borders: Option<Borders>,
) -> Result<Vec<FragmentEntry>, (Invariant, String)> {
    let entries: Vec<_> = found.iter().map(|(entry, _)| without_notes(entry)).collect();
    let what = match borders {
        Some(borders) if Borders::of(&entries) == Some(borders) => return Ok(entries),
        Some(_) => "what the index says it adds to coverage is not what it tells",
        None => "the index has no table of its fragments",
    };
    Err((Invariant::TablesAgree, what.to_owned()))
}
