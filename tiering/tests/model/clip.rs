//! Init segments, and a file to import.

use archive::buffer::Pool;
use archive::disk::Disk;
use archive::mp4::VIDEO_TRACK_ID;
use archive::segment::{Closing, FragmentBuilder, SegmentHeader, SegmentWriter};
use archive::{Epoch, InitSegment, Sha256, StreamId, Timescale, Track, TrackKind, WallTime};
use ingest::event::TrackParams;

pub(crate) fn stream_id(number: usize) -> StreamId {
    StreamId {
        tenant: Default::default(),
        camera: format!("cam{number}").parse().expect("id"),
        stream: "main".parse().expect("id"),
    }
}

/// A sample entry that differs by `version`.
fn sample_entry(version: u16) -> Vec<u8> {
    let [a, b] = version.to_be_bytes();
    let avcc = [
        1, 0x4d, 0x40, 0x1f, 0xff, 0xe1, 0, 4, 0x67, 0x4d, a, b, 1, 0, 1, 0x68,
    ];
    archive::fuzzing::h264_entry_with(640, 360, &avcc)
}

pub(crate) fn params(version: u16) -> TrackParams {
    TrackParams {
        kind: TrackKind::Video,
        timescale: Timescale::new(90_000).expect("not zero"),
        codec: "avc1.4d401f".into(),
        sample_entry: sample_entry(version),
        width: 640,
        height: 360,
        channels: 0,
        sample_rate: 0,
    }
}

/// What the `i`-th picture of the file holds.
pub(crate) fn imported_picture(i: u64) -> Vec<u8> {
    picture(u64::MAX - i)
}

/// A NAL unit that no other picture has.
pub(crate) fn picture(number: u64) -> Vec<u8> {
    let mut data = vec![0, 0, 0, 20, 0x65];
    data.extend(number.to_be_bytes());
    data.resize(24, 0xa5);
    data
}

/// A file of GOPs of 2 s with two pictures each.
pub(crate) fn file(gops: u8) -> Vec<u8> {
    let dir = tempfile::tempdir_in(super::real::fast_dir()).expect("folder");
    let (disk, pool) = (Disk::open(dir.path()).expect("disk"), Pool::new(4));
    let init = InitSegment::build(vec![Track {
        id: VIDEO_TRACK_ID,
        kind: TrackKind::Video,
        timescale: Timescale::new(90_000).expect("not zero"),
        codec: "avc1.4d401f".into(),
        width: 640,
        height: 360,
        channels: 0,
        sample_entry: sample_entry(999).into(),
    }]);
    let header = SegmentHeader {
        stream: stream_id(9),
        seq: 0,
        epoch: Epoch(1),
        wall_start: WallTime::MIN,
        prev: Sha256::default(),
        init: init.hash,
        generation: 0,
    };
    let mut w = SegmentWriter::create(&disk, &pool, header, &init, 0).expect("create");
    for gop in 0..u64::from(gops) {
        let mut b = FragmentBuilder::new(&pool, None);
        for i in 0..2 {
            b.push_video(
                (gop * 180_000 + i * 90_000).cast_signed(),
                i == 0,
                &imported_picture(2 * gop + i),
            );
        }
        let closing = Closing {
            wall_start: WallTime::from_micros((gop * 2_000_000).cast_signed()),
            wall_duration_us: 2_000_000,
            media_end: Some(((gop + 1) * 180_000).cast_signed()),
            typical_duration: 90_000,
            run_start: gop == 0,
            activity: 1,
            notes: vec![],
            clock_offset_us: None,
            audio_duration: 0,
        };
        w.append(&mut [b.close(&pool, closing)]).expect("append");
    }
    let path = w.path().to_owned();
    w.seal(&pool).expect("seal");
    std::fs::read(path).expect("read")
}
