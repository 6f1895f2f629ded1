//! ISO boxes, `moof` and init segments.

use super::Input;
use crate::mp4::{Boxes, InitSegment, SampleEntry, TrackRun, TrackSamples, moof_bytes, parse_moof};

/// Boxes in boxes: each lies within its parent, and together they fill what was walked.
pub fn boxes(data: &[u8]) {
    walk(data, 0);
}

fn walk(parent: &[u8], depth: usize) {
    let mut at = 0;
    for b in Boxes(parent) {
        let Ok(b) = b else { return };
        assert_eq!(
            parent.get(at..at + b.whole.len()),
            Some(b.whole),
            "a box lies elsewhere"
        );
        assert!(b.whole.ends_with(b.content) && b.whole.len() >= b.content.len() + 8);
        at += b.whole.len();
        let _ = b
            .full()
            .map(|(_, _, rest)| assert_eq!(rest.0.len() + 4, b.content.len()));
        if depth < 8 {
            walk(b.content, depth + 1);
        }
    }
    assert_eq!(at, parent.len());
}

/// A `moof` reads back as it was written, and none from outside does more than fail.
pub fn moof(data: &[u8]) {
    let mut input = Input(data);
    if input.u8() & 1 == 0 {
        if let Ok(tracks) = parse_moof(input.rest(), 4096) {
            read_back(&tracks);
        }
        return;
    }
    let mut tracks = Vec::new();
    for track_id in 1..=1 + u32::from(input.u8() & 1) {
        let base_media_time = input.skewed();
        let shared = input.u8();
        let sample = |input: &mut Input<'_>| SampleEntry {
            duration: if shared & 1 == 0 { 3000 } else { input.u32() },
            size: u32::from(input.u16()),
            composition_offset: if shared & 2 == 0 { 0 } else { input.u32() as i32 },
            keyframe: input.u8() & 1 == 0,
        };
        let samples = (0..input.u8()).map(|_| sample(&mut input)).collect();
        tracks.push(TrackSamples {
            track_id,
            base_media_time,
            data_offset: 0,
            samples,
        });
    }
    read_back(&tracks);
}

fn read_back(tracks: &[TrackSamples]) {
    let total: u64 = tracks
        .iter()
        .flat_map(|t| &t.samples)
        .map(|s| u64::from(s.size))
        .sum();
    // The writer's fragments hold 16 MiB at most.
    if total > 1 << 30 {
        return;
    }
    let runs: Vec<TrackRun<'_>> = (tracks.iter())
        .map(|t| TrackRun {
            track_id: t.track_id,
            base_media_time: t.base_media_time,
            samples: &t.samples,
        })
        .collect();
    let bytes = moof_bytes(1, &runs, 0);
    let back = parse_moof(&bytes, 4096).expect("what was written reads back");
    let mut data_offset = 4096 + bytes.len() as u64;
    assert_eq!(back.len(), tracks.len());
    for (back, track) in back.iter().zip(tracks) {
        assert_eq!(back.track_id, track.track_id);
        assert_eq!(back.base_media_time, track.base_media_time);
        assert_eq!(back.samples, track.samples);
        assert_eq!(back.data_offset, data_offset);
        data_offset += track.samples.iter().map(|s| u64::from(s.size)).sum::<u64>();
    }
}

/// An init segment that is taken describes tracks from which an equal description can be built.
pub fn init(data: &[u8]) {
    let Ok(init) = InitSegment::parse(data.to_vec().into()) else {
        return;
    };
    assert_eq!(init.bytes, data);
    assert!(init.video().or(init.audio()).is_some());
    let built = InitSegment::build(init.tracks.clone());
    // What was read may have come with more around it than what is built has.
    if let Ok(back) = InitSegment::parse(built.bytes.clone()) {
        assert_eq!(back, built);
        assert_eq!(back.tracks, init.tracks);
    } else {
        assert!(built.bytes.len() > data.len(), "what is built cannot be read");
    }
}
