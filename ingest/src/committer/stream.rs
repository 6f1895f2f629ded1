//! The segments of one stream as they are written.

use archive::buffer::Pool;
use archive::disk::Disk;
use archive::fragment::{NOTES_MAX, bound_notes};
use archive::segment::{ClosedFragment, SegmentHeader, SegmentWriter};
use archive::{
    ArchiveError, FragmentEntry, Gap, GapCause, InitSegment, Note, SegmentId, Sha256, StreamId, StreamNo,
    Tier, WallTime,
};
use indexer::{Batch, Index, IndexError, SegmentRow, SegmentState};

use super::open_segment::{OpenSegment, poison};
use super::rotation;
use crate::config::IngestConfig;
use crate::fragmenter::Finished;

/// Space is reserved in steps of this, but no more than a segment takes.
const RESERVE_BYTES: u64 = 16 << 20;
/// Notes that are carried; a fragment has some of its own.
const CARRIED_MAX: usize = NOTES_MAX - 4;

pub(super) struct Context<'a> {
    pub(super) config: &'a IngestConfig,
    pub(super) disk: &'a Disk,
    pub(super) pool: &'a Pool,
    pub(super) index: &'a Index,
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
    /// Notes of fragments that could not be written; the next that can be carries them.
    carried: Vec<Note>,
    /// Whether the last group was lost; the next loss is not logged again.
    losing: bool,
}

impl StreamWriter {
    /// Goes on where the index says the stream ended.
    pub(super) fn open(index: &Index, no: StreamNo) -> Result<Self, IndexError> {
        let missing = || IndexError::BadRow {
            table: "streams",
            what: format!("stream {} has no name", no.0),
        };
        let id = index.stream_id(no).ok_or_else(missing)?;
        let end = index.end(no)?;
        Ok(Self {
            no,
            id,
            next_seq: end.map_or(0, |end| end.next_seq),
            head: end.map(|end| end.head).unwrap_or_default(),
            durable_until: end.map(|end| end.wall_end),
            open: None,
            init: None,
            carried: Vec::new(),
            losing: false,
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
            self.write(cx, &init, group, batch);
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
    ) {
        if let Some(first) = group.first_mut()
            && !self.carried.is_empty()
        {
            first.prepend_notes(std::mem::take(&mut self.carried));
        }
        let fresh = self.open.is_none();
        let error = match self.try_write(cx, init, &mut group, batch) {
            Ok(()) => return self.going_well(),
            Err(e) => e,
        };
        if !self.losing {
            tracing::error!(stream = %self.id, error = %error, "a segment could not be written");
        }
        self.give_up(batch);
        if !fresh || !error.is_disk_full() {
            match self.try_write(cx, init, &mut group, batch) {
                Ok(()) => return self.going_well(),
                Err(e) if !self.losing => {
                    tracing::error!(stream = %self.id, error = %e, "a new segment could not be written either")
                }
                Err(_) => {}
            }
            self.give_up(batch);
        }
        self.losing = true;
        let cause = if error.is_disk_full() {
            GapCause::DiskFull
        } else {
            GapCause::DiskError
        };
        self.lose(group.iter().map(ClosedFragment::entry), cause, batch);
    }

    /// Does not even try to write, because the index has no space.
    pub(super) fn shed(&mut self, fragments: &[Finished]) {
        let entries = fragments.iter().map(|f| f.fragment.entry());
        entries.for_each(|entry| leave(&mut self.carried, entry, GapCause::DiskFull));
        bound_notes(&mut self.carried, CARRIED_MAX);
    }

    /// Tells the gaps of what could not be written, which the next fragment will tell too.
    pub(super) fn tell_lost(&self, batch: &mut Batch) {
        for note in &self.carried {
            if let Note::Gap { from, to, cause } = *note {
                let to = Some(to);
                batch.gap(self.no, Gap { from, to, cause });
            }
        }
    }

    fn going_well(&mut self) {
        if std::mem::take(&mut self.losing) {
            tracing::info!(stream = %self.id, "the disk takes footage again");
        }
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
        for entry in entries {
            batch.fragment(id, entry);
        }
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
            generation: 0,
        };
        let reserve = cx.config.segment_bytes_max.min(RESERVE_BYTES);
        let writer = SegmentWriter::create(cx.disk, cx.pool, header, init, reserve)?;
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
            generation: 0,
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
        let Some(open) = self.open.take() else { return };
        if open.row.fragments == 0 {
            self.next_seq = open.row.id.seq;
            open.remove();
        } else {
            poison(open.row, batch);
        }
    }

    /// Turns fragments into gaps.
    fn lose<'a>(
        &mut self,
        group: impl Iterator<Item = &'a FragmentEntry>,
        cause: GapCause,
        batch: &mut Batch,
    ) {
        group.for_each(|entry| leave(&mut self.carried, entry, cause));
        self.tell_lost(batch);
        bound_notes(&mut self.carried, CARRIED_MAX);
    }
}

/// What a fragment leaves when it is lost: its notes, and a gap.
fn leave(notes: &mut Vec<Note>, entry: &FragmentEntry, cause: GapCause) {
    notes.extend(entry.notes.iter().copied());
    let (from, to) = (entry.wall_start, entry.wall_end());
    match notes.last_mut() {
        Some(Note::Gap {
            to: end, cause: same, ..
        }) if *end == from && *same == cause => *end = to,
        _ => notes.push(Note::Gap { from, to, cause }),
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
