//! NAL units as MP4 samples hold them.
#![deny(clippy::indexing_slicing)]

/// The first NAL unit of a sample, behind its length of four bytes, and what follows it; `None` at the end, and where
/// the unit is cut off.
pub(crate) fn split_first(sample: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = sample.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}
