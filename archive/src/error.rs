//! What can go wrong, by what the caller does about it.

use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// An error of the archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The disk refused. After a failed write or sync the file must not be used for writing again:
    /// write what was not acknowledged elsewhere.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// What was being done.
        op: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not what was written: never serve them; quarantine the segment.
    #[error("{}: {what}", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and where.
        what: String,
    },
    /// An object store refused or does not answer: what to do is said by [`StoreError`].
    #[error(transparent)]
    Store(StoreError),
    /// Bytes from outside do not follow their format: refuse them.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Bytes that do not follow their format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

impl ArchiveError {
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { op, path, source }
    }

    pub(crate) fn corrupt(path: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            what: what.into(),
        }
    }

    /// Whether the disk is full: new footage has to wait until space returns.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(
            source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        ))
    }

    /// Whether the file or object is not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Self::Store(e) => matches!(e, StoreError::Missing { .. }),
            _ => false,
        }
    }

    /// Whether the object has to be restored before it can be read.
    pub fn is_archived(&self) -> bool {
        matches!(self, Self::Store(StoreError::Archived { .. }))
    }
}

impl From<StoreError> for ArchiveError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Wrong { name, why } => Self::corrupt(Path::new(&name), why),
            e => Self::Store(e),
        }
    }
}
