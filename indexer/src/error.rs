//! What can go wrong with the index.

use std::io::ErrorKind;

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
    /// What was asked for needs the tables of these segments, which have left the hot tier and tell their fragments
    /// themselves: [`fetch_tables`](crate::fetch_tables), and ask again while the loans last.
    #[error("the tables of {} segments stand with their footage", .0.len())]
    Elsewhere(Vec<crate::rows::SegmentRow>),
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

    /// What it means to one who reads footage.
    pub fn into_archive(self) -> archive::ArchiveError {
        match self {
            Self::Archive(e) => e,
            e => archive::ArchiveError::Io {
                op: "look up",
                path: "the fragments of a segment".into(),
                source: std::io::Error::other(e),
            },
        }
    }

    /// Whether another process has the index open.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Db(e) if e.kind() == rocksdb::ErrorKind::IOError && e.to_string().contains("lock"))
    }

    /// Whether the disk is full, or the quota that holds on it.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Db(e) => is_full(e.as_ref()),
            Self::Disk(e) => matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded),
            _ => false,
        }
    }
}

/// Whether an error, or one that caused it, says that the index is damaged: make it anew from the media.
pub fn is_damaged(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |e| e.source());
    causes.any(|e| match (e.downcast_ref(), e.downcast_ref::<rocksdb::Error>()) {
        (Some(IndexError::BadRow { .. }), _) => true,
        // Its files name each other.
        (_, Some(e)) => e.kind() == rocksdb::ErrorKind::Corruption || e.as_ref().contains("No such file"),
        _ => false,
    })
}

/// RocksDB passes on what the system said, in words alone.
fn is_full(told: &str) -> bool {
    // ENOSPC, EDQUOT.
    ["No space left", "Disk quota exceeded"]
        .iter()
        .any(|words| told.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_found_among_the_causes_of_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("CURRENT"), "nothing of the kind\n").expect("write");
        let error = crate::Index::open_read_only(folder.path()).expect_err("damaged");
        assert!(is_damaged(&error), "{error}");
        std::fs::write(folder.path().join("CURRENT"), "MANIFEST-000007\n").expect("write");
        let error = crate::Index::open_read_only(folder.path()).expect_err("damaged");
        assert!(is_damaged(&error), "{error}");
        let row = IndexError::bad_row("gaps")(archive::Malformed("too short"));
        assert!(is_damaged(&row));
        assert!(!is_damaged(&IndexError::Disk(std::io::Error::from_raw_os_error(
            28
        ))));
    }

    #[test]
    fn a_full_disk_and_a_full_quota_are_the_same() {
        for (code, words) in [(28, "No space left on device"), (122, "Disk quota exceeded")] {
            let told = std::io::Error::from_raw_os_error(code);
            assert!(told.to_string().starts_with(words));
            assert!(is_full(&format!(
                "IO error: {words}: While appending to file: 000042.log"
            )));
            assert!(IndexError::Disk(told).is_disk_full());
        }
        assert!(!is_full(
            "IO error: Input/output error: While fdatasync: 000042.log"
        ));
        assert!(!IndexError::Disk(std::io::Error::from_raw_os_error(5)).is_disk_full());
    }
}
