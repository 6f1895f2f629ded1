//! Random choices that can be repeated.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The environment variable that repeats an earlier run.
const SEED: &str = "TIERLINE_SEED";

/// A sequence of choices that its seed decides.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// A new sequence, whose seed is printed, or the one that the environment asks for.
    pub(crate) fn new() -> Self {
        let asked = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
        let seed = asked.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        println!("{SEED}={seed}");
        Self(seed)
    }

    /// The sequence of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A time from `from` to `to`, to the microsecond.
    pub(crate) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        from + Duration::from_micros(self.next() % (to - from).as_micros() as u64)
    }

    /// At most `n` of `all`, each at most once, in no order.
    pub(crate) fn some_of<T: Clone>(&mut self, all: &[T], n: usize) -> Vec<T> {
        let mut left = all.to_vec();
        let mut taken = Vec::new();
        while taken.len() < n && !left.is_empty() {
            let i = self.below(left.len());
            taken.push(left.swap_remove(i));
        }
        taken
    }
}
