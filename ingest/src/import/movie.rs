//! `moov`: which tracks there are.
#![deny(clippy::indexing_slicing)]

use archive::mp4::{BoxHeader, Boxes};
use archive::{Malformed, Timescale, TrackKind};
use mp4_atom::{Decode as _, Elst, Trex};

use super::ImportError;
use super::entry;
use super::tables::Tables;
use crate::event::TrackParams;

/// More tracks than any camera's file has.
const TRACKS_MAX: usize = 64;

/// What is imported of a file.
pub(super) struct Movie {
    pub(super) video: Track,
    pub(super) audio: Option<Track>,
    /// Why other tracks are not.
    pub(super) skipped: Vec<String>,
    pub(super) fragmented: bool,
    pub(super) defaults: Vec<Trex>,
}

/// One track.
pub(super) struct Track {
    pub(super) id: u32,
    pub(super) params: TrackParams,
    /// Its samples in `moov`.
    pub(super) tables: Option<Tables>,
    /// What the edit list adds to its media time, in ticks.
    pub(super) shift: i64,
    pub(super) has_edit: bool,
}

impl Movie {
    /// Reads the content of `moov`.
    pub(super) fn parse(moov: &[u8]) -> Result<Self, ImportError> {
        let movie_scale = header_timescale(&Boxes(moov).find(b"mvhd")?)?;
        let (mut video, mut audio, mut skipped) = (None, None, Vec::new());
        let mut defaults = Vec::new();
        let mut fragmented = false;
        let mut tracks = 0;
        for b in Boxes(moov) {
            let b = b?;
            match &b.kind {
                b"trak" => {
                    tracks += 1;
                    if tracks > TRACKS_MAX {
                        return Err(ImportError::Malformed("too many tracks".into()));
                    }
                    match track(&b, movie_scale)? {
                        Ok(t) if t.params.kind == TrackKind::Video && video.is_none() => video = Some(t),
                        Ok(t) if t.params.kind == TrackKind::Audio && audio.is_none() => audio = Some(t),
                        Ok(t) => skipped.push(format!("track {}: a further {:?} track", t.id, t.params.kind)),
                        Err(why) => skipped.push(format!("track {tracks}: {why}")),
                    }
                }
                b"mvex" => {
                    fragmented = true;
                    for b in b.children() {
                        let b = b?;
                        if &b.kind == b"trex" && defaults.len() < TRACKS_MAX {
                            defaults.push(Trex::decode(&mut &*b.whole)?);
                        }
                    }
                }
                _ => {}
            }
        }
        let Some(video) = video else {
            let why = if skipped.is_empty() {
                "no tracks".to_owned()
            } else {
                skipped.join("; ")
            };
            return Err(ImportError::Unsupported(format!(
                "no H.264 or H.265 video in this file ({why})"
            )));
        };
        Ok(Self {
            video,
            audio,
            skipped,
            fragmented,
            defaults,
        })
    }
}

/// A track, or why it is not imported.
fn track(trak: &BoxHeader<'_>, movie_scale: Timescale) -> Result<Result<Track, String>, ImportError> {
    let (version, _, mut tkhd) = trak.children().find(b"tkhd")?.full()?;
    tkhd.bytes(if version == 1 { 16 } else { 8 })?;
    let id = tkhd.u32()?;
    let mdia = trak.children().find(b"mdia")?;
    let (_, _, mut hdlr) = mdia.children().find(b"hdlr")?.full()?;
    hdlr.u32()?;
    let handler = hdlr.u32()?.to_be_bytes();
    let kind = match &handler {
        b"vide" => TrackKind::Video,
        b"soun" => TrackKind::Audio,
        other => return Ok(Err(format!("a `{}` track", other.escape_ascii()))),
    };
    let timescale = header_timescale(&mdia.children().find(b"mdhd")?)?;
    let stbl = mdia.children().find(b"minf")?.children().find(b"stbl")?;
    let (_, _, mut stsd) = stbl.children().find(b"stsd")?.full()?;
    stsd.u32()?;
    let sample_entry = Boxes(stsd.0).next().ok_or(Malformed("no sample entry"))??;
    let described = match kind {
        TrackKind::Video => entry::video(&sample_entry),
        TrackKind::Audio => entry::audio(&sample_entry),
    };
    let described = match described {
        Ok(described) => described,
        Err(ImportError::Unsupported(why)) => return Ok(Err(why)),
        Err(e) => return Err(e),
    };
    let (shift, has_edit) = match trak.children().find(b"edts") {
        Ok(edts) => edit(&edts, movie_scale, timescale)?,
        Err(_) => (0, false),
    };
    let params = TrackParams {
        kind,
        timescale,
        codec: described.codec,
        sample_entry: sample_entry.whole.to_vec(),
        width: described.width,
        height: described.height,
        channels: described.channels,
        sample_rate: described.sample_rate,
    };
    let tables = Some(Tables::parse(&stbl, shift)?);
    Ok(Ok(Track {
        id,
        params,
        tables,
        shift,
        has_edit,
    }))
}

/// What the edit list adds to media time so that 0 is the beginning of the presentation: leading empty edits
/// delay the track, and the first edit with media says where that begins. Later edits are not applied: all
/// media of the file is imported.
fn edit(edts: &BoxHeader<'_>, movie: Timescale, media: Timescale) -> Result<(i64, bool), ImportError> {
    let Ok(elst) = edts.children().find(b"elst") else {
        return Ok((0, false));
    };
    let mut delay: i64 = 0;
    for e in Elst::decode(&mut &*elst.whole)?.entries {
        match e.media_time.map(i64::try_from) {
            None => {
                let empty = movie.to_micros(i64::try_from(e.segment_duration).unwrap_or(i64::MAX));
                delay = delay.saturating_add(media.from_micros(empty));
            }
            Some(Ok(time)) => return Ok((delay.saturating_sub(time), true)),
            Some(Err(_)) => return Err(ImportError::Malformed("an edit in the far future".into())),
        }
    }
    Ok((delay, false))
}

/// The timescale in `mvhd` or `mdhd`.
fn header_timescale(b: &BoxHeader<'_>) -> Result<Timescale, ImportError> {
    let (version, _, mut d) = b.full()?;
    d.bytes(if version == 1 { 16 } else { 8 })?;
    Timescale::new(d.u32()?).ok_or_else(|| ImportError::Malformed("a timescale of 0".into()))
}
