//! What a start makes of archives that were left in odd states.

use std::sync::Arc;

use archive::buffer::Pool;
use archive::disk::Disk;
use archive::layout::segment_path;
use archive::seam::{Answer, Faults, Step};
use archive::segment::{Closing, FragmentBuilder, SegmentHeader, SegmentWriter};
use archive::time::SECOND_US;
use archive::{InitSegment, SegmentId, Sha256, StreamId, StreamNo, Tier, TimeRange, WallTime};
use indexer::check::{CheckOptions, Invariant, check};
use indexer::{Batch, Index, IndexOptions, SegmentRow, SegmentState};
use tierline_ingest::{Recovered, recover, seal_left_open};

struct Site {
    dir: tempfile::TempDir,
    index: Arc<Index>,
    disk: Disk,
    pool: Pool,
    init: InitSegment,
    no: StreamNo,
}

/// What is to be written, and how far it got.
struct Written {
    row: SegmentRow,
    writer: SegmentWriter,
    batch: Batch,
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

/// A fragment of a second.
fn closing(at: i64) -> Closing {
    Closing {
        wall_start: second(at),
        wall_duration_us: 1_000_000,
        media_end: Some(90_000 * (at + 1)),
        typical_duration: 90_000,
        run_start: at == 0,
        activity: 1,
        notes: vec![],
        clock_offset_us: None,
        audio_duration: 0,
    }
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let index = Index::open(&dir.path().join("index"), &IndexOptions::default()).expect("index");
        let disk = Disk::open(&dir.path().join("hot")).expect("disk");
        let no = index.ensure_stream(&lobby()).expect("stream");
        Self {
            dir,
            index: Arc::new(index),
            disk,
            pool: Pool::new(16),
            init: InitSegment::build(vec![archive::fuzzing::video_track(640, 360)]),
            no,
        }
    }

    /// A segment of fragments of a second each, written and synced, with its rows not yet committed.
    fn write(&self, seq: u64, prev: Sha256, seconds: std::ops::Range<i64>) -> Written {
        let header = self.header(seq, prev, seconds.start);
        let writer = SegmentWriter::create(&self.disk, &self.pool, header, &self.init, 0).expect("create");
        let row = SegmentRow {
            id: SegmentId { stream: self.no, seq },
            epoch: self.index.epoch(),
            wall_start: second(seconds.start),
            wall_end: second(seconds.start),
            bytes: 0,
            state: SegmentState::Open,
            tier: Tier::Hot,
            init: self.init.hash,
            head: Sha256::default(),
            fragments: 0,
            generation: 0,
        };
        let mut batch = Batch::default();
        batch.init(&self.init);
        let mut written = Written { row, writer, batch };
        self.append(&mut written, seconds);
        written
    }

    fn header(&self, seq: u64, prev: Sha256, at: i64) -> SegmentHeader {
        SegmentHeader {
            stream: lobby(),
            seq,
            epoch: self.index.epoch(),
            wall_start: second(at),
            prev,
            init: self.init.hash,
            generation: 0,
        }
    }

    fn append(&self, w: &mut Written, seconds: std::ops::Range<i64>) {
        for at in seconds {
            let mut b = FragmentBuilder::new(&self.pool, None);
            b.push_video(90_000 * at, true, &vec![at as u8; 5000]);
            let entries = w
                .writer
                .append(&mut [b.close(&self.pool, closing(at))])
                .expect("append");
            entries.into_iter().for_each(|e| w.batch.fragment(w.row.id, e));
        }
        w.writer.sync().expect("sync");
        w.row.wall_end = w.writer.wall_end();
        w.row.bytes = w.writer.bytes();
        w.row.head = w.writer.head();
        w.row.fragments = w.writer.fragments();
        w.batch.segment(&w.row);
    }

    fn commit(&self, w: &mut Written) {
        self.index.commit(std::mem::take(&mut w.batch)).expect("commit");
    }

    /// A start; then nothing is left for another one, and the archive is whole.
    fn start(&self) -> Recovered {
        let found = recover(&self.disk, &self.index).expect("recover");
        let again = recover(&self.disk, &self.index).expect("recover");
        assert_eq!((again.fragments, again.adopted, again.set_aside), (0, 0, 0));
        seal_left_open(&self.disk, &self.index, &self.pool, &found.unsealed).expect("seal");
        let options = CheckOptions {
            deep: true,
            running: false,
        };
        let findings =
            check(&self.index, &self.disk, &Default::default(), options, |_, _| {}).expect("check");
        assert!(findings.is_empty(), "{findings:#?}");
        found
    }

    fn states(&self) -> Vec<(u64, SegmentState, u32)> {
        let rows = self
            .index
            .segments_all_states(self.no, TimeRange::ALL)
            .expect("rows");
        rows.iter().map(|r| (r.id.seq, r.state, r.fragments)).collect()
    }
}

#[test]
fn whole_fragments_without_a_row_are_kept() {
    let s = Site::new();
    let mut first = s.write(0, Sha256::default(), 0..3);
    s.commit(&mut first);
    s.append(&mut first, 3..5);
    let second = s.write(1, first.row.head, 5..7);
    drop((first, second));
    let found = s.start();
    assert_eq!((found.fragments, found.adopted, found.set_aside), (4, 1, 0));
    assert_eq!(
        s.states(),
        [(0, SegmentState::Sealed, 5), (1, SegmentState::Sealed, 2)]
    );
}

#[test]
fn a_file_whose_sequence_was_used_again_is_set_aside() {
    let s = Site::new();
    let mut first = s.write(0, Sha256::default(), 0..3);
    s.commit(&mut first);
    // Given up before it had rows; its removal did not survive a power cut.
    drop(s.write(1, first.row.head, 3..4));
    let mut second = s.write(1, first.row.head, 4..6);
    // The time of the lost fragment.
    second.batch.gap(
        s.no,
        archive::Gap {
            from: self::second(3),
            to: Some(self::second(4)),
            cause: archive::GapCause::DiskError,
        },
    );
    s.commit(&mut second);
    drop((first, second));
    let found = s.start();
    assert_eq!((found.adopted, found.set_aside), (0, 1));
    assert_eq!(
        s.states(),
        [(0, SegmentState::Sealed, 3), (1, SegmentState::Sealed, 2)]
    );
}

#[test]
fn of_two_files_without_a_row_only_one_takes_a_place() {
    let s = Site::new();
    let mut first = s.write(0, Sha256::default(), 0..3);
    s.commit(&mut first);
    let head = first.row.head;
    // The sync of this one failed, so it was written again behind; then the process was killed.
    s.append(&mut first, 3..4);
    drop(s.write(1, head, 3..4));
    drop(first);
    let found = s.start();
    assert_eq!((found.fragments, found.adopted, found.set_aside), (1, 0, 1));
    assert_eq!(s.states(), [(0, SegmentState::Sealed, 4)]);
}

#[test]
fn a_torn_footer_is_written_anew() {
    let s = Site::new();
    let mut w = s.write(0, Sha256::default(), 0..3);
    s.commit(&mut w);
    let footer_at = w.row.bytes;
    let path = w.writer.path().to_owned();
    w.writer.seal(&s.pool).expect("seal");
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[footer_at as usize + 100..footer_at as usize + 200].fill(0);
    std::fs::write(&path, bytes).expect("write");
    let found = s.start();
    assert_eq!((found.damaged, found.unsealed.len()), (0, 1));
    assert_eq!(s.states(), [(0, SegmentState::Sealed, 3)]);
}

#[test]
fn a_footer_that_a_camera_sent_seals_nothing() {
    let s = Site::new();
    let mut genuine = s.write(0, Sha256::default(), 0..3);
    s.commit(&mut genuine);
    let (footer_at, path) = (genuine.row.bytes as usize, genuine.writer.path().to_owned());
    let sealed = genuine.writer.seal(&s.pool).expect("seal");
    let file = std::fs::read(&path).expect("read");
    let mut batch = Batch::default();
    batch.seal(&SegmentRow {
        bytes: sealed.bytes,
        ..genuine.row.clone()
    });
    s.index.commit(batch).expect("commit");

    // A picture whose end is the end of the file, and is the footer of another segment at its place.
    let mut len = file.len() - footer_at;
    let path = loop {
        let mut picture = vec![7; len];
        let tail = &file[footer_at..];
        picture[len - tail.len()..].copy_from_slice(tail);
        let header = s.header(1, genuine.row.head, 3);
        let mut writer = SegmentWriter::create(&s.disk, &s.pool, header, &s.init, 0).expect("create");
        let mut b = FragmentBuilder::new(&s.pool, None);
        b.push_video(3 * 90_000, true, &picture);
        let entry = writer
            .append(&mut [b.close(&s.pool, closing(3))])
            .expect("append")
            .remove(0);
        let end = (entry.offset + u64::from(entry.len)) as usize;
        if end == file.len() {
            writer.sync().expect("sync");
            break writer.path().to_owned();
        }
        len = (len + file.len()).checked_sub(end).expect("a shorter picture");
        writer.discard();
    };
    let sent = std::fs::read(path).expect("read");
    assert_eq!(sent[footer_at..], file[footer_at..]);
    let found = s.start();
    assert_eq!((found.fragments, found.adopted, found.set_aside), (1, 1, 0));
    assert_eq!(
        s.states(),
        [(0, SegmentState::Sealed, 3), (1, SegmentState::Sealed, 1)]
    );
}

#[test]
fn a_folder_that_could_not_be_read_is_read_by_the_next_start() {
    let s = Site::new();
    let mut first = s.write(0, Sha256::default(), 0..3);
    s.commit(&mut first);
    drop(s.write(1, first.row.head, 3..5));
    drop(first);
    let disk = Disk::with_faults(s.disk.root(), Arc::new(Failing(Step::List))).expect("disk");
    assert_eq!(recover(&disk, &s.index).expect("recover").adopted, 0);
    // Recording has gone on meanwhile, in another hour.
    let last = s.index.last_segment(s.no).expect("last").expect("one");
    let mut later = s.write(1, last.head, 7200..7201);
    later.batch.gap(
        s.no,
        archive::Gap {
            from: last.wall_end,
            to: Some(second(7200)),
            cause: archive::GapCause::ServiceKilled,
        },
    );
    s.commit(&mut later);
    drop(later);
    assert_eq!(s.start().set_aside, 1);
}

#[test]
fn a_file_that_could_not_be_read_stays_and_is_adopted_by_the_next_start() {
    let s = Site::new();
    let mut first = s.write(0, Sha256::default(), 0..3);
    s.commit(&mut first);
    drop(s.write(1, first.row.head, 3..5));
    drop(first);
    let disk = Disk::with_faults(s.disk.root(), Arc::new(Failing(Step::Open))).expect("disk");
    let found = recover(&disk, &s.index).expect("recover");
    assert_eq!((found.adopted, found.set_aside), (0, 0));
    let found = s.start();
    assert_eq!((found.adopted, found.fragments, found.set_aside), (1, 2, 0));
}

#[test]
fn a_start_reads_no_folders_of_days_before_the_last_segment() {
    let s = Site::new();
    let mut w = s.write(0, Sha256::default(), 0..3);
    s.commit(&mut w);
    drop(w);
    for day in ["20260101", "20260102", "20261119"] {
        let hour = format!("{}/{day}/05", archive::layout::stream_dir(&lobby()));
        std::fs::create_dir_all(s.disk.path(&hour)).expect("folder");
    }
    let lists = Arc::new(Lists::default());
    let disk = Disk::with_faults(s.disk.root(), lists.clone()).expect("disk");
    recover(&disk, &s.index).expect("recover");
    let listed = lists.0.lock().expect("lock").clone();
    assert!(listed.iter().any(|dir| dir.contains("20261120")), "{listed:?}");
    assert!(!listed.iter().any(|dir| dir.contains("202601")), "{listed:?}");
    assert!(!listed.iter().any(|dir| dir.contains("20261119")), "{listed:?}");
}

/// A disk on which one kind of step always fails.
#[derive(Debug)]
struct Failing(Step);

impl Faults for Failing {
    fn at(&self, step: Step, _: &std::path::Path) -> Answer {
        if step == self.0 {
            Answer::Fail(5)
        } else {
            Answer::GoOn
        }
    }
}

/// Writes down which folders are listed.
#[derive(Debug, Default)]
struct Lists(std::sync::Mutex<Vec<String>>);

impl Faults for Lists {
    fn at(&self, step: Step, path: &std::path::Path) -> Answer {
        if step == Step::List {
            let mut listed = self.0.lock().expect("lock");
            listed.push(path.display().to_string());
        }
        Answer::GoOn
    }
}

#[test]
fn a_copy_under_another_name_is_set_aside() {
    let s = Site::new();
    let mut w = s.write(0, Sha256::default(), 0..3);
    s.commit(&mut w);
    let mut name = w.writer.header().name();
    (name.seq, name.start) = (1, second(10));
    std::fs::copy(w.writer.path(), s.disk.path(&segment_path(&lobby(), &name))).expect("copy");
    drop(w);
    let found = s.start();
    assert_eq!((found.adopted, found.set_aside), (0, 1));
}

#[test]
fn a_check_beside_a_service_takes_no_deleted_segment_for_a_lost_one() {
    let s = Site::new();
    let mut w = s.write(0, Sha256::default(), 0..3);
    s.commit(&mut w);
    let view = Index::open_read_only(&s.dir.path().join("index")).expect("view");
    let findings = || {
        let options = CheckOptions {
            deep: false,
            running: true,
        };
        let findings = check(&view, &s.disk, &Default::default(), options, |_, _| {}).expect("check");
        findings.iter().map(|f| f.invariant).collect::<Vec<_>>()
    };
    std::fs::remove_file(w.writer.path()).expect("remove");
    assert_eq!(findings(), [Invariant::RowsHaveBytes]);
    w.batch.delete(&w.row);
    s.commit(&mut w);
    assert_eq!(findings(), []);
}

#[test]
fn a_segment_whose_deletion_has_begun_is_neither_damaged_nor_sealed() {
    let s = Site::new();
    let mut w = s.write(0, Sha256::default(), 0..3);
    s.commit(&mut w);
    w.row.state = SegmentState::Deleting;
    w.batch.segment(&w.row);
    s.commit(&mut w);
    std::fs::remove_file(w.writer.path()).expect("remove");
    let found = s.start();
    assert_eq!((found.damaged, found.unsealed.len()), (0, 0));
    assert_eq!(s.states(), [(0, SegmentState::Deleting, 3)]);
}
