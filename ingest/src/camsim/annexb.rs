//! Splits an Annex B byte stream into NAL units and these into access units.
#![deny(clippy::indexing_slicing)]

use super::codec::{Codec, Role};

/// The NAL units of one coded picture, in stream order, without start codes.
pub(super) type AccessUnit = Vec<Vec<u8>>;

/// The NAL units of `stream`, without start codes and without the zero bytes that may trail them.
pub(super) fn nal_units(stream: &[u8]) -> Vec<&[u8]> {
    let mut starts = Vec::new();
    let mut zeros = 0_usize;
    for (at, &byte) in stream.iter().enumerate() {
        match byte {
            0 => zeros += 1,
            1 if zeros >= 2 => {
                starts.push((at - 2, at + 1));
                zeros = 0;
            }
            _ => zeros = 0,
        }
    }
    let ends = starts.iter().skip(1).map(|&(code, _)| code).chain([stream.len()]);
    let spans = starts.iter().map(|&(_, body)| body).zip(ends);
    spans
        .filter_map(|(from, to)| stream.get(from..to))
        .map(without_trailing_zeros)
        .filter(|nal| !nal.is_empty())
        .collect()
}

/// Groups NAL units into access units: a new one starts with the first slice of a picture, or with
/// anything that must precede slices, once the current unit holds a slice. Delimiters are not needed.
pub(super) fn access_units(codec: Codec, nals: &[&[u8]]) -> Vec<AccessUnit> {
    let mut units: Vec<AccessUnit> = Vec::new();
    let mut has_slice = true;
    for nal in nals {
        let role = codec.role(nal);
        let starts = match role {
            Role::Slice { first, .. } => first,
            Role::Trailing => false,
            _ => true,
        };
        match units.last_mut() {
            Some(unit) if !(starts && has_slice) => unit.push(nal.to_vec()),
            _ => {
                units.push(vec![nal.to_vec()]);
                has_slice = false;
            }
        }
        has_slice |= matches!(role, Role::Slice { .. });
    }
    units
}

fn without_trailing_zeros(mut nal: &[u8]) -> &[u8] {
    while let [head @ .., 0] = nal {
        nal = head;
    }
    nal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_codes_of_both_lengths_and_trailing_zeros_are_removed() {
        let stream = [
            0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x65, 0x88, 0, 0, 0, 0, 0, 1, 0x41, 0x9a,
        ];
        let expected: Vec<&[u8]> = vec![&[9, 0xf0], &[0x65, 0x88], &[0x41, 0x9a]];
        assert_eq!(nal_units(&stream), expected);
        assert!(nal_units(&[]).is_empty());
        assert!(nal_units(&[0, 0, 1]).is_empty());
    }

    #[test]
    fn pictures_are_told_apart_without_delimiters() {
        let (sps, pps, idr, idr_second_slice, p) = (
            &[0x67, 1][..],
            &[0x68, 1][..],
            &[0x65, 0x80][..],
            &[0x65, 0x40][..],
            &[0x41, 0x80][..],
        );
        let filler = &[0x0c, 0xff][..];
        let units = access_units(
            Codec::H264,
            &[sps, pps, idr, idr_second_slice, filler, p, p, sps, pps, idr],
        );
        assert_eq!(units.iter().map(Vec::len).collect::<Vec<_>>(), [5, 1, 1, 3]);
    }
}
