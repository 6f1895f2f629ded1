//! Walks over boxes without trusting their sizes.
#![deny(clippy::indexing_slicing)]

use crate::codec::Decoder;
use crate::error::Malformed;

/// A box in a slice.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct BoxHeader<'a> {
    /// The four-character code.
    pub kind: [u8; 4],
    /// What is inside.
    pub content: &'a [u8],
    /// The whole box.
    pub whole: &'a [u8],
}

impl<'a> BoxHeader<'a> {
    /// Content behind version and flags, with these two.
    pub fn full(&self) -> Result<(u8, u32, Decoder<'a>), Malformed> {
        let mut d = Decoder(self.content);
        let word = d.u32()?;
        Ok(((word >> 24) as u8, word & 0x00ff_ffff, d))
    }

    /// The boxes inside.
    pub fn children(&self) -> Boxes<'a> {
        Boxes(self.content)
    }
}

/// The boxes in a slice, one after the other. Ends with an error at the first that does not fit.
#[derive(Clone, Debug)]
pub struct Boxes<'a>(pub &'a [u8]);

impl<'a> Boxes<'a> {
    fn read(&mut self) -> Result<BoxHeader<'a>, Malformed> {
        let all = self.0;
        let mut d = Decoder(all);
        let size = d.u32()?;
        let kind = d.u32()?.to_be_bytes();
        let (header, size) = match size {
            0 => (8, all.len() as u64),
            1 => (16, d.u64()?),
            n => (8, u64::from(n)),
        };
        let size = usize::try_from(size).map_err(|_| Malformed("box too large"))?;
        let (whole, rest) = all
            .split_at_checked(size)
            .ok_or(Malformed("box larger than its parent"))?;
        let content = whole
            .get(header..)
            .ok_or(Malformed("box smaller than its header"))?;
        self.0 = rest;
        Ok(BoxHeader { kind, content, whole })
    }

    /// The first box of this kind.
    pub fn find(self, kind: &[u8; 4]) -> Result<BoxHeader<'a>, Malformed> {
        for b in self {
            let b = b?;
            if &b.kind == kind {
                return Ok(b);
            }
        }
        Err(Malformed("a required box is missing"))
    }
}

impl<'a> Iterator for Boxes<'a> {
    type Item = Result<BoxHeader<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.0 = &[];
        }
        Some(read)
    }
}
