//! H.264 that never sends an IDR picture after its first: open GOPs, and intra refresh. Such cameras mark where
//! decoding may begin with a recovery point message, and without heeding it nothing of them would be recorded.
//! Where a picture is refreshed piece by piece, a player that begins there shows it whole only some pictures later.
#![deny(clippy::indexing_slicing)]

use crate::nal;

const NAL_SLICE: u8 = 1;
const NAL_SEI: u8 = 6;
/// The payload type of a recovery point.
const RECOVERY_POINT: usize = 6;
/// Messages of one access unit that are looked at.
const MESSAGES_MAX: usize = 64;

/// Whether an access unit, its NAL units behind lengths of four bytes, says that decoding may begin at it.
pub(super) fn has(mut unit: &[u8]) -> bool {
    while let Some((nal, rest)) = nal::split_first(unit) {
        match nal.split_first().map(|(header, body)| (header & 0x1f, body)) {
            Some((NAL_SEI, body)) if is_among(body) => return true,
            // Messages stand before the picture.
            Some((NAL_SLICE..=5, _)) => return false,
            _ => {}
        }
        unit = rest;
    }
    false
}

/// Whether one of the messages of a SEI NAL unit is a recovery point. Sizes do not count the bytes that keep
/// start codes from appearing.
fn is_among(body: &[u8]) -> bool {
    let mut zeros = 0;
    let mut bytes = body.iter().copied().filter(move |b| {
        let keeps_apart = zeros >= 2 && *b == 3;
        zeros = if *b == 0 { zeros + 1 } else { 0 };
        !keeps_apart
    });
    for _ in 0..MESSAGES_MAX {
        let (Some(kind), Some(size)) = (number(&mut bytes), number(&mut bytes)) else {
            return false;
        };
        if kind == RECOVERY_POINT && size > 0 {
            return true;
        }
        if size > 0 && bytes.nth(size - 1).is_none() {
            return false;
        }
    }
    false
}

/// A number in steps of 255.
fn number(bytes: &mut impl Iterator<Item = u8>) -> Option<usize> {
    let mut sum = 0_usize;
    loop {
        let b = bytes.next()?;
        sum = sum.saturating_add(b.into());
        if b != 0xff {
            return Some(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(nals: &[&[u8]]) -> Vec<u8> {
        let nal = |nal: &&[u8]| [&(nal.len() as u32).to_be_bytes()[..], nal].concat();
        nals.iter().flat_map(nal).collect()
    }

    #[test]
    fn a_recovery_point_is_found_among_other_messages_before_the_picture() {
        // Delimiter, a user message of 300 bytes with zeros in it, a recovery point, a picture that is no IDR.
        let mut user = vec![0x06, 5, 0xff, 45];
        user.extend([0, 0, 3].repeat(150));
        user.extend([6, 1, 0xc4, 0x80]);
        assert!(has(&unit(&[&[9, 0xf0], &user, &[0x41, 0x9a]])));
        assert!(has(&unit(&[&[6, 6, 1, 0xc4, 0x80], &[0x41, 0x9a]])));
    }

    #[test]
    fn other_messages_and_what_stands_behind_the_picture_are_none() {
        assert!(!has(&unit(&[&[6, 5, 3, 6, 1, 0xc4, 0x80], &[0x41, 0x9a]])));
        assert!(!has(&unit(&[&[0x41, 0x9a], &[6, 6, 1, 0xc4, 0x80]])));
        assert!(!has(&[0, 0, 0, 9, 6, 6, 1]) && !has(&[]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(prop_oneof![Just(0), Just(6), Just(255), any::<u8>()], 0..200)) {
            has(&bytes);
            has(&unit(&[&bytes]));
        }
    }
}
