//! Deletions under way: each begins here, under the lock of the holds, and its record lasts until the segment's row is
//! forgotten.

use std::sync::PoisonError;

use archive::{StreamNo, WallTime};
use rocksdb::WriteBatch;
use serde::{Deserialize, Serialize};

use crate::db::DELETIONS;
use crate::error::IndexError;
use crate::index::Index;
use crate::keys;
use crate::rows::{SegmentRow, SegmentState};

/// Why a segment is to go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cause {
    /// One word: `age`, `quota`, `space`.
    pub reason: String,
    /// The rule that says so, as it stands in the configuration.
    pub rule: String,
}

/// A deletion that has begun.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Deletion {
    /// Why.
    pub cause: Cause,
    /// The time by which ages were judged when it began.
    pub begun: WallTime,
    /// What [`Index::hold_epoch`] was then: no hold of that state covers the segment.
    pub hold_epoch: u64,
    /// The number of its certificate, once there is one: every copy is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<u64>,
}

impl Deletion {
    /// Of a segment whose row says that it goes, and nothing else is known.
    fn untold() -> Self {
        Self {
            cause: Cause {
                reason: "unknown".to_owned(),
                rule: String::new(),
            },
            begun: WallTime::MIN,
            hold_epoch: 0,
            certificate: None,
        }
    }
}

impl Index {
    /// Begins to delete segments, all but those that are held at `now` or whose deletion has begun before: those are
    /// left as they are. Tells which; from then on nobody reads them, whatever happens. Durable when it returns.
    ///
    /// This is the only way in which deletions begin: holds change under the same lock.
    pub fn begin_deletion(
        &self,
        doomed: &[(SegmentRow, Cause)],
        now: WallTime,
    ) -> Result<Vec<SegmentRow>, IndexError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let hold_epoch = self.hold_epoch();
        let mut out = WriteBatch::default();
        let mut begun = Vec::new();
        for (row, cause) in doomed {
            // As it is now: it may have moved to another tier since it was read.
            let Some(row) = self.segment(row.id)? else {
                continue;
            };
            if row.state == SegmentState::Deleting || self.held(row.id.stream, row.range(), now)? {
                continue;
            }
            let row = SegmentRow {
                state: SegmentState::Deleting,
                ..row
            };
            self.put_segment(&mut out, &row)?;
            let deletion = Deletion {
                cause: cause.clone(),
                begun: now,
                hold_epoch,
                certificate: None,
            };
            self.put_deletion(&mut out, &row, &deletion)?;
            begun.push(row);
        }
        if !begun.is_empty() {
            self.write(out)?;
        }
        Ok(begun)
    }

    /// Every deletion under way, by stream and time.
    pub fn deletions(&self) -> Result<Vec<(SegmentRow, Deletion)>, IndexError> {
        let mut found = Vec::new();
        for entry in self
            .db
            .iterator_cf(self.cf(DELETIONS)?, rocksdb::IteratorMode::Start)
        {
            let (key, json) = entry?;
            let (stream, at) = keys::parse_at(&key).ok_or_else(|| bad("key"))?;
            let deletion = serde_json::from_slice(&json).map_err(|e| bad(&e.to_string()))?;
            let row = self.segment_at(stream, at)?;
            let goes = row.filter(|row| row.state == SegmentState::Deleting);
            found.extend(goes.map(|row| (row, deletion)));
        }
        Ok(found)
    }

    /// The deletion of a segment.
    pub(crate) fn deletion(&self, row: &SegmentRow) -> Result<Option<Deletion>, IndexError> {
        let key = keys::at(row.id.stream, row.wall_start);
        let json = self.db.get_pinned_cf(self.cf(DELETIONS)?, key)?;
        let deletion = json.map(|json| serde_json::from_slice(&json));
        deletion.transpose().map_err(|e| bad(&e.to_string()))
    }

    pub(crate) fn put_deletion(
        &self,
        out: &mut WriteBatch,
        row: &SegmentRow,
        deletion: &Deletion,
    ) -> Result<(), IndexError> {
        let json = serde_json::to_vec(deletion).map_err(|e| bad(&e.to_string()))?;
        out.put_cf(self.cf(DELETIONS)?, keys::at(row.id.stream, row.wall_start), json);
        Ok(())
    }

    /// Sees that a segment whose row says that it goes is found again.
    pub(crate) fn note_deletion(&self, out: &mut WriteBatch, row: &SegmentRow) -> Result<(), IndexError> {
        let key = keys::at(row.id.stream, row.wall_start);
        if self.db.get_pinned_cf(self.cf(DELETIONS)?, key)?.is_none() {
            self.put_deletion(out, row, &Deletion::untold())?;
        }
        Ok(())
    }

    pub(crate) fn forget_deletion(&self, out: &mut WriteBatch, row: &SegmentRow) -> Result<(), IndexError> {
        out.delete_cf(self.cf(DELETIONS)?, keys::at(row.id.stream, row.wall_start));
        Ok(())
    }

    /// The segment that begins at `at`.
    fn segment_at(&self, stream: StreamNo, at: WallTime) -> Result<Option<SegmentRow>, IndexError> {
        let rows = self.segments_from(stream, at, 1)?;
        Ok(rows.into_iter().find(|row| row.wall_start == at))
    }
}

fn bad(what: &str) -> IndexError {
    IndexError::BadRow {
        table: DELETIONS,
        what: what.to_owned(),
    }
}
