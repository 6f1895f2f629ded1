//! The video track of an MP4 file as a clip: what an import reads of it, as access units, with the presentation
//! times that B-frames need.
#![deny(clippy::indexing_slicing)]

use std::io::Cursor;

use archive::{TrackKind, WallTime};

use super::annexb::AccessUnit;
use super::clip::{CLIP_BYTES_MAX, DEFAULT_RATE, TICKS_PER_SECOND, TimedUnit};
use super::codec::{Codec, Role};
use crate::event::Event;
use crate::import::Import;
use crate::nal;

/// More pictures than this are refused: days of video do not make a clip.
const PICTURES_MAX: usize = 2_000_000;
/// No picture lies further from the first than this, in ticks: four months.
const TICKS_MAX: u64 = 1 << 40;
/// How long a picture is shown that is the only one.
const TICKS_PER_PICTURE: i64 = TICKS_PER_SECOND as i64 * DEFAULT_RATE.1 as i64 / DEFAULT_RATE.0 as i64;

/// Whether `data` starts like an ISO base media file.
pub(super) fn is_mp4(data: &[u8]) -> bool {
    data.get(4..8)
        .is_some_and(|kind| matches!(kind, b"ftyp" | b"moov" | b"styp"))
}

/// The codec, the access units and the duration in ticks of the first H.264 or H.265 track.
///
/// # Errors
/// A clause for the user.
pub(super) fn demux(data: &[u8]) -> Result<(Codec, Vec<TimedUnit>, u64), String> {
    let begin = WallTime::from_micros(0);
    let mut import = Import::new(Cursor::new(data), begin).map_err(|error| error.to_string())?;
    let video = import
        .tracks()
        .iter()
        .find(|track| track.kind == TrackKind::Video);
    let video = video.ok_or("it holds no H.264 or H.265 track")?;
    let codec = if video.codec.starts_with("avc") {
        Codec::H264
    } else {
        Codec::H265
    };
    let parameter_sets = archive::export::parameter_sets_in_band(&video.sample_entry);
    let parameter_sets = nal_units(&parameter_sets).unwrap_or_default();
    let timescale = i128::from(video.timescale.get());
    let (mut times, mut units, mut bytes) = (Vec::new(), Vec::new(), 0);
    while let Some(event) = import.next_event().map_err(|error| error.to_string())? {
        let Event::Sample(sample) = event else { continue };
        if sample.track != TrackKind::Video {
            continue;
        }
        if units.len() == PICTURES_MAX {
            return Err(format!("it has more than {PICTURES_MAX} pictures"));
        }
        let ticks = i128::from(sample.pts) * i128::from(TICKS_PER_SECOND) / timescale;
        let ticks = i64::try_from(ticks).ok().filter(|t| t.unsigned_abs() < TICKS_MAX);
        times.push(ticks.ok_or("its times are out of range")?);
        let unit = access_unit(codec, &parameter_sets, &sample.data);
        let unit = unit.ok_or("a sample does not consist of whole NAL units")?;
        // Parameter sets may be much larger than the keyframes that they are put before.
        bytes += unit.iter().map(Vec::len).sum::<usize>();
        if bytes as u64 > CLIP_BYTES_MAX {
            return Err(format!("its pictures take more than {CLIP_BYTES_MAX} bytes"));
        }
        units.push(unit);
    }
    // A picture is decoded when as many are shown: then no picture needs an offset but those that B-frames move.
    let mut shown = times.clone();
    shown.sort_unstable();
    let (Some(&first), Some(&last)) = (shown.first(), shown.last()) else {
        return Err("it has no pictures".into());
    };
    // The last picture is shown as long as the one before it.
    let before = shown.iter().rev().nth(1);
    let end = last + before.map_or(TICKS_PER_PICTURE, |before| last - before);
    let units = (units.into_iter().zip(times).zip(shown))
        .map(|((unit, presentation), decode)| TimedUnit {
            decode_ticks: (decode - first).unsigned_abs(),
            presentation_ticks: presentation - first,
            unit,
        })
        .collect();
    Ok((codec, units, (end - first).unsigned_abs()))
}

/// Splits a sample into NAL units; `None` unless it consists of such.
fn nal_units(mut sample: &[u8]) -> Option<AccessUnit> {
    let mut unit = AccessUnit::new();
    while !sample.is_empty() {
        let (nal, rest) = nal::split_first(sample)?;
        if !nal.is_empty() {
            unit.push(nal.to_vec());
        }
        sample = rest;
    }
    Some(unit)
}

/// The NAL units of a sample; a keyframe without parameter sets gets those of the sample entry, as a camera sends
/// them.
fn access_unit(codec: Codec, parameter_sets: &AccessUnit, sample: &[u8]) -> Option<AccessUnit> {
    let mut unit = nal_units(sample)?;
    let roles: Vec<Role> = unit.iter().map(|nal| codec.role(nal)).collect();
    let keyframe = roles
        .iter()
        .any(|role| matches!(role, Role::Slice { keyframe: true, .. }));
    if keyframe && !roles.contains(&Role::Sps) {
        let delimiter = match codec {
            Codec::H264 => unit.first()?.first()? & 0x1f == 9,
            Codec::H265 => unit.first()?.first()? >> 1 == 35,
        };
        let at = usize::from(delimiter);
        unit.splice(at..at, parameter_sets.iter().cloned());
    }
    Some(unit)
}
