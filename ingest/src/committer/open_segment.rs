//! The end of a segment: sealed, given up, or gone.

use archive::StreamId;
use archive::buffer::Pool;
use archive::segment::SegmentWriter;
use indexer::{Batch, Incident, IncidentKind, SegmentRow, SegmentState};

/// A segment that is being written, and its row.
pub(super) struct OpenSegment {
    pub(super) writer: SegmentWriter,
    pub(super) row: SegmentRow,
    pub(super) stream: StreamId,
}

impl OpenSegment {
    /// Removes the file of a segment in which nothing is durable.
    pub(super) fn remove(self) {
        self.writer.discard();
    }

    /// Writes the footer; the sealed row goes to `batch`. When the footer cannot be written the segment
    /// stays as it is, readable, and is sealed at the next start.
    pub(super) fn seal(self, pool: &Pool, batch: &mut Batch) {
        match self.writer.seal(pool) {
            Ok(sealed) => {
                batch.seal(&SegmentRow {
                    bytes: sealed.bytes,
                    head: sealed.head,
                    state: SegmentState::Sealed,
                    ..self.row
                });
            }
            Err(e) => {
                tracing::error!(stream = %self.stream, error = %e, "a segment could not be sealed");
                batch.segment(&SegmentRow {
                    state: SegmentState::Poisoned,
                    ..self.row
                });
            }
        }
    }
}

/// Says that a segment is not to be written again, and that only what `row` counts is valid.
pub(super) fn poison(row: SegmentRow, batch: &mut Batch) {
    let kind = IncidentKind::Poisoned { seq: row.id.seq };
    let at = row.wall_end;
    batch.incident(row.id.stream, Incident { at, kind });
    batch.segment(&SegmentRow {
        state: SegmentState::Poisoned,
        ..row
    });
}
