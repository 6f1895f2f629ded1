//! What can go wrong with recording as a whole. What goes wrong with one camera is a gap.

/// An error of ingest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The index failed: nothing can be acknowledged; stop and recover.
    #[error(transparent)]
    Index(#[from] indexer::IndexError),
    /// The hot tier failed.
    #[error(transparent)]
    Archive(#[from] archive::ArchiveError),
    /// A thread or runtime could not be started.
    #[error("cannot start recording: {0}")]
    Start(#[from] std::io::Error),
    /// A file cannot be imported.
    #[error("{0}")]
    Import(String),
}
