//! Where fragments end.

use super::*;
use proptest::prelude::*;

const INTERVAL: i64 = 3600;

fn params() -> TrackParams {
    TrackParams {
        kind: TrackKind::Video,
        timescale: default_scale(),
        codec: "avc1.4d401f".into(),
        sample_entry: archive::fuzzing::h264_entry(640, 360),
        width: 640,
        height: 360,
        channels: 0,
        sample_rate: 0,
    }
}

/// The pictures of each fragment of a camera with 25 pictures a second; true is a keyframe.
fn fragments(pictures: &[bool]) -> Vec<usize> {
    fragments_with(pictures, INTERVAL)
}

/// The same of a camera whose media time moves by `interval` from picture to picture.
fn fragments_with(pictures: &[bool], interval: i64) -> Vec<usize> {
    let mut f = Fragmenter::new(Pool::new(4), WallTime::MIN, GapTracker::default());
    f.begin_session();
    f.push(Event::Start {
        tracks: vec![params()],
        new_run: true,
    });
    let mut found = Vec::new();
    for (i, keyframe) in (0_i64..).zip(pictures) {
        let us = i * 40_000;
        let sample = Sample {
            track: TrackKind::Video,
            pts: i * interval,
            keyframe: *keyframe,
            data: vec![0, 0, 0, 1, 0x65],
            arrival_wall: WallTime::from_micros(1_800_000_000_000_000 + us),
            arrival_mono_us: us.unsigned_abs(),
            packets_lost: 0,
        };
        found.extend(f.push(Event::Sample(sample)).map(|f| f.pictures));
    }
    found.extend(f.end_session().map(|f| f.pictures));
    found
}

#[test]
fn a_camera_that_sends_keyframes_only_gets_a_fragment_a_second() {
    let found = fragments(&[true; 500]);
    let first = INTRA_KEYFRAMES as usize - 1;
    assert!(found[..first].iter().all(|n| *n == 1), "{found:?}");
    assert!(
        found[first + 1..found.len() - 1].iter().all(|n| *n == 25),
        "{found:?}"
    );
    assert_eq!(found.iter().sum::<usize>(), 500);
}

#[test]
fn a_camera_that_turns_to_longer_gops_gets_a_fragment_a_gop_again() {
    let mut pictures = vec![true; 200];
    pictures.extend((0..100).map(|i| i % 10 == 0));
    let found = fragments(&pictures);
    assert_eq!(found[found.len() - 9..], [10; 9]);
}

#[test]
fn a_camera_whose_clock_stands_still_has_its_pictures_durable_all_the_same() {
    let mut pictures = [false; 1000];
    pictures[0] = true;
    assert_eq!(fragments_with(&pictures, 0), [300, 300, 300, 100]);
}

proptest! {
    /// GOPs that vary, single pictures among them, are never merged.
    #[test]
    fn fragments_are_gops_one_to_one(gops in prop::collection::vec((1..40_usize, any::<bool>()), 1..60)) {
        let lengths: Vec<usize> = gops.iter().map(|(n, single)| if *single { 1 } else { 1 + n }).collect();
        let mut pictures = Vec::new();
        let mut in_row = 0;
        for n in &lengths {
            in_row = if *n == 1 { in_row + 1 } else { 0 };
            prop_assume!(in_row < INTRA_KEYFRAMES);
            pictures.push(true);
            pictures.extend(std::iter::repeat_n(false, n - 1));
        }
        prop_assert_eq!(fragments(&pictures), lengths);
    }
}
