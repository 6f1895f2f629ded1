//! Sample entries: what a track is encoded with, in the words of RFC 6381.
#![deny(clippy::indexing_slicing)]

use archive::codec::Decoder;
use archive::mp4::{BoxHeader, Boxes};
use archive::{Malformed, TrackKind};
use mp4_atom::{Decode as _, Esds};

use super::ImportError;

/// Parameter sets take some hundred bytes.
const ENTRY_BYTES_MAX: usize = 32 << 10;
/// Fields of `VisualSampleEntry` before its boxes.
const VISUAL_BYTES: usize = 78;
/// Fields of `AudioSampleEntry` before its boxes.
const AUDIO_BYTES: usize = 28;
/// `objectTypeIndication` of MPEG-4 audio.
const MPEG4_AUDIO: u8 = 0x40;

/// What a sample entry says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) codec: String,
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) channels: u16,
    pub(super) sample_rate: u32,
}

/// Reads a video sample entry; `Unsupported` unless it is H.264 or H.265 with 4-byte lengths.
pub(super) fn video(entry: &BoxHeader<'_>) -> Result<Described, ImportError> {
    let configuration = match &entry.kind {
        b"avc1" | b"avc3" => b"avcC",
        b"hvc1" | b"hev1" => b"hvcC",
        _ => return Err(unsupported(TrackKind::Video, entry)),
    };
    let mut fields = fields(entry, VISUAL_BYTES)?;
    fields.bytes(24)?;
    let (width, height) = (fields.u16()?, fields.u16()?);
    let boxes = Boxes(entry.content.get(VISUAL_BYTES..).unwrap_or_default());
    let configuration = boxes.find(configuration)?;
    let kind = entry.kind.escape_ascii();
    let (codec, length_bytes) = match &configuration.kind {
        b"avcC" => h264(&kind.to_string(), configuration.content)?,
        _ => h265(&kind.to_string(), configuration.content)?,
    };
    if length_bytes != 4 {
        let text = format!("video with NAL unit lengths of {length_bytes} bytes instead of 4");
        return Err(ImportError::Unsupported(text));
    }
    Ok(Described {
        codec,
        width,
        height,
        ..Described::default()
    })
}

/// Reads an audio sample entry; `Unsupported` unless it is AAC.
pub(super) fn audio(entry: &BoxHeader<'_>) -> Result<Described, ImportError> {
    let mut fields = fields(entry, AUDIO_BYTES)?;
    fields.bytes(8)?;
    let version = fields.u16()?;
    fields.bytes(6)?;
    let channels = fields.u16()?;
    fields.bytes(6)?;
    let sample_rate = fields.u32()? >> 16;
    if &entry.kind != b"mp4a" || version != 0 {
        return Err(unsupported(TrackKind::Audio, entry));
    }
    let esds = Boxes(entry.content.get(AUDIO_BYTES..).unwrap_or_default()).find(b"esds")?;
    let config = Esds::decode(&mut &*esds.whole)?.es_desc.dec_config;
    match config.dec_specific {
        Some(specific) if config.object_type_indication == MPEG4_AUDIO => {
            let codec = format!("mp4a.40.{}", specific.profile);
            Ok(Described {
                codec,
                channels,
                sample_rate,
                ..Described::default()
            })
        }
        _ => Err(unsupported(TrackKind::Audio, entry)),
    }
}

fn fields<'a>(entry: &BoxHeader<'a>, bytes: usize) -> Result<Decoder<'a>, ImportError> {
    if entry.whole.len() > ENTRY_BYTES_MAX {
        return Err(ImportError::Malformed("a sample entry that is too large".into()));
    }
    Ok(Decoder(
        entry
            .content
            .get(..bytes)
            .ok_or(Malformed("a sample entry that is too short"))?,
    ))
}

fn unsupported(kind: TrackKind, entry: &BoxHeader<'_>) -> ImportError {
    ImportError::Unsupported(format!("{kind:?} of the type `{}`", entry.kind.escape_ascii()))
}

/// The codec by `avcC`, and how many bytes a NAL unit's length takes.
fn h264(kind: &str, configuration: &[u8]) -> Result<(String, u8), Malformed> {
    let mut d = Decoder(configuration);
    if d.u8()? != 1 {
        return Err(Malformed("an unknown version of avcC"));
    }
    let (profile, compatibility, level) = (d.u8()?, d.u8()?, d.u8()?);
    let length_bytes = (d.u8()? & 3) + 1;
    Ok((
        format!("{kind}.{profile:02X}{compatibility:02X}{level:02X}"),
        length_bytes,
    ))
}

/// The codec by `hvcC`, and how many bytes a NAL unit's length takes.
fn h265(kind: &str, configuration: &[u8]) -> Result<(String, u8), Malformed> {
    let mut d = Decoder(configuration);
    d.u8()?;
    let profile = d.u8()?;
    let compatibility = d.u32()?.reverse_bits();
    let constraints = d.bytes(6)?;
    let level = d.u8()?;
    d.bytes(8)?;
    let length_bytes = (d.u8()? & 3) + 1;
    let space = match profile >> 6 {
        1 => "A",
        2 => "B",
        3 => "C",
        _ => "",
    };
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let mut codec = format!("{kind}.{space}{}.{compatibility:X}.{tier}{level}", profile & 0x1f);
    let used = constraints
        .iter()
        .rposition(|&b| b != 0)
        .map_or(0, |last| last + 1);
    for byte in constraints.iter().take(used) {
        codec.push_str(&format!(".{byte:X}"));
    }
    Ok((codec, length_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_are_named_as_rfc_6381_does() {
        let avcc = [1, 0x64, 0, 0x1f, 0xff, 0xe1];
        assert_eq!(h264("avc1", &avcc), Ok(("avc1.64001F".to_owned(), 4)));
        let mut hvcc = [0; 23];
        hvcc[..13].copy_from_slice(&[1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93]);
        hvcc[21] = 0x0f;
        assert_eq!(h265("hvc1", &hvcc), Ok(("hvc1.1.6.L93.90".to_owned(), 4)));
        assert!(h265("hvc1", &hvcc[..20]).is_err());
    }
}
