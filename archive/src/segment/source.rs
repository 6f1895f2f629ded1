//! What the bytes of a segment are read from.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::disk::ReadFile;
use crate::error::ArchiveError;
use crate::store::ObjectFile;

/// A file of the hot tier, or an object.
#[derive(Debug)]
pub(super) enum Source {
    File(ReadFile),
    /// With its name, for messages.
    Object(ObjectFile, PathBuf),
}

impl Source {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File(file) => file.path(),
            Self::Object(_, name) => name,
        }
    }

    pub(super) fn len(&self) -> Result<u64, ArchiveError> {
        match self {
            Self::File(file) => file.len(),
            Self::Object(object, _) => Ok(object.len()),
        }
    }

    pub(super) fn read_cached(&self, offset: u64, len: usize) -> Result<Bytes, ArchiveError> {
        match self {
            Self::File(file) => file.read_cached(offset, len),
            Self::Object(object, _) => Ok(object.read(offset, len)?),
        }
    }

    pub(super) fn read_aligned(&self, offset: u64, len: usize) -> Result<Bytes, ArchiveError> {
        match self {
            Self::File(file) => file.read_aligned(offset, len),
            Self::Object(object, _) => Ok(object.read(offset, len)?),
        }
    }

    /// Reads around the page cache from now on; objects never go through it.
    pub(super) fn set_direct(&self) -> bool {
        match self {
            Self::File(file) => file.set_direct(),
            Self::Object(..) => true,
        }
    }

    pub(super) fn distrust_cache(&self) -> Result<(), ArchiveError> {
        match self {
            Self::File(file) => file.distrust_cache(),
            Self::Object(object, _) => {
                object.distrust_cache();
                Ok(())
            }
        }
    }
}
