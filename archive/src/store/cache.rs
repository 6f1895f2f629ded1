//! Blocks of objects, in memory and on a local disk.
//!
//! Objects never change, and their names are not used again, so that a block is right for ever. What must not be
//! given out any more is not asked for: who reads has looked at the index. Whatever is wrong with the cache, the
//! store is asked instead.

use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
    PsyncIoEngineConfig,
};

use super::{Store, StoreError};
use crate::id::Sha256;

/// What is asked of a store at a time.
pub(super) const BLOCK_BYTES: u64 = 1 << 20;
/// The disk is written and given up in files of this size, all of which stay open.
const REGION_BYTES: usize = 64 << 20;
/// Blocks on their way to the disk; more are not kept.
const WRITES_BYTES: usize = 32 << 20;

/// How much is kept, and where.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// Bytes in memory.
    pub memory: usize,
    /// Bytes on disk; with 0 nothing is kept there.
    pub disk: usize,
    /// The folder of its files on disk.
    pub folder: PathBuf,
}

/// The cache of all stores. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Cache(HybridCache<u128, Bytes>);

impl Cache {
    /// Opens the cache with what an earlier process left on disk. One that cannot be opened is begun anew; where not
    /// even that can be, blocks are kept in memory alone.
    pub async fn open(config: &CacheConfig) -> Result<Self, StoreError> {
        if config.disk >= 2 * REGION_BYTES {
            for attempt in 0..2 {
                match Self::with(config, true).await {
                    Ok(cache) => return Ok(cache),
                    Err(error) if attempt == 0 => {
                        tracing::warn!(%error, folder = %config.folder.display(), "the cache cannot be read: it is begun anew");
                        let _ = std::fs::remove_dir_all(&config.folder);
                    }
                    Err(error) => {
                        tracing::error!(%error, folder = %config.folder.display(), "no cache on disk: only memory is used");
                    }
                }
            }
        }
        Self::with(config, false).await.map_err(|e| StoreError::Refused {
            what: "make a cache in memory".to_owned(),
            why: e.to_string(),
        })
    }

    async fn with(config: &CacheConfig, disk: bool) -> foyer::Result<Self> {
        let builder = HybridCacheBuilder::new()
            .with_name("media")
            // What was read is there after a restart too.
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .memory(config.memory.max(4 * BLOCK_BYTES as usize))
            // A block has to fit into a shard.
            .with_shards(1)
            .with_weighter(|_, block: &Bytes| block.len())
            .storage();
        if !disk {
            return Ok(Self(builder.build().await?));
        }
        let device = FsDeviceBuilder::new(&config.folder)
            .with_capacity(config.disk)
            .build()?;
        let engine = BlockEngineConfig::new(device)
            .with_block_size(REGION_BYTES)
            .with_buffer_pool_size(WRITES_BYTES)
            .with_submit_queue_size_threshold(WRITES_BYTES);
        let builder = builder
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(engine);
        Ok(Self(builder.build().await?))
    }

    /// The bytes `range` of the object `name`, which is `len` bytes long: one piece a block. Several who want the
    /// same block read it once.
    pub async fn read(
        &self,
        store: &Store,
        name: &str,
        len: u64,
        range: Range<u64>,
    ) -> Result<Vec<Bytes>, StoreError> {
        let mut pieces = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let number = at / BLOCK_BYTES;
            let start = number * BLOCK_BYTES;
            let block = self.block(store, name, len, number).await?;
            let end = (start + block.len() as u64).min(range.end);
            if end <= at {
                return Err(StoreError::Wrong {
                    name: name.to_owned(),
                    why: format!("it ends before byte {}", range.end),
                });
            }
            pieces.push(block.slice((at - start) as usize..(end - start) as usize));
            at = end;
        }
        Ok(pieces)
    }

    /// Has blocks of an object read before somebody asks for them.
    pub async fn fetch_ahead(&self, store: &Store, name: &str, len: u64, numbers: Range<u64>) {
        for number in numbers {
            if number * BLOCK_BYTES >= len || self.block(store, name, len, number).await.is_err() {
                return;
            }
        }
    }

    async fn block(&self, store: &Store, name: &str, len: u64, number: u64) -> Result<Bytes, StoreError> {
        let start = number * BLOCK_BYTES;
        let range = start..(start + BLOCK_BYTES).min(len);
        let fetch = || {
            let (store, name) = (store.clone(), name.to_owned());
            async move { store.read(&name, range).await }
        };
        let key = key(store.url(), name, number);
        match self.0.get_or_fetch(&key, fetch).await {
            Ok(entry) => Ok(entry.value().clone()),
            Err(e) => match e.downcast_ref::<StoreError>() {
                Some(e) => Err(e.clone()),
                None => {
                    tracing::warn!(error = %e, "the cache failed: the store is asked");
                    store.read(name, start..(start + BLOCK_BYTES).min(len)).await
                }
            },
        }
    }

    /// Forgets what the cache has of an object, which was found to be wrong.
    pub fn forget(&self, store: &Store, name: &str, len: u64) {
        for number in 0..len.div_ceil(BLOCK_BYTES) {
            self.0.remove(&key(store.url(), name, number));
        }
    }
}

/// 12 bytes of a hash of the object's name, and the block's number.
fn key(store: &str, name: &str, number: u64) -> u128 {
    let hash = Sha256::of(format!("{store}\n{name}").as_bytes());
    let head = hash.0.first_chunk().map_or(0, |head| u128::from_be_bytes(*head));
    head >> 32 << 32 | u128::from(number as u32)
}
