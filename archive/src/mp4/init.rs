//! The init segment: `ftyp` and `moov`, addressed by its hash.
#![deny(clippy::indexing_slicing)]

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{BoxWriter, Boxes};
use crate::codec::Decoder;
use crate::error::Malformed;
use crate::id::Sha256;
use crate::time::Timescale;

/// The video track of every segment.
pub const VIDEO_TRACK_ID: u32 = 1;
/// The audio track of a segment that has one.
pub const AUDIO_TRACK_ID: u32 = 2;
/// No init segment is larger: parameter sets take some hundred bytes.
const INIT_BYTES_MAX: usize = 64 << 10;

/// What a track carries.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrackKind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// A track as its init segment describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Track {
    /// [`VIDEO_TRACK_ID`] or [`AUDIO_TRACK_ID`].
    pub id: u32,
    /// Video or audio.
    pub kind: TrackKind,
    /// The clock of its samples.
    pub timescale: Timescale,
    /// The codec as RFC 6381 names it, such as `avc1.4d401f`.
    pub codec: String,
    /// Picture width in pixels; 0 for audio.
    pub width: u16,
    /// Picture height in pixels; 0 for audio.
    pub height: u16,
    /// Channels; 0 for video.
    pub channels: u16,
    /// The whole sample entry box (`avc1`, `hvc1`, `mp4a`).
    pub sample_entry: Bytes,
}

/// `ftyp` and `moov`: what a player needs before any fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitSegment {
    /// The boxes.
    pub bytes: Bytes,
    /// Their SHA-256: the init segment's name.
    pub hash: Sha256,
    /// Video first, then audio if there is any.
    pub tracks: Vec<Track>,
}

impl InitSegment {
    /// Builds the init segment for `tracks`: the same bytes for the same tracks.
    pub fn build(tracks: Vec<Track>) -> Self {
        let mut w = BoxWriter::default();
        w.boxed(b"ftyp", |w| {
            w.bytes(b"iso6");
            w.u32(1);
            w.bytes(b"iso6cmfcmp41");
        });
        w.boxed(b"moov", |w| {
            w.full(b"mvhd", 0, 0, |w| {
                w.zeros(8);
                w.u32(1000);
                w.u32(0);
                w.u32(0x1_0000);
                w.u16(0x0100);
                w.zeros(10);
                w.unity_matrix();
                w.zeros(24);
                w.u32(tracks.iter().map(|t| t.id).max().unwrap_or(0) + 1);
            });
            tracks.iter().for_each(|t| trak(w, t));
            w.boxed(b"mvex", |w| {
                for t in &tracks {
                    w.full(b"trex", 0, 0, |w| {
                        w.u32(t.id);
                        w.u32(1);
                        w.zeros(12);
                    });
                }
            });
        });
        let hash = Sha256::of(&w.0);
        Self {
            bytes: w.0.into(),
            hash,
            tracks,
        }
    }

    /// Reads an init segment that [`build`](Self::build) made: foreign ones are refused.
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        if bytes.len() > INIT_BYTES_MAX {
            return Err(Malformed("init segment too large"));
        }
        let moov = Boxes(&bytes).find(b"moov")?;
        let mut tracks = Vec::new();
        for b in moov.children() {
            let b = b?;
            if &b.kind == b"trak" {
                tracks.push(parse_trak(b.children())?);
            }
        }
        let ids: Vec<u32> = tracks.iter().map(|t: &Track| t.id).collect();
        if ids != [VIDEO_TRACK_ID] && ids != [VIDEO_TRACK_ID, AUDIO_TRACK_ID] {
            return Err(Malformed("unexpected tracks"));
        }
        let hash = Sha256::of(&bytes);
        Ok(Self { bytes, hash, tracks })
    }

    /// The video track.
    pub fn video(&self) -> Option<&Track> {
        self.tracks.iter().find(|t| t.kind == TrackKind::Video)
    }

    /// The audio track.
    pub fn audio(&self) -> Option<&Track> {
        self.tracks.iter().find(|t| t.kind == TrackKind::Audio)
    }
}

fn trak(w: &mut BoxWriter, t: &Track) {
    let video = t.kind == TrackKind::Video;
    w.boxed(b"trak", |w| {
        w.full(b"tkhd", 0, 3, |w| {
            w.zeros(8);
            w.u32(t.id);
            w.zeros(8 + 8 + 4);
            w.u16(if video { 0 } else { 0x0100 });
            w.u16(0);
            w.unity_matrix();
            w.u32(u32::from(t.width) << 16);
            w.u32(u32::from(t.height) << 16);
        });
        w.boxed(b"mdia", |w| {
            w.full(b"mdhd", 0, 0, |w| {
                w.zeros(8);
                w.u32(t.timescale.get());
                w.u32(0);
                w.u16(0x55c4); // "und"
                w.u16(0);
            });
            w.full(b"hdlr", 0, 0, |w| {
                w.u32(0);
                w.bytes(if video { b"vide" } else { b"soun" });
                w.zeros(12);
                // The handler's name carries the codec string, which nothing else in `moov` spells out.
                w.bytes(t.codec.as_bytes());
                w.u8(0);
            });
            w.boxed(b"minf", |w| {
                if video {
                    w.full(b"vmhd", 0, 1, |w| w.zeros(8));
                } else {
                    w.full(b"smhd", 0, 0, |w| w.zeros(4));
                }
                w.boxed(b"dinf", |w| {
                    w.full(b"dref", 0, 0, |w| {
                        w.u32(1);
                        w.full(b"url ", 0, 1, |_| {});
                    });
                });
                w.boxed(b"stbl", |w| {
                    w.full(b"stsd", 0, 0, |w| {
                        w.u32(1);
                        w.bytes(&t.sample_entry);
                    });
                    w.full(b"stts", 0, 0, |w| w.u32(0));
                    w.full(b"stsc", 0, 0, |w| w.u32(0));
                    w.full(b"stsz", 0, 0, |w| w.zeros(8));
                    w.full(b"stco", 0, 0, |w| w.u32(0));
                });
            });
        });
    });
}

fn parse_trak(boxes: Boxes<'_>) -> Result<Track, Malformed> {
    let (_, _, mut tkhd) = boxes.clone().find(b"tkhd")?.full()?;
    tkhd.bytes(8)?;
    let id = tkhd.u32()?;
    let mdia = boxes.find(b"mdia")?;
    let (version, _, mut mdhd) = mdia.children().find(b"mdhd")?.full()?;
    if version != 0 {
        return Err(Malformed("unexpected mdhd version"));
    }
    mdhd.bytes(8)?;
    let timescale = Timescale::new(mdhd.u32()?).ok_or(Malformed("timescale 0"))?;
    let (_, _, mut hdlr) = mdia.children().find(b"hdlr")?.full()?;
    hdlr.u32()?;
    let kind = match hdlr.bytes(4)? {
        b"vide" => TrackKind::Video,
        b"soun" => TrackKind::Audio,
        _ => return Err(Malformed("unexpected handler")),
    };
    hdlr.bytes(12)?;
    let name = hdlr.0.split(|b| *b == 0).next().unwrap_or_default();
    let codec = std::str::from_utf8(name)
        .map_err(|_| Malformed("codec is not UTF-8"))?
        .to_owned();
    let stbl = mdia.children().find(b"minf")?.children().find(b"stbl")?;
    let (_, _, mut stsd) = stbl.children().find(b"stsd")?.full()?;
    stsd.u32()?;
    let entry = Boxes(stsd.0).next().ok_or(Malformed("no sample entry"))??;
    let mut fields = Decoder(entry.content);
    fields.bytes(16)?;
    let (mut width, mut height, mut channels) = (0, 0, 0);
    match kind {
        TrackKind::Video => {
            fields.bytes(8)?;
            (width, height) = (fields.u16()?, fields.u16()?);
        }
        TrackKind::Audio => channels = fields.u16()?,
    }
    let sample_entry = Bytes::copy_from_slice(entry.whole);
    Ok(Track {
        id,
        kind,
        timescale,
        codec,
        width,
        height,
        channels,
        sample_entry,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fuzzing::video_track;
    use proptest::prelude::*;

    pub(crate) fn audio_track() -> Track {
        let mut w = BoxWriter::default();
        w.boxed(b"mp4a", |w| {
            w.zeros(6);
            w.u16(1);
            w.zeros(8);
            w.u16(2);
            w.u16(16);
            w.zeros(4);
            w.u32(48_000 << 16);
        });
        Track {
            id: AUDIO_TRACK_ID,
            kind: TrackKind::Audio,
            timescale: Timescale::new(48_000).expect("not zero"),
            codec: "mp4a.40.2".into(),
            width: 0,
            height: 0,
            channels: 2,
            sample_entry: w.0.into(),
        }
    }

    #[test]
    fn an_init_segment_reads_back() {
        let built = InitSegment::build(vec![video_track(1920, 1080), audio_track()]);
        assert_eq!(InitSegment::parse(built.bytes.clone()), Ok(built));
    }

    proptest! {
        #[test]
        fn a_damaged_init_segment_never_panics(at in 0usize..900, to in any::<u8>(), cut in 0usize..900) {
            let built = InitSegment::build(vec![video_track(640, 360), audio_track()]);
            let mut bytes = built.bytes.to_vec();
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(bytes.len() - cut % bytes.len());
            let _ = InitSegment::parse(bytes.into());
        }
    }
}
