use super::footer::end_of;
use super::*;
use crate::buffer::Pool;
use crate::disk::Disk;
use crate::error::{ArchiveError, Malformed};
use crate::fragment::{BLOCK_BYTES, FragmentEntry, GapCause, Note};
use crate::id::{Epoch, Sha256, StreamId};
use crate::layout::segment_path;
use crate::mp4::InitSegment;
use crate::time::WallTime;

fn stream() -> StreamId {
    StreamId {
        tenant: Default::default(),
        camera: "lobby".parse().expect("id"),
        stream: "main".parse().expect("id"),
    }
}

pub(super) struct Fixture {
    _dir: tempfile::TempDir,
    pub(super) disk: Disk,
    pub(super) pool: Pool,
    init: InitSegment,
}

pub(super) fn fixture() -> Fixture {
    let dir = tempfile::tempdir().expect("temporary folder");
    let disk = Disk::open(dir.path()).expect("disk");
    let video = crate::fuzzing::video_track(1280, 720);
    let init = InitSegment::build(vec![video, crate::mp4::tests::audio_track()]);
    Fixture {
        _dir: dir,
        disk,
        pool: Pool::new(64),
        init,
    }
}

fn start() -> WallTime {
    "2026-11-20T08:00:00Z".parse().expect("time")
}

/// The `i`-th two-second fragment with `pictures` pictures of different sizes and some audio.
pub(super) fn fragment(f: &Fixture, i: i64, pictures: i64) -> ClosedFragment {
    let mut b = FragmentBuilder::new(&f.pool, None);
    let base = i * 180_000;
    for p in 0..pictures {
        // Shown in another order than decoded: every third picture comes early.
        let pts = base
            + 3000
                * if p % 3 == 1 {
                    p + 1
                } else if p % 3 == 2 {
                    p - 1
                } else {
                    p
                };
        b.push_video(pts, p == 0, &vec![(i + p) as u8; 900 + 37 * p as usize]);
    }
    for a in 0..5 {
        b.push_audio(i * 96_000 + a * 1024, &[a as u8; 200]);
    }
    let notes = if i == 1 {
        vec![
            Note::Gap {
                from: start(),
                to: start().plus_micros(5),
                cause: GapCause::NoData,
            },
            Note::PacketsLost { packets: 2 },
        ]
    } else {
        vec![]
    };
    b.close(
        &f.pool,
        Closing {
            wall_start: start().plus_micros(i * 2_000_000),
            wall_duration_us: 2_000_000,
            media_end: Some(base + 180_000),
            typical_duration: 3000,
            run_start: i == 0,
            activity: i as u8,
            notes,
            clock_offset_us: (i > 0).then_some(-1500),
            audio_duration: 1024,
        },
    )
}

fn header(f: &Fixture) -> SegmentHeader {
    SegmentHeader {
        stream: stream(),
        seq: 7,
        epoch: Epoch(2),
        wall_start: start(),
        prev: Sha256::of(b"before"),
        init: f.init.hash,
        generation: 0,
    }
}

pub(super) fn path(f: &Fixture) -> String {
    segment_path(&stream(), &header(f).name())
}

pub(super) fn write(f: &Fixture, groups: &[&[i64]]) -> (SegmentWriter, Vec<FragmentEntry>) {
    let mut w = SegmentWriter::create(&f.disk, &f.pool, header(f), &f.init, 0).expect("create");
    let mut entries = Vec::new();
    for group in groups {
        let mut fragments: Vec<_> = group.iter().map(|i| fragment(f, *i, 20 + 200 * i)).collect();
        entries.extend(w.append(&mut fragments).expect("append"));
        w.sync().expect("sync");
    }
    (w, entries)
}

/// Writes and seals a segment; its fragments.
pub(super) fn sealed(f: &Fixture, groups: &[&[i64]]) -> Vec<FragmentEntry> {
    let (w, entries) = write(f, groups);
    w.seal(&f.pool).expect("seal");
    entries
}

#[test]
fn a_sealed_segment_reads_back_from_its_footer_and_from_its_fragments() {
    let f = fixture();
    let (w, entries) = write(&f, &[&[0], &[1, 2], &[3]]);
    let head = w.head();
    let sealed = w.seal(&f.pool).expect("seal");
    let r = SegmentReader::open(&f.disk, &path(&f)).expect("open");
    assert_eq!(r.len().expect("len"), sealed.bytes);
    assert_eq!(sealed.bytes % BLOCK_BYTES as u64, 0);

    let footer = r.footer().expect("footer").expect("sealed");
    assert_eq!((footer.head, &footer.header), (head, &header(&f)));
    let from_footer: Vec<_> = footer.fragments.iter().map(|x| x.entry.clone()).collect();
    assert_eq!(from_footer, entries);
    assert!(entries.iter().all(|e| e.offset % BLOCK_BYTES as u64 == 0));
    for (e, row) in entries.iter().zip(&footer.fragments) {
        assert_eq!(r.samples(e).expect("samples"), row.tracks);
    }
    let verified = verify(&r).expect("verifies");
    assert_eq!(
        (verified.head, verified.fragments, verified.sealed),
        (head, 4, true)
    );
}

#[test]
fn samples_stand_in_the_file_where_the_tables_say() {
    let f = fixture();
    let (w, entries) = write(&f, &[&[0, 1]]);
    drop(w);
    let r = SegmentReader::open(&f.disk, &path(&f)).expect("open");
    let tracks = r.samples(&entries[1]).expect("samples");
    let mut at = tracks[0].data_offset;
    for (p, s) in tracks[0].samples.iter().enumerate() {
        let bytes = r.read(at, s.size as usize).expect("read");
        assert!(bytes.iter().all(|b| *b == (1 + p) as u8), "picture {p}");
        at += u64::from(s.size);
    }
    assert_eq!(tracks[1].data_offset, at);
    assert_eq!(
        tracks[1].samples.iter().map(|s| s.duration).sum::<u32>(),
        5 * 1024
    );
}

#[test]
fn decode_times_are_the_presentation_times_in_order() {
    let f = fixture();
    let closed = fragment(&f, 3, 30);
    let video = &closed.tracks[0];
    let mut dts = video.base_media_time as i64;
    let mut shown = Vec::new();
    for s in &video.samples {
        shown.push(dts + i64::from(s.composition_offset));
        dts += i64::from(s.duration);
    }
    assert!(!shown.is_sorted());
    shown.sort_unstable();
    assert_eq!(shown, (0..30).map(|p| 540_000 + 3000 * p).collect::<Vec<_>>());
    assert_eq!(dts, 540_000 + 180_000);
}

#[test]
fn an_open_segment_is_recovered_up_to_its_last_whole_fragment_and_sealed() {
    let f = fixture();
    let (w, entries) = write(&f, &[&[0], &[1], &[2]]);
    drop(w);
    let file = f.disk.path(&path(&f));
    let cut = entries[2].offset + u64::from(entries[2].len) - 10;
    std::fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .expect("open")
        .set_len(cut)
        .expect("cut");

    let r = SegmentReader::open(&f.disk, &path(&f)).expect("open");
    let found = scan(&r, 0).expect("scan");
    assert_eq!(found.fragments.len(), 2);
    assert_eq!(found.valid_len, entries[2].offset);
    assert!(found.stopped.is_some());
    drop(r);
    finish(&f.disk, &f.pool, &found.header, found.valid_len, &found.fragments).expect("seal");
    let r = SegmentReader::open(&f.disk, &path(&f)).expect("open");
    let verified = verify(&r).expect("verifies");
    assert_eq!((verified.fragments, verified.sealed), (2, true));
}

#[test]
fn every_flipped_byte_is_found() {
    let f = fixture();
    let (w, entries) = write(&f, &[&[0, 1]]);
    w.seal(&f.pool).expect("seal");
    let file = f.disk.path(&path(&f));
    let good = std::fs::read(&file).expect("read");
    let mut missed = Vec::new();
    let padding = |at: u64| {
        let end = |e: &FragmentEntry| e.offset + u64::from(e.len);
        entries
            .iter()
            .any(|e| (end(e)..end(e).next_multiple_of(BLOCK_BYTES as u64)).contains(&at))
    };
    let r = SegmentReader::open(&f.disk, &path(&f)).expect("open");
    let footer_end = good.len() as u64 - 4096;
    drop(r);
    for at in (0..good.len()).step_by(631) {
        // `free` boxes carry nothing; what stands in them is of no consequence.
        if padding(at as u64) || at as u64 >= footer_end {
            continue;
        }
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&file, &bad).expect("write");
        let r = SegmentReader::open(&f.disk, &path(&f)).expect("open");
        if verify(&r).is_ok_and(|v| v.sealed) {
            missed.push(at);
        }
    }
    let head = good.windows(4).position(|w| w == b"free").expect("padding") - 4;
    let in_padding = |at: &usize| (head..entries[0].offset as usize).contains(at);
    missed.retain(|at| !in_padding(at));
    assert!(missed.is_empty(), "flips not found at {missed:?}");
}

/// The content of the file and where the box of this type begins in it.
fn file_with(f: &Fixture, kind: &[u8; 16]) -> (Vec<u8>, usize) {
    let bytes = std::fs::read(f.disk.path(&path(f))).expect("read");
    let at = bytes
        .windows(16)
        .rposition(|w| w == kind)
        .expect("the box is there");
    (bytes, at)
}

#[test]
fn what_an_index_takes_is_read_without_sample_tables_and_an_export_takes_none_that_are_damaged() {
    let f = fixture();
    let entries = sealed(&f, &[&[0], &[1, 2]]);
    let (mut bytes, at) = file_with(&f, &uuid::SAMPLES);
    let r = SegmentReader::open(&f.disk, &path(&f)).expect("open");
    let footer = r.footer().expect("footer").expect("sealed");
    let contents = r.contents().expect("contents").expect("sealed");
    assert_eq!(contents, Contents::from(footer.clone()));
    assert_eq!(contents.entries, entries);

    bytes[at + 16 + 40] ^= 1;
    std::fs::write(f.disk.path(&path(&f)), &bytes).expect("write");
    let r = SegmentReader::open(&f.disk, &path(&f)).expect("open");
    assert_eq!(r.contents().expect("the rows are whole"), Some(contents));
    let error = r.footer().expect_err("the sample tables are not").to_string();
    assert!(
        error.contains("the sample tables do not match their hash"),
        "{error}"
    );
    let error = verify(&r).expect_err("not as it was written");
    assert!(matches!(error, ArchiveError::Corrupt { .. }), "{error}");
    // They are in the fragments too.
    let samples = r.all_samples(&entries, true).expect("samples");
    let written: Vec<_> = footer.fragments.into_iter().map(|f| f.tracks).collect();
    assert_eq!(samples, written);
}

#[test]
fn a_footer_that_does_not_stand_behind_its_fragments_is_none_of_theirs() {
    let f = fixture();
    let entries = sealed(&f, &[&[0], &[1]]);
    let (mut bytes, trailer) = file_with(&f, &uuid::TRAILER);
    let offset: [u8; 8] = bytes[trailer + 16..trailer + 24].try_into().expect("eight");
    let moved = u64::from_be_bytes(offset) + BLOCK;
    bytes[trailer + 16..trailer + 24].copy_from_slice(&moved.to_be_bytes());
    let end = end_of(entries.last()) as usize;
    bytes.splice(end..end, [0; BLOCK_BYTES]);
    std::fs::write(f.disk.path(&path(&f)), &bytes).expect("write");
    let r = SegmentReader::open(&f.disk, &path(&f)).expect("open");
    for error in [r.footer().map(drop), r.contents().map(drop)] {
        let error = error.expect_err("a block too far").to_string();
        assert!(error.contains("does not stand behind its fragments"), "{error}");
    }
}

#[test]
fn a_footer_of_another_version_is_refused_by_its_name() {
    let f = fixture();
    sealed(&f, &[&[0]]);
    let (mut bytes, at) = file_with(&f, &uuid::FOOTER);
    bytes[at + 16] = 2;
    let from = at - 8;
    let len = u32::from_be_bytes(bytes[from..at - 4].try_into().expect("four")) as usize;
    let hash = Sha256::of(&bytes[from..from + len]);
    let (_, trailer) = file_with(&f, &uuid::TRAILER);
    bytes[trailer + 28..trailer + 60].copy_from_slice(&hash.0);
    std::fs::write(f.disk.path(&path(&f)), &bytes).expect("write");
    let r = SegmentReader::open(&f.disk, &path(&f)).expect("open");
    for error in [r.footer().map(drop), r.contents().map(drop)] {
        let error = error.expect_err("another version").to_string();
        assert!(
            error.contains("a version that this program does not read"),
            "{error}"
        );
    }
}

#[test]
fn a_fragment_that_needs_more_headroom_than_it_was_given_keeps_its_samples() {
    let f = fixture();
    let mut small = FragmentBuilder::new(&f.pool, Some(300));
    for p in 0..600 {
        small.push_video(p * 3000 + (p % 7), p == 0, &vec![p as u8; 500 + p as usize]);
    }
    let closing = Closing {
        wall_start: start(),
        wall_duration_us: 1,
        media_end: None,
        typical_duration: 3000,
        run_start: true,
        activity: 0,
        notes: vec![],
        clock_offset_us: None,
        audio_duration: 0,
    };
    let closed = small.close(&f.pool, closing);
    assert!(closed.headroom_needed() > 300);
    let mut w = SegmentWriter::create(&f.disk, &f.pool, header(&f), &f.init, 0).expect("create");
    w.append(&mut [closed]).expect("append");
    w.seal(&f.pool).expect("seal");
    let r = SegmentReader::open(&f.disk, &path(&f)).expect("open");
    assert_eq!(verify(&r).expect("verifies").fragments, 1);
}

#[test]
fn a_fragment_of_very_many_tiny_pictures_reads_back() {
    let f = fixture();
    let mut tiny = FragmentBuilder::new(&f.pool, None);
    while tiny.has_room(1) && tiny.pictures() < 300_000 {
        tiny.push_video(i64::MAX, tiny.is_empty(), &[1]);
    }
    let closing = Closing {
        wall_start: start(),
        wall_duration_us: 1,
        media_end: Some(i64::MAX),
        typical_duration: 3000,
        run_start: true,
        activity: 0,
        notes: vec![],
        clock_offset_us: None,
        audio_duration: 0,
    };
    let closed = tiny.close(&f.pool, closing);
    let mut w = SegmentWriter::create(&f.disk, &f.pool, header(&f), &f.init, 0).expect("create");
    w.append(&mut [closed]).expect("append");
    w.seal(&f.pool).expect("seal");
    let r = SegmentReader::open(&f.disk, &path(&f)).expect("open");
    assert_eq!(verify(&r).expect("verifies").fragments, 1);
}

#[test]
fn a_segment_that_cannot_be_begun_leaves_no_file() {
    let f = fixture();
    let folder = f.disk.path(&path(&f));
    let reserve = 1 << 62;
    let refused = SegmentWriter::create(&f.disk, &f.pool, header(&f), &f.init, reserve);
    assert!(refused.is_err(), "the disk has no room for that");
    assert!(!folder.exists());
}

#[test]
fn a_segment_written_twice_is_refused() {
    let f = fixture();
    let (_w, _) = write(&f, &[&[0]]);
    let again = SegmentWriter::create(&f.disk, &f.pool, header(&f), &f.init, 0);
    assert!(again.is_err_and(|e| e.to_string().contains("create")));
}

#[test]
fn a_segment_that_none_can_follow_is_none() {
    let f = fixture();
    let head = |seq| {
        let header = SegmentHeader { seq, ..header(&f) };
        SegmentHeader::parse_file_head(&header.file_head(&f.init).0).map(|(header, ..)| header.seq)
    };
    assert_eq!(head(u64::MAX - 1), Ok(u64::MAX - 1));
    assert_eq!(head(u64::MAX), Err(Malformed("a sequence that none can follow")));
    let last = SegmentHeader {
        seq: u64::MAX,
        ..header(&f)
    };
    let written = SegmentWriter::create(&f.disk, &f.pool, last, &f.init, 0);
    assert!(matches!(written, Err(ArchiveError::Malformed(_))));
}
