//! Reads from the index what a decision rests on, and no more than that.

use std::collections::{HashMap, HashSet};

use archive::{CameraId, SegmentId, StreamId, StreamNo, WallTime};
use indexer::{Index, IndexError, SegmentRow, SegmentState};

use crate::policy::{Candidate, StreamView};
use crate::rules::Rules;
use crate::totals::Totals;

/// Segments of each stream that are read at first: mostly the first of them is kept.
const WINDOW_FIRST: usize = 2;
/// How much further is looked when all that was read is to be deleted.
const WINDOW_GROWTH: usize = 4;

/// A stream with the rows behind its view.
pub(crate) struct Stream {
    pub(crate) no: StreamNo,
    pub(crate) id: StreamId,
    rows: Vec<SegmentRow>,
    window: usize,
}

/// Every stream, the oldest segments of each, and the cameras' priorities.
pub(crate) struct Gathered {
    pub(crate) streams: Vec<Stream>,
    pub(crate) views: Vec<StreamView>,
    /// Of the cameras that are recorded.
    pub(crate) priorities: Vec<u8>,
    /// Segments that are being copied.
    busy: HashSet<SegmentId>,
}

/// Segments whose deletion an earlier pass or process has begun. They are the oldest of their stream.
pub(crate) fn begun(index: &Index) -> Result<Vec<(StreamId, SegmentRow)>, IndexError> {
    let mut found = Vec::new();
    for (no, id) in index.streams() {
        let mut from = WallTime::MIN;
        while let Some(row) = index.segments_from(no, from, 1)?.pop()
            && row.state == SegmentState::Deleting
        {
            from = row.wall_start.plus_micros(1);
            found.push((id.clone(), row));
        }
    }
    Ok(found)
}

impl Gathered {
    pub(crate) fn read(
        index: &Index,
        rules: &Rules,
        totals: &mut Totals,
        busy: HashSet<SegmentId>,
    ) -> Result<Self, IndexError> {
        let mut by_camera: HashMap<CameraId, (u8, Option<WallTime>)> = HashMap::new();
        let mut priorities = Vec::new();
        for camera in index.cameras()? {
            if camera.removed.is_none() && camera.streams.iter().any(|s| s.enabled) {
                priorities.push(camera.priority);
            }
            by_camera.insert(camera.id, (camera.priority, camera.removed));
        }
        let mut found = Self {
            streams: Vec::new(),
            views: Vec::new(),
            priorities,
            busy,
        };
        for (no, id) in index.streams() {
            let rule = rules.place_for(&id);
            let bytes = match rules.at(rule).and_then(|r| r.quota) {
                Some(_) => totals.bytes(index, no)?,
                None => 0,
            };
            let (priority, removed) = by_camera.get(&id.camera).copied().unwrap_or_default();
            found.views.push(StreamView {
                camera: id.camera.clone(),
                priority,
                removed,
                rule,
                bytes,
                oldest: Vec::new(),
                more: true,
                evicts: rules
                    .at(rule)
                    .is_some_and(|r| r.first_below(rules.below()).is_some()),
            });
            found.streams.push(Stream {
                no,
                id,
                rows: Vec::new(),
                window: 0,
            });
            found.widen(index, found.streams.len() - 1)?;
        }
        Ok(found)
    }

    /// Reads more of a stream's oldest segments.
    pub(crate) fn widen(&mut self, index: &Index, i: usize) -> Result<(), IndexError> {
        let (Some(stream), Some(view)) = (self.streams.get_mut(i), self.views.get_mut(i)) else {
            return Ok(());
        };
        let first = stream.window == 0;
        stream.window = if first {
            WINDOW_FIRST
        } else {
            stream.window * WINDOW_GROWTH
        };
        stream.rows = index.segments_from(stream.no, WallTime::MIN, stream.window)?;
        let read = stream.rows.len();
        // The first that must stay keeps all that follow it.
        let stays = stream
            .rows
            .iter()
            .position(|row| !may_go(row, index) || self.busy.contains(&row.id));
        stream.rows.truncate(stays.unwrap_or(read));
        let candidate = |row: &SegmentRow| Candidate {
            id: row.id,
            wall_end: row.wall_end,
            bytes: row.bytes,
        };
        view.oldest = stream.rows.iter().map(candidate).collect();
        view.more = stays.is_none() && read == stream.window;
        Ok(())
    }

    /// The row behind a candidate.
    pub(crate) fn row(&self, stream: usize, candidate: &Candidate) -> Option<(StreamId, SegmentRow)> {
        let stream = self.streams.get(stream)?;
        let row = stream.rows.iter().find(|row| row.id == candidate.id)?;
        Some((stream.id.clone(), row.clone()))
    }
}

/// Whether nobody writes the segment any more. One that an earlier epoch left open could not be sealed; it
/// ages like the others. One that is being deleted still, because its file resists, holds up its stream.
fn may_go(row: &SegmentRow, index: &Index) -> bool {
    let written = row.state == SegmentState::Open && row.epoch == index.epoch();
    !written && row.state != SegmentState::Deleting
}
