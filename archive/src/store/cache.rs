//! Blocks of objects, in memory and on a local disk.
//!
//! Objects never change, and their names are not used again, so that a block is right for ever. What must not be
//! given out any more is not asked for: who reads has looked at the index. Whatever is wrong with the cache, the
//! store is asked instead.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
    PsyncIoEngineConfig,
};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};

use super::ahead::Block;
use super::playback::Ends;
use super::stretch::Stretch;
use super::{Store, StoreError};
use crate::id::Sha256;

/// What is kept at a time.
pub(super) const BLOCK_BYTES: u64 = 1 << 20;
/// The disk is written and given up in files of this size, all of which stay open.
const REGION_BYTES: usize = 64 << 20;
/// What stands before the number of each, as the library names them.
const REGION_PREFIX: &str = "foyer-storage-direct-fs-";
/// Blocks on their way to the disk; more are not kept.
const WRITES_BYTES: usize = 32 << 20;

/// How much is kept, and where.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// Bytes in memory. What is read ahead and not in the cache any more takes half as much again at most.
    pub memory: usize,
    /// Bytes on disk; with 0 nothing is kept there.
    pub disk: usize,
    /// The folder of its files on disk.
    pub folder: PathBuf,
}

/// The cache of all stores. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Cache {
    blocks: HybridCache<u128, Bytes>,
    /// Leave for blocks that are read ahead.
    room: Arc<Semaphore>,
    /// Where requests ended.
    ends: Arc<Ends>,
}

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
                        remove_regions(&config.folder);
                    }
                    Err(error) => {
                        tracing::error!(%error, folder = %config.folder.display(), "no cache on disk: only memory is used");
                    }
                }
            }
        } else if let Err(error) = make_room(&config.folder, 0) {
            tracing::warn!(%error, folder = %config.folder.display(), "what a cache kept there cannot be removed");
        }
        Self::with(config, false).await.map_err(|e| StoreError::Refused {
            what: "make a cache in memory".to_owned(),
            why: e.to_string(),
        })
    }

    async fn with(config: &CacheConfig, disk: bool) -> foyer::Result<Self> {
        Ok(Self {
            blocks: Self::blocks(config, disk).await?,
            room: Arc::new(Semaphore::new(config.memory / 2 / BLOCK_BYTES as usize)),
            ends: Arc::default(),
        })
    }

    async fn blocks(config: &CacheConfig, disk: bool) -> foyer::Result<HybridCache<u128, Bytes>> {
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
            return builder.build().await;
        }
        // The library takes it for granted that it can.
        fs::create_dir_all(&config.folder).map_err(foyer::Error::io_error)?;
        make_room(&config.folder, config.disk / REGION_BYTES).map_err(foyer::Error::io_error)?;
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
        builder.build().await
    }

    /// An object whose blocks come through the cache.
    pub(super) fn object(&self, store: &Store, name: &str, len: u64) -> Object {
        Object {
            cache: self.clone(),
            store: store.clone(),
            name: name.into(),
            len,
        }
    }
}

/// The number of a file of a cache.
fn region(path: &Path) -> Option<usize> {
    path.file_name()?
        .to_str()?
        .strip_prefix(REGION_PREFIX)?
        .parse()
        .ok()
}

/// Removes whatever has the name of a cache's file, as far as it can be removed, and nothing else.
fn remove_regions(folder: &Path) {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in files
        .map(|file| file.path())
        .filter(|path| region(path).is_some())
    {
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
    }
}

/// Removes the files of a cache that are more than `count`, which a larger one has left. Where something lies in each of the
/// others one goes too: the library gives up none before it has begun another, and would keep nothing new for ever.
fn make_room(folder: &Path, count: usize) -> io::Result<()> {
    let files = match fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        files => files?,
    };
    let mut used = Vec::new();
    for file in files {
        let path = file?.path();
        match region(&path) {
            Some(number) if number >= count => fs::remove_file(path)?,
            Some(_) if !is_free(&path) => used.push(path),
            _ => {}
        }
    }
    match used.first() {
        Some(one) if used.len() == count => fs::remove_file(one),
        _ => Ok(()),
    }
}

/// Whether nothing lies in a file of a cache: what begins it is wiped when it is given up.
fn is_free(region: &Path) -> bool {
    let mut begin = [0; 8];
    let read = File::open(region).and_then(|file| file.read_exact_at(&mut begin, 0));
    read.is_err() || begin == [0; 8]
}

/// An object whose blocks come through a cache. Cloning shares both.
#[derive(Clone, Debug)]
pub(super) struct Object {
    cache: Cache,
    store: Store,
    name: Arc<str>,
    len: u64,
}

impl Object {
    /// In bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// How many blocks it has.
    pub(super) fn blocks(&self) -> u64 {
        self.len.div_ceil(BLOCK_BYTES)
    }

    /// Leave for blocks that are read ahead, one for each.
    pub(super) fn room(&self) -> &Arc<Semaphore> {
        &self.cache.room
    }

    /// One block. Several who want the same one read it once.
    pub(super) async fn block(&self, number: u64) -> Result<Bytes, StoreError> {
        let (store, name, range) = (self.store.clone(), self.name.clone(), self.range(number));
        self.block_by(number, async move { store.read(&name, range).await })
            .await
    }

    /// Reads blocks before somebody asks for them, those that nobody has by one request, and tells `to` of each: no more
    /// when nobody listens there any more.
    pub(super) async fn fetch(
        self,
        numbers: Range<u64>,
        mut room: OwnedSemaphorePermit,
        to: Option<mpsc::Sender<Block>>,
    ) {
        let bytes = numbers.start * BLOCK_BYTES..self.len.min(numbers.end * BLOCK_BYTES);
        let stretch = Arc::new(Mutex::new(Stretch::new(&self.store, &self.name, bytes)));
        for number in numbers {
            let (stretch, range) = (Arc::clone(&stretch), self.range(number));
            let read = async move { stretch.lock().await.read(range).await };
            let block = self.block_by(number, read).await;
            let (failed, Some(room)) = (block.is_err(), room.split(1)) else {
                return;
            };
            let gone = match &to {
                Some(to) => to.send((block, room)).await.is_err() || to.is_closed(),
                None => false,
            };
            if failed || gone {
                return;
            }
        }
    }

    async fn block_by(
        &self,
        number: u64,
        read: impl Future<Output = Result<Bytes, StoreError>> + Send + 'static,
    ) -> Result<Bytes, StoreError> {
        let key = self.key(number);
        // What lies in memory the library would write to the disk again, at each read.
        if let Some(entry) = self.cache.blocks.memory().get(&key) {
            return Ok(entry.value().clone());
        }
        match self.cache.blocks.get_or_fetch(&key, || read).await {
            Ok(entry) => Ok(entry.value().clone()),
            Err(e) => match e.downcast_ref::<StoreError>() {
                Some(e) => Err(e.clone()),
                None => {
                    tracing::warn!(error = %e, "the cache failed: the store is asked");
                    self.store.read(&self.name, self.range(number)).await
                }
            },
        }
    }

    /// Whether somebody who begins at byte `start` goes on where another ended lately.
    pub(super) fn goes_on(&self, start: u64) -> bool {
        self.cache.ends.has(self.key(0), start)
    }

    /// Notes that somebody ended at byte `end`.
    pub(super) fn note_end(&self, end: u64) {
        self.cache.ends.note(self.key(0), end);
    }

    /// Forgets what the cache has of it, which was found to be wrong.
    pub(super) fn forget(&self) {
        for number in 0..self.blocks() {
            self.cache.blocks.remove(&self.key(number));
        }
    }

    fn range(&self, number: u64) -> Range<u64> {
        let start = number * BLOCK_BYTES;
        start..(start + BLOCK_BYTES).min(self.len)
    }

    fn key(&self, number: u64) -> u128 {
        key(self.store.url(), &self.name, number)
    }
}

/// 12 bytes of a hash of the object's name, and the block's number.
fn key(store: &str, name: &str, number: u64) -> u128 {
    let hash = Sha256::of(format!("{store}\n{name}").as_bytes());
    let head = hash.0.first_chunk().map_or(0, |head| u128::from_be_bytes(*head));
    head >> 32 << 32 | u128::from(number as u32)
}
