//! Finds what a camera signed its pictures with: SEI messages of ONVIF Media Signing.
#![deny(clippy::indexing_slicing)]

use crate::mp4::Track;

/// `user_data_unregistered` messages with this UUID are signatures and certificates.
pub(super) const SIGNING: [u8; 16] = [
    0x00, 0x5b, 0xc9, 0x3f, 0x2d, 0x71, 0x5e, 0x95, 0xad, 0xa4, 0x79, 0x6f, 0x90, 0x87, 0x7a, 0x6f,
];
const USER_DATA_UNREGISTERED: usize = 5;

/// How pictures are coded.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Coding {
    H264,
    H265,
    Other,
}

impl Coding {
    pub(super) fn of(track: &Track) -> Self {
        match track.sample_entry.get(4..8) {
            Some(b"avc1" | b"avc3") => Self::H264,
            Some(b"hvc1" | b"hev1") => Self::H265,
            _ => Self::Other,
        }
    }

    /// What is behind the header of a NAL unit of SEI.
    fn sei(self, unit: &[u8]) -> Option<&[u8]> {
        let first = *unit.first()?;
        match self {
            Self::H264 if first & 0x1f == 6 => unit.get(1..),
            Self::H265 if matches!(first >> 1 & 0x3f, 39 | 40) => unit.get(2..),
            _ => None,
        }
    }

    /// The whole NAL units of a sample that hold a signature.
    pub(super) fn signatures(self, sample: &[u8]) -> impl Iterator<Item = &[u8]> {
        let mut rest = sample;
        let units = std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk()?;
            let (unit, behind) = behind.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            rest = behind;
            Some(unit)
        });
        units.filter(move |unit| self.sei(unit).is_some_and(is_signature))
    }
}

/// Whether any of the messages is one.
fn is_signature(messages: &[u8]) -> bool {
    let mut bytes = Unescaped {
        bytes: messages,
        zeros: 0,
    };
    while let (Some(kind), Some(size)) = (number(&mut bytes), number(&mut bytes)) {
        let mut left = size;
        if kind == USER_DATA_UNREGISTERED && size >= SIGNING.len() {
            left -= SIGNING.len();
            // All of them are taken, also when the first differs.
            let same = SIGNING.iter().filter(|byte| bytes.next() == Some(**byte)).count();
            if same == SIGNING.len() {
                return true;
            }
        }
        if left > 0 && bytes.nth(left - 1).is_none() {
            return false;
        }
    }
    false
}

/// A number as types and sizes of messages are written: a byte, with 255 more for each 0xff before it.
fn number(bytes: &mut impl Iterator<Item = u8>) -> Option<usize> {
    let mut sum = 0usize;
    loop {
        let byte = bytes.next()?;
        sum = sum.saturating_add(byte.into());
        if byte != 0xff {
            return Some(sum);
        }
    }
}

/// The bytes of a NAL unit without those that only keep it from looking like the beginning of another.
struct Unescaped<'a> {
    bytes: &'a [u8],
    zeros: u8,
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (mut byte, mut rest) = self.bytes.split_first()?;
        if self.zeros >= 2 && *byte == 3 {
            self.zeros = 0;
            (byte, rest) = rest.split_first()?;
        }
        self.bytes = rest;
        self.zeros = if *byte == 0 {
            self.zeros.saturating_add(1)
        } else {
            0
        };
        Some(*byte)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A NAL unit of SEI with a signature of `bytes` behind another message.
    pub(in crate::segment::thin) fn signed(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut unit = match coding {
            Coding::H265 => vec![39 << 1, 1],
            _ => vec![6],
        };
        unit.extend([1, 2, 0xaa, 0xbb]);
        unit.push(5);
        let mut size = 16 + bytes.len();
        while size >= 255 {
            unit.push(255);
            size -= 255;
        }
        unit.push(size as u8);
        unit.extend(SIGNING);
        unit.extend(bytes);
        unit.push(0x80);
        unit
    }

    pub(in crate::segment::thin) fn sample(units: &[&[u8]]) -> Vec<u8> {
        let framed = units
            .iter()
            .map(|unit| [&(unit.len() as u32).to_be_bytes(), *unit].concat());
        framed.collect::<Vec<_>>().concat()
    }

    #[test]
    fn signatures_are_found_among_other_units_and_messages() {
        for coding in [Coding::H264, Coding::H265] {
            let (short, long) = (signed(coding, &[7; 40]), signed(coding, &[9; 700]));
            let mut other = signed(coding, &[7; 40]);
            other[9] ^= 1;
            let picture = [0x41, 5, 0, 5, 0xc9];
            let sample = sample(&[&short, &picture, &other, &long]);
            let found: Vec<_> = coding.signatures(&sample).collect();
            assert_eq!(found, [&short[..], &long[..]], "{coding:?}");
        }
        assert_eq!(
            Coding::Other
                .signatures(&sample(&[&signed(Coding::H264, &[])]))
                .count(),
            0
        );
    }

    #[test]
    fn bytes_that_were_put_in_to_escape_others_are_passed_over() {
        // A first message that ends with zeros, so that what follows had to be escaped.
        let mut unit = vec![6, 4, 3, 0, 0, 3, 1, 5, 16];
        unit.extend(SIGNING);
        unit.push(0x80);
        let sample = sample(&[&unit]);
        assert_eq!(Coding::H264.signatures(&sample).count(), 1);
    }

    proptest! {
        #[test]
        fn whatever_a_camera_sends_is_walked_to_its_end(bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(3), Just(5), Just(6), Just(255), any::<u8>()], 0..200)) {
            for coding in [Coding::H264, Coding::H265] {
                let _ = coding.signatures(&bytes).count();
                let _ = coding.signatures(&sample(&[&[&[6][..], &bytes].concat()])).count();
            }
        }
    }
}
