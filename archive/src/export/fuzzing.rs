//! Export assembly under fuzzing: tables that contradict themselves and each other.

use std::sync::Arc;

use super::{Assembly, ExportError, ExportFragment, ExportInput, Piece, parameter_sets::in_band};
use crate::fragment::{FragmentEntry, GapCause, Note};
use crate::fuzzing::Input;
use crate::id::{SegmentId, StreamId, StreamNo};
use crate::mp4::{
    AUDIO_TRACK_ID, BoxWriter, InitSegment, SampleEntry, Track, TrackKind, TrackSamples, VIDEO_TRACK_ID,
};
use crate::time::{TimeRange, Timescale, WallTime};

/// No input makes more samples: bounds what one run takes.
const SAMPLES_MAX: usize = 4000;
const START_US: i64 = 1_700_000_000_000_000;

/// The parameter sets of a sample entry: none is longer than what it was read from allows.
pub fn parameter_sets(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.u8();
    let entry = if kind & 1 == 0 {
        input.rest().to_vec()
    } else {
        let mut w = BoxWriter::default();
        w.boxed(b"vide", |w| {
            w.zeros(78);
            let kind = if kind & 2 == 0 { b"avcC" } else { b"hvcC" };
            w.boxed(kind, |w| w.bytes(input.rest()));
        });
        w.0
    };
    let sets = in_band(&entry);
    // Each set takes 2 bytes of length in its record and at most 4 in a sample.
    assert!(sets.len() <= 2 * entry.len());
}

/// An export of hostile tables: it fails, or it is a file whose every byte lies within a fragment.
pub fn export(data: &[u8]) {
    let mut input = Input(data);
    let inits = [init(&mut input), init(&mut input)];
    let mut samples_left = SAMPLES_MAX;
    let mut fragments: Vec<ExportFragment> = Vec::new();
    let from = START_US + input.skewed_signed() % 100_000_000;
    let to = from.saturating_add((input.skewed() % 100_000_000_000).cast_signed());
    while !input.is_empty() && fragments.len() < 200 {
        fragments.push(fragment(&mut input, &inits, fragments.last(), &mut samples_left));
    }
    let stream = StreamId {
        tenant: Default::default(),
        camera: "fuzz".parse().expect("an id"),
        stream: "main".parse().expect("an id"),
    };
    let (from, to) = (WallTime::from_micros(from), WallTime::from_micros(to));
    let Some(range) = TimeRange::new(from, to) else {
        return;
    };
    let wanted = ExportInput {
        stream: &stream,
        range,
        fragments: &fragments,
    };
    let assembly = match Assembly::build(&wanted) {
        Ok(assembly) => assembly,
        Err(ExportError::Inconsistent { segment, offset, .. }) => {
            let known = |f: &ExportFragment| f.segment == segment && f.entry.offset == offset;
            assert!(fragments.iter().any(known));
            return;
        }
        Err(_) => return,
    };
    let all = collect(&assembly, 0..u64::MAX, &fragments);
    assert_eq!(all.iter().map(Piece::len).sum::<u64>(), assembly.len());
    let half = assembly.len() / 2;
    let front = collect(&assembly, 0..half, &fragments);
    let back = collect(&assembly, half..assembly.len(), &fragments);
    assert_eq!(front.iter().map(Piece::len).sum::<u64>(), half);
    assert_eq!(back.iter().map(Piece::len).sum::<u64>(), assembly.len() - half);
    let again = Assembly::build(&wanted).expect("as before");
    assert_eq!(again.etag(), assembly.etag());
}

fn collect(assembly: &Assembly, range: std::ops::Range<u64>, fragments: &[ExportFragment]) -> Vec<Piece> {
    let pieces: Vec<Piece> = assembly.pieces(range).collect();
    for piece in &pieces {
        let Piece::File { segment, range } = piece else {
            continue;
        };
        assert!(range.start < range.end);
        // Neighbouring fragments may be joined in one piece; each end lies in a fragment.
        for at in [range.start, range.end - 1] {
            let holds = |f: &ExportFragment| {
                f.segment == *segment
                    && (f.entry.offset..f.entry.offset + u64::from(f.entry.len)).contains(&at)
            };
            assert!(fragments.iter().any(holds), "byte {at} belongs to no fragment");
        }
    }
    pieces
}

fn init(input: &mut Input<'_>) -> Arc<InitSegment> {
    let shape = input.u8();
    let track = |id, kind, codec: &str, ticks, entry: &[u8]| Track {
        id,
        kind,
        timescale: Timescale::new(ticks).unwrap_or(Timescale::new(1).expect("not zero")),
        codec: codec.to_owned(),
        width: u16::from(shape) * 16,
        height: u16::from(shape) * 9,
        channels: 1,
        sample_entry: entry.to_vec().into(),
    };
    let ticks = if shape & 1 == 0 { 90_000 } else { input.u32() };
    let mut tracks = vec![track(
        VIDEO_TRACK_ID,
        TrackKind::Video,
        "avc1.4d401f",
        ticks,
        input.piece(100),
    )];
    if shape & 2 == 0 {
        let ticks = if shape & 4 == 0 { 48_000 } else { input.u32() };
        tracks.push(track(AUDIO_TRACK_ID, TrackKind::Audio, "mp4a.40.2", ticks, b""));
    }
    Arc::new(InitSegment::build(tracks))
}

fn fragment(
    input: &mut Input<'_>,
    inits: &[Arc<InitSegment>; 2],
    last: Option<&ExportFragment>,
    samples_left: &mut usize,
) -> ExportFragment {
    let shape = input.u8();
    let [first_init, second_init] = inits;
    let init = if shape & 1 == 0 { first_init } else { second_init };
    let before = last.map(|f| &f.entry);
    // Half of the fragments fit behind the one before in every respect that this bit rules.
    let wall_start = match before {
        Some(e) if shape & 2 == 0 => e.wall_end(),
        Some(e) => e.wall_end().plus_micros(input.skewed_signed()),
        None => WallTime::from_micros(START_US),
    };
    let media_start = match before {
        Some(e) if shape & 4 == 0 => e.media_start.wrapping_add(e.media_duration.into()),
        _ => input.skewed(),
    };
    let offset = before.map_or(4096, |e| {
        (e.offset + u64::from(e.len)).next_multiple_of(4096) % (1 << 50)
    });
    let mut data_offset = offset + 200;
    let mut tracks = Vec::new();
    for id in [VIDEO_TRACK_ID, AUDIO_TRACK_ID] {
        let count = usize::from(input.u8() % 40).min(*samples_left);
        *samples_left -= count;
        let wild = input.u8();
        let samples: Vec<SampleEntry> = (0..count)
            .map(|i| SampleEntry {
                duration: if wild & 1 == 0 { 3000 } else { input.u32() },
                size: if wild & 2 == 0 { 100 } else { input.u16().into() },
                composition_offset: if wild & 4 == 0 { 0 } else { input.u32() as i32 },
                keyframe: if wild & 8 == 0 {
                    i == 0
                } else {
                    input.u8() & 1 == 0
                },
            })
            .collect();
        let len: u64 = samples.iter().map(|s| u64::from(s.size)).sum();
        tracks.push(TrackSamples {
            track_id: if wild & 16 == 0 { id } else { input.u32() },
            base_media_time: if wild & 32 == 0 {
                media_start
            } else {
                input.skewed()
            },
            data_offset: if wild & 64 == 0 {
                data_offset
            } else {
                input.skewed()
            },
            samples,
        });
        data_offset += len;
    }
    let video: u64 = (tracks.first().iter())
        .flat_map(|t| &t.samples)
        .map(|s| u64::from(s.duration))
        .sum();
    let note = |input: &mut Input<'_>| Note::Gap {
        from: wall_start.plus_micros(-input.skewed_signed().saturating_abs()),
        to: wall_start,
        cause: GapCause::NoData,
    };
    let notes = if shape & 8 == 0 {
        Vec::new()
    } else {
        vec![note(input)]
    };
    let entry = FragmentEntry {
        offset,
        len: if shape & 16 == 0 {
            (data_offset - offset) as u32
        } else {
            input.u32()
        },
        wall_start,
        wall_duration_us: if shape & 32 == 0 {
            (video * 100 / 9).min(3_600_000_000) as u32
        } else {
            input.u32()
        },
        media_start,
        media_duration: video.min(u32::MAX.into()) as u32,
        keyframe: shape & 64 == 0,
        run_start: shape & 128 != 0,
        activity: 0,
        notes,
    };
    let seq = last.map_or(0, |f| f.segment.seq + u64::from(shape & 3 == 3));
    ExportFragment {
        segment: SegmentId {
            stream: StreamNo(1),
            seq,
        },
        init: init.clone(),
        entry,
        tracks,
        generation: u8::from(shape & 0b1010 == 0b1010),
    }
}
