//! How RocksDB is opened: one database, a column family for each table.

use std::path::Path;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, BlockBasedTablePinningTier, Cache, ColumnFamilyDescriptor, DB,
    DBCompressionType, Options,
};

use crate::error::IndexError;

pub(crate) const META: &str = "default";
pub(crate) const CAMERAS: &str = "cameras";
pub(crate) const STREAMS: &str = "streams";
/// One row a segment.
pub(crate) const SEGMENTS: &str = "segments";
/// Wall start of a segment by its sequence.
pub(crate) const SEQUENCES: &str = "sequences";
/// One row a sealed segment: the table of its fragments.
pub(crate) const FRAGMENTS: &str = "fragments";
/// One row a fragment of an unsealed segment.
pub(crate) const TAIL: &str = "tail";
pub(crate) const GAPS: &str = "gaps";
pub(crate) const INCIDENTS: &str = "incidents";
pub(crate) const COVERAGE: &str = "coverage";
pub(crate) const INITS: &str = "inits";
/// Where the copies are of segments that have left the hot tier, or are about to.
pub(crate) const COPIES: &str = "copies";
/// Segments that are being restored from an archive class, or were.
pub(crate) const RESTORES: &str = "restores";
/// Fragments whose bytes are not what was written.
pub(crate) const DAMAGE: &str = "damage";
/// Footage that must stay.
pub(crate) const HOLDS: &str = "holds";
/// One row a segment that is being deleted.
pub(crate) const DELETIONS: &str = "deletions";
/// Deletion certificates by their numbers: lines of text.
pub(crate) const CERTIFICATES: &str = "certificates";
/// Which certificate is about which deleted time of a stream.
pub(crate) const CERTIFIED: &str = "certified";

/// Segments that are being thinned, and what is left of those that were.
pub(crate) const THINNING: &str = "thinning";

pub(crate) const TABLES: [&str; 19] = [
    META,
    CAMERAS,
    STREAMS,
    SEGMENTS,
    SEQUENCES,
    COPIES,
    FRAGMENTS,
    TAIL,
    GAPS,
    INCIDENTS,
    COVERAGE,
    INITS,
    DAMAGE,
    HOLDS,
    DELETIONS,
    CERTIFICATES,
    CERTIFIED,
    RESTORES,
    THINNING,
];

/// Small, since most tables see a few rows a second; flushes stay rare all the same.
const MEMTABLE_BYTES: usize = 4 << 20;
const MEMTABLES_BYTES_ALL: usize = 24 << 20;

fn options() -> Options {
    let mut o = Options::default();
    o.create_if_missing(true);
    o.create_missing_column_families(true);
    o.set_paranoid_checks(true);
    o.set_track_and_verify_wals_in_manifest(true);
    o.set_db_write_buffer_size(MEMTABLES_BYTES_ALL);
    o.set_max_background_jobs(2);
    o.set_max_open_files(512);
    // So many threads are started for each table at every opening, 16 otherwise, whatever there is to open.
    o.set_max_file_opening_threads(2);
    o.set_keep_log_file_num(4);
    o.set_max_log_file_size(4 << 20);
    o.set_max_total_wal_size(64 << 20);
    o.set_wal_recovery_mode(rocksdb::DBRecoveryMode::PointInTime);
    o
}

/// Tables whose rows are looked up one at a time, by the hundred million: a seek that misses the cache unpacks a
/// whole block, so theirs are small and packed with what unpacks fastest. Half of a row is a hash, which no
/// compression makes smaller.
const POINT_TABLES: [&str; 4] = [SEGMENTS, SEQUENCES, COPIES, GAPS];
const POINT_BLOCK_BYTES: usize = 8 << 10;
const BLOCK_BYTES: usize = 16 << 10;

fn table_options(name: &str, cache: &Cache) -> Options {
    let point = POINT_TABLES.contains(&name);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(if point { POINT_BLOCK_BYTES } else { BLOCK_BYTES });
    blocks.set_format_version(6);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // A file's index in one piece is as large as a shard of a small cache, and then read anew by every seek.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_top_level_index_pinning_tier(BlockBasedTablePinningTier::All);
    let mut o = Options::default();
    o.set_block_based_table_factory(&blocks);
    o.set_write_buffer_size(MEMTABLE_BYTES);
    o.set_compression_type(DBCompressionType::Lz4);
    o.set_bottommost_compression_type(if point {
        DBCompressionType::Lz4
    } else {
        DBCompressionType::Zstd
    });
    o.set_level_compaction_dynamic_level_bytes(true);
    if point {
        // A seek asks each new file, for 3 µs: one at most waits for another.
        o.set_level_zero_file_num_compaction_trigger(2);
    }
    o
}

/// Makes a table that is not there.
pub(crate) fn make_table(db: &mut DB, cache: &Cache, name: &str) -> Result<(), IndexError> {
    Ok(db.create_cf(name, &table_options(name, cache))?)
}

/// A seek asks every level, and what it reads of all but the last is the same few blocks of each stream: they stay in
/// a cache of this part of the files.
const CACHED_PART: u64 = 64;
const CACHE_BYTES_MAX: usize = 256 << 20;

/// The cache of an index whose files have so many bytes, and `least` when they are few.
fn cache_bytes(least: usize, files: u64) -> usize {
    let part = usize::try_from(files / CACHED_PART).unwrap_or(usize::MAX);
    least.max(part.min(CACHE_BYTES_MAX))
}

/// Opens every table by its own options; `open_cf` would use defaults for them.
pub(crate) fn open(dir: &Path, cache: &Cache, read_only: bool) -> Result<DB, IndexError> {
    let tables = TABLES.map(|name| ColumnFamilyDescriptor::new(name, table_options(name, cache)));
    if !read_only {
        return Ok(DB::open_cf_descriptors(&options(), dir, tables)?);
    }
    let mut o = options();
    o.create_if_missing(false);
    // A service beside us removes files when it compacts: all are opened at once, and stay readable.
    o.set_max_open_files(-1);
    Ok(DB::open_cf_descriptors_read_only(&o, dir, tables, false)?)
}

/// The same, with a cache of `cache_bytes_min` or what the files of a large index need.
pub(crate) fn open_cached(dir: &Path, cache_bytes_min: usize, read_only: bool) -> Result<DB, IndexError> {
    let mut cache = Cache::new_lru_cache(cache_bytes_min);
    let db = open(dir, &cache, read_only)?;
    let files = db.live_files()?.iter().map(|file| file.size as u64).sum();
    cache.set_capacity(cache_bytes(cache_bytes_min, files));
    Ok(db)
}

#[cfg(test)]
mod tests {
    use rocksdb::properties;

    use super::*;

    #[test]
    fn a_large_index_has_a_larger_cache_up_to_a_bound() {
        const MIB: usize = 1 << 20;
        for (files_mib, cache_mib) in [(0, 32), (2_048, 32), (6_400, 100), (1 << 30, 256)] {
            assert_eq!(cache_bytes(32 * MIB, files_mib << 20), cache_mib * MIB);
        }
    }

    #[test]
    fn an_index_is_opened_with_the_cache_that_its_files_need() {
        let dir = tempfile::tempdir().expect("folder");
        let capacity = |db: &DB| {
            db.property_int_value(properties::BLOCK_CACHE_CAPACITY)
                .expect("read")
                .expect("number")
        };
        let db = open_cached(dir.path(), 4096, false).expect("index");
        assert_eq!(capacity(&db), 4096);
        let cf = db.cf_handle(INITS).expect("table");
        for n in 0..20_000_u32 {
            let hash = archive::Sha256::of(&n.to_be_bytes()).0;
            db.put_cf(cf, hash, hash).expect("written");
        }
        db.flush_cf(cf).expect("flushed");
        drop(db);
        let files: u64 = dir
            .path()
            .read_dir()
            .expect("folder")
            .map(|entry| entry.expect("file").path())
            .filter(|path| path.extension().is_some_and(|e| e == "sst"))
            .map(|path| path.metadata().expect("length").len())
            .sum();
        assert!(files > 64 * 8192, "{files} bytes");
        for read_only in [true, false] {
            let db = open_cached(dir.path(), 4096, read_only).expect("index");
            assert_eq!(capacity(&db), files / 64);
        }
    }
}
