//! Files and objects against the rows: each has one.

use std::collections::HashMap;

use archive::layout::{SegmentName, segment_path, stream_dir};
use archive::store::Objects;
use archive::{ArchiveError, StreamId, Tier};

use super::{Checker, Invariant};
use crate::copies::CopyState;
use crate::error::IndexError;
use crate::rows::{SegmentRow, SegmentState};

/// The length of what a store has under a name: its list may be of a moment ago.
fn there_now(objects: &Objects, name: &str) -> Result<Option<u64>, IndexError> {
    let asked = objects.runtime.block_on(objects.store.stat(name));
    let found = asked.map_err(ArchiveError::from)?;
    Ok(found.map(|stat| stat.len))
}

impl Checker<'_> {
    pub(super) fn file(
        &mut self,
        stream: &StreamId,
        name: &SegmentName,
        known: &HashMap<u64, &SegmentRow>,
        next_seq: u64,
    ) -> Result<(), IndexError> {
        let path = segment_path(stream, name);
        match known.get(&name.seq) {
            Some(row) if row.epoch == name.epoch && segment_path(stream, &row.name()) == path => {
                if !self.is_expected(row, Tier::Hot)? {
                    self.left_over(Tier::Hot, path);
                }
            }
            Some(row) if self.is_other_generation(stream, row, Tier::Hot, &path)? => {}
            None if name.seq >= next_seq => {}
            _ => self.find(
                Invariant::FilesAreKnown,
                path,
                "the index has no row for it".into(),
                "move it away; if it holds footage that is missing, run `tierline rebuild` first",
            ),
        }
        Ok(())
    }

    /// Whether a copy of the segment stands on the tier, or may.
    fn is_expected(&self, row: &SegmentRow, tier: Tier) -> Result<bool, IndexError> {
        Ok(row.state == SegmentState::Deleting || self.index.copies(row)?.state(tier) != CopyState::Absent)
    }

    /// Whether it is the name of what a segment was before it was thinned, or of what it is about to become, and such a
    /// file may stand there.
    fn is_other_generation(
        &self,
        stream: &StreamId,
        row: &SegmentRow,
        tier: Tier,
        path: &str,
    ) -> Result<bool, IndexError> {
        let Some(thinning) = self.index.thinning(row)? else {
            return Ok(false);
        };
        let other = match thinning.left() {
            Some(copies) if copies.state(tier) == CopyState::Absent => return Ok(false),
            Some(_) => thinning.before.name(),
            None if tier != Tier::Hot => return Ok(false),
            None => thinning.next().name(),
        };
        Ok(segment_path(stream, &other) == path)
    }

    fn left_over(&mut self, tier: Tier, path: String) {
        // Beside a service it may have been put there since the index was opened.
        if !self.options.running {
            self.find(
                Invariant::FilesAreKnown,
                format!("{tier}: {path}"),
                "the index knows of no copy there".into(),
                "move it away; nothing here reads or deletes it",
            );
        }
    }

    /// The objects of a stream in a store against the rows: each has one, and whole copies are what they were.
    pub(super) fn objects(
        &mut self,
        stream: &StreamId,
        tier: Tier,
        known: &HashMap<u64, &SegmentRow>,
    ) -> Result<(), IndexError> {
        let Some(objects) = self.stores.of(tier) else {
            return Ok(());
        };
        let mut there = HashMap::new();
        let listed = objects.for_each(&stream_dir(stream), |name, len| {
            there.insert(name, len);
        });
        listed.map_err(ArchiveError::from)?;
        for row in known.values() {
            let name = segment_path(stream, &row.name());
            let state = self.index.copies(row)?.state(tier);
            let fits = |found: Option<u64>| match state {
                _ if row.state == SegmentState::Deleting => true,
                CopyState::Whole => found == Some(row.bytes),
                CopyState::Absent => found.is_none(),
                CopyState::Copying | CopyState::Deleting => true,
            };
            let mut found = there.remove(&name);
            if !fits(found) {
                found = there_now(objects, &name)?;
            }
            let wrong = match (state, found) {
                _ if row.state == SegmentState::Deleting => None,
                (CopyState::Whole, None) => Some("the object is missing".to_owned()),
                (CopyState::Whole, Some(len)) if len != row.bytes => {
                    Some(format!("{len} bytes where the index says {}", row.bytes))
                }
                (CopyState::Absent, Some(_)) => {
                    self.left_over(tier, name);
                    continue;
                }
                _ => None,
            };
            if let Some(what) = wrong.filter(|_| !self.options.running) {
                let remedy = "restore it from another copy";
                self.find(Invariant::RowsHaveBytes, format!("{tier}: {name}"), what, remedy);
            }
        }
        for row in known.values() {
            if let Some(thinning) = self.index.thinning(row)? {
                let name = segment_path(stream, &thinning.before.name());
                if self.is_other_generation(stream, row, tier, &name)? {
                    there.remove(&name);
                }
            }
        }
        let mut unknown: Vec<_> = there.into_keys().collect();
        unknown.sort_unstable();
        for name in unknown {
            if there_now(objects, &name)?.is_some() {
                self.left_over(tier, name);
            }
        }
        Ok(())
    }
}
