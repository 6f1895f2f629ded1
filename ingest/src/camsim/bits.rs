//! A bit reader over the payload of a NAL unit.
#![deny(clippy::indexing_slicing)]

/// Reads bits, most significant first, and skips emulation prevention bytes (the 3 in `00 00 03`).
///
/// Every read returns `None` at the end of the data.
pub(super) struct Bits<'a> {
    rest: std::slice::Iter<'a, u8>,
    zeros: u32,
    current: u8,
    left: u32,
}

impl<'a> Bits<'a> {
    /// Reads what follows the NAL unit's header.
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self {
            rest: payload.iter(),
            zeros: 0,
            current: 0,
            left: 0,
        }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let mut byte = *self.rest.next()?;
        if self.zeros >= 2 && byte == 3 {
            self.zeros = 0;
            byte = *self.rest.next()?;
        }
        self.zeros = if byte == 0 { self.zeros + 1 } else { 0 };
        Some(byte)
    }

    /// One bit.
    pub(super) fn flag(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.current = self.next_byte()?;
            self.left = 8;
        }
        self.left -= 1;
        Some(self.current >> self.left & 1 == 1)
    }

    /// `count` bits (at most 32) as an unsigned number.
    pub(super) fn unsigned(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0_u32, |value, _| Some(value << 1 | u32::from(self.flag()?)))
    }

    /// Passes over `count` bits.
    pub(super) fn skip(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.flag().map(drop))
    }

    /// An Exp-Golomb coded unsigned number.
    pub(super) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let suffix = self.unsigned(zeros)?;
        Some((1_u32 << zeros) - 1 + suffix)
    }

    /// An Exp-Golomb coded signed number.
    pub(super) fn se(&mut self) -> Option<i64> {
        let code = i64::from(self.ue()?);
        Some(if code & 1 == 1 { code / 2 + 1 } else { -(code / 2) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_numbers_read_as_the_standard_says() {
        // 1 | 010 | 011 | 00100 | 00111 = 0, 1, 2, 3, 6
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0011, 0b1000_0000]);
        let read: Vec<_> = (0..5).map(|_| bits.ue()).collect();
        assert_eq!(read, [Some(0), Some(1), Some(2), Some(3), Some(6)]);
        let mut bits = Bits::new(&[0b0100_1100]);
        assert_eq!((bits.se(), bits.se()), (Some(1), Some(-1)));
    }

    #[test]
    fn emulation_prevention_bytes_are_skipped() {
        let mut bits = Bits::new(&[0, 0, 3, 1]);
        assert_eq!(bits.unsigned(24), Some(1));
        assert_eq!(bits.flag(), None);
    }
}
