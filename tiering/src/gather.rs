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
    /// The time by which holds end.
    now: WallTime,
}

impl Gathered {
    pub(crate) fn read(
        index: &Index,
        rules: &Rules,
        totals: &mut Totals,
        busy: HashSet<SegmentId>,
        now: WallTime,
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
            now,
        };
        for (no, id) in index.streams() {
            let rule = rules.place_for(&id);
            let bytes = match rules.at(rule).and_then(|r| r.quota) {
                Some(_) => totals
                    .bytes(index, no)?
                    .saturating_sub(held_bytes(index, no, now)?),
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
        let stays = |row: &SegmentRow| !may_go(row, index) || self.busy.contains(&row.id);
        (stream.rows, view.more) = oldest(index, stream.no, stream.window, self.now, stays)?;
        let candidate = |row: &SegmentRow| Candidate {
            id: row.id,
            wall_end: row.wall_end,
            bytes: row.bytes,
        };
        view.oldest = stream.rows.iter().map(candidate).collect();
        Ok(())
    }

    /// Leaves bytes of a stream out that are going already.
    pub(crate) fn discount(&mut self, stream: StreamNo, bytes: u64) {
        let place = self.streams.iter().position(|s| s.no == stream);
        if let Some(view) = place.and_then(|place| self.views.get_mut(place)) {
            view.bytes = view.bytes.saturating_sub(bytes);
        }
    }

    /// The row behind a candidate.
    pub(crate) fn row(&self, stream: usize, candidate: &Candidate) -> Option<(StreamId, SegmentRow)> {
        let stream = self.streams.get(stream)?;
        let row = stream.rows.iter().find(|row| row.id == candidate.id)?;
        Some((stream.id.clone(), row.clone()))
    }
}

/// The oldest segments of a stream that no hold covers at `now`, at most `count`, and whether there are more. The first
/// that stays for another reason keeps all that follow it.
pub(crate) fn oldest(
    index: &Index,
    no: StreamNo,
    count: usize,
    now: WallTime,
    stays: impl Fn(&SegmentRow) -> bool,
) -> Result<(Vec<SegmentRow>, bool), IndexError> {
    let held = index.held_ranges(no, now)?;
    let mut found = Vec::new();
    let mut from = WallTime::MIN;
    loop {
        let asked = count - found.len();
        let page = index.segments_from(no, from, asked)?;
        let read = page.len();
        let mut over_hold = false;
        for row in page {
            from = row.wall_start.plus_micros(1);
            if let Some(hold) = held.iter().find(|held| held.intersect(row.range()).is_some()) {
                // All that begin before its end are held too, and may be many.
                from = from.max(hold.to());
                over_hold = true;
                break;
            }
            if stays(&row) {
                return Ok((found, false));
            }
            found.push(row);
        }
        if !over_hold {
            return Ok((found, read == asked));
        }
    }
}

/// Bytes of a stream that are held. They count towards no quota: it would take them from the footage of today.
pub(crate) fn held_bytes(index: &Index, no: StreamNo, now: WallTime) -> Result<u64, IndexError> {
    let (mut bytes, mut last) = (0, None);
    for range in index.held_ranges(no, now)? {
        for row in index.segments_all_states(no, range)? {
            // One segment may reach into two holds.
            if last.replace(row.id) != Some(row.id) {
                bytes += row.bytes;
            }
        }
    }
    Ok(bytes)
}

/// Whether nobody writes the segment any more. One that an earlier epoch left open could not be sealed; it
/// ages like the others. One that is being deleted still, because its file resists, holds up its stream.
fn may_go(row: &SegmentRow, index: &Index) -> bool {
    let written = row.state == SegmentState::Open && row.epoch == index.epoch();
    !written && row.state != SegmentState::Deleting
}
