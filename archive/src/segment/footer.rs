//! The footer: everything that the index and the export need to know of a sealed segment.
#![deny(clippy::indexing_slicing)]

use super::frame::{decode_flags, decode_notes, encode_flags, encode_notes};
use super::{Origin, SegmentHeader, padding, uuid};
use crate::codec::{Decoder, Encoder};
use crate::error::Malformed;
use crate::fragment::{BLOCK_BYTES, FragmentEntry};
use crate::id::Sha256;
use crate::mp4::{BoxWriter, Boxes, SampleEntry, TrackSamples};
use crate::time::WallTime;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Rows in a footer, at most: a segment of many hours with two-second fragments.
pub(super) const FRAGMENTS_MAX: u64 = 100_000;
const OFFSET_UNKNOWN: i64 = i64::MIN;

/// One fragment in the footer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FooterFragment {
    /// Where and when.
    pub entry: FragmentEntry,
    /// Its link of the hash chain.
    pub leaf: Sha256,
    /// The camera's clock minus ours, in microseconds.
    pub clock_offset_us: Option<i64>,
    /// Its samples, by track.
    pub tracks: Vec<TrackSamples>,
}

/// The footer of a sealed segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Footer {
    /// The same as at the beginning of the file.
    pub header: SegmentHeader,
    /// When its last fragment ends.
    pub wall_end: WallTime,
    /// The leaf of its last fragment.
    pub head: Sha256,
    /// In order.
    pub fragments: Vec<FooterFragment>,
    /// What it was made of, if it was thinned.
    pub origin: Option<Origin>,
}

/// The rows of a footer as they are collected while the segment grows.
#[derive(Debug, Default)]
pub(super) struct FooterRows {
    rows: Encoder,
    count: u32,
    last: Last,
}

/// What the next row is written as a difference to.
#[derive(Debug, Default, Clone)]
struct Last {
    end_block: u64,
    wall_end: i64,
    media_end: u64,
}

impl Last {
    fn after(e: &FragmentEntry) -> Self {
        Self {
            end_block: (e.offset + u64::from(e.len)).div_ceil(BLOCK),
            wall_end: e.wall_end().micros(),
            media_end: e.media_start.saturating_add(u64::from(e.media_duration)),
        }
    }
}

impl FooterRows {
    pub(super) fn push(&mut self, f: &FooterFragment) {
        let e = &mut self.rows;
        let entry = &f.entry;
        e.varint((entry.offset / BLOCK).saturating_sub(self.last.end_block));
        e.varint(entry.len.into());
        e.zigzag(entry.wall_start.micros() - self.last.wall_end);
        e.varint(entry.wall_duration_us.into());
        e.zigzag(entry.media_start.wrapping_sub(self.last.media_end) as i64);
        e.varint(entry.media_duration.into());
        e.u8(encode_flags(entry));
        e.u8(entry.activity);
        encode_notes(e, &entry.notes);
        e.hash(&f.leaf);
        e.i64(f.clock_offset_us.unwrap_or(OFFSET_UNKNOWN));
        e.u8(f.tracks.len() as u8);
        f.tracks.iter().for_each(|t| encode_samples(e, t, entry.offset));
        self.count += 1;
        self.last = Last::after(entry);
    }

    /// The footer's box.
    pub(super) fn boxed(
        &self,
        header: &SegmentHeader,
        head: Sha256,
        wall_end: WallTime,
        origin: Option<&Origin>,
    ) -> Vec<u8> {
        debug_assert_eq!(header.generation > 0, origin.is_some());
        let mut e = Encoder(uuid::FOOTER.to_vec());
        header.encode(&mut e);
        e.wall(wall_end);
        e.hash(&head);
        e.varint(self.count.into());
        e.bytes(&self.rows.0);
        if let Some(origin) = origin {
            origin.encode(&mut e);
        }
        let mut w = BoxWriter::default();
        w.boxed(b"uuid", |w| w.bytes(&e.0));
        w.0
    }
}

impl Footer {
    /// What the next segment is chained to: its own head, or that of the segment that it was before it was thinned.
    pub fn link(&self) -> Sha256 {
        self.origin.as_ref().map_or(self.head, Origin::head)
    }

    /// Where its fragments end: the byte at which a footer stands that belongs to them.
    pub fn end(&self) -> u64 {
        let end = |e: &FragmentEntry| e.offset + u64::from(e.len);
        let end = self.fragments.last().map_or(0, |f| end(&f.entry));
        end + padding(end as usize) as u64
    }

    /// Reads the box that [`FooterRows::boxed`] made; without `samples`, tracks are left out. The caller has checked
    /// its hash.
    pub(super) fn parse(bytes: &[u8], samples: bool) -> Result<Self, Malformed> {
        let b = Boxes(bytes).next().ok_or(Malformed("no footer"))??;
        let content = b
            .content
            .strip_prefix(&uuid::FOOTER)
            .ok_or(Malformed("not a footer"))?;
        let mut d = Decoder(content);
        let header = SegmentHeader::decode(&mut d)?;
        let (wall_end, head) = (d.wall()?, d.hash()?);
        let count = d.varint()?;
        if count > FRAGMENTS_MAX {
            return Err(Malformed("too many fragments"));
        }
        let mut fragments = Vec::new();
        let mut last = Last::default();
        for _ in 0..count {
            let f = decode_row(&mut d, &last, samples)?;
            last = Last::after(&f.entry);
            fragments.push(f);
        }
        let origin = match header.generation {
            0 => None,
            _ => Some(Origin::decode(&mut d)?),
        };
        d.end()?;
        Ok(Self {
            header,
            wall_end,
            head,
            fragments,
            origin,
        })
    }
}

fn decode_row(d: &mut Decoder<'_>, last: &Last, samples: bool) -> Result<FooterFragment, Malformed> {
    const TOO_LARGE: Malformed = Malformed("number too large");
    let block = last.end_block.checked_add(d.varint()?).ok_or(TOO_LARGE)?;
    let offset = block.checked_mul(BLOCK).ok_or(TOO_LARGE)?;
    let len = d.varint_u32()?;
    let wall = last.wall_end.checked_add(d.zigzag()?).ok_or(TOO_LARGE)?;
    let wall_start = WallTime::from_micros(wall);
    let wall_duration_us = d.varint_u32()?;
    let media_start = last.media_end.wrapping_add(d.zigzag()? as u64);
    let media_duration = d.varint_u32()?;
    let (keyframe, run_start) = decode_flags(d.u8()?)?;
    let activity = d.u8()?;
    let notes = decode_notes(d)?;
    let leaf = d.hash()?;
    let clock_offset_us = Some(d.i64()?).filter(|v| *v != OFFSET_UNKNOWN);
    let count = d.u8()?;
    let mut tracks = Vec::new();
    for _ in 0..count {
        if samples {
            tracks.push(decode_samples(d, offset)?);
        } else {
            pass_over_samples(d)?;
        }
    }
    if wall_start.micros() != wall || offset.checked_add(len.into()).is_none() {
        return Err(TOO_LARGE);
    }
    let entry = FragmentEntry {
        offset,
        len,
        wall_start,
        wall_duration_us,
        media_start,
        media_duration,
        keyframe,
        run_start,
        activity,
        notes,
    };
    Ok(FooterFragment {
        entry,
        leaf,
        clock_offset_us,
        tracks,
    })
}

/// About three bytes a sample: durations and sizes as differences, flags in the low bits.
fn encode_samples(e: &mut Encoder, t: &TrackSamples, fragment_offset: u64) {
    e.varint(t.track_id.into());
    e.varint(t.base_media_time);
    e.varint(t.data_offset - fragment_offset);
    e.varint(t.samples.len() as u64);
    let mut last = SampleEntry::default();
    let mut sizes = [0i64; 2];
    for s in &t.samples {
        let moved = s.composition_offset != last.composition_offset;
        let duration = zigzag(i64::from(s.duration) - i64::from(last.duration));
        e.varint(duration << 2 | u64::from(moved) << 1 | u64::from(s.keyframe));
        if moved {
            e.zigzag(s.composition_offset.into());
        }
        let [delta_size, key_size] = &mut sizes;
        let size = if s.keyframe { key_size } else { delta_size };
        e.zigzag(i64::from(s.size) - *size);
        *size = s.size.into();
        last = *s;
    }
}

fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

/// What [`decode_samples`] reads, unread.
fn pass_over_samples(d: &mut Decoder<'_>) -> Result<(), Malformed> {
    let (_track, _time, _offset, count) = (d.varint()?, d.varint()?, d.varint()?, d.varint()?);
    for _ in 0..count {
        if d.varint()? & 2 != 0 {
            d.zigzag()?;
        }
        d.zigzag()?;
    }
    Ok(())
}

fn decode_samples(d: &mut Decoder<'_>, fragment_offset: u64) -> Result<TrackSamples, Malformed> {
    const OUT_OF_RANGE: Malformed = Malformed("sample field out of range");
    let track_id = d.varint_u32()?;
    let base_media_time = d.varint()?;
    let data_offset = fragment_offset.checked_add(d.varint()?).ok_or(OUT_OF_RANGE)?;
    let count = d.varint()?;
    let mut samples = Vec::new();
    let mut last = SampleEntry::default();
    let mut sizes = [0i64; 2];
    for _ in 0..count {
        let head = d.varint()?;
        let (duration, moved, keyframe) = (head >> 2, head & 2 != 0, head & 1 != 0);
        let duration = ((duration >> 1) as i64) ^ -((duration & 1) as i64);
        let duration = i64::from(last.duration)
            .checked_add(duration)
            .and_then(|v| u32::try_from(v).ok());
        let composition_offset = if moved {
            d.zigzag()?
        } else {
            last.composition_offset.into()
        };
        let [delta_size, key_size] = &mut sizes;
        let size = if keyframe { key_size } else { delta_size };
        *size = size.checked_add(d.zigzag()?).ok_or(OUT_OF_RANGE)?;
        last = SampleEntry {
            duration: duration.ok_or(OUT_OF_RANGE)?,
            size: u32::try_from(*size).map_err(|_| OUT_OF_RANGE)?,
            composition_offset: i32::try_from(composition_offset).map_err(|_| OUT_OF_RANGE)?,
            keyframe,
        };
        samples.push(last);
    }
    Ok(TrackSamples {
        track_id,
        base_media_time,
        data_offset,
        samples,
    })
}
