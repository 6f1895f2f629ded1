//! Presentation order of the pictures of a raw stream, from their picture order counts.
//!
//! A raw stream carries no times. Without B-frames presentation order is decoding order; with them the
//! slice headers say where each picture belongs.
#![deny(clippy::indexing_slicing)]

use super::annexb::AccessUnit;
use super::codec::{Codec, Role};
use super::{h264, h265};

/// The picture order count of one picture, as far as its slice header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    /// Low bits of the count; `None` where the stream promises that output order is decoding order.
    pub(super) lsb: Option<Lsb>,
    /// Counts start anew with this picture.
    pub(super) resets: bool,
    /// Later counts are relative to this picture's.
    pub(super) is_reference: bool,
}

/// The low `bits` of a picture order count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lsb {
    /// The value.
    pub(super) value: u32,
    /// How many bits the value has, 4 to 16.
    pub(super) bits: u32,
}

/// For every access unit, its place in presentation order.
///
/// # Errors
/// A sentence for the user when the stream's order cannot be determined.
pub(super) fn presentation(codec: Codec, units: &[AccessUnit]) -> Result<Vec<usize>, String> {
    let mut h264 = h264::Reader::default();
    let mut h265 = h265::Reader::default();
    let mut counts: Vec<(u64, i64)> = Vec::with_capacity(units.len());
    let (mut sequence, mut reference) = (0_u64, 0_i64);
    for (at, unit) in units.iter().enumerate() {
        let mut order = None;
        for nal in unit {
            match codec.role(nal) {
                role if role.is_parameter_set() => match codec {
                    Codec::H264 => h264.parameter_set(role, nal)?,
                    Codec::H265 => h265.parameter_set(role, nal)?,
                },
                Role::Slice { first: true, .. } if order.is_none() => {
                    order = Some(match codec {
                        Codec::H264 => h264.order(nal)?,
                        Codec::H265 => h265.order(nal)?,
                    });
                }
                _ => {}
            }
        }
        let order = order.ok_or_else(|| format!("access unit {at} holds no picture"))?;
        if order.resets {
            sequence += 1;
            reference = 0;
        }
        let count = match order.lsb {
            Some(lsb) => nearest(reference, lsb),
            None => i64::try_from(at).unwrap_or(i64::MAX),
        };
        if order.is_reference {
            reference = count;
        }
        counts.push((sequence, count));
    }
    let mut shown: Vec<usize> = (0..units.len()).collect();
    shown.sort_by_key(|&unit| counts.get(unit).copied());
    let mut place = vec![0; units.len()];
    for (rank, &unit) in shown.iter().enumerate() {
        if let Some(slot) = place.get_mut(unit) {
            *slot = rank;
        }
    }
    Ok(place)
}

/// The count with these low bits that lies closest to `reference`.
fn nearest(reference: i64, lsb: Lsb) -> i64 {
    let span = 1_i64 << lsb.bits;
    let low = i64::from(lsb.value);
    let high = reference - reference.rem_euclid(span);
    let count = high + low;
    if count - reference > span / 2 {
        count - span
    } else if reference - count >= span / 2 {
        count + span
    } else {
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_bits_unwrap_to_the_count_next_to_the_reference() {
        let lsb = |value| Lsb { value, bits: 4 };
        assert_eq!(nearest(0, lsb(2)), 2);
        assert_eq!(nearest(14, lsb(0)), 16);
        assert_eq!(nearest(16, lsb(14)), 14);
        assert_eq!(nearest(0, lsb(15)), -1);
        assert_eq!(nearest(35, lsb(6)), 38);
    }
}
