//! Values from the bytes of a fuzzer, for targets that take more than bytes.

/// The bytes that are left. Never runs out: behind the end everything is 0.
#[derive(Debug, Clone)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `n` bytes, or what is left.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(n.min(self.0.len()));
        self.0 = later;
        now
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut all = [0; N];
        let bytes = self.bytes(N);
        all.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        all
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.array())
    }
    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }
    /// Four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }
    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }
    /// Eight bytes.
    pub fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.array())
    }

    /// A number that is small more often than not: its first byte says how many bits it has.
    pub fn skewed(&mut self) -> u64 {
        let bits = u32::from(self.u8() % 65);
        self.u64().checked_shr(64 - bits).unwrap_or(0)
    }

    /// A signed number that is small more often than not.
    pub fn skewed_signed(&mut self) -> i64 {
        let v = self.skewed();
        ((v >> 1) as i64) ^ -((v & 1) as i64)
    }

    /// A piece behind its length, of at most `max` bytes.
    pub fn piece(&mut self, max: usize) -> &'a [u8] {
        let n = usize::from(self.u16()) % (max + 1);
        self.bytes(n)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(self.0.len())
    }
}
