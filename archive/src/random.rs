//! Randomness of the system, and names made of it.

use std::fs::File;
use std::io::{self, Read};

use crate::time::WallTime;

/// Bytes that nobody can guess.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Random bytes in a name.
pub const NAME_BYTES: usize = 10;

/// A name of 26 letters and digits that nothing else has: 48 bits of milliseconds, then 80 random ones, in Crockford's
/// base 32. Names sort by the time at which they were made.
pub fn sortable_name(now: WallTime, random: [u8; NAME_BYTES]) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let millis = (now.micros() / 1000).unsigned_abs();
    let number = random
        .iter()
        .fold(u128::from(millis), |number, byte| number << 8 | u128::from(*byte));
    let digit = |place: u32| DIGITS.get((number >> (5 * place) & 31) as usize);
    (0..26)
        .rev()
        .filter_map(digit)
        .map(|digit| char::from(*digit))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_their_time_and_can_be_told_apart() {
        let at = |ms: i64| WallTime::from_micros(1_800_000_000_000_000 + ms * 1000);
        let (low, high) = ([0; NAME_BYTES], [255; NAME_BYTES]);
        assert!(sortable_name(at(0), high) < sortable_name(at(1), low));
        assert!(sortable_name(at(0), low) < sortable_name(at(0), high));
        assert_eq!(sortable_name(WallTime::MIN, low), "0".repeat(26));
        let name = sortable_name(WallTime::MAX, random().expect("random bytes"));
        assert_eq!(name.len(), 26);
        assert_ne!(random::<16>().ok(), random::<16>().ok());
    }
}
