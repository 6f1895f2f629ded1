//! The end of a sealed segment: all that the index and the export need to know of it.
//!
//! The sample tables, which only exports need, stand in a box of their own. The footer behind it has a row a fragment and
//! says which sample tables belong to it, so that who makes an index anew neither reads nor hashes those.
#![deny(clippy::indexing_slicing)]

use super::frame::{decode_flags, decode_notes, encode_flags, encode_notes};
use super::{Origin, SegmentHeader, padded, uuid};
use crate::codec::{Decoder, Encoder};
use crate::error::Malformed;
use crate::fragment::{BLOCK_BYTES, FragmentEntry};
use crate::id::Sha256;
use crate::mp4::{BoxWriter, Boxes, SampleEntry, TrackSamples};
use crate::time::WallTime;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Rows in a footer, at most: a segment of many hours with two-second fragments.
pub(super) const FRAGMENTS_MAX: u64 = 100_000;
/// The version of the footer: before 4, sample tables stood among its rows.
pub(super) const FOOTER_VERSION: u8 = 4;
/// The least that a row takes: nine numbers of a byte, the leaf and the clock offset.
const ROW_BYTES_MIN: usize = 9 + 32 + 8;
const OFFSET_UNKNOWN: i64 = i64::MIN;
const NO_FOOTER: &str = "no footer";

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

/// What an index takes from the end of a sealed segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contents {
    /// The same as at the beginning of the file.
    pub header: SegmentHeader,
    /// What the next segment is chained to.
    pub link: Sha256,
    /// Its fragments, in order.
    pub entries: Vec<FragmentEntry>,
}

/// The rows of a footer and the sample tables as they are collected while the segment grows.
#[derive(Debug, Default)]
pub(super) struct FooterRows {
    rows: Encoder,
    samples: Encoder,
    count: u32,
    last: Last,
}

/// The boxes at the end of a segment that say what is in it.
#[derive(Debug)]
pub(super) struct FooterBoxes {
    /// The sample tables.
    pub(super) samples: Vec<u8>,
    /// What stands right behind them.
    pub(super) footer: Vec<u8>,
}

/// What a footer says of the box with the sample tables, which stands right before it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct SampleTables {
    /// The length of the box.
    pub(super) len: u32,
    /// The hash of the box.
    pub(super) hash: Sha256,
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
        let e = &mut self.samples;
        e.u8(f.tracks.len() as u8);
        f.tracks.iter().for_each(|t| encode_samples(e, t, entry.offset));
        self.count += 1;
        self.last = Last::after(entry);
    }

    pub(super) fn boxed(
        &self,
        header: &SegmentHeader,
        head: Sha256,
        wall_end: WallTime,
        origin: Option<&Origin>,
    ) -> FooterBoxes {
        debug_assert_eq!(header.generation > 0, origin.is_some());
        let samples = boxed(&uuid::SAMPLES, &[&self.samples.0]);
        let mut e = Encoder::default();
        e.u8(FOOTER_VERSION);
        e.u32(samples.len() as u32);
        e.hash(&Sha256::of(&samples));
        header.encode(&mut e);
        e.wall(wall_end);
        e.hash(&head);
        e.varint(self.count.into());
        let mut behind = Encoder::default();
        if let Some(origin) = origin {
            origin.encode(&mut behind);
        }
        let footer = boxed(&uuid::FOOTER, &[&e.0, &self.rows.0, &behind.0]);
        FooterBoxes { samples, footer }
    }
}

fn boxed(kind: &[u8; 16], parts: &[&[u8]]) -> Vec<u8> {
    let mut w = BoxWriter::default();
    w.boxed(b"uuid", |w| {
        w.bytes(kind);
        parts.iter().for_each(|part| w.bytes(part));
    });
    w.0
}

fn content<'a>(bytes: &'a [u8], kind: &[u8; 16], none: &'static str) -> Result<&'a [u8], Malformed> {
    let b = Boxes(bytes).next().ok_or(Malformed(none))??;
    b.content.strip_prefix(kind).ok_or(Malformed(none))
}

impl SampleTables {
    /// Reads what the footer in `bytes` says of them.
    pub(super) fn of_footer(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::decode(&mut Decoder(content(bytes, &uuid::FOOTER, NO_FOOTER)?))
    }

    /// The beginning of a footer.
    fn decode(d: &mut Decoder<'_>) -> Result<Self, Malformed> {
        if d.u8()? != FOOTER_VERSION {
            return Err(Malformed(
                "the footer is of a version that this program does not read",
            ));
        }
        let (len, hash) = (d.u32()?, d.hash()?);
        Ok(Self { len, hash })
    }

    /// Whether these are the sample tables that the footer means.
    pub(super) fn are(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.len as usize && Sha256::of(bytes) == self.hash
    }
}

impl Footer {
    /// What the next segment is chained to: its own head, or that of the segment that it was before it was thinned.
    pub fn link(&self) -> Sha256 {
        self.origin.as_ref().map_or(self.head, Origin::head)
    }

    /// Where its fragments end: the byte at which sample tables and a footer stand that belong to them.
    pub fn end(&self) -> u64 {
        end_of(self.fragments.last().map(|f| &f.entry))
    }

    /// Reads the box of the footer that [`FooterRows::boxed`] made, and what it says of the sample tables. Its fragments
    /// have no tracks before [`take_samples`](Self::take_samples). The caller has checked the hash of `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, SampleTables), Malformed> {
        let p = parse(bytes, |f| f)?;
        let footer = Self {
            header: p.header,
            wall_end: p.wall_end,
            head: p.head,
            fragments: p.rows,
            origin: p.origin,
        };
        Ok((footer, p.tables))
    }

    /// Reads the tracks of its fragments from the box of the sample tables. The caller has checked that it is theirs.
    pub(super) fn take_samples(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut d = Decoder(content(bytes, &uuid::SAMPLES, "no sample tables")?);
        for f in &mut self.fragments {
            for _ in 0..d.u8()? {
                f.tracks.push(decode_samples(&mut d, f.entry.offset)?);
            }
        }
        d.end()
    }
}

impl Contents {
    /// Reads the box of the footer, and what it says of the sample tables. The caller has checked its hash.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, SampleTables), Malformed> {
        let p = parse(bytes, |f| f.entry)?;
        let contents = Self {
            header: p.header,
            link: p.origin.as_ref().map_or(p.head, Origin::head),
            entries: p.rows,
        };
        Ok((contents, p.tables))
    }
}

impl From<Footer> for Contents {
    fn from(footer: Footer) -> Self {
        Self {
            link: footer.link(),
            header: footer.header,
            entries: footer.fragments.into_iter().map(|f| f.entry).collect(),
        }
    }
}

/// Where fragments end of which this is the last one.
pub(super) fn end_of(last: Option<&FragmentEntry>) -> u64 {
    padded(last.map_or(0, |e| e.offset + u64::from(e.len)))
}

/// A footer with what is wanted of its rows.
struct Parsed<T> {
    tables: SampleTables,
    header: SegmentHeader,
    wall_end: WallTime,
    head: Sha256,
    rows: Vec<T>,
    origin: Option<Origin>,
}

fn parse<T>(bytes: &[u8], keep: impl Fn(FooterFragment) -> T) -> Result<Parsed<T>, Malformed> {
    let mut d = Decoder(content(bytes, &uuid::FOOTER, NO_FOOTER)?);
    let tables = SampleTables::decode(&mut d)?;
    let header = SegmentHeader::decode(&mut d)?;
    let (wall_end, head) = (d.wall()?, d.hash()?);
    let count = d.varint()?;
    if count > FRAGMENTS_MAX {
        return Err(Malformed("too many fragments"));
    }
    let mut rows = Vec::with_capacity((count as usize).min(d.0.len() / ROW_BYTES_MIN));
    let mut last = Last::default();
    for _ in 0..count {
        let f = decode_row(&mut d, &last)?;
        last = Last::after(&f.entry);
        rows.push(keep(f));
    }
    let origin = match header.generation {
        0 => None,
        _ => Some(Origin::decode(&mut d)?),
    };
    d.end()?;
    Ok(Parsed {
        tables,
        header,
        wall_end,
        head,
        rows,
        origin,
    })
}

fn decode_row(d: &mut Decoder<'_>, last: &Last) -> Result<FooterFragment, Malformed> {
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
        tracks: Vec::new(),
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
