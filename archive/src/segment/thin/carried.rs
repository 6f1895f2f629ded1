//! What is carried of pictures that went: the NAL units that a camera signed with, behind the last sample of the
//! fragment that stands for them.
#![deny(clippy::indexing_slicing)]

use crate::codec::{Decoder, Encoder};
use crate::error::{ArchiveError, Malformed};
use crate::fragment::FragmentEntry;
use crate::mp4::{BoxWriter, Boxes};
use crate::segment::{CheckedReader, ReadFailure, uuid};

/// The version of the box.
const VERSION: u8 = 1;

/// A NAL unit of a picture that is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CarriedUnit {
    /// The number of the fragment in the original segment.
    pub fragment: u32,
    /// The number of the picture in that fragment, in decode order.
    pub picture: u32,
    /// As the camera sent it, without start code or length.
    pub unit: Vec<u8>,
}

/// The box for `units`; nothing for none.
pub(super) fn boxed(units: &[CarriedUnit]) -> Vec<u8> {
    if units.is_empty() {
        return Vec::new();
    }
    let mut e = Encoder(uuid::CARRIED.to_vec());
    e.u8(VERSION);
    e.varint(units.len() as u64);
    for unit in units {
        e.varint(unit.fragment.into());
        e.varint(unit.picture.into());
        e.varint(unit.unit.len() as u64);
        e.bytes(&unit.unit);
    }
    let mut w = BoxWriter::default();
    w.boxed(b"uuid", |w| w.bytes(&e.0));
    w.0
}

/// Reads what [`boxed`] made.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<CarriedUnit>, Malformed> {
    let mut boxes = Boxes(bytes);
    let Some(first) = boxes.next() else {
        return Ok(Vec::new());
    };
    let content = first?
        .content
        .strip_prefix(&uuid::CARRIED)
        .ok_or(Malformed("no carried units behind the samples"))?;
    let mut d = Decoder(content);
    if d.u8()? != VERSION {
        return Err(Malformed("unknown version of carried units"));
    }
    let count = d.varint()?;
    let mut units = Vec::new();
    for _ in 0..count {
        let (fragment, picture, len) = (d.varint_u32()?, d.varint_u32()?, d.varint_u32()?);
        units.push(CarriedUnit {
            fragment,
            picture,
            unit: d.bytes(len as usize)?.to_vec(),
        });
    }
    d.end()?;
    match boxes.next() {
        None => Ok(units),
        Some(_) => Err(Malformed("something behind the carried units")),
    }
}

impl CheckedReader {
    /// What a fragment of a thinned segment carries of pictures that went.
    pub fn carried(&mut self, entry: &FragmentEntry) -> Result<Vec<CarriedUnit>, ReadFailure> {
        let tracks = self.unchecked().samples(entry)?;
        let samples_end = tracks.iter().map(|track| {
            let bytes: u64 = track.samples.iter().map(|s| u64::from(s.size)).sum();
            track.data_offset.saturating_add(bytes)
        });
        let end = entry.offset.saturating_add(entry.len.into());
        let from = samples_end.max().unwrap_or(end);
        if from >= end {
            return Ok(Vec::new());
        }
        let bytes = self.read(from..end)?.concat();
        let path = self.unchecked().path();
        parse(&bytes).map_err(|e| ArchiveError::corrupt(path, format!("{} (at byte {from})", e.0)).into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn carried_units_read_back(all in proptest::collection::vec((any::<u32>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..50)), 0..6)) {
            let units: Vec<_> = all.into_iter().map(|(fragment, picture, unit)| CarriedUnit { fragment, picture, unit }).collect();
            prop_assert_eq!(parse(&boxed(&units)), Ok(units));
        }

        #[test]
        fn damaged_boxes_never_panic(at: prop::sample::Index, to: u8, cut: prop::sample::Index) {
            let unit = CarriedUnit { fragment: 3, picture: 7, unit: vec![6, 5, 20] };
            let mut bytes = boxed(&[unit.clone(), unit]);
            let i = at.index(bytes.len());
            bytes[i] = to;
            bytes.truncate(cut.index(bytes.len()) + 1);
            let _ = parse(&bytes);
        }
    }
}
