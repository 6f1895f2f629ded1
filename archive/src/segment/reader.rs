//! Reads a segment: bytes for players, footer and sample tables for the index and the export.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::footer::{Contents, SampleTables, end_of};
use super::frame::Frame;
use super::source::Source;
use super::writer::end;
use super::{BLOCK, Footer, SegmentHeader, uuid};
use crate::codec::Decoder;
use crate::disk::Disk;
use crate::error::{ArchiveError, Malformed};
use crate::fragment::FragmentEntry;
use crate::id::Sha256;
use crate::mp4::{Boxes, InitSegment, TrackSamples, parse_moof};
use crate::store::{ObjectFile, Objects, Stores};
use crate::tier::Tier;

/// The head of a file fits in this: init segment and header.
const HEAD_BYTES_MAX: u64 = 128 << 10;
/// And nearly always in this.
const HEAD_BYTES: u64 = 8 << 10;
/// What is read of the end of a file at first: sample tables and footer of ten minutes fit.
const END_BYTES: u64 = 128 << 10;
/// What is read of it where sample tables are not wanted. A store takes longer to answer than to send more.
const END_BYTES_SHORT: u64 = 32 << 10;
/// Footers and sample tables larger than this are not ours.
const FOOTER_BYTES_MAX: u32 = 64 << 20;
/// The trailer box: prefix, offset, length, two hashes.
const TRAILER_BYTES: u64 = uuid::PREFIX_BYTES as u64 + 8 + 4 + 64;
/// The first read of a fragment's boxes; most fit.
const FRAGMENT_HEAD_BYTES: usize = 4096;

/// What the end of a sealed segment says of its footer.
struct Trailer {
    offset: u64,
    len: u32,
    /// The hash of the footer.
    footer: Sha256,
    /// The hash of `mfra`.
    mfra: Sha256,
    mfra_len: u64,
}

/// The end of a file, which one read brings.
struct End {
    start: u64,
    bytes: Bytes,
}

impl End {
    fn read(file: &Source, len: u64, samples: bool) -> Result<Self, ArchiveError> {
        let bytes = match file {
            Source::File(_) if !samples => END_BYTES_SHORT,
            Source::File(_) | Source::Object(..) => END_BYTES,
            // It has no more than what is asked for.
            Source::Outline(_) => 0,
        };
        let start = len.saturating_sub(bytes).checked_next_multiple_of(BLOCK);
        let start = start.map_or(len, |start| start.min(len));
        let bytes = file.read_aligned(start, (len - start) as usize)?;
        Ok(Self { start, bytes })
    }

    /// The bytes from `offset` on, which are read where they lie before what is there.
    fn slice(&self, file: &Source, offset: u64, len: u64) -> Result<Bytes, ArchiveError> {
        let from = offset.checked_sub(self.start).map(|from| from as usize);
        let here = from.and_then(|from| Some(from..from.checked_add(len as usize)?));
        match here.filter(|here| here.end <= self.bytes.len()) {
            Some(here) => Ok(self.bytes.slice(here)),
            None => file.read_aligned(offset, len as usize),
        }
    }
}

/// A segment file open for reading. All methods block.
#[derive(Debug)]
pub struct SegmentReader {
    pub(super) file: Source,
    pub(super) pace: Option<Pace>,
}

/// Told how many bytes were read of a segment, and may wait: for who reads much and must not be in the way. Cloning
/// shares it.
#[derive(Clone)]
pub struct Pace(Arc<dyn Fn(usize) + Send + Sync>);

impl Pace {
    /// Calls `told` after each read.
    pub fn new(told: impl Fn(usize) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    /// So many bytes were read.
    pub fn spend(&self, bytes: usize) {
        (self.0)(bytes);
    }
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pace").finish_non_exhaustive()
    }
}

impl SegmentReader {
    /// Opens the segment at `relative`.
    pub fn open(disk: &Disk, relative: &str) -> Result<Self, ArchiveError> {
        Ok(Self {
            file: Source::File(disk.open_read(relative)?),
            pace: None,
        })
    }

    /// Opens the copy of the segment `name`, which is `len` bytes long, on `tier`. Nothing is asked of a store yet.
    pub fn on(tier: Tier, disk: &Disk, stores: &Stores, name: &str, len: u64) -> Result<Self, ArchiveError> {
        match tier {
            Tier::Hot => Self::open(disk, name),
            tier => Ok(Self::of_object(stores.expected(tier)?, name, len)),
        }
    }

    /// Opens the segment that is the object `name` of `len` bytes. Nothing is asked of the store yet.
    pub fn of_object(objects: &Objects, name: &str, len: u64) -> Self {
        Self {
            file: Source::Object(Box::new(ObjectFile::new(objects, name, len)), name.into()),
            pace: None,
        }
    }

    /// Opens the segment that is the object `name`, whose length the store is asked for.
    pub fn of_unknown_object(objects: &Objects, name: &str) -> Result<Self, ArchiveError> {
        Ok(Self {
            file: Source::Object(Box::new(ObjectFile::look_up(objects, name)?), name.into()),
            pace: None,
        })
    }

    /// The length of the file now; an open segment grows.
    pub fn len(&self) -> Result<u64, ArchiveError> {
        self.file.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> Result<bool, ArchiveError> {
        Ok(self.len()? == 0)
    }

    /// Bytes through the page cache: for what is small, or likely to be read again soon.
    pub fn read(&self, offset: u64, len: usize) -> Result<Bytes, ArchiveError> {
        self.file.read_cached(offset, len)
    }

    /// Reads from now on go around the page cache where the file system can; true if it can.
    pub fn set_direct(&self) -> bool {
        self.file.set_direct()
    }

    /// Reads from now on see what the disk has: for files whose sync may have failed before anybody said so.
    pub fn distrust_cache(&self) -> Result<(), ArchiveError> {
        self.file.distrust_cache()
    }

    /// Says that somebody is about to read `range` in order, and nothing behind it: of what lies in a store its beginning is
    /// asked for, while he is not ready yet.
    pub fn begin(&self, range: Range<u64>) {
        self.file.begin(range);
    }

    /// Has the beginning of what lies in a store at hand soon, for whoever reads it next.
    pub fn ready(&self) {
        self.file.ready();
    }

    /// Whether what lies in a store is read in order, as by a player or a download, and comes to its end, so that what
    /// follows it is likely to be read next; true once.
    pub fn is_ending(&self) -> bool {
        self.file.is_ending()
    }

    /// Says that somebody wants all up to `until`, in order, and nothing behind it: what lies in a store is read ahead so
    /// far.
    pub fn expect(&self, until: u64) {
        self.file.expect(until);
    }

    /// Where what lies in one piece from `offset` on ends, where it comes in pieces.
    pub(super) fn piece_end(&self, offset: u64) -> Option<u64> {
        self.file.piece_end(offset)
    }

    /// Bytes in aligned memory: for long sequential reads, with or without [`set_direct`](Self::set_direct).
    pub fn read_aligned(&self, offset: u64, len: usize) -> Result<Bytes, ArchiveError> {
        let bytes = self.file.read_aligned(offset, len)?;
        if let Some(pace) = &self.pace {
            pace.spend(len);
        }
        Ok(bytes)
    }

    /// Tells `pace` of what is read of samples from now on.
    pub fn paced(mut self, pace: &Pace) -> Self {
        self.pace = Some(pace.clone());
        self
    }

    pub(super) fn malformed(&self, at: u64, e: &Malformed) -> ArchiveError {
        ArchiveError::corrupt(self.file.path(), format!("{} (at byte {at})", e.0))
    }

    /// The header, the init segment, where the first fragment begins, and what it is chained to.
    pub fn head(&self) -> Result<(SegmentHeader, InitSegment, u64, Sha256), ArchiveError> {
        let len = self.file.head_len()?;
        let bytes = self.file.read_aligned(0, len.min(HEAD_BYTES) as usize)?;
        match SegmentHeader::parse_file_head(&bytes) {
            Err(_) if len > HEAD_BYTES => {}
            parsed => return parsed.map_err(|e| self.malformed(0, &e)),
        }
        let bytes = self.file.read_aligned(0, len.min(HEAD_BYTES_MAX) as usize)?;
        SegmentHeader::parse_file_head(&bytes).map_err(|e| self.malformed(0, &e))
    }

    /// The first blocks of the file, up to the first fragment, every byte of which is as it was written, and what
    /// the first fragment is chained to.
    pub(super) fn checked_head(&self) -> Result<(Bytes, Sha256), ArchiveError> {
        let len = self.file.head_len()?.min(HEAD_BYTES_MAX) as usize;
        let bytes = self.file.read_aligned(0, len)?;
        let read = || {
            let (header, init, end, _) = SegmentHeader::parse_file_head(&bytes)?;
            let (expected, hash) = header.file_head(&init);
            match bytes.get(..end as usize) {
                Some(head) if head == expected => Ok((bytes.slice(..end as usize), hash)),
                _ => Err(Malformed("the head of the file is not what was written")),
            }
        };
        read().map_err(|e| self.malformed(0, &e))
    }

    /// Fails unless every byte before the first fragment is as it was written.
    pub fn verify_head(&self) -> Result<(), ArchiveError> {
        self.checked_head().map(drop)
    }

    /// The footer; `None` when the segment was not sealed. The last sample of a segment that is not may look
    /// like one, because a camera can send anything: whoever does not know that it is sealed compares the
    /// footer with the fragments.
    pub fn footer(&self) -> Result<Option<Footer>, ArchiveError> {
        let Some((end, at, bytes)) = self.footer_box(true)? else {
            return Ok(None);
        };
        let (mut footer, tables) = Footer::parse(&bytes).map_err(|e| self.malformed(at, &e))?;
        let at = self.tables_at(at, &tables, footer.fragments.last().map(|f| &f.entry))?;
        let bad = |e: Malformed| self.malformed(at, &e);
        if tables.len > FOOTER_BYTES_MAX {
            return Err(bad(Malformed("the sample tables are too large")));
        }
        let bytes = end.slice(&self.file, at, tables.len.into())?;
        if !tables.are(&bytes) {
            return Err(bad(Malformed("the sample tables do not match their hash")));
        }
        footer.take_samples(&bytes).map_err(bad)?;
        Ok(Some(footer))
    }

    /// What an index takes from the footer, for which the sample tables are neither read nor checked.
    pub fn contents(&self) -> Result<Option<Contents>, ArchiveError> {
        let Some((_, at, bytes)) = self.footer_box(false)? else {
            return Ok(None);
        };
        let (contents, tables) = Contents::parse(&bytes).map_err(|e| self.malformed(at, &e))?;
        self.tables_at(at, &tables, contents.entries.last())?;
        Ok(Some(contents))
    }

    /// The end of the file, and where in it the box of the footer stands, which matches its hash.
    fn footer_box(&self, samples: bool) -> Result<Option<(End, u64, Bytes)>, ArchiveError> {
        let len = self.len()?;
        let end = End::read(&self.file, len, samples)?;
        let Some(trailer) = self.trailer_in(&end, len)? else {
            return Ok(None);
        };
        let bytes = end.slice(&self.file, trailer.offset, u64::from(trailer.len))?;
        if Sha256::of(&bytes) != trailer.footer {
            return Err(self.malformed(trailer.offset, &Malformed("the footer does not match its hash")));
        }
        Ok(Some((end, trailer.offset, bytes)))
    }

    /// Where the sample tables of a footer at `offset` stand: right before it, and behind its last fragment.
    fn tables_at(
        &self,
        offset: u64,
        tables: &SampleTables,
        last: Option<&FragmentEntry>,
    ) -> Result<u64, ArchiveError> {
        let at = offset.checked_sub(tables.len.into());
        at.filter(|at| last.is_none() || *at == end_of(last))
            .ok_or_else(|| {
                self.malformed(
                    offset,
                    &Malformed("the footer does not stand behind its fragments"),
                )
            })
    }

    /// The end of a sealed segment from its sample tables on, which begin at `offset`; every byte is as it was written.
    pub(super) fn checked_end(&self, offset: u64) -> Result<Bytes, ArchiveError> {
        let len = self.len()?;
        let bad = |what| Err(self.malformed(offset, &Malformed(what)));
        let Some(trailer) = self.trailer(len)?.filter(|t| t.offset >= offset) else {
            return bad("no footer stands behind the last fragment");
        };
        if len - offset > 2 * u64::from(FOOTER_BYTES_MAX) {
            return bad("the footer is too large");
        }
        let bytes = self.file.read_aligned(offset, (len - offset) as usize)?;
        let split = || {
            let (samples, rest) = bytes.split_at_checked((trailer.offset - offset) as usize)?;
            let (footer, rest) = rest.split_at_checked(trailer.len as usize)?;
            let (middle, mfra) = rest.split_at_checked(rest.len().checked_sub(trailer.mfra_len as usize)?)?;
            Some((samples, footer, middle, mfra))
        };
        let Some((samples, footer, middle, mfra)) = split() else {
            return bad("the footer is cut off");
        };
        let [pad, expected, _] = end(trailer.offset, footer, mfra);
        if Sha256::of(footer) != trailer.footer
            || Sha256::of(mfra) != trailer.mfra
            || middle != [pad, expected].concat()
        {
            return bad("the end of the file is not what was written");
        }
        let tables = SampleTables::of_footer(footer).map_err(|e| self.malformed(offset, &e))?;
        if !tables.are(samples) {
            return bad("no footer stands behind the last fragment");
        }
        Ok(bytes)
    }

    fn trailer(&self, len: u64) -> Result<Option<Trailer>, ArchiveError> {
        self.trailer_in(&End::read(&self.file, len, true)?, len)
    }

    fn trailer_in(&self, end: &End, len: u64) -> Result<Option<Trailer>, ArchiveError> {
        if len < 16 + TRAILER_BYTES {
            return Ok(None);
        }
        let mfro = end.slice(&self.file, len - 16, 16)?;
        let mut d = Decoder(&mfro);
        let (size, kind, _, mfra) = match (d.u32(), d.u32(), d.u32(), d.u32()) {
            (Ok(a), Ok(b), Ok(c), Ok(d)) => (a, b.to_be_bytes(), c, d),
            _ => return Ok(None),
        };
        let mfra_len = u64::from(mfra);
        if size != 16 || &kind != b"mfro" || mfra_len + TRAILER_BYTES > len {
            return Ok(None);
        }
        let trailer = end.slice(&self.file, len - mfra_len - TRAILER_BYTES, TRAILER_BYTES)?;
        let read = || -> Result<Trailer, Malformed> {
            let b = Boxes(&trailer).next().ok_or(Malformed("no trailer"))??;
            let mut d = Decoder(
                b.content
                    .strip_prefix(&uuid::TRAILER)
                    .ok_or(Malformed("no trailer"))?,
            );
            Ok(Trailer {
                offset: d.u64()?,
                len: d.u32()?,
                footer: d.hash()?,
                mfra: d.hash()?,
                mfra_len,
            })
        };
        let trailer = read().map_err(|e| self.malformed(len - mfra_len, &e))?;
        let fits = trailer.len <= FOOTER_BYTES_MAX
            && trailer
                .offset
                .checked_add(trailer.len.into())
                .is_some_and(|end| end <= len);
        if fits {
            Ok(Some(trailer))
        } else {
            Err(self.malformed(len, &Malformed("the footer lies outside the file")))
        }
    }

    /// The box before the samples of the fragment at `offset`, the length of that box, its leaf, and the
    /// bytes up to the samples. The leaf has been checked.
    pub(super) fn frame(
        &self,
        offset: u64,
        file_len: u64,
    ) -> Result<(Frame, usize, Sha256, Bytes), ArchiveError> {
        let bad = |e: Malformed| self.malformed(offset, &e);
        let available = usize::try_from(file_len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = self
            .file
            .read_aligned(offset, available.min(FRAGMENT_HEAD_BYTES))?;
        let len = Frame::peek_len(&bytes).map_err(bad)?;
        // The moof's size stands right behind the box.
        if bytes.len() < len + 8 {
            bytes = self.file.read_aligned(offset, available.min(len + 8))?;
        }
        let moof_len = bytes.get(len..).map(Decoder).and_then(|mut d| d.u32().ok());
        let moof_len = moof_len
            .filter(|n| *n <= 4 << 20)
            .ok_or_else(|| bad(Malformed("no moof")))? as usize;
        let wanted = len + moof_len + 8;
        if bytes.len() < wanted {
            bytes = self.file.read_aligned(offset, available.min(wanted))?;
        }
        let (frame, len, leaf) = Frame::parse(&bytes, offset).map_err(bad)?;
        Ok((frame, len, leaf, bytes.slice(..wanted)))
    }

    /// The samples of one fragment, read from its `moof`.
    pub fn samples(&self, entry: &FragmentEntry) -> Result<Vec<TrackSamples>, ArchiveError> {
        let (_, len, _, bytes) = self.frame(entry.offset, entry.offset + u64::from(entry.len))?;
        let moof = entry.offset + len as u64;
        parse_moof(bytes.get(len..).unwrap_or_default(), moof).map_err(|e| self.malformed(moof, &e))
    }

    /// The samples of all fragments in `entries`: from the footer when the segment is `sealed`, which is one
    /// read, else from every `moof`; so too when the footer is damaged.
    pub fn all_samples(
        &self,
        entries: &[FragmentEntry],
        sealed: bool,
    ) -> Result<Vec<Vec<TrackSamples>>, ArchiveError> {
        let footer = match sealed.then(|| self.footer()) {
            Some(Err(ArchiveError::Corrupt { .. })) | None => None,
            Some(other) => other?,
        };
        let mut rows = footer.into_iter().flat_map(|footer| footer.fragments);
        let mut next = |e: &FragmentEntry| rows.find(|f| f.entry.offset == e.offset).map(|f| f.tracks);
        entries
            .iter()
            .map(|e| next(e).map_or_else(|| self.samples(e), Ok))
            .collect()
    }

    /// The same where some may be damaged: those are told to `damaged` and left out.
    pub fn sound_samples(
        &self,
        entries: Vec<FragmentEntry>,
        sealed: bool,
        mut damaged: impl FnMut(&FragmentEntry, &ArchiveError),
    ) -> Result<Vec<(FragmentEntry, Vec<TrackSamples>)>, ArchiveError> {
        match self.all_samples(&entries, sealed) {
            Ok(samples) => return Ok(entries.into_iter().zip(samples).collect()),
            Err(ArchiveError::Corrupt { .. }) => {}
            Err(e) => return Err(e),
        }
        let mut found = Vec::with_capacity(entries.len());
        for entry in entries {
            match self.samples(&entry) {
                Ok(samples) => found.push((entry, samples)),
                Err(error @ ArchiveError::Corrupt { .. }) => damaged(&entry, &error),
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }
}
