//! `moof`: the sample tables of a fragment.
#![deny(clippy::indexing_slicing)]

use super::{BoxWriter, Boxes};
use crate::error::Malformed;

/// No fragment has more samples of a track: 10 s at far more than any camera's rate.
pub(crate) const SAMPLES_MAX: usize = 20_000;

const SYNC: u32 = 0x0200_0000;
const NOT_SYNC: u32 = 0x0101_0000;

const TFHD_DEFAULT_DURATION: u32 = 0x08;
const TFHD_DEFAULT_FLAGS: u32 = 0x20;
const TFHD_BASE_IS_MOOF: u32 = 0x2_0000;
const TRUN_DATA_OFFSET: u32 = 0x01;
const TRUN_FIRST_FLAGS: u32 = 0x04;
const TRUN_DURATION: u32 = 0x100;
const TRUN_SIZE: u32 = 0x200;
const TRUN_FLAGS: u32 = 0x400;
const TRUN_COMPOSITION: u32 = 0x800;

/// One sample of a track.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct SampleEntry {
    /// Until the next sample is decoded, in ticks.
    pub duration: u32,
    /// In bytes.
    pub size: u32,
    /// Presentation minus decode time, in ticks.
    pub composition_offset: i32,
    /// Whether decoding can begin here.
    pub keyframe: bool,
}

/// The samples of one track in one fragment: contiguous in the file, in decode order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TrackSamples {
    /// The track.
    pub track_id: u32,
    /// The decode time of the first sample in its run, in ticks (`tfdt`).
    pub base_media_time: u64,
    /// Where the first sample's bytes begin in the segment file.
    pub data_offset: u64,
    /// In decode order.
    pub samples: Vec<SampleEntry>,
}

/// What [`moof_bytes`] needs to know of a track.
pub(crate) struct TrackRun<'a> {
    pub(crate) track_id: u32,
    pub(crate) base_media_time: u64,
    pub(crate) samples: &'a [SampleEntry],
}

/// `moof` for `runs`, followed by the header of the `mdat` that holds their bytes one run after the
/// other, and `rest` bytes that are no samples. A field that does not vary is written once.
pub(crate) fn moof_bytes(sequence: u32, runs: &[TrackRun<'_>], rest: u32) -> Vec<u8> {
    let mut w = BoxWriter::default();
    let mut offset_fields = Vec::new();
    w.boxed(b"moof", |w| {
        w.full(b"mfhd", 0, 0, |w| w.u32(sequence));
        for run in runs {
            w.boxed(b"traf", |w| offset_fields.push(traf(w, run)));
        }
    });
    // Offsets count from the beginning of `moof`; the data begins behind the header of `mdat`.
    let mut offset = w.0.len() as u32 + 8;
    for (field, run) in offset_fields.into_iter().zip(runs) {
        if let Some(at) = w.0.get_mut(field..field + 4) {
            at.copy_from_slice(&offset.to_be_bytes());
        }
        offset += run.samples.iter().map(|s| s.size).sum::<u32>();
    }
    let data: u32 = runs.iter().flat_map(|r| r.samples).map(|s| s.size).sum();
    w.u32(data + rest + 8);
    w.bytes(b"mdat");
    w.0
}

/// Writes `tfhd`, `tfdt` and `trun`; returns where the data offset stands.
fn traf(w: &mut BoxWriter, run: &TrackRun<'_>) -> usize {
    let samples = run.samples;
    let (first, rest) = samples
        .split_first()
        .map_or((SampleEntry::default(), samples), |(f, r)| (*f, r));
    let same_duration = rest.iter().all(|s| s.duration == first.duration);
    let same_rest = rest
        .iter()
        .all(|s| s.keyframe == rest.first().is_some_and(|r| r.keyframe));
    let composed = samples.iter().any(|s| s.composition_offset != 0);
    let rest_key = rest.first().map_or(first.keyframe, |r| r.keyframe);
    let sample_flags = |key: bool| if key { SYNC } else { NOT_SYNC };

    let mut tfhd = TFHD_BASE_IS_MOOF;
    tfhd |= if same_duration { TFHD_DEFAULT_DURATION } else { 0 };
    tfhd |= if same_rest { TFHD_DEFAULT_FLAGS } else { 0 };
    w.full(b"tfhd", 0, tfhd, |w| {
        w.u32(run.track_id);
        if same_duration {
            w.u32(first.duration);
        }
        if same_rest {
            w.u32(sample_flags(rest_key));
        }
    });
    w.full(b"tfdt", 1, 0, |w| w.u64(run.base_media_time));

    let mut flags = TRUN_DATA_OFFSET | TRUN_SIZE;
    flags |= if same_duration { 0 } else { TRUN_DURATION };
    flags |= match (same_rest, first.keyframe == rest_key) {
        (true, true) => 0,
        (true, false) => TRUN_FIRST_FLAGS,
        (false, _) => TRUN_FLAGS,
    };
    flags |= if composed { TRUN_COMPOSITION } else { 0 };
    let mut field = 0;
    w.full(b"trun", 1, flags, |w| {
        w.u32(samples.len() as u32);
        field = w.0.len();
        w.u32(0);
        if flags & TRUN_FIRST_FLAGS != 0 {
            w.u32(sample_flags(first.keyframe));
        }
        for s in samples {
            if !same_duration {
                w.u32(s.duration);
            }
            w.u32(s.size);
            if flags & TRUN_FLAGS != 0 {
                w.u32(sample_flags(s.keyframe));
            }
            if composed {
                w.u32(s.composition_offset as u32);
            }
        }
    });
    field
}

/// Reads a `moof` that [`moof_bytes`] made and that stands at `moof_offset` in its file.
pub(crate) fn parse_moof(moof: &[u8], moof_offset: u64) -> Result<Vec<TrackSamples>, Malformed> {
    let moof = Boxes(moof).find(b"moof")?;
    let mut tracks = Vec::new();
    for b in moof.children() {
        let b = b?;
        if &b.kind == b"traf" {
            tracks.push(parse_traf(b.children(), moof_offset)?);
        }
        if tracks.len() > 2 {
            return Err(Malformed("more than two tracks"));
        }
    }
    Ok(tracks)
}

fn parse_traf(boxes: Boxes<'_>, moof_offset: u64) -> Result<TrackSamples, Malformed> {
    let (_, flags, mut d) = boxes.clone().find(b"tfhd")?.full()?;
    let track_id = d.u32()?;
    if flags & !(TFHD_BASE_IS_MOOF | TFHD_DEFAULT_DURATION | TFHD_DEFAULT_FLAGS) != 0 {
        return Err(Malformed("unexpected tfhd fields"));
    }
    let duration = if flags & TFHD_DEFAULT_DURATION != 0 {
        d.u32()?
    } else {
        0
    };
    let sample_flags = if flags & TFHD_DEFAULT_FLAGS != 0 {
        d.u32()?
    } else {
        0
    };
    let (_, _, mut d) = boxes.clone().find(b"tfdt")?.full()?;
    let base_media_time = d.u64()?;

    let (_, flags, mut d) = boxes.find(b"trun")?.full()?;
    let count = d.u32()?;
    if count as usize > SAMPLES_MAX {
        return Err(Malformed("too many samples"));
    }
    let data_offset = moof_offset + u64::from(d.u32()?);
    let first_flags = if flags & TRUN_FIRST_FLAGS != 0 {
        d.u32()?
    } else {
        sample_flags
    };
    let mut samples = Vec::new();
    for i in 0..count {
        let duration = if flags & TRUN_DURATION != 0 {
            d.u32()?
        } else {
            duration
        };
        let size = if flags & TRUN_SIZE != 0 {
            d.u32()?
        } else {
            return Err(Malformed("no sample sizes"));
        };
        let default = if i == 0 { first_flags } else { sample_flags };
        let sample_flags = if flags & TRUN_FLAGS != 0 {
            d.u32()?
        } else {
            default
        };
        let composition_offset = if flags & TRUN_COMPOSITION != 0 {
            d.u32()? as i32
        } else {
            0
        };
        let keyframe = sample_flags & 0x1_0000 == 0;
        samples.push(SampleEntry {
            duration,
            size,
            composition_offset,
            keyframe,
        });
    }
    d.end()?;
    Ok(TrackSamples {
        track_id,
        base_media_time,
        data_offset,
        samples,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> impl Strategy<Value = SampleEntry> {
        (0u32..9000, 1u32..100_000, -9000i32..9000, any::<bool>()).prop_map(
            |(duration, size, composition_offset, keyframe)| SampleEntry {
                duration,
                size,
                composition_offset,
                keyframe,
            },
        )
    }

    proptest! {
        #[test]
        fn sample_tables_read_back(
            video in proptest::collection::vec(sample(), 1..40),
            audio in proptest::collection::vec(sample(), 0..40),
            base in 0u64..1 << 60,
        ) {
            let runs = [
                TrackRun { track_id: 1, base_media_time: base, samples: &video },
                TrackRun { track_id: 2, base_media_time: base / 2, samples: &audio },
            ];
            let bytes = moof_bytes(7, &runs, 0);
            let back = parse_moof(&bytes, 4096).expect("parses");
            prop_assert_eq!(&back[0].samples, &video);
            prop_assert_eq!(&back[1].samples, &audio);
            prop_assert_eq!(back[0].base_media_time, base);
            prop_assert_eq!(back[0].data_offset, 4096 + bytes.len() as u64);
            let video_bytes: u64 = video.iter().map(|s| u64::from(s.size)).sum();
            prop_assert_eq!(back[1].data_offset, back[0].data_offset + video_bytes);
        }

        #[test]
        fn damaged_tables_never_panic(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let samples = [SampleEntry { duration: 3000, size: 10, composition_offset: 1, keyframe: true }; 9];
            let run = TrackRun { track_id: 1, base_media_time: 5, samples: &samples };
            let mut bytes = moof_bytes(1, &[run], 0);
            let i = at.index(bytes.len());
            bytes[i] = to;
            bytes.truncate(cut.index(bytes.len()) + 1);
            let _ = parse_moof(&bytes, 0);
        }
    }
}
