//! Tracks of the right shape that decode nothing, for tests.

use crate::mp4::{BoxWriter, Track, TrackKind, VIDEO_TRACK_ID};
use crate::time::Timescale;

/// The configuration of an H.264 decoder without parameter sets.
const AVCC: [u8; 7] = [1, 0x4d, 0x40, 0x1f, 0xff, 0xe0, 0];

/// A sample entry of H.264.
pub fn h264_entry(width: u16, height: u16) -> Vec<u8> {
    h264_entry_with(width, height, &AVCC)
}

/// A sample entry of H.264 with the decoder's configuration `avcc`.
pub fn h264_entry_with(width: u16, height: u16, avcc: &[u8]) -> Vec<u8> {
    let mut w = BoxWriter::default();
    w.boxed(b"avc1", |w| {
        w.zeros(6);
        w.u16(1);
        w.zeros(16);
        w.u16(width);
        w.u16(height);
        w.u32(0x48_0000);
        w.u32(0x48_0000);
        w.u32(0);
        w.u16(1);
        w.zeros(32);
        w.u16(24);
        w.u16(0xffff);
        w.boxed(b"avcC", |w| w.bytes(avcc));
    });
    w.0
}

/// A track of H.264 with 90,000 ticks a second.
pub fn video_track(width: u16, height: u16) -> Track {
    Track {
        id: VIDEO_TRACK_ID,
        kind: TrackKind::Video,
        timescale: Timescale::new(90_000).expect("not zero"),
        codec: "avc1.4d401f".into(),
        width,
        height,
        channels: 0,
        sample_entry: h264_entry(width, height).into(),
    }
}
