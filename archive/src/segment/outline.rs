//! The outline of a segment: all of its file but the fragments. It is kept where it can be read at once for segments
//! that lie in an archive class, so that they can be indexed anew and looked at without being restored.
//!
//! `TLOUTLN1 | length of the file (8) | length of the head (4) | length of the end (4) | head | end | SHA-256 of all that`

#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::SegmentReader;
use super::source::Source;
use crate::codec::Decoder;
use crate::error::{ArchiveError, Malformed};
use crate::id::Sha256;
use crate::layout::outline_path;
use crate::store::{ObjectFile, Objects, StoreError};

const MAGIC: &[u8; 8] = b"TLOUTLN1";
const PREFIX_BYTES: usize = 24;
const HASH_BYTES: usize = 32;
/// Footers larger than 64 MiB are not ours, and neither are outlines that much larger.
const OUTLINE_BYTES_MAX: u64 = 66 << 20;

/// The head and the end of a file that is not at hand.
#[derive(Debug)]
pub(super) struct Outline {
    path: PathBuf,
    len: u64,
    head: Bytes,
    end: Bytes,
}

impl Outline {
    fn parse(path: &Path, bytes: &Bytes) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed("not an outline");
        let at = bytes.len().checked_sub(HASH_BYTES).ok_or(BAD)?;
        let (content, hash) = bytes.split_at_checked(at).ok_or(BAD)?;
        let prefix = content.get(..PREFIX_BYTES).ok_or(BAD)?;
        let mut d = Decoder(prefix.strip_prefix(MAGIC).ok_or(BAD)?);
        let (len, head, end) = (d.u64()?, d.u32()? as usize, d.u32()? as usize);
        if Sha256::of(content).0 != hash {
            return Err(Malformed("an outline that does not match its hash"));
        }
        let fits = PREFIX_BYTES + head + end == content.len() && (head + end) as u64 <= len;
        if !fits {
            return Err(BAD);
        }
        Ok(Self {
            path: path.to_owned(),
            len,
            head: bytes.slice(PREFIX_BYTES..PREFIX_BYTES + head),
            end: bytes.slice(PREFIX_BYTES + head..at),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// How much of the beginning of the file is here.
    pub(super) fn head_len(&self) -> u64 {
        self.head.len() as u64
    }

    /// Bytes of the file; an error where they are those of fragments.
    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Bytes, ArchiveError> {
        let slice = |of: &Bytes, start: u64| {
            let from = usize::try_from(offset.checked_sub(start)?).ok()?;
            let to = from.checked_add(len)?;
            (to <= of.len()).then(|| of.slice(from..to))
        };
        slice(&self.head, 0)
            .or_else(|| slice(&self.end, self.len - self.end.len() as u64))
            .ok_or_else(|| archived(&self.path))
    }
}

fn archived(path: &Path) -> ArchiveError {
    ArchiveError::Store(StoreError::Archived {
        name: path.display().to_string(),
    })
}

impl SegmentReader {
    /// The outline of a sealed segment, every byte of which is as it was written.
    pub fn outline(&self) -> Result<Vec<u8>, ArchiveError> {
        let len = self.len()?;
        let (head, _) = self.checked_head()?;
        let footer = self
            .footer()?
            .ok_or_else(|| self.malformed(len, &Malformed("a segment without a footer has no outline")))?;
        let end = self.checked_end(footer.end())?;
        let mut out = Vec::with_capacity(PREFIX_BYTES + head.len() + end.len() + HASH_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&(head.len() as u32).to_be_bytes());
        out.extend_from_slice(&(end.len() as u32).to_be_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(&end);
        let hash = Sha256::of(&out);
        out.extend_from_slice(&hash.0);
        Ok(out)
    }

    /// Opens the segment that is the object `name`, whose length the store is asked for: as its outline, where it would
    /// have to be restored. Reading fragments is [`StoreError::Archived`] then.
    pub fn of_object_as_it_is(objects: &Objects, name: &str) -> Result<Self, ArchiveError> {
        if objects.store.restoring().is_none() {
            return Self::of_unknown_object(objects, name);
        }
        let stat = objects.runtime.block_on(objects.store.stat(name))?;
        let stat = stat.ok_or_else(|| StoreError::Missing {
            name: name.to_owned(),
        })?;
        if stat.access.is_readable() {
            return Self::of_unknown_object(objects, name);
        }
        let path = Path::new(name);
        let outline = match ObjectFile::look_up(objects, &outline_path(name)) {
            Err(StoreError::Missing { .. }) => return Err(archived(path)),
            found => found?,
        };
        let bytes = match outline.len() {
            len if len <= OUTLINE_BYTES_MAX => outline.read(0, len as usize)?,
            _ => return Err(ArchiveError::corrupt(path, "its outline is too large")),
        };
        let outline = Outline::parse(path, &bytes).map_err(|e| ArchiveError::corrupt(path, e.0))?;
        if outline.len() != stat.len {
            let what = format!("{} bytes where its outline says {}", stat.len, outline.len());
            return Err(ArchiveError::corrupt(path, what));
        }
        Ok(Self {
            file: Source::Outline(outline),
            pace: None,
        })
    }

    /// Whether only the outline is at hand.
    pub fn is_outline(&self) -> bool {
        matches!(self.file, Source::Outline(_))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fixture, path, write};
    use super::*;

    #[test]
    fn an_outline_tells_what_the_file_tells_and_has_no_samples() {
        let f = fixture();
        let (writer, entries) = write(&f, &[&[0, 1], &[2]]);
        writer.seal(&f.pool).expect("seal");
        let reader = SegmentReader::open(&f.disk, &path(&f)).expect("open");
        let bytes: Bytes = reader.outline().expect("an outline").into();
        let outline = Outline::parse(Path::new("x"), &bytes).expect("parsed");
        let outline = SegmentReader {
            file: Source::Outline(outline),
            pace: None,
        };
        let (a, b) = (reader.head().expect("head"), outline.head().expect("head"));
        assert_eq!((a.0, a.1.hash, a.2, a.3), (b.0, b.1.hash, b.2, b.3));
        assert_eq!(
            reader.footer().expect("footer"),
            outline.footer().expect("footer")
        );
        assert_eq!(reader.len().expect("len"), outline.len().expect("len"));
        let error = outline.samples(&entries[0]).expect_err("no samples");
        assert!(error.is_archived(), "{error}");
        assert!((bytes.len() as u64) < reader.len().expect("len") / 2);
    }

    #[test]
    fn an_outline_of_which_any_byte_is_another_is_none() {
        let f = fixture();
        let (writer, _) = write(&f, &[&[0]]);
        writer.seal(&f.pool).expect("seal");
        let reader = SegmentReader::open(&f.disk, &path(&f)).expect("open");
        let whole = reader.outline().expect("an outline");
        for at in (0..whole.len())
            .step_by(97)
            .chain([0, 8, 16, 20, whole.len() - 1])
        {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(
                Outline::parse(Path::new("x"), &bytes.into()).is_err(),
                "byte {at}"
            );
        }
        for len in [0, 8, PREFIX_BYTES, PREFIX_BYTES + HASH_BYTES, whole.len() - 1] {
            let cut = Bytes::copy_from_slice(&whole[..len]);
            assert!(Outline::parse(Path::new("x"), &cut).is_err(), "{len} bytes");
        }
    }
}
