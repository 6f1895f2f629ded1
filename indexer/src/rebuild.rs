//! Makes the index anew from media files alone.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use archive::disk::Disk;
use archive::layout::{SegmentName, parse_segment_path, segment_path};
use archive::segment::{Footer, SegmentReader, scan};
use archive::store::Stores;
use archive::{ArchiveError, Epoch, FragmentEntry, SegmentId, Sha256, StreamId, Tier, WallTime};

use crate::batch::Batch;
use crate::copies::Copies;
use crate::error::IndexError;
use crate::index::Index;
use crate::rows::{SegmentRow, SegmentState};
use crate::thinning::{Thinning, ThinningStep};

/// Segments that are committed together.
const COMMIT_SEGMENTS: usize = 64;

/// What a rebuild found.
#[derive(Clone, Debug, Default)]
pub struct Rebuilt {
    /// Segments indexed.
    pub segments: u64,
    /// Fragments in them.
    pub fragments: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Files that were left out, and why.
    pub left_out: Vec<(String, String)>,
}

impl Rebuilt {
    fn add(&mut self, index: &Index, batch: Batch, told: Vec<Told>) -> Result<(), IndexError> {
        self.segments += told.len() as u64;
        self.bytes += told.iter().map(|t| t.row.bytes).sum::<u64>();
        self.fragments += u64::from(add(index, batch, told)?);
        Ok(())
    }
}

/// Segments by their names, in the order of their sequences.
pub type SegmentFiles = BTreeMap<StreamId, Vec<SegmentName>>;

/// Every segment file below the root of `disk`, by stream, in the order of their sequences. Files that are
/// not named like segments are listed apart.
pub fn list_segments(disk: &Disk) -> Result<(SegmentFiles, Vec<String>), IndexError> {
    let mut found = SegmentFiles::new();
    let mut unknown = Vec::new();
    let mut folders = vec![(String::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for name in disk.list(&folder)? {
            // What begins with a dot is the service's own, `lost+found` the file system's.
            if depth == 0 && (name.starts_with('.') || name == "lost+found") {
                continue;
            }
            let path = if folder.is_empty() {
                name
            } else {
                format!("{folder}/{name}")
            };
            if depth < 5 && disk.path(&path).is_dir() {
                folders.push((path, depth + 1));
                continue;
            }
            match parse_segment_path(&path) {
                Ok((stream, name)) => found.entry(stream).or_default().push(name),
                // What a service beside us has removed since is none.
                Err(_) if disk.path(&path).exists() => unknown.push(path),
                Err(_) => {}
            }
        }
    }
    found
        .values_mut()
        .for_each(|names| names.sort_unstable_by_key(|n| (n.seq, n.epoch, n.generation)));
    unknown.sort_unstable();
    Ok((found, unknown))
}

/// Where the copies of a segment were found: the hot tier, or the length of an object.
#[derive(Clone, Default)]
struct Found {
    hot: bool,
    warm: Option<u64>,
    cold: Option<u64>,
}

impl Found {
    fn objects(&self) -> impl Iterator<Item = (Tier, u64)> {
        [(Tier::Warm, self.warm), (Tier::Cold, self.cold)]
            .into_iter()
            .filter_map(|(tier, len)| Some((tier, len?)))
    }

    /// What the index says of a segment of `len` bytes that was found here; `None` for one that never left the disk.
    /// A copy of another length is none.
    fn copies(&self, len: u64) -> Option<Copies> {
        let whole = self.objects().filter(|(_, there)| *there == len);
        let tiers = self
            .hot
            .then_some(Tier::Hot)
            .into_iter()
            .chain(whole.map(|(tier, _)| tier));
        Copies::found(tiers)
    }
}

/// Every segment by its stream, in the order of sequences, with the places where it was found.
type Everywhere = BTreeMap<StreamId, Vec<(SegmentName, Found)>>;

/// What a name sorts by: of a segment that was thinned, what counts comes before what it was.
type Place = (u64, Epoch, WallTime, Reverse<u8>);

fn list_everywhere(disk: &Disk, stores: &Stores) -> Result<(Everywhere, Vec<String>), IndexError> {
    let (files, mut unknown) = list_segments(disk)?;
    let mut all: BTreeMap<StreamId, BTreeMap<Place, Found>> = BTreeMap::new();
    let key = |name: &SegmentName| (name.seq, name.epoch, name.start, Reverse(name.generation));
    for (stream, names) in files {
        let of_stream = all.entry(stream).or_default();
        for name in names {
            of_stream.entry(key(&name)).or_default().hot = true;
        }
    }
    for tier in [Tier::Warm, Tier::Cold] {
        let Some(objects) = stores.of(tier) else { continue };
        let listed = objects.for_each("", |path, len| {
            let Ok((stream, name)) = parse_segment_path(&path) else {
                // What begins with a dot is the service's own.
                if !path.starts_with('.') {
                    unknown.push(format!("{tier}: {path}"));
                }
                return;
            };
            let found = all.entry(stream).or_default().entry(key(&name)).or_default();
            match tier {
                Tier::Cold => found.cold = Some(len),
                _ => found.warm = Some(len),
            }
        });
        listed.map_err(ArchiveError::from)?;
    }
    let in_order = |found: BTreeMap<Place, Found>| {
        let named = |((seq, epoch, start, Reverse(generation)), found)| {
            let name = SegmentName {
                start,
                seq,
                epoch,
                generation,
            };
            (name, found)
        };
        found.into_iter().map(named).collect()
    };
    Ok((
        all.into_iter()
            .map(|(stream, found)| (stream, in_order(found)))
            .collect(),
        unknown,
    ))
}

/// A segment as its file tells it.
struct Told {
    row: SegmentRow,
    /// The head of the segment before it.
    prev: Sha256,
    entries: Vec<FragmentEntry>,
    /// Of the entries, in their order, where no footer says which of them count.
    leaves: Vec<Sha256>,
    /// Where its copies are, if there are any but the one on the hot tier.
    copies: Option<Copies>,
    /// What it was before it was thinned, if that is still there.
    former: Option<Thinning>,
}

impl Told {
    /// Takes `t` for what this segment was before it was thinned, if it is.
    fn take_former(&mut self, t: &Self) -> bool {
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
    fn is_before(&self, next: &Self) -> bool {
        self.row.id.seq < next.row.id.seq && self.row.wall_end <= next.row.wall_start
    }

    /// Keeps what counted: a file whose sync failed may hold, whole, what was then written to `next` and
    /// acknowledged there. The hash with which `next` begins is the last one that was durable here.
    fn cut_before(&mut self, next: &Self) {
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

fn read(
    reader: &SegmentReader,
    index: &Index,
    batch: &mut Batch,
    stream: &StreamId,
    name: &SegmentName,
    footer: impl FnOnce(&SegmentReader) -> Result<Option<Footer>, ArchiveError>,
) -> Result<Told, IndexError> {
    let no = index.ensure_stream(stream)?;
    let footer = footer(reader)?;
    let (header, init, ..) = reader.head()?;
    if segment_path(&header.stream, &header.name()) != segment_path(stream, name) {
        return Err(refused(reader, "its content is that of another segment"));
    }
    let row =
        |header: &archive::segment::SegmentHeader, head: Sha256, entries: &[FragmentEntry], bytes, state| {
            SegmentRow {
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
            }
        };
    if index.init(&header.init)?.is_none() {
        batch.init(&init);
    }
    Ok(match footer {
        Some(footer) => {
            let link = footer.link();
            let entries: Vec<_> = footer.fragments.into_iter().map(|f| f.entry).collect();
            Told {
                prev: header.prev,
                row: row(
                    &footer.header,
                    link,
                    &entries,
                    reader.len()?,
                    SegmentState::Sealed,
                ),
                entries,
                leaves: Vec::new(),
                copies: None,
                former: None,
            }
        }
        None if name.generation > 0 => return Err(refused(reader, "thinning it has not come to an end")),
        None => {
            reader.distrust_cache()?;
            let found = scan(reader, 0)?;
            let (entries, leaves): (Vec<_>, Vec<_>) = found
                .fragments
                .into_iter()
                .map(|f| (f.row.entry, f.row.leaf))
                .unzip();
            let head = leaves.last().copied().unwrap_or_default();
            Told {
                prev: header.prev,
                row: row(&found.header, head, &entries, found.valid_len, SegmentState::Open),
                entries,
                leaves,
                copies: None,
                former: None,
            }
        }
    })
}

/// The footer of a segment whose index may never have known it as sealed: one that says what the fragments say.
/// A torn one is none, and neither is one that a camera sent.
fn proven_footer(reader: &SegmentReader) -> Result<Option<Footer>, ArchiveError> {
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
    Ok(same.then_some(footer))
}

/// The footer of a segment of which nothing else is known. A camera may have sent one as the last picture of a
/// file that was never sealed; the header, which holds the hash before it, it cannot know.
fn own_footer(reader: &SegmentReader) -> Result<Option<Footer>, ArchiveError> {
    let Some(footer) = reader.footer()? else {
        return Ok(None);
    };
    let (header, ..) = reader.head()?;
    Ok((footer.header == header).then_some(footer))
}

fn refused(reader: &SegmentReader, what: &str) -> IndexError {
    let (path, what) = (reader.path().to_owned(), what.to_owned());
    ArchiveError::Corrupt { path, what }.into()
}

/// Adds one segment file to the index, as its own bytes tell it, once they are durable. Returns how many
/// fragments it has; 0 when it has none and was left out. A file that does not continue what the index knows
/// of the stream is refused.
pub fn adopt(disk: &Disk, index: &Index, stream: &StreamId, name: &SegmentName) -> Result<u32, IndexError> {
    let mut batch = Batch::default();
    let reader = SegmentReader::open(disk, &segment_path(stream, name))?;
    let told = read(&reader, index, &mut batch, stream, name, proven_footer)?;
    let no = told.row.id.stream;
    let last = index
        .last_segment(no)?
        .map(|row| (row.id.seq + 1, row.head, row.wall_end));
    let ended = index.ended(no)?.map(|e| (e.next_seq, e.head, e.wall_end));
    let follows = |(seq, head, end): (u64, Sha256, WallTime)| {
        told.row.id.seq == seq && told.prev == head && told.row.wall_start >= end
    };
    if !last.or(ended).is_none_or(follows) {
        return Err(refused(&reader, "it does not continue the segment before it"));
    }
    disk.make_durable(&segment_path(stream, name))?;
    add(index, batch, vec![told])
}

/// Commits segments: rows and fragments first, then the seals, which read what was committed.
fn add(index: &Index, mut batch: Batch, told: Vec<Told>) -> Result<u32, IndexError> {
    let mut seals = Batch::default();
    let mut fragments = 0;
    let mut places = Batch::default();
    for Told {
        row,
        entries,
        copies,
        former,
        ..
    } in told
    {
        if entries.is_empty() {
            continue;
        }
        fragments += row.fragments;
        batch.segment(&SegmentRow {
            state: SegmentState::Open,
            ..row.clone()
        });
        entries.into_iter().for_each(|e| batch.fragment(row.id, e));
        if row.state == SegmentState::Sealed {
            seals.seal(&row);
            if let Some(copies) = copies {
                places.copies(&row, copies);
            }
            if let Some(former) = former {
                places.thinning(former);
            }
        }
    }
    index.commit(batch)?;
    index.commit(seals)?;
    index.commit(places)?;
    Ok(fragments)
}

/// Fills the empty `index` from the files below `disk` and the objects in `stores`. `progress` is told the number of
/// segments so far.
pub fn rebuild(
    disk: &Disk,
    stores: &Stores,
    index: &Index,
    mut progress: impl FnMut(&Rebuilt),
) -> Result<Rebuilt, IndexError> {
    let (streams, unknown) = list_everywhere(disk, stores)?;
    let mut result = Rebuilt::default();
    result.left_out.extend(
        unknown
            .into_iter()
            .map(|path| (path, "not named like a segment".to_owned())),
    );
    for (stream, names) in &streams {
        let mut batch = Batch::default();
        // The last one stays until the one behind it has told how much of it counts.
        let mut told: Vec<Told> = Vec::new();
        for (name, found) in names {
            let told_by = open(disk, stores, stream, name, found);
            let told_by =
                told_by.and_then(|reader| read(&reader, index, &mut batch, stream, name, own_footer));
            let why = match told_by {
                Ok(t) if t.entries.is_empty() => "no whole fragment".to_owned(),
                Ok(mut t) => {
                    t.copies = found.copies(t.row.bytes);
                    if told.last_mut().is_some_and(|last| last.take_former(&t)) {
                        continue;
                    }
                    if let Some(last) = told.last_mut() {
                        last.cut_before(&t);
                    }
                    if told.last().is_none_or(|last| last.is_before(&t)) {
                        if told.len() >= COMMIT_SEGMENTS {
                            result.add(index, std::mem::take(&mut batch), std::mem::take(&mut told))?;
                            progress(&result);
                        }
                        told.push(t);
                        continue;
                    }
                    "it overlaps the segment before it".to_owned()
                }
                Err(IndexError::Archive(e)) => e.to_string(),
                Err(e) => return Err(e),
            };
            result.left_out.push((segment_path(stream, name), why));
        }
        result.add(index, batch, told)?;
        progress(&result);
    }
    let epoch = streams.values().flatten().map(|(name, _)| name.epoch).max();
    index.raise_epoch(epoch.unwrap_or_default())?;
    Ok(result)
}

/// Opens the nearest copy that was found.
fn open(
    disk: &Disk,
    stores: &Stores,
    stream: &StreamId,
    name: &SegmentName,
    found: &Found,
) -> Result<SegmentReader, IndexError> {
    let path = segment_path(stream, name);
    let (tier, len) = match found.objects().next() {
        Some(object) if !found.hot => object,
        _ => (Tier::Hot, 0),
    };
    Ok(SegmentReader::on(tier, disk, stores, &path, len)?)
}
