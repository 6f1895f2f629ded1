//! Reads an unsealed segment fragment by fragment, as far as it is whole.

use sha2::Digest;

use super::sums::Summing;
use super::{FooterFragment, SegmentHeader, SegmentReader};
use crate::error::ArchiveError;
use crate::id::Sha256;
use crate::mp4::{InitSegment, parse_moof};

/// Samples are hashed in pieces of this.
const PIECE_BYTES: usize = 1 << 20;

/// A fragment found by a scan.
#[derive(Clone, Debug)]
pub struct ScannedFragment {
    /// What the footer will say of it.
    pub row: FooterFragment,
    /// Where its `moof` begins in the file.
    pub moof_offset: u64,
}

/// What stands in a segment file.
#[derive(Debug)]
pub struct Scan {
    /// Who the segment is.
    pub header: SegmentHeader,
    /// Its init segment.
    pub init: InitSegment,
    /// Every whole fragment, in order.
    pub fragments: Vec<ScannedFragment>,
    /// The length up to the end of the last whole fragment, in whole blocks.
    pub valid_len: u64,
    /// Why the scan stopped before the end of the file; `None` when only zeros or a footer follow.
    pub stopped: Option<String>,
}

/// What stands at the end of a segment file.
#[derive(Debug)]
pub struct Tail {
    /// Every whole fragment, in order.
    pub fragments: Vec<ScannedFragment>,
    /// The length up to the end of the last whole fragment, in whole blocks.
    pub valid_len: u64,
    /// Why the scan stopped before the end of the file.
    pub stopped: Option<String>,
}

/// Scans a segment. Samples of fragments at or behind `trust_until` are hashed; those before are taken
/// by their boxes, whose hashes are checked always.
pub fn scan(reader: &SegmentReader, trust_until: u64) -> Result<Scan, ArchiveError> {
    let (header, init, offset, head) = reader.head()?;
    let Tail {
        fragments,
        valid_len,
        stopped,
    } = scan_tail(reader, offset, 0, head, trust_until)?;
    Ok(Scan {
        header,
        init,
        fragments,
        valid_len,
        stopped,
    })
}

/// Scans the end of a segment: from `offset`, where the fragment number `index` is expected, chained to
/// `head`. The rest is as with [`scan`].
pub fn scan_tail(
    reader: &SegmentReader,
    mut offset: u64,
    index: u32,
    mut head: Sha256,
    trust_until: u64,
) -> Result<Tail, ArchiveError> {
    let len = reader.len()?;
    let mut fragments: Vec<ScannedFragment> = Vec::new();
    let mut stopped = None;
    while offset < len {
        let next = index + fragments.len() as u32;
        match scan_one(reader, offset, len, next, head, offset >= trust_until) {
            Ok(f) => {
                head = f.row.leaf;
                offset = super::padded(offset + u64::from(f.row.entry.len));
                fragments.push(f);
            }
            // What cannot be read now is not damaged.
            Err(e @ (ArchiveError::Io { .. } | ArchiveError::Store(_))) => return Err(e),
            Err(e) => {
                stopped = Some(e.to_string());
                break;
            }
        }
    }
    Ok(Tail {
        fragments,
        valid_len: offset.min(len),
        stopped,
    })
}

fn scan_one(
    reader: &SegmentReader,
    offset: u64,
    len: u64,
    index: u32,
    prev: Sha256,
    hash: bool,
) -> Result<ScannedFragment, ArchiveError> {
    let bad = |what| reader.malformed(offset, &crate::error::Malformed(what));
    let (frame, box_len, leaf, bytes) = reader.frame(offset, len)?;
    if frame.index != index || frame.prev != prev {
        return Err(bad("a fragment is not chained to the one before it"));
    }
    if super::padded(offset + u64::from(frame.entry.len)) > len {
        return Err(bad("a fragment is cut off"));
    }
    if hash {
        let end = offset + u64::from(frame.entry.len);
        let data_start = bytes.len();
        let (data, sums) = hash_content(reader, offset + data_start as u64..end, data_start)?;
        if data != frame.data {
            return Err(bad("the samples of a fragment do not match their hash"));
        }
        if sums != frame.sums {
            return Err(bad("the padding of a fragment is not what was written"));
        }
    }
    let moof_offset = offset + box_len as u64;
    let tracks = parse_moof(bytes.get(box_len..).unwrap_or_default(), moof_offset);
    let tracks = tracks.map_err(|e| reader.malformed(moof_offset, &e))?;
    let row = FooterFragment {
        entry: frame.entry,
        leaf,
        clock_offset_us: frame.clock_offset_us,
        tracks,
    };
    Ok(ScannedFragment { row, moof_offset })
}

/// The SHA-256 of the samples in `range` of the file, and the checksums of the blocks that they and the padding
/// behind them fill. They begin `data_start` bytes into their fragment.
fn hash_content(
    reader: &SegmentReader,
    mut range: std::ops::Range<u64>,
    data_start: usize,
) -> Result<(Sha256, Vec<u64>), ArchiveError> {
    let mut hash = sha2::Sha256::new();
    let mut sums = Summing::from(data_start);
    let padding = range.end..super::padded(range.end);
    while range.start < range.end {
        let n = (range.end - range.start).min(PIECE_BYTES as u64);
        let piece = reader.read_aligned(range.start, n as usize)?;
        hash.update(&piece);
        sums.update(&piece);
        range.start += n;
    }
    if !padding.is_empty() {
        sums.update(&reader.read_aligned(padding.start, (padding.end - padding.start) as usize)?);
    }
    Ok((Sha256(hash.finalize().into()), sums.finish()))
}
