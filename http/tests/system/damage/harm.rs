//! What is done to a file.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use archive::mp4::Boxes;

use crate::rig::Chance;

/// What a disk loses or mixes up at once.
const SECTOR: usize = 512;
/// A block of the page cache.
const BLOCK: usize = 4096;

/// Where in the archive.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Part {
    Init,
    Header,
    FragmentBox,
    Moof,
    Media,
    Padding,
    /// With the sample tables before it.
    Footer,
    Trailer,
    Mfra,
    /// Behind the last fragment that was acknowledged, in a segment that was left open.
    Beyond,
    Table,
    Log,
    Manifest,
    Current,
    Options,
}

impl Part {
    pub(crate) const OF_MEDIA: [Self; 10] = [
        Self::Init,
        Self::Header,
        Self::FragmentBox,
        Self::Moof,
        Self::Media,
        Self::Padding,
        Self::Footer,
        Self::Trailer,
        Self::Mfra,
        Self::Beyond,
    ];
    pub(crate) const OF_INDEX: [Self; 5] = [
        Self::Table,
        Self::Log,
        Self::Manifest,
        Self::Current,
        Self::Options,
    ];
}

/// Damage to one file, which really changes it.
#[derive(Clone)]
pub(crate) struct Harm {
    pub(crate) part: Part,
    pub(crate) file: PathBuf,
    what: String,
    /// The bytes that differ lie in here; behind the new end of the file all are gone.
    pub(crate) bytes: Range<u64>,
    damaged: Vec<u8>,
}

impl fmt::Debug for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        write!(
            f,
            "{} at {:?} in {:?} of {name}",
            self.what, self.bytes, self.part
        )
    }
}

impl Harm {
    /// Damage by chance to `part` of one of `files`; `None` where no file has this part.
    pub(crate) fn to(part: Part, files: &[(PathBuf, Vec<u8>)], chance: &mut Chance) -> Option<Self> {
        let mut places = Vec::new();
        for (file, bytes) in files {
            places.extend(
                ranges(part, file, bytes)
                    .into_iter()
                    .map(|range| (file, bytes, range)),
            );
        }
        if places.is_empty() {
            return None;
        }
        loop {
            let (file, bytes, range) = &places[chance.below(places.len())];
            let at = range.start + chance.below(range.len());
            let (what, damaged) = match part {
                Part::Beyond => torn_tail(bytes, range.start, chance),
                _ => damage(bytes, range, at, chance),
            };
            let differs = |i: &usize| bytes.get(*i) != damaged.get(*i);
            let all = 0..bytes.len().max(damaged.len());
            let (first, last) = (all.clone().find(differs), all.clone().rfind(differs));
            let (Some(first), Some(last)) = (first, last) else {
                continue;
            };
            return Some(Self {
                part,
                file: PathBuf::clone(file),
                what,
                bytes: first as u64..last as u64 + 1,
                damaged,
            });
        }
    }

    /// Does it, to the copy whose files lie under `to` instead of `from`.
    pub(crate) fn apply(&self, from: &Path, to: &Path) {
        let relative = self.file.strip_prefix(from).expect("a file of the archive");
        fs::write(to.join(relative), &self.damaged).expect("a damaged file");
    }
}

fn damage(bytes: &[u8], range: &Range<usize>, at: usize, chance: &mut Chance) -> (String, Vec<u8>) {
    let mut damaged = bytes.to_vec();
    let sector = |at: usize| at / SECTOR * SECTOR..(at / SECTOR * SECTOR + SECTOR).min(bytes.len());
    let what = match chance.below(12) {
        0..=4 => {
            damaged[at] ^= 1 << chance.below(8);
            "a flipped bit"
        }
        5..=7 => {
            damaged[at] = chance.below(256) as u8;
            "a changed byte"
        }
        8 => {
            damaged[sector(at)].fill(0);
            "a sector of zeros"
        }
        9 => {
            damaged.truncate(at);
            "a cut"
        }
        10 => {
            let (a, b) = (sector(at), sector(range.start + chance.below(range.len())));
            if a.len() == b.len() {
                damaged[a.clone()].copy_from_slice(&bytes[b.clone()]);
                damaged[b].copy_from_slice(&bytes[a]);
            }
            "swapped sectors"
        }
        _ => {
            let block = at / BLOCK * BLOCK..(at / BLOCK * BLOCK + BLOCK).min(bytes.len());
            let other = chance.below(bytes.len().div_ceil(BLOCK)) * BLOCK;
            if let Some(other) = bytes.get(other..other + block.len()) {
                damaged[block].copy_from_slice(other);
            }
            "a block from elsewhere"
        }
    };
    (what.to_owned(), damaged)
}

/// What a power cut leaves of a fragment that was being written: its beginning, or blocks that an earlier one of the
/// same file left there.
fn torn_tail(bytes: &[u8], end: usize, chance: &mut Chance) -> (String, Vec<u8>) {
    let fragments = boxes(Part::FragmentBox, bytes);
    let from = fragments[chance.below(fragments.len())].start;
    let len = 1 + chance.below(end - from);
    let mut damaged = bytes.to_vec();
    damaged.resize(bytes.len().max(end + len), 0);
    damaged[end..end + len].copy_from_slice(&bytes[from..from + len]);
    let flipped = chance.below(2) == 0;
    if flipped {
        damaged[end + chance.below(len)] ^= 1 << chance.below(8);
    }
    let what = if flipped {
        "a torn and changed tail"
    } else {
        "a torn tail"
    };
    (what.to_owned(), damaged)
}

fn ranges(part: Part, file: &Path, bytes: &[u8]) -> Vec<Range<usize>> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let whole = |is: bool| {
        let range = 0..bytes.len();
        (is && !range.is_empty()).then_some(range).into_iter().collect()
    };
    match part {
        Part::Table => whole(name.ends_with(".sst")),
        Part::Log => whole(name.ends_with(".log")),
        Part::Manifest => whole(name.starts_with("MANIFEST-")),
        Part::Current => whole(name == "CURRENT"),
        Part::Options => whole(name.starts_with("OPTIONS-")),
        _ if !name.ends_with(".mp4") => Vec::new(),
        _ => boxes(part, bytes),
    }
}

/// Where in a segment's file the boxes of `part` lie.
fn boxes(part: Part, bytes: &[u8]) -> Vec<Range<usize>> {
    let (mut found, mut at, mut open) = (Vec::new(), 0, false);
    for b in Boxes(bytes) {
        let Ok(b) = b else { break };
        if b.whole.len() < 8 || b.kind == [0; 4] {
            break;
        }
        let uuid = |name: &[u8]| &b.kind == b"uuid" && b.content.starts_with(name);
        let here = match &b.kind {
            b"ftyp" | b"moov" => Part::Init,
            _ if uuid(b"tierline-segment") => Part::Header,
            _ if uuid(b"tierlinefragment") => Part::FragmentBox,
            _ if uuid(b"tierline-samples") || uuid(b"tierlines-footer") => Part::Footer,
            _ if uuid(b"tierline-trailer") => Part::Trailer,
            b"moof" => Part::Moof,
            b"mdat" => Part::Media,
            b"mfra" => Part::Mfra,
            _ => Part::Padding,
        };
        open |= here == Part::FragmentBox;
        open &= here != Part::Footer;
        if here == part {
            found.push(at..at + b.whole.len());
        }
        at += b.whole.len();
    }
    if part == Part::Beyond && open {
        let end = at.next_multiple_of(BLOCK);
        found.push(end..end + 1);
    }
    found
}
