//! Writes one segment: header, fragments as they come, footer.

use std::path::Path;

use super::footer::{FooterBoxes, FooterFragment, FooterRows};
use super::scan::ScannedFragment;
use super::{BLOCK, ClosedFragment, Origin, SegmentHeader, hash_samples, padding_box, uuid};
use crate::buffer::{Pool, SlabBuf};
use crate::codec::Encoder;
use crate::disk::{AppendFile, Disk};
use crate::error::{ArchiveError, Malformed};
use crate::fragment::FragmentEntry;
use crate::id::Sha256;
use crate::layout::segment_path;
use crate::mp4::{BoxWriter, InitSegment, TrackSamples, VIDEO_TRACK_ID};
use crate::time::WallTime;

/// Space is reserved in steps of this where nothing else is asked for, so that a full disk is met here and not
/// in the middle of a write.
const RESERVE_STEP: u64 = 16 << 20;

/// An open segment. After any error it must be dropped: what was not acknowledged goes to another one.
#[derive(Debug)]
pub struct SegmentWriter {
    header: SegmentHeader,
    file: AppendFile,
    tail: Tail,
    reserve_step: u64,
}

/// What the footer will say.
#[derive(Debug)]
struct Tail {
    rows: FooterRows,
    head: Sha256,
    fragments: u32,
    wall_end: WallTime,
    /// Media time and `moof` offset of fragments that begin with a keyframe.
    keyframes: Vec<(u64, u64)>,
}

/// A segment that will not change any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The length of its file.
    pub bytes: u64,
    /// What the next segment is chained to.
    pub head: Sha256,
}

impl SegmentWriter {
    /// Makes the file and writes its header. Nothing is durable before [`sync`](Self::sync), but the
    /// file's name is. Disk space is set aside in steps of `reserve` bytes, 16 MiB when it is 0.
    pub fn create(
        disk: &Disk,
        pool: &Pool,
        header: SegmentHeader,
        init: &InitSegment,
        reserve: u64,
    ) -> Result<Self, ArchiveError> {
        if header.seq == u64::MAX {
            return Err(Malformed("no sequence is left for a segment of this stream").into());
        }
        let path = segment_path(&header.stream, &header.name());
        let reserve_step = if reserve == 0 { RESERVE_STEP } else { reserve };
        let mut file = disk.create(&path, reserve_step)?;
        let (bytes, head) = header.file_head(init);
        let mut buf = SlabBuf::new(pool);
        buf.extend(&bytes);
        if let Err(e) = file.append(&[&buf], reserve_step) {
            file.discard();
            return Err(e);
        }
        let tail = Tail {
            rows: FooterRows::default(),
            head,
            fragments: 0,
            wall_end: header.wall_start,
            keyframes: Vec::new(),
        };
        Ok(Self {
            header,
            file,
            tail,
            reserve_step,
        })
    }

    /// Who the segment is.
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Removes the file of a segment in which nothing was acknowledged, so that its space is free again. A
    /// file that stays all the same is set aside by the next start.
    pub fn discard(self) {
        self.file.discard();
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.file.len()
    }

    /// Fragments so far.
    pub fn fragments(&self) -> u32 {
        self.tail.fragments
    }

    /// The leaf of its last fragment.
    pub fn head(&self) -> Sha256 {
        self.tail.head
    }

    /// When its last fragment ends.
    pub fn wall_end(&self) -> WallTime {
        self.tail.wall_end
    }

    /// Appends fragments, in order. Nothing is durable before [`sync`](Self::sync) has returned, so the
    /// caller keeps `fragments` until then. Returns where each came to lie.
    pub fn append(&mut self, fragments: &mut [ClosedFragment]) -> Result<Vec<FragmentEntry>, ArchiveError> {
        let mut offset = self.file.len();
        let mut entries = Vec::with_capacity(fragments.len());
        hash_samples(fragments.iter_mut());
        for f in fragments.iter_mut() {
            let leaf = f.place(self.tail.fragments, offset, self.tail.head);
            let data = offset + f.data_start();
            let tracks = f.tracks.iter().map(|t| TrackSamples {
                data_offset: data + t.data_offset,
                ..t.clone()
            });
            let row = FooterFragment {
                entry: f.entry().clone(),
                leaf,
                clock_offset_us: f.frame.clock_offset_us,
                tracks: tracks.collect(),
            };
            self.tail.push(&row, offset + f.moof_start());
            offset += f.buf().len() as u64;
            entries.push(row.entry);
        }
        let bufs: Vec<&SlabBuf> = fragments.iter().map(ClosedFragment::buf).collect();
        self.file.append(&bufs, self.reserve_step)?;
        Ok(entries)
    }

    /// Makes everything appended durable.
    pub fn sync(&self) -> Result<(), ArchiveError> {
        self.file.sync_data()
    }

    /// Writes the footer and makes the whole segment durable.
    pub fn seal(mut self, pool: &Pool) -> Result<Sealed, ArchiveError> {
        self.tail.write(&self.header, &mut self.file, pool, None)
    }

    /// The same for a segment that was made of another one.
    pub(super) fn seal_thinned(mut self, pool: &Pool, origin: &Origin) -> Result<Sealed, ArchiveError> {
        self.tail.write(&self.header, &mut self.file, pool, Some(origin))
    }
}

impl Tail {
    fn push(&mut self, row: &FooterFragment, moof_offset: u64) {
        self.rows.push(row);
        self.head = row.leaf;
        self.fragments += 1;
        self.wall_end = row.entry.wall_end();
        if row.entry.keyframe {
            self.keyframes.push((row.entry.media_start, moof_offset));
        }
    }

    fn write(
        &self,
        header: &SegmentHeader,
        file: &mut AppendFile,
        pool: &Pool,
        origin: Option<&Origin>,
    ) -> Result<Sealed, ArchiveError> {
        let FooterBoxes { samples, footer } = self.rows.boxed(header, self.head, self.wall_end, origin);
        let mut buf = SlabBuf::new(pool);
        buf.extend(&samples);
        buf.extend(&footer);
        end(file.len() + samples.len() as u64, &footer, &mfra(&self.keyframes))
            .iter()
            .for_each(|part| buf.extend(part));
        file.append(&[&buf], 0)?;
        file.trim()?;
        file.sync_data()?;
        Ok(Sealed {
            bytes: file.len(),
            head: origin.map_or(self.head, Origin::head),
        })
    }
}

/// What follows the footer: a `free` box up to whole blocks, the trailer, by which the footer is found from the
/// end, and `mfra`.
pub(super) fn end(footer_offset: u64, footer: &[u8], mfra: &[u8]) -> [Vec<u8>; 3] {
    let mut trailer = Encoder(uuid::TRAILER.to_vec());
    trailer.u64(footer_offset);
    trailer.u32(footer.len() as u32);
    trailer.hash(&Sha256::of(footer));
    trailer.hash(&Sha256::of(mfra));
    let mut w = BoxWriter::default();
    w.boxed(b"uuid", |w| w.bytes(&trailer.0));
    let before = (footer_offset % BLOCK) as usize + footer.len();
    let pad = padding_box(before + w.0.len() + mfra.len());
    [pad, w.0, mfra.to_vec()]
}

/// By this, players seek.
fn mfra(keyframes: &[(u64, u64)]) -> Vec<u8> {
    let mut w = BoxWriter::default();
    w.boxed(b"mfra", |w| {
        w.full(b"tfra", 1, 0, |w| {
            w.u32(VIDEO_TRACK_ID);
            w.u32(0);
            w.u32(keyframes.len() as u32);
            for (time, moof) in keyframes {
                w.u64(*time);
                w.u64(*moof);
                w.bytes(&[1, 1, 1]);
            }
        });
        let size = (w.0.len() + 16) as u32;
        w.full(b"mfro", 0, 0, |w| w.u32(size));
    });
    w.0
}

/// Seals a segment that a crash left open, behind its first `valid_len` bytes; what lies behind those is
/// cut off. `fragments` are all that stand before.
pub fn finish(
    disk: &Disk,
    pool: &Pool,
    header: &SegmentHeader,
    valid_len: u64,
    fragments: &[ScannedFragment],
) -> Result<Sealed, ArchiveError> {
    let path = segment_path(&header.stream, &header.name());
    let mut file = AppendFile::reopen(disk, &path, valid_len)?;
    let mut tail = Tail {
        rows: FooterRows::default(),
        head: Sha256::default(),
        fragments: 0,
        wall_end: header.wall_start,
        keyframes: Vec::new(),
    };
    fragments.iter().for_each(|f| tail.push(&f.row, f.moof_offset));
    tail.write(header, &mut file, pool, None)
}
