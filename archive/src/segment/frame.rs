//! The `uuid` box that every fragment begins with: what recovery and verification need, and the link
//! of the hash chain.
//!
//! `leaf = SHA-256(content of the box before the leaf || moof || header of mdat)`; the content holds the
//! SHA-256 of the samples and the previous leaf. The samples are hashed once, before they are written.
#![deny(clippy::indexing_slicing)]

use super::sums::SUM_BYTES;
use super::{FORMAT_VERSION, padded, uuid};
use crate::codec::{Decoder, Encoder};
use crate::error::Malformed;
use crate::fragment::{FragmentEntry, GapCause, NOTES_MAX, Note};
use crate::id::Sha256;
use crate::mp4::Boxes;

/// More blocks than the largest fragment has.
const SUMS_MAX: u64 = 1024;
const LEAF_BYTES: usize = 32;
const OFFSET_UNKNOWN: i64 = i64::MIN;
const KEYFRAME: u8 = 1;
const RUN_START: u8 = 2;

/// The content of the box.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    /// Counts the fragments of the segment from 0.
    pub(super) index: u32,
    /// `offset` and `len` stand outside the box.
    pub(super) entry: FragmentEntry,
    /// Bytes of `moof` and `mdat` together.
    pub(super) body_len: u32,
    /// The camera's clock minus ours, in microseconds.
    pub(super) clock_offset_us: Option<i64>,
    /// Of the samples.
    pub(super) data: Sha256,
    /// The leaf before this one.
    pub(super) prev: Sha256,
    /// See [`super::sums`].
    pub(super) sums: Vec<u64>,
}

pub(super) fn encode_flags(e: &FragmentEntry) -> u8 {
    (u8::from(e.keyframe) * KEYFRAME) | (u8::from(e.run_start) * RUN_START)
}

pub(super) fn decode_flags(flags: u8) -> Result<(bool, bool), Malformed> {
    if flags & !(KEYFRAME | RUN_START) != 0 {
        return Err(Malformed("unknown fragment flags"));
    }
    Ok((flags & KEYFRAME != 0, flags & RUN_START != 0))
}

pub(super) fn encode_notes(e: &mut Encoder, notes: &[Note]) {
    let notes = notes.get(..NOTES_MAX).unwrap_or(notes);
    e.u8(notes.len() as u8);
    for note in notes {
        match *note {
            Note::Gap { from, to, cause } => {
                e.u8(1);
                e.u8(cause as u8);
                e.wall(from);
                e.wall(to);
            }
            Note::ClockStep { at, by_us } => {
                e.u8(2);
                e.wall(at);
                e.i64(by_us);
            }
            Note::PacketsLost { packets } => {
                e.u8(3);
                e.u32(packets);
            }
        }
    }
}

pub(super) fn decode_notes(d: &mut Decoder<'_>) -> Result<Vec<Note>, Malformed> {
    let count = usize::from(d.u8()?);
    if count > NOTES_MAX {
        return Err(Malformed("too many notes"));
    }
    let mut notes = Vec::with_capacity(count);
    for _ in 0..count {
        notes.push(match d.u8()? {
            1 => {
                let cause = GapCause::from_code(d.u8()?).ok_or(Malformed("unknown gap cause"))?;
                Note::Gap {
                    cause,
                    from: d.wall()?,
                    to: d.wall()?,
                }
            }
            2 => Note::ClockStep {
                at: d.wall()?,
                by_us: d.i64()?,
            },
            3 => Note::PacketsLost { packets: d.u32()? },
            _ => return Err(Malformed("unknown note")),
        });
    }
    Ok(notes)
}

impl Frame {
    fn encode(&self) -> Encoder {
        let mut e = Encoder(uuid::FRAGMENT.to_vec());
        e.u8(FORMAT_VERSION);
        e.u8(encode_flags(&self.entry));
        e.u8(self.entry.activity);
        e.u32(self.index);
        e.wall(self.entry.wall_start);
        e.u32(self.entry.wall_duration_us);
        e.u64(self.entry.media_start);
        e.u32(self.entry.media_duration);
        e.u32(self.body_len);
        e.i64(self.clock_offset_us.unwrap_or(OFFSET_UNKNOWN));
        e.hash(&self.data);
        e.hash(&self.prev);
        e.varint(self.sums.len() as u64);
        self.sums.iter().for_each(|sum| e.u64(*sum));
        encode_notes(&mut e, &self.entry.notes);
        e
    }

    /// Bytes that the box takes at least.
    pub(super) fn len_min(&self) -> usize {
        8 + self.encode().0.len() + LEAF_BYTES
    }

    /// The box in exactly `len` bytes, and its leaf. `moof` runs to the end of the header of `mdat`.
    pub(super) fn boxed(&self, len: usize, moof: &[u8]) -> (Vec<u8>, Sha256) {
        use sha2::Digest;
        debug_assert!(len >= self.len_min());
        let mut e = Encoder(Vec::with_capacity(len));
        e.u32(len as u32);
        e.bytes(b"uuid");
        e.bytes(&self.encode().0);
        e.0.resize(len - LEAF_BYTES, 0);
        let mut hash = sha2::Sha256::new();
        hash.update(e.0.get(8..).unwrap_or_default());
        hash.update(moof);
        let leaf = Sha256(hash.finalize().into());
        e.hash(&leaf);
        (e.0, leaf)
    }

    /// Reads the box at the front of `bytes`, which must reach to the samples, and checks its leaf.
    /// `offset` is where the box stands. Returns the length of the box and its leaf too.
    pub(super) fn parse(bytes: &[u8], offset: u64) -> Result<(Self, usize, Sha256), Malformed> {
        use sha2::Digest;
        let len = Self::peek_len(bytes)?;
        let whole = bytes.get(..len).ok_or(Malformed("fragment box is cut off"))?;
        let (hashed, leaf) = whole
            .split_at_checked(len - LEAF_BYTES)
            .ok_or(Malformed("fragment box too small"))?;
        let hashed = hashed.get(8..).unwrap_or_default();
        let leaf = Decoder(leaf).hash()?;
        let moof = Boxes(bytes.get(len..).unwrap_or_default())
            .next()
            .ok_or(Malformed("no moof"))??;
        let body_head = bytes
            .get(len..len + moof.whole.len() + 8)
            .ok_or(Malformed("no mdat"))?;
        let mut sha = sha2::Sha256::new();
        sha.update(hashed);
        sha.update(body_head);
        if &moof.kind != b"moof" || Sha256(sha.finalize().into()) != leaf {
            return Err(Malformed("the leaf of a fragment does not match"));
        }

        let mut d = Decoder(
            hashed
                .strip_prefix(&uuid::FRAGMENT)
                .ok_or(Malformed("not a fragment box"))?,
        );
        if d.u8()? != FORMAT_VERSION {
            return Err(Malformed("unknown version of the segment format"));
        }
        let (keyframe, run_start) = decode_flags(d.u8()?)?;
        let activity = d.u8()?;
        let index = d.u32()?;
        let (wall_start, wall_duration_us) = (d.wall()?, d.u32()?);
        let (media_start, media_duration) = (d.u64()?, d.u32()?);
        let body_len = d.u32()?;
        let clock_offset_us = Some(d.i64()?).filter(|v| *v != OFFSET_UNKNOWN);
        let (data, prev) = (d.hash()?, d.hash()?);
        let total = u32::try_from(len).ok().and_then(|l| l.checked_add(body_len));
        let total = total.ok_or(Malformed("fragment too large"))?;
        let blocks = d.varint()?;
        if blocks != padded(total.into()).div_ceil(SUM_BYTES as u64) || blocks > SUMS_MAX {
            return Err(Malformed("not one checksum a block"));
        }
        let sums = (0..blocks).map(|_| d.u64()).collect::<Result<_, _>>()?;
        let notes = decode_notes(&mut d)?;
        let entry = FragmentEntry {
            offset,
            len: total,
            wall_start,
            wall_duration_us,
            media_start,
            media_duration,
            keyframe,
            run_start,
            activity,
            notes,
        };
        Ok((
            Self {
                index,
                entry,
                body_len,
                clock_offset_us,
                data,
                prev,
                sums,
            },
            len,
            leaf,
        ))
    }

    /// The length of the box at the front of `bytes`, of which 24 are enough.
    pub(super) fn peek_len(bytes: &[u8]) -> Result<usize, Malformed> {
        let mut d = Decoder(bytes);
        let len = d.u32()? as usize;
        if d.bytes(4)? != b"uuid" || d.bytes(16)? != uuid::FRAGMENT {
            return Err(Malformed("not a fragment box"));
        }
        // Our boxes stay within the headroom of a fragment.
        if !(uuid::PREFIX_BYTES + LEAF_BYTES..=1 << 20).contains(&len) {
            return Err(Malformed("fragment box of impossible size"));
        }
        Ok(len)
    }
}
