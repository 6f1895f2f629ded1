//! Footage that stays, whatever rules, quotas and the disk say: by camera and time, until it is released.
//!
//! Invariant: holds change, and deletions begin, under one lock ([`Index::put_hold`], [`Index::begin_deletion`],
//! [`Index::begin_removing`]). Once a hold is acknowledged nothing that it covers begins to be deleted.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod stored;
mod view;

use std::sync::PoisonError;

use archive::{CameraId, GapCause, HoldId, StreamId, StreamName, StreamNo, TimeRange, WallTime};
use rocksdb::WriteBatch;
use serde::{Deserialize, Serialize};

use crate::db::{HOLDS, META};
use crate::error::IndexError;
use crate::index::Index;
use crate::rows::{SegmentRow, SegmentState};

pub(crate) use stored::restore;
pub use stored::{HOLDS_FOLDER, StoredHolds, hold_path, stored_holds};
pub(crate) use view::HoldView;

/// How often holds have changed.
const EPOCH: &str = "hold_epoch";

/// What a hold is for.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldKind {
    /// Until somebody releases it, or until a day that somebody named.
    #[default]
    Legal,
    /// Until the age that the rule of its footage names for incidents.
    Incident,
}

/// A hold as it is kept: in the index, and as a file in the archive itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// Which.
    pub id: HoldId,
    /// Counts up with each change; of two that were found the higher one is true.
    pub version: u32,
    /// What it is for.
    #[serde(default)]
    pub kind: HoldKind,
    /// Whose footage.
    pub camera: CameraId,
    /// Which of its streams; none means all of them, those to come too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamName>,
    /// The first instant that it covers.
    pub from: WallTime,
    /// The first instant that it does not cover any more.
    pub to: WallTime,
    /// Why, in the words of who put it.
    pub reason: String,
    /// Who put it.
    pub author: String,
    /// When.
    pub created: WallTime,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<WallTime>,
    /// How it ended before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<Release>,
}

/// The end of a hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Release {
    /// When.
    pub at: WallTime,
    /// Who ended it.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Hold {
    /// The time that it covers.
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.from, self.to).unwrap_or(TimeRange::starting(self.from, 0))
    }

    /// Whether it keeps anything at `now`.
    pub fn is_active(&self, now: WallTime) -> bool {
        self.released.is_none() && self.until.is_none_or(|until| now < until)
    }

    /// The version of it that ends it.
    fn with_release(&self, release: &Release) -> Self {
        Self {
            version: self.version.saturating_add(1),
            released: Some(release.clone()),
            ..self.clone()
        }
    }

    /// As it is written beside the footage.
    pub fn to_json(&self) -> Vec<u8> {
        // Nothing in it can fail to be written.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Whether it is about this stream.
    pub fn covers(&self, stream: &StreamId) -> bool {
        self.camera == stream.camera && (self.streams.is_empty() || self.streams.contains(&stream.stream))
    }
}

/// Footage that a new hold would have kept, and that was deleted before: all of it, or what a thinner version that stays
/// has not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gone {
    /// Whose.
    pub stream: StreamId,
    /// When.
    pub range: TimeRange,
}

impl Index {
    /// Adds a hold, or a later version of one; durable, and in force, when it returns. An older version than the one
    /// that is known changes nothing. Tells what it covers and came too late for.
    pub fn put_hold(&self, hold: &Hold) -> Result<Vec<Gone>, IndexError> {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self
            .hold(&hold.id)?
            .is_none_or(|known| known.version < hold.version)
        {
            self.write_hold(hold)?;
        }
        // These leave no other trace when they are gone.
        let thinner = self.originals_going()?;
        // What began to be deleted before is known as that, or as a gap: recording need not wait while it is looked for.
        drop(writing);
        self.gone(hold, &thinner)
    }

    /// Ends a hold; durable when it returns. Tells how it stands then: one that was released before stays as it is.
    /// `None` when there is none.
    pub fn release_hold(&self, id: &HoldId, release: &Release) -> Result<Option<Hold>, IndexError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(hold) = self.hold(id)? else {
            return Ok(None);
        };
        if hold.released.is_some() {
            return Ok(Some(hold));
        }
        let released = hold.with_release(release);
        self.write_hold(&released)?;
        Ok(Some(released))
    }

    /// Called with the lock of writers: whoever begins a deletion sees the hold or is seen by it.
    fn write_hold(&self, hold: &Hold) -> Result<(), IndexError> {
        let json = serde_json::to_vec(hold).map_err(|e| bad(&e))?;
        let epoch = self.hold_epoch() + 1;
        let mut out = WriteBatch::default();
        out.put_cf(self.cf(HOLDS)?, hold.id.as_str(), json);
        out.put_cf(self.cf(META)?, EPOCH, epoch.to_be_bytes());
        self.write(out)?;
        let mut view = self.holds.write().unwrap_or_else(PoisonError::into_inner);
        view.put(hold.clone(), epoch);
        Ok(())
    }

    /// Every hold, by id, those that have ended too.
    pub fn holds(&self) -> Result<Vec<Hold>, IndexError> {
        let rows = self.db.iterator_cf(self.cf(HOLDS)?, rocksdb::IteratorMode::Start);
        rows.map(|row| decode(&row?.1)).collect()
    }

    /// One hold.
    pub fn hold(&self, id: &HoldId) -> Result<Option<Hold>, IndexError> {
        let row = self.db.get_pinned_cf(self.cf(HOLDS)?, id.as_str())?;
        row.map(|row| decode(&row)).transpose()
    }

    /// Rises with every change of the holds.
    pub fn hold_epoch(&self) -> u64 {
        self.holds.read().unwrap_or_else(PoisonError::into_inner).epoch()
    }

    /// Whether footage of a stream must stay that overlaps `range`. From memory: asked for every segment.
    pub fn held(&self, stream: StreamNo, range: TimeRange, now: WallTime) -> Result<bool, IndexError> {
        let held = self.held_ranges(stream, now)?;
        Ok(held.iter().any(|held| held.intersect(range).is_some()))
    }

    /// The holds that keep some of `range` of a stream at `now`, out of memory.
    pub fn holds_on(&self, stream: &StreamId, range: TimeRange, now: WallTime) -> Vec<Hold> {
        let view = self.holds.read().unwrap_or_else(PoisonError::into_inner);
        let active = view.active(stream, now);
        let inside = active.filter(|hold| hold.range().intersect(range).is_some());
        let mut holds: Vec<Hold> = inside.cloned().collect();
        holds.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        holds
    }

    /// What of a stream must stay, in order and without overlap.
    pub fn held_ranges(&self, stream: StreamNo, now: WallTime) -> Result<Vec<TimeRange>, IndexError> {
        let view = self.holds.read().unwrap_or_else(PoisonError::into_inner);
        if view.is_empty() {
            return Ok(Vec::new());
        }
        let Some(id) = self.stream_id(stream) else {
            return Ok(Vec::new());
        };
        Ok(view.ranges(&id, now))
    }

    /// What a hold covers and was deleted, or is being deleted; of the segments `thinner`, what they were before they were
    /// thinned.
    fn gone(&self, hold: &Hold, thinner: &[SegmentRow]) -> Result<Vec<Gone>, IndexError> {
        let mut found = Vec::new();
        for (no, stream) in self.streams_of(&hold.camera) {
            if !hold.covers(&stream) {
                continue;
            }
            let gaps = self.gap_rows(no, hold.range())?.into_iter();
            let deleted = gaps.filter(|gap| gap.cause == GapCause::Retention);
            let mut spans: Vec<TimeRange> = deleted
                .filter_map(|gap| TimeRange::new(gap.from, gap.to.unwrap_or(WallTime::MAX)))
                .collect();
            let rows = self.segments_all_states(no, hold.range())?.into_iter();
            let going = rows.filter(|row| row.state == SegmentState::Deleting);
            spans.extend(going.map(|row| row.range()));
            // What stays of these are thinner versions.
            let thinner = thinner.iter().filter(|row| row.id.stream == no);
            spans.extend(thinner.map(SegmentRow::range));
            let inside = spans.into_iter().filter_map(|span| span.intersect(hold.range()));
            found.extend(view::merged(inside.collect()).into_iter().map(|range| Gone {
                stream: stream.clone(),
                range,
            }));
        }
        Ok(found)
    }

    /// Reads the holds into memory, when the index is opened.
    pub(crate) fn load_holds(&self) -> Result<(), IndexError> {
        let epoch = self.db.get_cf(self.cf(META)?, EPOCH)?.unwrap_or_default();
        let epoch = epoch.try_into().map_or(0, u64::from_be_bytes);
        let all = self.holds()?;
        let mut view = self.holds.write().unwrap_or_else(PoisonError::into_inner);
        *view = HoldView::new(all, epoch);
        Ok(())
    }
}

fn decode(json: &[u8]) -> Result<Hold, IndexError> {
    serde_json::from_slice(json).map_err(|e| bad(&e))
}

fn bad(e: &serde_json::Error) -> IndexError {
    IndexError::BadRow {
        table: HOLDS,
        what: e.to_string(),
    }
}
