//! What the bytes of a segment are read from.

use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::disk::ReadFile;
use crate::error::ArchiveError;
use crate::store::ObjectFile;

use super::outline::Outline;

/// A file of the hot tier, or an object.
#[derive(Debug)]
pub(super) enum Source {
    File(ReadFile),
    /// With its name, for messages.
    Object(Box<ObjectFile>, PathBuf),
    /// What is at hand of an object that would have to be restored.
    Outline(Outline),
}

impl Source {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File(file) => file.path(),
            Self::Object(_, name) => name,
            Self::Outline(outline) => outline.path(),
        }
    }

    pub(super) fn len(&self) -> Result<u64, ArchiveError> {
        match self {
            Self::File(file) => file.len(),
            Self::Object(object, _) => Ok(object.len()),
            Self::Outline(outline) => Ok(outline.len()),
        }
    }

    /// How much of the file can be read from its beginning on.
    pub(super) fn head_len(&self) -> Result<u64, ArchiveError> {
        match self {
            Self::Outline(outline) => Ok(outline.head_len()),
            Self::File(_) | Self::Object(..) => self.len(),
        }
    }

    pub(super) fn read_cached(&self, offset: u64, len: usize) -> Result<Bytes, ArchiveError> {
        match self {
            Self::File(file) => file.read_cached(offset, len),
            Self::Object(object, _) => Ok(object.read(offset, len)?),
            Self::Outline(outline) => outline.read(offset, len),
        }
    }

    pub(super) fn read_aligned(&self, offset: u64, len: usize) -> Result<Bytes, ArchiveError> {
        match self {
            Self::File(file) => file.read_aligned(offset, len),
            Self::Object(object, _) => Ok(object.read(offset, len)?),
            Self::Outline(outline) => outline.read(offset, len),
        }
    }

    /// Reads around the page cache from now on; objects never go through it.
    pub(super) fn set_direct(&self) -> bool {
        match self {
            Self::File(file) => file.set_direct(),
            Self::Object(..) | Self::Outline(_) => true,
        }
    }

    /// Where what lies in one piece from `offset` on ends, where it comes in pieces.
    pub(super) fn piece_end(&self, offset: u64) -> Option<u64> {
        match self {
            Self::Object(object, _) => object.piece_end(offset),
            Self::File(_) | Self::Outline(_) => None,
        }
    }

    /// The reads of `range` begin soon.
    pub(super) fn begin(&self, range: Range<u64>) {
        if let Self::Object(object, _) = self {
            object.begin(range);
        }
    }

    /// Has the beginning of an object in the cache soon.
    pub(super) fn ready(&self) {
        if let Self::Object(object, _) = self {
            object.ready();
        }
    }

    /// Whether an object is read in order and comes to its end; true once.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self, Self::Object(object, _) if object.is_ending())
    }

    /// Reads from now on end at `until`, or soon behind it.
    pub(super) fn expect(&self, until: u64) {
        if let Self::Object(object, _) = self {
            object.expect(until);
        }
    }

    pub(super) fn distrust_cache(&self) -> Result<(), ArchiveError> {
        match self {
            Self::File(file) => file.distrust_cache(),
            Self::Object(object, _) => {
                object.distrust_cache();
                Ok(())
            }
            Self::Outline(_) => Ok(()),
        }
    }
}
