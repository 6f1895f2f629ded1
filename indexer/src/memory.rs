//! What the index takes in memory.

use rocksdb::properties;

use crate::db::{META, TABLES};
use crate::error::IndexError;
use crate::index::Index;

/// Memory of the index by what holds it, in bytes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexMemory {
    /// Rows that are in the log and not yet in a file.
    pub memtables: u64,
    /// Blocks that were read, with the files' own indexes.
    pub cache: u64,
    /// What open files hold outside the cache.
    pub files: u64,
}

impl Index {
    /// What it takes now.
    pub fn memory(&self) -> Result<IndexMemory, IndexError> {
        let of = |table, property| -> Result<u64, IndexError> {
            let value = self.db.property_int_value_cf(self.cf(table)?, property)?;
            Ok(value.unwrap_or(0))
        };
        let mut memory = IndexMemory {
            // One cache serves all tables.
            cache: of(META, properties::BLOCK_CACHE_USAGE)?,
            ..IndexMemory::default()
        };
        for table in TABLES {
            memory.memtables += of(table, properties::SIZE_ALL_MEM_TABLES)?;
            memory.files += of(table, properties::ESTIMATE_TABLE_READERS_MEM)?;
        }
        Ok(memory)
    }
}
