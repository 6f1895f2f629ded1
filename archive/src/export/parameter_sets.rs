//! Parameter sets as they stand in sample entries.
#![deny(clippy::indexing_slicing)]

use bytes::Bytes;

use crate::codec::Decoder;
use crate::error::Malformed;
use crate::mp4::Boxes;

/// What comes before the boxes in a visual sample entry: its header and its fixed fields.
const VISUAL_FIELDS_BYTES: usize = 8 + 78;

/// The parameter sets of an H.264 or H.265 sample entry as NAL units with their lengths in front, the way
/// they may stand in a sample. Empty for other codecs, and where they cannot be read.
pub fn in_band(sample_entry: &[u8]) -> Bytes {
    let boxes = || Boxes(sample_entry.get(VISUAL_FIELDS_BYTES..).unwrap_or_default());
    let sets = match (boxes().find(b"avcC"), boxes().find(b"hvcC")) {
        (Ok(avc), _) => from_avcc(avc.content),
        (_, Ok(hevc)) => from_hvcc(hevc.content),
        _ => Ok(Vec::new()),
    };
    sets.unwrap_or_default().into()
}

fn from_avcc(config: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut d = Decoder(config);
    d.bytes(4)?;
    let length_bytes = usize::from(d.u8()? & 3) + 1;
    let mut out = Vec::new();
    let sequence_sets = d.u8()? & 0x1f;
    nal_units(&mut d, sequence_sets.into(), length_bytes, &mut out)?;
    let picture_sets = d.u8()?;
    nal_units(&mut d, picture_sets.into(), length_bytes, &mut out)?;
    Ok(out)
}

fn from_hvcc(config: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut d = Decoder(config);
    d.bytes(21)?;
    let length_bytes = usize::from(d.u8()? & 3) + 1;
    let mut out = Vec::new();
    for _ in 0..d.u8()? {
        d.u8()?;
        let count = d.u16()?;
        nal_units(&mut d, count, length_bytes, &mut out)?;
    }
    Ok(out)
}

/// Copies `count` units, each with its length in `length_bytes` bytes.
fn nal_units(
    d: &mut Decoder<'_>,
    count: u16,
    length_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    for _ in 0..count {
        let len = d.u16()?;
        let field = u32::from(len).to_be_bytes();
        let (unused, length) = field
            .split_at_checked(4 - length_bytes)
            .ok_or(Malformed("length of lengths"))?;
        if unused.iter().any(|b| *b != 0) {
            return Err(Malformed("parameter set longer than its length can say"));
        }
        out.extend_from_slice(length);
        out.extend_from_slice(d.bytes(len.into())?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mp4::BoxWriter;

    fn entry(kind: &[u8; 4], config: &[u8]) -> Vec<u8> {
        let mut w = BoxWriter::default();
        w.boxed(b"vide", |w| {
            w.zeros(78);
            w.boxed(b"pasp", |w| w.zeros(8));
            w.boxed(kind, |w| w.bytes(config));
        });
        w.0
    }

    #[test]
    fn h264_sets_come_with_the_length_of_the_stream() {
        let config = [
            1, 0x4d, 0x40, 0x1f, 0xff, 0xe1, 0, 3, 0x67, 1, 2, 1, 0, 2, 0x68, 3,
        ];
        assert_eq!(
            in_band(&entry(b"avcC", &config)),
            &[0, 0, 0, 3, 0x67, 1, 2, 0, 0, 0, 2, 0x68, 3][..]
        );
        let mut short = config;
        short[4] = 0xfd;
        assert_eq!(
            in_band(&entry(b"avcC", &short)),
            &[0, 3, 0x67, 1, 2, 0, 2, 0x68, 3][..]
        );
    }

    #[test]
    fn h265_sets_of_all_arrays_are_taken() {
        let mut config = vec![0; 21];
        config.extend([0xf3, 2, 0x20, 0, 1, 0, 2, 0x40, 1, 0x21, 0, 1, 0, 1, 0x42]);
        assert_eq!(
            in_band(&entry(b"hvcC", &config)),
            &[0, 0, 0, 2, 0x40, 1, 0, 0, 0, 1, 0x42][..]
        );
    }

    #[test]
    fn what_cannot_be_read_gives_none() {
        assert!(in_band(b"").is_empty());
        assert!(in_band(&entry(b"avcC", &[1, 2, 3])).is_empty());
        assert!(in_band(&entry(b"vpcC", &[0; 8])).is_empty());
    }
}
