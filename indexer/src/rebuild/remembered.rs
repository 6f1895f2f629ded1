//! What a checkpoint of the index knows of a segment that still is where it was.

use archive::disk::Disk;
use archive::layout::segment_path;
use archive::segment::SegmentReader;
use archive::{SegmentId, Tier, TimeRange, WallTime};

use super::Item;
use super::told::Told;
use crate::copies::CopyState;
use crate::error::IndexError;
use crate::index::Index;
use crate::rows::{SegmentRow, SegmentState};

/// A segment as the checkpoint tells it, so that it need not be read: a sealed one never changes. `None` when the
/// checkpoint does not know it as it was found.
pub(super) fn remembered(
    checkpoint: &Index,
    disk: &Disk,
    item: &Item<'_>,
) -> Result<Option<Told>, IndexError> {
    let Some(stream) = checkpoint.stream_no(item.stream)? else {
        return Ok(None);
    };
    let (seq, path) = (item.name.seq, segment_path(item.stream, &item.name));
    let row = checkpoint.segment(SegmentId { stream, seq })?;
    let is_it = |row: &SegmentRow| {
        row.state == SegmentState::Sealed && segment_path(item.stream, &row.name()) == path
    };
    let Some(row) = row.filter(is_it) else {
        return Ok(None);
    };
    let mut found = item.found.clone();
    for (tier, len) in item.found.places() {
        let len = match tier {
            Tier::Hot => SegmentReader::open(disk, &path)
                .and_then(|reader| reader.len())
                .ok(),
            _ => Some(len),
        };
        if len != Some(row.bytes) {
            found.forget(tier);
        }
    }
    let init = checkpoint.init(&row.init)?;
    let (Some(init), true) = (init, found.places().next().is_some()) else {
        return Ok(None);
    };
    let mut copies = found.copies(row.bytes);
    let (entries, parts) = match checkpoint.stored_table(&row)? {
        Some(entries) => (entries, None),
        None => {
            // It is told by its own footer, and what else counts by the row of its copies, unless it is hot once more.
            let (Some(borders), Some(of)) = (checkpoint.copies(&row)?.borders, copies.as_mut()) else {
                return Ok(None);
            };
            if of.state(Tier::Hot) != CopyState::Absent {
                return Ok(None);
            }
            of.borders = Some(borders);
            (Vec::new(), Some(checkpoint.parts(&row)?))
        }
    };
    let before = match seq.checked_sub(1) {
        Some(seq) => checkpoint.segment(SegmentId { stream, seq })?,
        None => None,
    };
    let since = before.as_ref().map_or(WallTime::MIN, |before| before.wall_end);
    let since = TimeRange::new(since, row.wall_end).unwrap_or(row.range());
    let mut gaps = checkpoint.gap_rows(stream, since)?;
    gaps.retain(|gap| gap.to.is_some() && since.contains(gap.from));
    Ok(Some(Told {
        prev: before.map(|before| before.head).unwrap_or_default(),
        init: (*init).clone(),
        entries,
        parts,
        leaves: Vec::new(),
        gaps,
        incidents: checkpoint.incidents(stream, since)?,
        copies,
        former: None,
        row: SegmentRow {
            id: SegmentId { stream: item.no, seq },
            tier: Tier::Hot,
            ..row
        },
    }))
}
