//! What a thinned segment says of the one that it was made of.
#![deny(clippy::indexing_slicing)]

#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;

use std::fmt;

use super::footer::FRAGMENTS_MAX;
use crate::codec::{Decoder, Encoder};
use crate::error::Malformed;
use crate::id::Sha256;
use crate::time::{TimeRange, WallTime};

/// What stays of the pictures of a thinned segment.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Keep {
    /// Keyframes.
    Keyframes,
    /// One whole GOP of so many, from the first of each run on; at least 2.
    EveryNthGop(u8),
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keyframes => f.write_str("keyframes"),
            Self::EveryNthGop(n) => write!(f, "every {n}. GOP"),
        }
    }
}

/// Where a thinned segment comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// What was to stay.
    pub keep: Keep,
    /// When it was thinned.
    pub at: WallTime,
    /// The bytes of the original.
    pub bytes: u64,
    /// The fragments of the original, in order. Never empty.
    pub fragments: Vec<OriginFragment>,
}

/// A fragment as it was recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OriginFragment {
    /// Its link of the hash chain.
    pub leaf: Sha256,
    /// The wall time that it covered.
    pub range: TimeRange,
    /// How many pictures it had.
    pub pictures: u32,
    /// How many of them are still there.
    pub kept: u32,
    /// Its bytes.
    pub len: u32,
}

impl Origin {
    /// The head of the original: what the next segment is chained to.
    pub fn head(&self) -> Sha256 {
        self.fragments.last().map(|f| f.leaf).unwrap_or_default()
    }

    pub(super) fn encode(&self, e: &mut Encoder) {
        e.u8(match self.keep {
            Keep::Keyframes => 1,
            Keep::EveryNthGop(n) => n.max(2),
        });
        e.wall(self.at);
        e.varint(self.bytes);
        e.varint(self.fragments.len() as u64);
        let mut last = 0;
        for f in &self.fragments {
            e.hash(&f.leaf);
            e.zigzag(f.range.from().micros() - last);
            e.varint(f.range.micros());
            e.varint(f.pictures.into());
            e.varint(f.kept.into());
            e.varint(f.len.into());
            last = f.range.to().micros();
        }
    }

    pub(super) fn decode(d: &mut Decoder<'_>) -> Result<Self, Malformed> {
        const TOO_LARGE: Malformed = Malformed("number too large");
        let keep = match d.u8()? {
            0 => return Err(Malformed("nothing was to stay")),
            1 => Keep::Keyframes,
            n => Keep::EveryNthGop(n),
        };
        let (at, bytes, count) = (d.wall()?, d.varint()?, d.varint()?);
        if count == 0 || count > FRAGMENTS_MAX {
            return Err(Malformed("an original of no or too many fragments"));
        }
        let mut fragments = Vec::new();
        let mut last = 0i64;
        for _ in 0..count {
            let leaf = d.hash()?;
            let from = last.checked_add(d.zigzag()?).ok_or(TOO_LARGE)?;
            let start = WallTime::from_micros(from);
            let range = TimeRange::starting(start, d.varint_u32()?.into());
            let (pictures, kept, len) = (d.varint_u32()?, d.varint_u32()?, d.varint_u32()?);
            if start.micros() != from || kept > pictures {
                return Err(TOO_LARGE);
            }
            last = range.to().micros();
            fragments.push(OriginFragment {
                leaf,
                range,
                pictures,
                kept,
                len,
            });
        }
        Ok(Self {
            keep,
            at,
            bytes,
            fragments,
        })
    }
}
