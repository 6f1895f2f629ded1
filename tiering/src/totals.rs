//! Bytes of a stream, without reading all its rows again each time.

use std::collections::HashMap;

use archive::{StreamNo, WallTime};
use indexer::{Index, IndexError, SegmentRow, SegmentState};

/// Rows read at once while a stream is counted for the first time.
const PAGE_ROWS: usize = 4096;

#[derive(Copy, Clone, Default)]
struct Counted {
    /// Bytes of segments that begin before `until`; they no longer change.
    bytes: u64,
    until: WallTime,
}

/// Counts each segment once, when it no longer grows, and only looks at the rows after it from then on.
#[derive(Default)]
pub(crate) struct Totals(HashMap<StreamNo, Counted>);

impl Totals {
    /// The bytes of all segments of a stream, the open one too.
    pub(crate) fn bytes(&mut self, index: &Index, stream: StreamNo) -> Result<u64, IndexError> {
        let counted = self.0.entry(stream).or_default();
        let mut growing = 0;
        let mut from = counted.until;
        loop {
            let rows = index.segments_from(stream, from, PAGE_ROWS)?;
            for row in &rows {
                from = row.wall_start.plus_micros(1);
                if growing == 0 && row.state != SegmentState::Open {
                    counted.bytes += row.bytes;
                    counted.until = from;
                } else {
                    growing += row.bytes;
                }
            }
            if rows.len() < PAGE_ROWS {
                return Ok(counted.bytes + growing);
            }
        }
    }

    /// Counts a segment again that has become smaller.
    pub(crate) fn replace(&mut self, before: &SegmentRow, after: &SegmentRow) {
        if let Some(counted) = self.0.get_mut(&before.id.stream)
            && before.wall_start < counted.until
        {
            counted.bytes = counted.bytes.saturating_sub(before.bytes) + after.bytes;
        }
    }

    /// Takes a deleted segment out.
    pub(crate) fn forget(&mut self, row: &SegmentRow) {
        if let Some(counted) = self.0.get_mut(&row.id.stream)
            && row.wall_start < counted.until
        {
            counted.bytes = counted.bytes.saturating_sub(row.bytes);
        }
    }
}
