//! The layout as such, on made-up sample tables.

use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;

use crate::export::{Assembly, EXPORT_SAMPLES_MAX, ExportError, ExportFragment, ExportInput, Piece};
use crate::fragment::FragmentEntry;
use crate::fuzzing::video_track;
use crate::id::{SegmentId, StreamId, StreamNo};
use crate::mp4::tests::audio_track;
use crate::mp4::{Boxes, InitSegment, SampleEntry, TrackSamples};
use crate::time::{TimeRange, WallTime};

const SECOND: i64 = 1_000_000;

fn start() -> WallTime {
    "2026-11-20T08:00:00Z".parse().expect("time")
}

fn stream() -> StreamId {
    StreamId {
        tenant: Default::default(),
        camera: "lobby".parse().expect("id"),
        stream: "main".parse().expect("id"),
    }
}

/// Fragments of two seconds at 30 pictures per second with audio, 300 to a segment.
fn fragments(count: u64, picture_bytes: u32, jitter: bool) -> Vec<ExportFragment> {
    let init = Arc::new(InitSegment::build(vec![video_track(1920, 1080), audio_track()]));
    let fragment = |i: u64| {
        let picture = |n: u32| SampleEntry {
            duration: if jitter { 2900 + 200 * (n % 2) } else { 3000 },
            size: picture_bytes + n,
            composition_offset: 0,
            keyframe: n == 0,
        };
        let sound = SampleEntry {
            duration: 1024,
            size: 170,
            composition_offset: 0,
            keyframe: true,
        };
        let offset = 4096 + (i % 300) * u64::from(picture_bytes + 1000) * 64;
        let video = TrackSamples {
            track_id: 1,
            base_media_time: i * 180_000,
            data_offset: offset + 1500,
            samples: (0..60).map(picture).collect(),
        };
        let video_bytes: u64 = video.samples.iter().map(|s| u64::from(s.size)).sum();
        let first_sound = (i * 96_000).div_ceil(1024);
        let audio = TrackSamples {
            track_id: 2,
            base_media_time: first_sound * 1024,
            data_offset: video.data_offset + video_bytes,
            samples: vec![sound; (((i + 1) * 96_000).div_ceil(1024) - first_sound) as usize],
        };
        let len = audio.data_offset + 170 * audio.samples.len() as u64 - offset;
        ExportFragment {
            segment: SegmentId {
                stream: StreamNo(3),
                seq: i / 300,
            },
            init: init.clone(),
            entry: FragmentEntry {
                offset,
                len: len as u32,
                wall_start: start().plus_micros(i as i64 * 2 * SECOND),
                wall_duration_us: 2_000_000,
                media_start: i * 180_000,
                media_duration: 180_000,
                keyframe: true,
                run_start: i == 0,
                activity: 0,
                notes: vec![],
            },
            tracks: vec![video, audio],
            generation: 0,
        }
    };
    (0..count).map(fragment).collect()
}

fn build(fragments: &[ExportFragment], from_us: i64, to_us: i64) -> Result<Assembly, ExportError> {
    let range = TimeRange::new(start().plus_micros(from_us), start().plus_micros(to_us)).expect("forwards");
    Assembly::build(&ExportInput {
        stream: &stream(),
        range,
        fragments,
    })
}

/// Segment bytes that tell where they come from.
fn byte_at(segment: SegmentId, offset: u64) -> u8 {
    (segment.seq.wrapping_mul(31) ^ offset ^ offset >> 8 ^ offset >> 16) as u8
}

fn read(assembly: &Assembly, range: std::ops::Range<u64>) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in assembly.pieces(range) {
        let before = out.len() as u64;
        match &piece {
            Piece::Memory(bytes) => out.extend_from_slice(bytes),
            Piece::File { segment, range } => out.extend(range.clone().map(|at| byte_at(*segment, at))),
        }
        assert_eq!(out.len() as u64 - before, piece.len());
        assert!(piece.len() > 0);
    }
    out
}

proptest! {
    #[test]
    fn any_byte_range_is_a_slice_of_the_whole(
        from in 0i64..20 * SECOND, len in 1i64..20 * SECOND, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(),
    ) {
        let Ok(assembly) = build(&fragments(10, 300, true), from, from + len) else { return Ok(()) };
        let whole = read(&assembly, 0..u64::MAX);
        prop_assert_eq!(whole.len() as u64, assembly.len());
        let (a, b) = (a.index(whole.len() + 1), b.index(whole.len() + 1));
        prop_assert_eq!(read(&assembly, a as u64..b as u64), if a < b { &whole[a..b] } else { &[] });
    }

    #[test]
    fn ranges_that_meet_show_every_picture_once(cuts in proptest::collection::vec(0i64..12 * SECOND, 1..5)) {
        let footage = fragments(6, 300, true);
        let mut cuts = cuts;
        cuts.extend([0, 12 * SECOND]);
        cuts.sort_unstable();
        let shown = |from, to| -> i64 {
            build(&footage, from, to).map_or(0, |a| a.shown().micros() as i64)
        };
        let sum: i64 = cuts.windows(2).map(|c| shown(c[0], c[1])).sum();
        // Each end is rounded to a microsecond.
        prop_assert!((sum - 12 * SECOND).abs() <= 12, "{sum}");
    }
}

#[test]
fn samples_that_lie_together_are_one_piece() {
    let assembly = build(&fragments(3, 300, false), 0, 6 * SECOND).expect("assembles");
    let files = assembly
        .pieces(0..u64::MAX)
        .filter(|p| matches!(p, Piece::File { .. }))
        .count();
    assert_eq!(files, 3, "one per fragment");
    assert_eq!(assembly.pieces(5..5).count(), 0);
    assert_eq!(assembly.pieces(assembly.len()..u64::MAX).count(), 0);
}

#[test]
fn the_entity_tag_follows_the_content() {
    let footage = fragments(5, 300, false);
    let tag = |fragments: &[ExportFragment], from, to| {
        build(fragments, from, to).expect("assembles").etag().to_owned()
    };
    assert_eq!(
        tag(&footage, SECOND, 9 * SECOND),
        tag(&footage, SECOND, 9 * SECOND)
    );
    assert_ne!(
        tag(&footage, SECOND, 9 * SECOND),
        tag(&footage, SECOND, 8 * SECOND)
    );
    assert_ne!(
        tag(&footage, SECOND, 9 * SECOND),
        tag(&footage[..4], SECOND, 9 * SECOND)
    );
    let mut moved = footage.clone();
    moved.iter_mut().for_each(|f| f.segment.seq += 1);
    assert_ne!(tag(&footage, SECOND, 9 * SECOND), tag(&moved, SECOND, 9 * SECOND));
}

#[test]
fn a_file_beyond_4_gib_has_wide_offsets() {
    let assembly = build(&fragments(50, 2 << 20, false), 0, 100 * SECOND).expect("assembles");
    assert!(assembly.len() > 1 << 32);
    let head = read(&assembly, 0..assembly.head_len());
    let (boxes, mdat) = head.split_at(head.len() - 16);
    assert_eq!(mdat[..8], *b"\0\0\0\x01mdat");
    let mdat_len = u64::from_be_bytes(mdat[8..].try_into().expect("eight bytes"));
    assert_eq!(mdat_len, assembly.len() - boxes.len() as u64);
    assert!(boxes.windows(4).any(|w| w == b"co64") && !boxes.windows(4).any(|w| w == b"stco"));
    let at = boxes.windows(4).position(|w| w == b"co64").expect("co64") + 12;
    assert_eq!(boxes[at..at + 8], assembly.head_len().to_be_bytes());
    assert!(Boxes(boxes).find(b"moov").is_ok());
}

#[test]
fn a_range_without_pictures_holds_nothing() {
    let footage = fragments(5, 300, false);
    assert_eq!(
        build(&footage, 10 * SECOND, 20 * SECOND).err(),
        Some(ExportError::Nothing)
    );
    assert_eq!(build(&footage, SECOND, SECOND).err(), Some(ExportError::Nothing));
    assert_eq!(build(&[], 0, SECOND).err(), Some(ExportError::Nothing));
    assert_eq!(
        build(&footage, 1_000_001, 1_000_002).err(),
        Some(ExportError::Nothing),
        "between two pictures"
    );
}

#[test]
fn what_is_too_large_is_refused() {
    let mut footage = fragments(1, 300, false);
    assert_eq!(
        build(&footage, 0, 86_400 * SECOND + 1).err(),
        Some(ExportError::TooLong)
    );
    let sample = SampleEntry {
        duration: 1,
        size: 0,
        composition_offset: 0,
        keyframe: true,
    };
    footage[0].tracks[1].samples = vec![sample; EXPORT_SAMPLES_MAX];
    assert_eq!(
        build(&footage, 0, SECOND).err(),
        Some(ExportError::TooManySamples)
    );
}

#[test]
fn tables_that_contradict_each_other_are_refused() {
    let refused = |change: &dyn Fn(&mut Vec<ExportFragment>)| {
        let mut footage = fragments(3, 300, false);
        change(&mut footage);
        matches!(
            build(&footage, 0, 6 * SECOND),
            Err(ExportError::Inconsistent { .. })
        )
    };
    assert!(refused(&|f| f[1].entry.len -= 1));
    assert!(refused(&|f| f[1].tracks[0].data_offset = u64::MAX));
    assert!(refused(&|f| f[1].tracks[0].data_offset = 0));
    assert!(refused(&|f| f[1].tracks[1].base_media_time = u64::MAX));
    assert!(refused(&|f| f[1].tracks.clear()));
    assert!(refused(&|f| f.swap(0, 1)));
}

proptest! {
    #[test]
    fn wild_tables_never_panic(
        durations in proptest::collection::vec((any::<u32>(), 0u32..100, any::<i32>(), any::<bool>()), 1..12),
        base in 0u64..1 << 57, wall in any::<u32>(), which in 0usize..3, track in 0usize..2,
    ) {
        let mut footage = fragments(3, 300, false);
        let samples = durations.iter().map(|(duration, size, composition_offset, keyframe)| SampleEntry {
            duration: *duration, size: *size, composition_offset: *composition_offset, keyframe: *keyframe,
        });
        footage[which].entry.wall_duration_us = wall;
        footage[which].tracks[track].base_media_time = base;
        footage[which].tracks[track].samples = samples.collect();
        if let Ok(assembly) = build(&footage, 500_000, 5 * SECOND) {
            prop_assert_eq!(read(&assembly, 0..u64::MAX).len() as u64, assembly.len());
        }
    }
}

#[test]
#[ignore = "prints timings"]
fn an_hour_is_assembled_in_milliseconds() {
    for jitter in [false, true] {
        let footage = fragments(1800, 16_000, jitter);
        let mut best = std::time::Duration::MAX;
        for _ in 0..20 {
            let begun = Instant::now();
            let assembly = build(&footage, 0, 3600 * SECOND).expect("assembles");
            best = best.min(begun.elapsed());
            std::hint::black_box(assembly);
        }
        let assembly = build(&footage, 0, 3600 * SECOND).expect("assembles");
        let samples: usize = footage
            .iter()
            .flat_map(|f| &f.tracks)
            .map(|t| t.samples.len())
            .sum();
        println!(
            "1 h, jitter {jitter}: {samples} samples, {:.2} GB, head {} bytes, built in {best:?}",
            assembly.len() as f64 / 1e9,
            assembly.head_len(),
        );
    }
}
