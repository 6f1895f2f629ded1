//! What stands at the beginning of a segment file, behind the init segment.
#![deny(clippy::indexing_slicing)]

use super::{FORMAT_VERSION, THINNED_VERSION, padding, padding_box, uuid};
use crate::codec::{Decoder, Encoder};
use crate::error::Malformed;
use crate::id::{Epoch, Sha256, StreamId};
use crate::layout::SegmentName;
use crate::mp4::{BoxWriter, Boxes, InitSegment};
use crate::time::WallTime;

/// Who a segment is, and what stands before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Whose segment.
    pub stream: StreamId,
    /// Its place among the segments of its stream.
    pub seq: u64,
    /// Which opening of the archive wrote it.
    pub epoch: Epoch,
    /// When its first fragment begins.
    pub wall_start: WallTime,
    /// The head of the segment before it; zeros when there is none.
    pub prev: Sha256,
    /// The hash of the init segment that it begins with.
    pub init: Sha256,
    /// How often it was thinned; 0 as it was recorded.
    pub generation: u8,
}

impl SegmentHeader {
    /// What the segment is called.
    pub fn name(&self) -> SegmentName {
        SegmentName {
            start: self.wall_start,
            seq: self.seq,
            epoch: self.epoch,
            generation: self.generation,
        }
    }

    pub(super) fn encode(&self, e: &mut Encoder) {
        e.u8(match self.generation {
            0 => FORMAT_VERSION,
            _ => THINNED_VERSION,
        });
        e.short_str(self.stream.tenant.as_str());
        e.short_str(self.stream.camera.as_str());
        e.short_str(self.stream.stream.as_str());
        e.u64(self.seq);
        e.u32(self.epoch.0);
        e.wall(self.wall_start);
        e.hash(&self.prev);
        e.hash(&self.init);
        if self.generation > 0 {
            e.u8(self.generation);
        }
    }

    pub(super) fn decode(d: &mut Decoder<'_>) -> Result<Self, Malformed> {
        const BAD_ID: Malformed = Malformed("not an id");
        let version = d.u8()?;
        if version != FORMAT_VERSION && version != THINNED_VERSION {
            return Err(Malformed("unknown version of the segment format"));
        }
        let stream = StreamId {
            tenant: d.short_str()?.parse().map_err(|_| BAD_ID)?,
            camera: d.short_str()?.parse().map_err(|_| BAD_ID)?,
            stream: d.short_str()?.parse().map_err(|_| BAD_ID)?,
        };
        let (seq, epoch, wall_start) = (d.u64()?, Epoch(d.u32()?), d.wall()?);
        let (prev, init) = (d.hash()?, d.hash()?);
        let generation = if version == THINNED_VERSION { d.u8()? } else { 0 };
        if seq == u64::MAX {
            return Err(Malformed("a sequence that none can follow"));
        }
        if (generation > 0) != (version == THINNED_VERSION) {
            return Err(Malformed("a thinned segment of no generation"));
        }
        Ok(Self {
            stream,
            seq,
            epoch,
            wall_start,
            prev,
            init,
            generation,
        })
    }

    /// The first blocks of the file, and the hash that its first fragment is chained to.
    pub(super) fn file_head(&self, init: &InitSegment) -> (Vec<u8>, Sha256) {
        let mut content = Encoder(uuid::HEADER.to_vec());
        self.encode(&mut content);
        let mut w = BoxWriter(init.bytes.to_vec());
        let start = w.0.len();
        w.boxed(b"uuid", |w| w.bytes(&content.0));
        let hash = Sha256::of(w.0.get(start..).unwrap_or_default());
        w.bytes(&padding_box(w.0.len()));
        (w.0, hash)
    }

    /// Reads the first blocks of a file: the header, its init segment, where the first fragment begins,
    /// and the hash that it is chained to.
    pub(super) fn parse_file_head(bytes: &[u8]) -> Result<(Self, InitSegment, u64, Sha256), Malformed> {
        let mut init_len = 0;
        for b in Boxes(bytes) {
            let b = b?;
            match &b.kind {
                b"ftyp" | b"moov" => init_len += b.whole.len(),
                b"uuid" => {
                    let content = b
                        .content
                        .strip_prefix(&uuid::HEADER)
                        .ok_or(Malformed("no segment header"))?;
                    let header = Self::decode(&mut Decoder(content))?;
                    let init = bytes.get(..init_len).unwrap_or_default();
                    let init = InitSegment::parse(init.to_vec().into())?;
                    if init.hash != header.init {
                        return Err(Malformed("the init segment is not the one of the header"));
                    }
                    let end = init_len + b.whole.len();
                    return Ok((header, init, (end + padding(end)) as u64, Sha256::of(b.whole)));
                }
                _ => return Err(Malformed("unexpected box before the segment header")),
            }
        }
        Err(Malformed("no segment header"))
    }
}
