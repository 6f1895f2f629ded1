//! What a segment's own bytes tell of it.

use archive::layout::{SegmentName, segment_path};
use archive::segment::{Contents, SegmentHeader, SegmentReader, scan};
use archive::{
    ArchiveError, FragmentEntry, Gap, InitSegment, SegmentId, Sha256, StreamId, StreamNo, Tier, WallTime,
};

use crate::copies::Copies;
use crate::coverage::Parts;
use crate::rows::{Incident, SegmentRow, SegmentState};
use crate::thinning::{Thinning, ThinningStep};

/// A segment as its file tells it.
pub(super) struct Told {
    pub(super) row: SegmentRow,
    pub(super) init: InitSegment,
    /// The head of the segment before it.
    pub(super) prev: Sha256,
    pub(super) entries: Vec<FragmentEntry>,
    /// Of the entries, in their order, where no footer says which of them count.
    pub(super) leaves: Vec<Sha256>,
    /// What another index knew of the time before it and within it: entries that were read tell it by their notes.
    pub(super) gaps: Vec<Gap>,
    pub(super) incidents: Vec<Incident>,
    /// What it adds to coverage, where that is known without its entries.
    pub(super) parts: Option<Parts>,
    /// Where its copies are, if there are any but the one on the hot tier.
    pub(super) copies: Option<Copies>,
    /// What it was before it was thinned, if that is still there.
    pub(super) former: Option<Thinning>,
}

impl Told {
    /// Takes `t` for what this segment was before it was thinned, if it is.
    pub(super) fn take_former(&mut self, t: &Self) -> bool {
        let is_former = self.row.id == t.row.id && self.row.generation > t.row.generation;
        if !is_former || self.row.head != t.row.head {
            return false;
        }
        self.former = Some(Thinning {
            before: t.row.clone(),
            step: ThinningStep::Replaced {
                copies: t.copies.unwrap_or_else(Copies::hot_only),
                since: WallTime::MIN,
            },
        });
        true
    }

    /// Whether `next` can stand behind this one.
    pub(super) fn is_before(&self, next: &Self) -> bool {
        self.row.id.seq < next.row.id.seq && self.row.wall_end <= next.row.wall_start
    }

    /// Keeps what counted: a file whose sync failed may hold, whole, what was then written to `next` and
    /// acknowledged there. The hash with which `next` begins is the last one that was durable here.
    pub(super) fn cut_before(&mut self, next: &Self) {
        if self.row.id.seq + 1 != next.row.id.seq {
            return;
        }
        let Some(last) = self.leaves.iter().position(|leaf| *leaf == next.prev) else {
            return;
        };
        let (Some(kept), Some(behind)) = (self.entries.get(last), self.entries.get(last + 1)) else {
            return;
        };
        self.row = SegmentRow {
            wall_end: kept.wall_end(),
            bytes: behind.offset,
            head: next.prev,
            fragments: last as u32 + 1,
            ..self.row.clone()
        };
        self.leaves.truncate(last + 1);
        self.entries.truncate(last + 1);
    }
}

/// Reads a segment of which nothing else is known, and which is to have this name.
pub(super) fn read_own(
    reader: &SegmentReader,
    no: StreamNo,
    stream: &StreamId,
    name: &SegmentName,
) -> Result<Told, ArchiveError> {
    read(reader, no, stream, name, own_contents)
}

/// Reads a segment whose index may never have known it as sealed.
pub(super) fn read_proven(
    reader: &SegmentReader,
    no: StreamNo,
    stream: &StreamId,
    name: &SegmentName,
) -> Result<Told, ArchiveError> {
    read(reader, no, stream, name, |reader, _| proven_contents(reader))
}

fn read(
    reader: &SegmentReader,
    no: StreamNo,
    stream: &StreamId,
    name: &SegmentName,
    contents: impl FnOnce(&SegmentReader, &SegmentHeader) -> Result<Option<Contents>, ArchiveError>,
) -> Result<Told, ArchiveError> {
    let (header, init, ..) = reader.head()?;
    let contents = contents(reader, &header)?;
    if segment_path(&header.stream, &header.name()) != segment_path(stream, name) {
        return Err(refused(reader, "its content is that of another segment"));
    }
    let prev = header.prev;
    let row = |header: &SegmentHeader, head: Sha256, entries: &[FragmentEntry], bytes, state| SegmentRow {
        id: SegmentId {
            stream: no,
            seq: header.seq,
        },
        epoch: header.epoch,
        wall_start: header.wall_start,
        wall_end: entries.last().map_or(header.wall_start, FragmentEntry::wall_end),
        bytes,
        state,
        tier: Tier::Hot,
        init: header.init,
        head,
        fragments: entries.len() as u32,
        generation: header.generation,
    };
    if let Some(contents) = contents {
        let Contents {
            header,
            link,
            entries,
        } = contents;
        let (len, sealed) = (reader.len()?, SegmentState::Sealed);
        return Ok(Told {
            prev,
            init,
            row: row(&header, link, &entries, len, sealed),
            entries,
            leaves: Vec::new(),
            gaps: Vec::new(),
            incidents: Vec::new(),
            parts: None,
            copies: None,
            former: None,
        });
    }
    if name.generation > 0 {
        return Err(refused(reader, "thinning it has not come to an end"));
    }
    reader.distrust_cache()?;
    let found = scan(reader, 0)?;
    let (entries, leaves): (Vec<_>, Vec<_>) = found
        .fragments
        .into_iter()
        .map(|f| (f.row.entry, f.row.leaf))
        .unzip();
    let head = leaves.last().copied().unwrap_or_default();
    Ok(Told {
        prev,
        init,
        row: row(&found.header, head, &entries, found.valid_len, SegmentState::Open),
        entries,
        leaves,
        gaps: Vec::new(),
        incidents: Vec::new(),
        parts: None,
        copies: None,
        former: None,
    })
}

/// The footer of a segment whose index may never have known it as sealed: one that says what the fragments say.
/// A torn one is none, and neither is one that a camera sent.
fn proven_contents(reader: &SegmentReader) -> Result<Option<Contents>, ArchiveError> {
    let footer = match reader.footer() {
        Ok(Some(footer)) => footer,
        Ok(None) | Err(ArchiveError::Corrupt { .. }) => return Ok(None),
        Err(e) => return Err(e),
    };
    reader.distrust_cache()?;
    let found = scan(reader, 0)?;
    let same = footer.header == found.header
        && footer.end() == found.valid_len
        && footer.fragments.iter().eq(found.fragments.iter().map(|f| &f.row));
    Ok(same.then(|| footer.into()))
}

/// The footer of a segment of which nothing else is known. A camera may have sent one as the last picture of a
/// file that was never sealed; the header, which holds the hash before it, it cannot know.
fn own_contents(reader: &SegmentReader, header: &SegmentHeader) -> Result<Option<Contents>, ArchiveError> {
    let contents = reader.contents()?;
    Ok(contents.filter(|contents| contents.header == *header))
}

pub(super) fn refused(reader: &SegmentReader, what: &str) -> ArchiveError {
    let (path, what) = (reader.path().to_owned(), what.to_owned());
    ArchiveError::Corrupt { path, what }
}
