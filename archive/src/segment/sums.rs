//! Checksums of a fragment's blocks: what lets any stretch of it be checked as it is read, at a twentieth of
//! what its SHA-256 costs.
//!
//! A fragment is cut into blocks of [`SUM_BYTES`] from its first byte. Each has a CRC-64/NVME over those of its
//! bytes that lie behind the header of `mdat`, padding included; what lies before is covered by the leaf.

use crc_fast::{CrcAlgorithm, Digest};

/// Bytes in a block, as in a slab: small enough that little is read beyond what was asked for.
pub(super) const SUM_BYTES: usize = 64 << 10;

/// Collects the checksums of the blocks while a fragment is filled.
pub(super) struct Summing {
    /// Of the blocks that are complete.
    done: Vec<u64>,
    /// The next byte, counted from the beginning of the fragment.
    at: usize,
    digest: Digest,
}

impl Summing {
    /// For content that begins `at` bytes into the fragment.
    pub(super) fn from(at: usize) -> Self {
        Self {
            // Blocks without content have the sum of nothing.
            done: vec![sum(&[]); at / SUM_BYTES],
            at,
            digest: Digest::new(CrcAlgorithm::Crc64Nvme),
        }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(SUM_BYTES - self.at % SUM_BYTES));
            self.digest.update(now);
            self.at += now.len();
            bytes = later;
            if self.at.is_multiple_of(SUM_BYTES) {
                self.done.push(self.digest.finalize());
                self.digest.reset();
            }
        }
    }

    pub(super) fn finish(mut self) -> Vec<u64> {
        if !self.at.is_multiple_of(SUM_BYTES) {
            self.done.push(self.digest.finalize());
        }
        self.done
    }
}

/// The checksum of one block's content.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_how_the_content_came() {
        let data: Vec<u8> = (0..300_000u32).map(|i| (i >> 3) as u8).collect();
        for start in [0, 1000, SUM_BYTES, SUM_BYTES + 5, 3 * SUM_BYTES] {
            let mut summing = Summing::from(start);
            data.chunks(7777).for_each(|c| summing.update(c));
            let sums = summing.finish();
            let mut whole = vec![0; start];
            whole.extend(&data);
            assert_eq!(sums.len(), whole.len().div_ceil(SUM_BYTES));
            for (i, (block, told)) in whole.chunks(SUM_BYTES).zip(&sums).enumerate() {
                let skip = start.saturating_sub(i * SUM_BYTES).min(block.len());
                assert_eq!(sum(&block[skip..]), *told, "block {i} from {start}");
            }
        }
    }

    #[test]
    fn the_sum_is_the_published_one() {
        assert_eq!(sum(b"123456789"), 0xae8b_1486_0a79_9888);
    }
}
