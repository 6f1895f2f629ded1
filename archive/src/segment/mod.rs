//! Segments: `ftyp moov header [fragment]* samples footer mfra`, one file each. See `docs/segment-format.md`.

mod builder;
mod checked;
mod footer;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod header;
mod origin;
mod outline;
mod reader;
mod restore;
mod scan;
mod source;
mod sums;
mod thin;
mod verify;
mod writer;

pub use builder::{ClosedFragment, Closing, FragmentBuilder, hash_samples};
pub use checked::{CheckedReader, ReadFailure};
pub use footer::{Contents, Footer, FooterFragment};
pub use header::SegmentHeader;
pub use origin::{Keep, Origin, OriginFragment};
pub use reader::{Pace, SegmentReader};
pub use restore::{Restored, forget_half_restored, restore};
pub use scan::{Scan, ScannedFragment, Tail, scan, scan_tail};
pub use thin::{CarriedUnit, Thinned, Thinning, leans, thin};
pub use verify::{Verified, verify};
pub use writer::{Sealed, SegmentWriter, finish};

use crate::fragment::BLOCK_BYTES;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// The version of the format in the head and the boxes of fragments; the footer has its own.
pub const FORMAT_VERSION: u8 = 2;

/// The version of the header of a segment that was thinned; its fragments are like all others.
const THINNED_VERSION: u8 = 3;

/// The `uuid` types of our boxes, which players pass over.
mod uuid {
    pub(super) const HEADER: [u8; 16] = *b"tierline-segment";
    pub(super) const FRAGMENT: [u8; 16] = *b"tierlinefragment";
    pub(super) const SAMPLES: [u8; 16] = *b"tierline-samples";
    pub(super) const FOOTER: [u8; 16] = *b"tierlines-footer";
    pub(super) const TRAILER: [u8; 16] = *b"tierline-trailer";
    /// Behind the last sample of a thinned fragment.
    pub(super) const CARRIED: [u8; 16] = *b"tierline-sei-nal";
    /// Size, `uuid` and the type.
    pub(super) const PREFIX_BYTES: usize = 24;
}

/// The number of bytes from `len` to the next block boundary that a `free` box can fill.
fn padding(len: usize) -> usize {
    let pad = len.next_multiple_of(BLOCK_BYTES) - len;
    if pad == 0 || pad >= 8 {
        pad
    } else {
        pad + BLOCK_BYTES
    }
}

/// Where the next fragment begins after one that ends at `end`.
fn padded(end: u64) -> u64 {
    end.saturating_add(padding((end % BLOCK) as usize) as u64)
}

/// What stands behind `len` bytes up to the next block boundary: a `free` box, or nothing.
fn padding_box(len: usize) -> Vec<u8> {
    let len = padding(len);
    let mut pad = vec![0; len];
    if let Some(head) = pad.first_chunk_mut() {
        let [a, b, c, d] = (len as u32).to_be_bytes();
        *head = [a, b, c, d, b'f', b'r', b'e', b'e'];
    }
    pad
}

#[cfg(test)]
mod tests;
