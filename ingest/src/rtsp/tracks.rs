//! Which of the offered streams to take, and how they describe themselves.

use archive::{GapCause, Timescale, TrackKind};
use retina::client::Stream;
use retina::codec::{ParametersRef, VideoParameters};

use super::SessionError;
use crate::event::TrackParams;
use crate::nal;

/// A description that offers more streams is refused.
const STREAMS_MAX: usize = 64;

/// The streams of a description that are recorded.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Chosen {
    pub(super) video: usize,
    pub(super) audio: Option<usize>,
}

/// The first H.264 or H.265 stream, and the first AAC stream that is described well enough.
pub(super) fn choose(streams: &[Stream]) -> Result<Chosen, SessionError> {
    if streams.len() > STREAMS_MAX {
        return Err(SessionError::new(
            GapCause::Unsupported,
            "the camera offers too many streams",
        ));
    }
    let is_video = |s: &Stream| {
        s.media() == "video" && matches!(s.encoding_name(), "h264" | "h265") && timescale(s).is_some()
    };
    let Some(video) = streams.iter().position(is_video) else {
        let offered: Vec<_> = streams
            .iter()
            .map(|s| format!("{}/{}", s.media(), s.encoding_name()))
            .collect();
        let text = format!(
            "no H.264 or H.265 among what the camera offers: {}",
            offered.join(", ")
        );
        return Err(SessionError::new(
            GapCause::Unsupported,
            text.chars().take(300).collect::<String>(),
        ));
    };
    let audio = streams.iter().position(|s| audio_params(s).is_some());
    Ok(Chosen { video, audio })
}

/// The video track as it is known now; `None` while parameter sets are missing.
pub(super) fn video_params(stream: &Stream) -> Option<TrackParams> {
    let Some(ParametersRef::Video(params)) = stream.parameters() else {
        return None;
    };
    let (width, height) = params.pixel_dimensions();
    Some(TrackParams {
        kind: TrackKind::Video,
        timescale: timescale(stream)?,
        codec: params.rfc6381_codec().to_owned(),
        sample_entry: video_sample_entry(params)?,
        width: u16::try_from(width).ok()?,
        height: u16::try_from(height).ok()?,
        channels: 0,
        sample_rate: 0,
    })
}

/// The audio track, if this stream is AAC that can be recorded.
pub(super) fn audio_params(stream: &Stream) -> Option<TrackParams> {
    if stream.media() != "audio" || stream.encoding_name() != "mpeg4-generic" {
        return None;
    }
    let Some(ParametersRef::Audio(params)) = stream.parameters() else {
        return None;
    };
    Some(TrackParams {
        kind: TrackKind::Audio,
        timescale: timescale(stream)?,
        codec: params.rfc6381_codec()?.to_owned(),
        sample_entry: params.mp4_sample_entry().build().ok()?,
        width: 0,
        height: 0,
        channels: params.channels().get(),
        sample_rate: params.clock_rate(),
    })
}

pub(super) fn video_sample_entry(params: &VideoParameters) -> Option<Vec<u8>> {
    let entry = params.mp4_sample_entry();
    let shape = params
        .pixel_aspect_ratio()
        .and_then(|(h, v)| Some((u16::try_from(h).ok()?, u16::try_from(v).ok()?)));
    match shape {
        Some((h, v)) if h != v && h != 0 && v != 0 => entry.with_aspect_ratio((h, v)).build().ok(),
        _ => entry.build().ok(),
    }
}

/// Whether the first slice of an H.265 access unit in length-prefixed form belongs to a picture at which
/// decoding can begin. Unlike retina's answer this includes CRA and BLA pictures: cameras with open GOPs send
/// no others.
pub(super) fn begins_with_irap(mut access_unit: &[u8]) -> bool {
    while let Some((nal, next)) = nal::split_first(access_unit) {
        match nal.first().map(|header| (header >> 1) & 0x3f) {
            Some(slice @ 0..32) => return (16..24).contains(&slice),
            _ => access_unit = next,
        }
    }
    false
}

pub(super) fn timescale(stream: &Stream) -> Option<Timescale> {
    Timescale::new(stream.clock_rate_hz())
}

#[cfg(test)]
mod tests {
    use super::begins_with_irap;

    /// NAL units of two bytes each, by type.
    fn unit(types: &[u8]) -> Vec<u8> {
        types.iter().flat_map(|t| [0, 0, 0, 2, t << 1, 1]).collect()
    }

    #[test]
    fn the_first_slice_tells_whether_decoding_can_begin() {
        for key in [&[19][..], &[20], &[21], &[16], &[35, 39, 21, 21]] {
            assert!(begins_with_irap(&unit(key)), "{key:?}");
        }
        for other in [&[][..], &[1], &[35, 39], &[9, 21], &[35, 0], &[24]] {
            assert!(!begins_with_irap(&unit(other)), "{other:?}");
        }
        assert!(!begins_with_irap(&[0, 0, 0, 9, 21 << 1, 1]) && !begins_with_irap(&[0, 0, 0, 0, 0, 0, 0, 0]));
    }
}
