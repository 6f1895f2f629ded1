//! What can go wrong with the index.

/// An error of the index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// RocksDB refused. After a failed commit nothing may be acknowledged: stop and recover.
    #[error("index: {0}")]
    Db(#[from] rocksdb::Error),
    /// The disk refused, as far as we see it ourselves. The same as above.
    #[error("index: {0}")]
    Disk(#[from] std::io::Error),
    /// A row does not follow its format: run `tierline check`, then `tierline rebuild`.
    #[error("index row in `{table}`: {what}")]
    BadRow {
        /// Which table.
        table: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The index was made by a newer version.
    #[error("the index has format {found}, this version knows up to {known}: use the version that wrote it")]
    Version {
        /// What the index says.
        found: u32,
        /// What we know.
        known: u32,
    },
    /// The media could not be read.
    #[error(transparent)]
    Archive(#[from] archive::ArchiveError),
}

impl IndexError {
    pub(crate) fn bad_row(table: &'static str) -> impl Fn(archive::Malformed) -> Self {
        move |e| Self::BadRow {
            table,
            what: e.to_string(),
        }
    }

    /// Whether another process has the index open.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Db(e) if e.kind() == rocksdb::ErrorKind::IOError && e.to_string().contains("lock"))
    }

    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Db(e) => e.to_string().contains("No space left"),
            Self::Disk(e) => e.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}
