//! What can go wrong.

use indexer::IndexError;

/// Why deleting had to stop. Trouble with single files is none of these: it is logged and tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TieringError {
    /// The index failed: stop and recover, as after any failed commit.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The thread could not be started.
    #[error("start the retention thread: {0}")]
    Thread(#[from] std::io::Error),
}
