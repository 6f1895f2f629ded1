//! An object that is read like a file.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::ahead::{Order, play_on};
use super::cache::{BLOCK_BYTES, Cache, Object};
use super::{Store, StoreError};
use crate::buffer::Filling;
use crate::tier::Tier;

/// How objects are read: which store, which cache, and who waits for the network.
#[derive(Clone, Debug)]
pub struct Objects {
    /// Where they are.
    pub store: Store,
    /// `None` for those who read everything once.
    pub cache: Option<Cache>,
    /// The runtime that connections and cache live on: not the one whose threads wait here, or those who wait could
    /// leave none for what they wait for.
    pub runtime: Handle,
    /// Reads at a time; others wait a moment and are then refused, so that not everybody who reads waits for a store.
    pub turns: Arc<Semaphore>,
}

/// How long a read waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(2);

/// Objects that are removed or held at a time: each waits for an answer or two, and takes next to nothing beside that.
const CALLS_AT_ONCE: usize = 16;

/// Objects that are listed at a time.
const PAGE_OBJECTS: usize = 1000;

impl Objects {
    /// A store for somebody who reads it alone, everything once.
    pub fn once(store: Store, runtime: Handle) -> Self {
        Self {
            store,
            cache: None,
            runtime,
            turns: Arc::new(Semaphore::new(1)),
        }
    }

    /// Tells the names and lengths of all objects below `folder`, in order. Blocks.
    pub fn for_each(&self, folder: &str, mut tell: impl FnMut(String, u64)) -> Result<(), StoreError> {
        let mut after: Option<String> = None;
        loop {
            let list = self.store.list(folder, after.as_deref(), PAGE_OBJECTS);
            let page = self.runtime.block_on(list)?;
            let more = page.len() == PAGE_OBJECTS;
            after = page.last().map(|(name, _)| name.clone());
            page.into_iter().for_each(|(name, len)| tell(name, len));
            if !more {
                return Ok(());
            }
        }
    }

    /// What lies directly in `folder`: folders, and objects. Blocks.
    pub fn folder(&self, folder: &str) -> Result<(Vec<String>, Vec<String>), StoreError> {
        self.runtime.block_on(self.store.folder(folder))
    }

    /// Removes segments, several at a time, with what stands beside them, and looks that they are gone. After `time` no
    /// more are begun. One answer for each name; `None` for one that was not begun. Blocks.
    pub fn delete_all(&self, names: &[String], time: Duration) -> Vec<Option<Result<(), StoreError>>> {
        self.for_all(names, time, |store, name| async move {
            store.delete_segment(&name).await
        })
    }

    /// Puts legal holds of the store's own on objects, or lifts them, as [`Objects::delete_all`] deletes.
    pub fn legal_holds(
        &self,
        names: &[String],
        on: bool,
        time: Duration,
    ) -> Vec<Option<Result<bool, StoreError>>> {
        self.for_all(names, time, |store, name| async move {
            store.legal_hold(&name, on).await
        })
    }

    /// Does the same with several objects at a time; after `time` with no more.
    fn for_all<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        names: &[String],
        time: Duration,
        what: impl Fn(Store, String) -> F,
    ) -> Vec<Option<Result<T, StoreError>>> {
        let begun = Instant::now();
        let one = |name: &String| {
            let (store, name) = (self.store.clone(), name.clone());
            let what = &what;
            async move {
                if begun.elapsed() > time {
                    return None;
                }
                Some(what(store, name).await)
            }
        };
        let all = stream::iter(names.iter().map(one)).buffered(CALLS_AT_ONCE);
        self.runtime.block_on(all.collect())
    }

    /// Whatever `read` gives, when it is its turn. Blocks.
    fn wait<T>(
        &self,
        name: &str,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.runtime.block_on(async {
            let Ok(Ok(_turn)) = tokio::time::timeout(TURN_MAX, self.turns.acquire()).await else {
                return Err(StoreError::Away {
                    what: format!("read {name}"),
                    why: "too much is read from object stores at once".to_owned(),
                });
            };
            read.await
        })
    }
}

/// The stores of an archive.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    /// An object store that answers at once.
    pub warm: Option<Objects>,
    /// An archive class or a cheaper bucket.
    pub cold: Option<Objects>,
}

impl Stores {
    /// The store of a tier; the hot one has none.
    pub fn of(&self, tier: Tier) -> Option<&Objects> {
        match tier {
            Tier::Hot => None,
            Tier::Warm => self.warm.as_ref(),
            Tier::Cold => self.cold.as_ref(),
        }
    }

    /// The store of a tier on which something lies: it was configured when that was put there.
    pub fn expected(&self, tier: Tier) -> Result<&Objects, StoreError> {
        self.of(tier).ok_or_else(|| StoreError::Refused {
            what: format!("find the {tier} tier"),
            why: format!("footage lies on it, and [tiers.{tier}] is not configured any more: put it back"),
        })
    }
}

/// One object open for reading. Its methods block: not to be called on the runtime's own threads.
#[derive(Debug)]
pub(crate) struct ObjectFile {
    objects: Objects,
    name: String,
    len: u64,
    /// Through the cache, where there is one.
    blocks: Option<Object>,
    /// How it was read until now. Who reads takes it, and puts it back.
    order: Mutex<Order>,
}

impl ObjectFile {
    pub(crate) fn new(objects: &Objects, name: &str, len: u64) -> Self {
        let blocks = |cache: &Cache| cache.object(&objects.store, name, len);
        Self {
            objects: objects.clone(),
            name: name.to_owned(),
            len,
            blocks: objects.cache.as_ref().map(blocks),
            order: Mutex::default(),
        }
    }

    /// Opens an object whose length is not known.
    pub(crate) fn look_up(objects: &Objects, name: &str) -> Result<Self, StoreError> {
        let missing = || StoreError::Missing {
            name: name.to_owned(),
        };
        let stat = objects
            .runtime
            .block_on(objects.store.stat(name))?
            .ok_or_else(missing)?;
        Ok(Self::new(objects, name, stat.len))
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where what is read from `offset` on without a copy ends.
    pub(crate) fn piece_end(&self, offset: u64) -> Option<u64> {
        self.blocks
            .as_ref()
            .map(|_| (offset / BLOCK_BYTES + 1) * BLOCK_BYTES)
    }

    /// Says that `range` is read next, and has its beginning asked for.
    pub(crate) fn begin(&self, range: Range<u64>) {
        if let Some(blocks) = self.blocks.as_ref().filter(|_| range.end <= self.len) {
            self.order().begin(&range, blocks, &self.objects.runtime);
        }
    }

    /// Has its beginning in the cache soon, for whoever reads it next.
    pub(crate) fn ready(&self) {
        if let Some(blocks) = &self.blocks {
            play_on(0, blocks, &self.objects.runtime);
        }
    }

    /// Whether its reader comes to its end and is likely to go on with what follows it; true once.
    pub(crate) fn is_ending(&self) -> bool {
        self.order().is_ending()
    }

    /// Says that the reads from now on end at `until`.
    pub(crate) fn expect(&self, until: u64) {
        self.order().expect(until.min(self.len));
    }

    /// The bytes from `offset` on, in one piece.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        let range = offset..offset.saturating_add(len as u64);
        if range.end > self.len {
            return Err(self.wrong(format!(
                "it has {} bytes, and byte {} was asked for",
                self.len, range.end
            )));
        }
        let o = &self.objects;
        let Some(blocks) = &self.blocks else {
            return o.wait(&self.name, self.read_all(range));
        };
        let mut order = std::mem::take(&mut *self.order());
        order.read_on(&range, blocks, &o.runtime);
        let pieces = o.wait(&self.name, self.read_blocks(blocks, &mut order, range))?;
        *self.order() = order;
        Ok(joined(pieces))
    }

    async fn read_blocks(
        &self,
        blocks: &Object,
        order: &mut Order,
        range: Range<u64>,
    ) -> Result<Vec<Bytes>, StoreError> {
        let mut pieces = Vec::new();
        for number in range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES) {
            let start = number * BLOCK_BYTES;
            let block = order.block(blocks, number).await?;
            let wanted = range.start.max(start) - start..range.end.min(start + BLOCK_BYTES) - start;
            if wanted.end > block.len() as u64 {
                return Err(self.wrong(format!("it ends before byte {}", range.end)));
            }
            pieces.push(block.slice(wanted.start as usize..wanted.end as usize));
        }
        Ok(pieces)
    }

    fn wrong(&self, why: String) -> StoreError {
        let name = self.name.clone();
        StoreError::Wrong { name, why }
    }

    async fn read_all(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let mut pieces = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let end = (at + super::READ_BYTES_MAX).min(range.end);
            pieces.push(self.objects.store.read(&self.name, at..end).await?);
            at = end;
        }
        Ok(joined(pieces))
    }

    /// Reads from now on ask the store itself.
    pub(crate) fn distrust_cache(&self) {
        *self.order() = Order::default();
        if let Some(blocks) = &self.blocks {
            blocks.forget();
        }
    }
}

impl Drop for ObjectFile {
    fn drop(&mut self) {
        let end = self.order().end();
        if let Some((blocks, end)) = self.blocks.as_ref().zip(end) {
            blocks.note_end(end);
        }
    }
}

fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() == 1 {
        return pieces.pop().unwrap_or_default();
    }
    let len = pieces.iter().map(Bytes::len).sum();
    let mut whole = Filling::new(len);
    pieces.iter_mut().for_each(|piece| whole.take(piece));
    whole.into_bytes()
}
