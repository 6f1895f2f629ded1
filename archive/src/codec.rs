//! Numbers and texts in our own boxes and index rows: big-endian and LEB128, every read bounded.
#![deny(clippy::indexing_slicing)]

use crate::error::Malformed;
use crate::id::Sha256;
use crate::time::WallTime;

/// Appends numbers and texts to a byte vector.
#[derive(Debug, Default)]
pub struct Encoder(pub Vec<u8>);

impl Encoder {
    /// One byte.
    pub fn u8(&mut self, v: u8) {
        self.0.push(v);
    }
    /// Two bytes, big-endian.
    pub fn u16(&mut self, v: u16) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }
    /// Four bytes, big-endian.
    pub fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }
    /// Eight bytes, big-endian.
    pub fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }
    /// Eight bytes, big-endian.
    pub fn i64(&mut self, v: i64) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }
    /// As it is.
    pub fn bytes(&mut self, v: &[u8]) {
        self.0.extend_from_slice(v);
    }
    /// The 32 bytes of a digest.
    pub fn hash(&mut self, v: &Sha256) {
        self.bytes(&v.0);
    }
    /// Microseconds since 1970 in eight bytes.
    pub fn wall(&mut self, v: WallTime) {
        self.i64(v.micros());
    }
    /// LEB128.
    pub fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.0.push((v as u8) | 0x80);
            v >>= 7;
        }
        self.0.push(v as u8);
    }
    /// A signed number, zigzag in LEB128.
    pub fn zigzag(&mut self, v: i64) {
        self.varint(((v << 1) ^ (v >> 63)) as u64);
    }
    /// A text of at most 255 bytes behind its length.
    pub fn short_str(&mut self, v: &str) {
        let n = v.len().min(255);
        self.u8(n as u8);
        self.0.extend(v.bytes().take(n));
    }
}

/// Reads what [`Encoder`] wrote. Every read fails rather than runs over the end.
#[derive(Debug, Clone)]
pub struct Decoder<'a>(pub &'a [u8]);

impl<'a> Decoder<'a> {
    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (now, later) = self.0.split_at_checked(n).ok_or(Malformed("unexpected end"))?;
        self.0 = later;
        Ok(now)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (now, later) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(Malformed("unexpected end"))?;
        self.0 = later;
        Ok(*now)
    }
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[b]| b)
    }
    /// Two bytes, big-endian.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }
    /// Four bytes, big-endian.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }
    /// Eight bytes, big-endian.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }
    /// Eight bytes, big-endian.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }
    /// 32 bytes.
    pub fn hash(&mut self) -> Result<Sha256, Malformed> {
        self.array().map(Sha256)
    }
    /// Microseconds since 1970 in eight bytes.
    pub fn wall(&mut self) -> Result<WallTime, Malformed> {
        let micros = self.i64()?;
        let at = WallTime::from_micros(micros);
        if at.micros() == micros {
            Ok(at)
        } else {
            Err(Malformed("time out of range"))
        }
    }
    /// LEB128 of at most 64 bits.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut v = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.u8()?;
            if shift == 63 && b > 1 {
                return Err(Malformed("number too large"));
            }
            v |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                return Ok(v);
            }
        }
        Err(Malformed("number too long"))
    }
    /// LEB128 that fits 32 bits.
    pub fn varint_u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.varint()?).map_err(|_| Malformed("number too large"))
    }
    /// A signed number, zigzag in LEB128.
    pub fn zigzag(&mut self) -> Result<i64, Malformed> {
        let v = self.varint()?;
        Ok(((v >> 1) as i64) ^ -((v & 1) as i64))
    }
    /// A text of at most 255 bytes behind its length.
    pub fn short_str(&mut self) -> Result<&'a str, Malformed> {
        let n = self.u8()?;
        std::str::from_utf8(self.bytes(n.into())?).map_err(|_| Malformed("text is not UTF-8"))
    }
    /// Fails unless everything was read.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed("unexpected bytes behind the end"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_read_back(a in any::<u64>(), b in any::<i64>(), s in "[a-z]{0,20}") {
            let mut e = Encoder::default();
            e.varint(a);
            e.zigzag(b);
            e.short_str(&s);
            let mut d = Decoder(&e.0);
            prop_assert_eq!(d.varint(), Ok(a));
            prop_assert_eq!(d.zigzag(), Ok(b));
            prop_assert_eq!(d.short_str(), Ok(s.as_str()));
            prop_assert!(d.end().is_ok());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut d = Decoder(&bytes);
            while d.varint().is_ok() {}
            let _ = Decoder(&bytes).short_str();
        }
    }
}
