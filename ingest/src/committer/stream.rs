//! The segments of one stream as they are written.

use archive::buffer::Pool;
use archive::disk::Disk;
use archive::segment::{ClosedFragment, SegmentHeader, SegmentWriter};
use archive::{
    ArchiveError, FragmentEntry, Gap, GapCause, InitSegment, Note, SegmentId, Sha256, StreamId, StreamNo,
    Tier, WallTime,
};
use indexer::{Batch, Incident, IncidentKind, Index, IndexError, SegmentRow, SegmentState};

use super::rotation;
use crate::config::IngestConfig;
use crate::fragmenter::Finished;

pub(super) struct Context<'a> {
    pub(super) config: &'a IngestConfig,
    pub(super) disk: &'a Disk,
    pub(super) pool: &'a Pool,
    pub(super) index: &'a Index,
}

/// A segment that is being written, and its row.
pub(super) struct OpenSegment {
    writer: SegmentWriter,
    row: SegmentRow,
    stream: StreamId,
}

pub(super) struct StreamWriter {
    no: StreamNo,
    id: StreamId,
    next_seq: u64,
    /// The leaf of the last durable fragment: what the next segment is chained to.
    head: Sha256,
    durable_until: Option<WallTime>,
    open: Option<OpenSegment>,
    init: Option<Sha256>,
    /// Bytes of the last segment: how much the next will probably need.
    expected_bytes: u64,
    /// Notes of fragments that could not be written; the next that can be carries them.
    carried: Vec<Note>,
}

impl StreamWriter {
    /// Goes on where the index says the stream ended.
    pub(super) fn open(index: &Index, no: StreamNo) -> Result<Self, IndexError> {
        let missing = || IndexError::BadRow {
            table: "streams",
            what: format!("stream {} has no name", no.0),
        };
        let id = index.stream_id(no).ok_or_else(missing)?;
        let last = index.last_segment(no)?;
        let ended = index.ended(no)?.filter(|_| last.is_none());
        Ok(Self {
            no,
            id,
            next_seq: last
                .as_ref()
                .map(|row| row.id.seq + 1)
                .or(ended.map(|e| e.next_seq))
                .unwrap_or(0),
            head: last
                .as_ref()
                .map(|row| row.head)
                .or(ended.map(|e| e.head))
                .unwrap_or_default(),
            durable_until: last
                .as_ref()
                .map(|row| row.wall_end)
                .or(ended.map(|e| e.wall_end)),
            open: None,
            init: None,
            expected_bytes: 0,
            carried: Vec::new(),
        })
    }

    pub(super) fn durable_until(&self) -> Option<WallTime> {
        self.durable_until
    }

    pub(super) fn take_open(&mut self) -> Option<OpenSegment> {
        self.open.take()
    }

    /// Writes and syncs `fragments`, rotating where that is due; rows go to `batch`, segments that are
    /// complete to `to_seal`. What cannot be written becomes a gap.
    pub(super) fn append(
        &mut self,
        cx: &Context<'_>,
        fragments: Vec<Finished>,
        batch: &mut Batch,
        to_seal: &mut Vec<OpenSegment>,
    ) {
        let mut rest = fragments.into_iter().peekable();
        while let Some(first) = rest.next() {
            if self.rotate_before(cx, &first) {
                to_seal.extend(self.open.take());
            }
            let init = first.init.clone();
            let (mut start, mut bytes) = (first.fragment.entry().wall_start, first.fragment.bytes() as u64);
            if let Some(open) = &self.open {
                start = open.row.wall_start;
                bytes += open.writer.bytes();
            }
            let mut group = vec![first.fragment];
            while let Some(next) =
                rest.next_if(|f| f.init.hash == init.hash && !due(self.no, cx, start, bytes, &f.fragment))
            {
                bytes += next.fragment.bytes() as u64;
                group.push(next.fragment);
            }
            self.write(cx, &init, group, batch, to_seal);
        }
    }

    fn rotate_before(&self, cx: &Context<'_>, f: &Finished) -> bool {
        self.open.as_ref().is_some_and(|open| {
            open.row.init != f.init.hash
                || due(self.no, cx, open.row.wall_start, open.writer.bytes(), &f.fragment)
        })
    }

    /// Writes a group into one segment. After a failure the file is given up and the group goes to a new
    /// one; after a second failure it is lost, and said to be.
    fn write(
        &mut self,
        cx: &Context<'_>,
        init: &InitSegment,
        mut group: Vec<ClosedFragment>,
        batch: &mut Batch,
        _to_seal: &mut Vec<OpenSegment>,
    ) {
        if let Some(first) = group.first_mut()
            && !self.carried.is_empty()
        {
            first.prepend_notes(std::mem::take(&mut self.carried));
        }
        let fresh = self.open.is_none();
        let error = match self.try_write(cx, init, &mut group, batch) {
            Ok(()) => return,
            Err(e) => e,
        };
        tracing::error!(stream = %self.id, error = %error, "a segment could not be written");
        self.give_up(batch);
        if !fresh || !error.is_disk_full() {
            match self.try_write(cx, init, &mut group, batch) {
                Ok(()) => return,
                Err(e) => {
                    tracing::error!(stream = %self.id, error = %e, "a new segment could not be written either")
                }
            }
            self.give_up(batch);
        }
        let cause = if error.is_disk_full() {
            GapCause::DiskFull
        } else {
            GapCause::DiskError
        };
        self.lose(&group, cause, batch);
    }

    fn try_write(
        &mut self,
        cx: &Context<'_>,
        init: &InitSegment,
        group: &mut [ClosedFragment],
        batch: &mut Batch,
    ) -> Result<(), ArchiveError> {
        let Some(start) = group.first().map(|f| f.entry().wall_start) else {
            return Ok(());
        };
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.create(cx, init, start)?,
        };
        let id = open.row.id;
        let result = open
            .writer
            .append(group)
            .and_then(|entries| open.writer.sync().map(|()| entries));
        // The row of a segment given up says what was durable before: it is kept for `give_up`.
        let open = self.open.insert(open);
        let entries = result?;
        if self.init != Some(init.hash) {
            batch.init(init);
            self.init = Some(init.hash);
        }
        open.row.wall_end = open.writer.wall_end();
        open.row.bytes = open.writer.bytes();
        open.row.head = open.writer.head();
        open.row.fragments = open.writer.fragments();
        batch.segment(&open.row);
        self.head = open.row.head;
        self.durable_until = entries.last().map(FragmentEntry::wall_end);
        entries.into_iter().for_each(|entry| batch.fragment(id, entry));
        Ok(())
    }

    fn create(
        &mut self,
        cx: &Context<'_>,
        init: &InitSegment,
        start: WallTime,
    ) -> Result<OpenSegment, ArchiveError> {
        let id = SegmentId {
            stream: self.no,
            seq: self.next_seq,
        };
        let header = SegmentHeader {
            stream: self.id.clone(),
            seq: id.seq,
            epoch: cx.index.epoch(),
            wall_start: start,
            prev: self.head,
            init: init.hash,
        };
        let writer = SegmentWriter::create(cx.disk, cx.pool, header, init, self.expected_bytes)?;
        self.next_seq += 1;
        let row = SegmentRow {
            id,
            epoch: cx.index.epoch(),
            wall_start: start,
            wall_end: start,
            bytes: 0,
            state: SegmentState::Open,
            tier: Tier::Hot,
            init: init.hash,
            head: Sha256::default(),
            fragments: 0,
        };
        Ok(OpenSegment {
            writer,
            row,
            stream: self.id.clone(),
        })
    }

    /// Never writes the open file again. What was durable in it stays readable; if nothing was, its
    /// sequence is used again and the file removed.
    fn give_up(&mut self, batch: &mut Batch) {
        let Some(mut open) = self.open.take() else { return };
        if open.row.fragments == 0 {
            self.next_seq = open.row.id.seq;
            if let Err(e) = std::fs::remove_file(open.writer.path()) {
                tracing::warn!(path = %open.writer.path().display(), error = %e, "an empty segment could not be removed");
            }
            return;
        }
        let seq = open.row.id.seq;
        batch.incident(
            self.no,
            Incident {
                at: open.row.wall_end,
                kind: IncidentKind::Poisoned { seq },
            },
        );
        open.row.state = SegmentState::Poisoned;
        batch.segment(&open.row);
    }

    /// Turns fragments into gaps.
    fn lose(&mut self, group: &[ClosedFragment], cause: GapCause, batch: &mut Batch) {
        for f in group {
            let entry = f.entry();
            self.carried.extend(entry.notes.iter().copied());
            let (from, to) = (entry.wall_start, entry.wall_end());
            match self.carried.last_mut() {
                Some(Note::Gap {
                    to: end, cause: same, ..
                }) if *end == from && *same == cause => *end = to,
                _ => self.carried.push(Note::Gap { from, to, cause }),
            }
        }
        for note in &self.carried {
            if let Note::Gap { from, to, cause } = *note {
                batch.gap(
                    self.no,
                    Gap {
                        from,
                        to: Some(to),
                        cause,
                    },
                );
            }
        }
        bound(&mut self.carried);
    }
}

/// Keeps the notes few: the oldest gaps join when there are too many.
fn bound(notes: &mut Vec<Note>) {
    while notes.len() > archive::fragment::NOTES_MAX - 4 {
        let Some(&Note::Gap { from, .. }) = notes.first() else {
            notes.remove(0);
            continue;
        };
        notes.remove(0);
        match notes.first_mut() {
            Some(Note::Gap { from: next, .. }) => *next = from,
            Some(_) => {
                notes.remove(0);
            }
            None => {}
        }
    }
}

fn due(stream: StreamNo, cx: &Context<'_>, start: WallTime, bytes: u64, f: &ClosedFragment) -> bool {
    rotation::is_due(&rotation::Question {
        stream,
        segment_start: start,
        segment_bytes: bytes,
        fragment_start: f.entry().wall_start,
        fragment_bytes: f.bytes() as u64,
        duration: cx.config.segment_duration,
        bytes_max: cx.config.segment_bytes_max,
    })
}

impl OpenSegment {
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
