//! Checks every byte of a segment against its hashes.

use super::{Footer, SegmentHeader, SegmentReader, scan};
use crate::error::{ArchiveError, Malformed};
use crate::id::Sha256;

/// What a verified segment is.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Who it is.
    pub header: SegmentHeader,
    /// Whether it is sealed.
    pub sealed: bool,
    /// The leaf of its last fragment, or what the first would be chained to.
    pub head: Sha256,
    /// What the next segment is chained to: the leaf of the last fragment that was recorded, thinned or not.
    pub link: Sha256,
    /// How many fragments.
    pub fragments: usize,
    /// How many bytes of it were hashed.
    pub bytes: u64,
}

/// Reads the whole segment: boxes, leaves, samples, and that the footer says the same.
pub fn verify(reader: &SegmentReader) -> Result<Verified, ArchiveError> {
    let found = scan(reader, 0)?;
    let corrupt = |at, what| Err(reader.malformed(at, &Malformed(what)));
    reader.checked_head()?;
    let footer = reader.footer()?;
    if footer.is_some() {
        reader.checked_end(found.valid_len)?;
    }
    let head = found.fragments.last().map(|f| f.row.leaf);
    match &footer {
        Some(footer) => {
            let same = footer.header == found.header
                && footer.fragments.len() == found.fragments.len()
                && footer
                    .fragments
                    .iter()
                    .zip(&found.fragments)
                    .all(|(a, b)| *a == b.row);
            if !same {
                let why = found
                    .stopped
                    .unwrap_or_else(|| "the footer differs from the fragments".into());
                return Err(ArchiveError::corrupt(reader.path(), why));
            }
        }
        None if found.fragments.is_empty() => return corrupt(0, "no whole fragment"),
        None => {}
    }
    Ok(Verified {
        header: found.header,
        sealed: footer.is_some(),
        head: head.unwrap_or_default(),
        link: footer.as_ref().map_or(head.unwrap_or_default(), Footer::link),
        fragments: found.fragments.len(),
        bytes: found.valid_len,
    })
}

impl SegmentReader {
    /// The file, for messages.
    pub fn path(&self) -> &std::path::Path {
        self.file.path()
    }
}
