//! An index that is made anew from the media tells what the lost one told.

use std::cell::Cell;

use archive::buffer::Pool;
use archive::disk::Disk;
use archive::segment::{Closing, FragmentBuilder, SegmentHeader, SegmentWriter};
use archive::time::SECOND_US;
use archive::{GapCause, InitSegment, Note, SegmentId, Sha256, StreamId, StreamNo, Tier, WallTime};
use tierline_indexer::{Batch, Index, IndexOptions, SegmentRow, SegmentState, compare, rebuild};

struct Site {
    dir: tempfile::TempDir,
    index: Index,
    disk: Disk,
    pool: Pool,
    init: InitSegment,
    no: StreamNo,
    /// Of the next fragment.
    notes: Cell<Vec<Note>>,
}

fn second(n: i64) -> WallTime {
    let start: WallTime = "2026-11-20T12:00:00Z".parse().expect("time");
    start.plus_micros(n * SECOND_US)
}

fn lobby() -> StreamId {
    StreamId {
        tenant: Default::default(),
        camera: "lobby".parse().expect("id"),
        stream: "main".parse().expect("id"),
    }
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let index = Index::open(&dir.path().join("index"), &IndexOptions::default()).expect("index");
        let no = index.ensure_stream(&lobby()).expect("stream");
        Self {
            disk: Disk::open(&dir.path().join("hot")).expect("disk"),
            dir,
            index,
            pool: Pool::new(16),
            init: InitSegment::build(vec![archive::fuzzing::video_track(640, 360)]),
            no,
            notes: Cell::default(),
        }
    }

    fn begin(&self, seq: u64, prev: Sha256, at: i64) -> (SegmentRow, SegmentWriter) {
        let header = SegmentHeader {
            stream: lobby(),
            seq,
            epoch: self.index.epoch(),
            wall_start: second(at),
            prev,
            init: self.init.hash,
            generation: 0,
        };
        let row = SegmentRow {
            id: SegmentId { stream: self.no, seq },
            epoch: header.epoch,
            wall_start: header.wall_start,
            wall_end: header.wall_start,
            bytes: 0,
            state: SegmentState::Open,
            tier: Tier::Hot,
            init: self.init.hash,
            head: prev,
            fragments: 0,
            generation: 0,
        };
        let writer = SegmentWriter::create(&self.disk, &self.pool, header, &self.init, 0).expect("create");
        (row, writer)
    }

    /// Writes one fragment of a second.
    fn write(&self, writer: &mut SegmentWriter, at: i64, picture: &[u8]) -> archive::FragmentEntry {
        let mut b = FragmentBuilder::new(&self.pool, None);
        b.push_video(90_000 * at, true, picture);
        let closing = Closing {
            wall_start: second(at),
            wall_duration_us: 1_000_000,
            media_end: Some(90_000 * (at + 1)),
            typical_duration: 90_000,
            run_start: at == 0,
            activity: 1,
            notes: self.notes.take(),
            clock_offset_us: None,
            audio_duration: 0,
        };
        let entries = writer
            .append(&mut [b.close(&self.pool, closing)])
            .expect("append");
        writer.sync().expect("sync");
        entries.into_iter().next().expect("a fragment")
    }

    /// Writes fragments of a second each and acknowledges them.
    fn record(&self, row: &mut SegmentRow, writer: &mut SegmentWriter, seconds: std::ops::Range<i64>) {
        let mut batch = Batch::default();
        batch.init(&self.init);
        for at in seconds {
            batch.fragment(row.id, self.write(writer, at, &[at as u8; 5000]));
        }
        row.wall_end = writer.wall_end();
        row.bytes = writer.bytes();
        row.head = writer.head();
        row.fragments = writer.fragments();
        batch.segment(row);
        self.index.commit(batch).expect("commit");
    }

    fn seal(&self, row: &mut SegmentRow, writer: SegmentWriter) {
        row.bytes = writer.seal(&self.pool).expect("seal").bytes;
        let mut batch = Batch::default();
        batch.seal(row);
        self.index.commit(batch).expect("commit");
    }

    fn assert_rebuilt(&self) {
        let anew = Index::open(&self.dir.path().join("anew"), &IndexOptions::default()).expect("index");
        let rebuilt = rebuild(&self.disk, &Default::default(), &anew, |_| {}).expect("rebuild");
        assert_eq!(rebuilt.left_out, []);
        assert_eq!(compare(&self.index, &anew).expect("compare"), []);
    }
}

#[test]
fn what_a_failed_sync_left_in_a_file_does_not_displace_the_segment_in_which_it_was_acknowledged() {
    let s = Site::new();
    let (mut row, mut given_up) = s.begin(0, Sha256::default(), 0);
    s.record(&mut row, &mut given_up, 0..3);
    // The disk took these, and said that it did not.
    for at in 3..5 {
        s.write(&mut given_up, at, &[at as u8; 5000]);
    }
    row.state = SegmentState::Poisoned;
    let mut batch = Batch::default();
    batch.segment(&row);
    s.index.commit(batch).expect("commit");
    let (mut next, mut writer) = s.begin(1, row.head, 3);
    s.record(&mut next, &mut writer, 3..9);
    s.seal(&mut next, writer);
    drop(given_up);
    s.assert_rebuilt();
}

#[test]
fn the_footer_of_another_segment_at_the_end_of_a_picture_hides_nothing() {
    let s = Site::new();
    let (mut row, mut writer) = s.begin(0, Sha256::default(), 0);
    s.record(&mut row, &mut writer, 0..3);
    let (footer_at, path) = (row.bytes as usize, writer.path().to_owned());
    s.seal(&mut row, writer);
    let sealed = std::fs::read(path).expect("read");
    let footer = &sealed[footer_at..];

    // It has to end where the footer it imitates ended.
    let mut len = footer.len();
    loop {
        let (mut next, mut writer) = s.begin(1, row.head, 3);
        let mut picture = vec![7; len];
        picture[len - footer.len()..].copy_from_slice(footer);
        let entry = s.write(&mut writer, 3, &picture);
        let end = (entry.offset + u64::from(entry.len)) as usize;
        if end == sealed.len() {
            next.wall_end = writer.wall_end();
            next.bytes = writer.bytes();
            next.head = writer.head();
            next.fragments = 1;
            let mut batch = Batch::default();
            batch.segment(&next);
            batch.fragment(next.id, entry);
            s.index.commit(batch).expect("commit");
            break;
        }
        len = (len + sealed.len()).checked_sub(end).expect("a shorter picture");
        writer.discard();
    }
    s.assert_rebuilt();
}

#[test]
fn gaps_incidents_and_coverage_are_those_that_were_told_while_recording() {
    let s = Site::new();
    let mut head = Sha256::default();
    for seq in 0..40 {
        // Over several hours, every third one behind a gap, and some clock steps and losses.
        let at = seq as i64 * 700;
        let gap = Note::Gap {
            from: second(at - 690),
            to: second(at),
            cause: GapCause::SessionLost,
        };
        let step = Note::ClockStep {
            at: second(at),
            by_us: 5,
        };
        let notes = match seq % 3 {
            1 => vec![gap, Note::PacketsLost { packets: 7 }],
            2 => vec![gap, step],
            _ if seq > 0 => vec![gap],
            _ => Vec::new(),
        };
        let (mut row, mut writer) = s.begin(seq, head, at);
        s.notes.set(notes);
        s.record(&mut row, &mut writer, at..at + 10);
        head = row.head;
        s.seal(&mut row, writer);
    }
    s.assert_rebuilt();
}

#[test]
fn a_file_that_vanishes_or_cannot_be_read_is_left_out_and_named() {
    let s = Site::new();
    let mut head = Sha256::default();
    let mut paths = Vec::new();
    for seq in 0..5 {
        let (mut row, mut writer) = s.begin(seq, head, seq as i64 * 10);
        s.record(&mut row, &mut writer, seq as i64 * 10..seq as i64 * 10 + 3);
        head = row.head;
        paths.push(writer.path().to_owned());
        s.seal(&mut row, writer);
    }
    // A list may name what has gone since: a link to nowhere stands for it.
    std::fs::remove_file(&paths[1]).expect("remove");
    std::os::unix::fs::symlink("/nowhere/at/all", &paths[1]).expect("link");
    std::fs::write(&paths[3], "no segment").expect("write");
    let anew = Index::open(&s.dir.path().join("anew"), &IndexOptions::default()).expect("index");
    let rebuilt = rebuild(&s.disk, &Default::default(), &anew, |_| {}).expect("rebuild");
    assert_eq!(rebuilt.segments, 3);
    let left_out: Vec<_> = rebuilt.left_out.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(left_out.len(), 2, "{left_out:?}");
    assert!(
        paths[1].ends_with(left_out[0]) && paths[3].ends_with(left_out[1]),
        "{left_out:?}"
    );
}
