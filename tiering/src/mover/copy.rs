//! Makes one copy: puts the bytes there, and believes nothing before the store has told their checksum.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use archive::ArchiveError;
use archive::disk::Disk;
use archive::segment::{SegmentReader, verify};
use archive::store::{Content, Crc64, Objects, PART_BYTES, Store, StoreError};
use bytes::Bytes;
use object_store::PutPayload;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::outline;
use super::pace::Way;

/// Where the bytes come from.
pub(super) struct Origin {
    source: Source,
    len: u64,
    at: u64,
    crc64: Crc64,
    /// How they go.
    way: Arc<Way>,
    /// Nothing more is told from then on: who puts it there ends by himself, and takes back what he has begun.
    until: Option<Instant>,
}

enum Source {
    File(Arc<SegmentReader>),
    Object(Store, String),
}

impl Origin {
    /// A file of the hot tier, which must be as long as its row says.
    pub(super) fn file(disk: &Disk, name: &str, bytes: u64, way: Arc<Way>) -> Result<Self, StoreError> {
        let open = || {
            let reader = SegmentReader::open(disk, name)?;
            reader.set_direct();
            let len = reader.len()?;
            Ok((reader, len))
        };
        let (reader, len) = open().map_err(unreadable)?;
        if len != bytes {
            return Err(StoreError::Wrong {
                name: name.to_owned(),
                why: format!("the file has {len} bytes where the index says {bytes}"),
            });
        }
        Ok(Self::new(Source::File(Arc::new(reader)), len, way))
    }

    pub(super) fn object(store: Store, name: &str, len: u64, way: Arc<Way>) -> Self {
        Self::new(Source::Object(store, name.to_owned()), len, way)
    }

    fn new(source: Source, len: u64, way: Arc<Way>) -> Self {
        Self {
            source,
            len,
            at: 0,
            crc64: Crc64::new(),
            way,
            until: None,
        }
    }

    /// The same for so long.
    pub(super) fn within(self, limit: Duration) -> Self {
        Self {
            until: Some(Instant::now() + limit),
            ..self
        }
    }

    /// Fails unless every byte of the file is what was recorded. Objects were verified when they were made.
    async fn check(&self) -> Result<(), StoreError> {
        let Source::File(reader) = &self.source else {
            return Ok(());
        };
        let reader = Arc::clone(reader);
        let checked = tokio::task::spawn_blocking(move || verify(&reader)).await;
        checked
            .map_err(|e| unreadable(io(e)))?
            .map_err(unreadable)
            .map(drop)
    }

    /// The same bytes, for who reads some of them; its methods block.
    pub(super) fn reader(&self) -> Arc<SegmentReader> {
        match &self.source {
            Source::File(reader) => Arc::clone(reader),
            Source::Object(store, name) => {
                let objects = Objects::once(store.clone(), Handle::current());
                Arc::new(SegmentReader::of_object(&objects, name, self.len))
            }
        }
    }

    fn rewind(&mut self) {
        self.at = 0;
        self.crc64 = Crc64::new();
    }

    /// The next part, in pieces.
    async fn read(&mut self) -> Result<Option<Vec<Bytes>>, StoreError> {
        let end = (self.at + PART_BYTES as u64).min(self.len);
        if self.at == end {
            return Ok(None);
        }
        let range = self.at..end;
        self.at = end;
        let pieces = match &self.source {
            Source::File(reader) => {
                let reader = Arc::clone(reader);
                let read = tokio::task::spawn_blocking(move || in_pieces(&reader, range)).await;
                read.map_err(|e| unreadable(io(e)))?.map_err(unreadable)?
            }
            Source::Object(store, name) => vec![store.read(name, range).await?],
        };
        pieces.iter().for_each(|piece| self.crc64.update(piece));
        Ok(Some(pieces))
    }
}

impl Content for Origin {
    fn len(&self) -> u64 {
        self.len
    }

    async fn next(&mut self) -> Result<Option<PutPayload>, StoreError> {
        let Some(until) = self.until else {
            return self.told().await;
        };
        let told = tokio::time::timeout_at(until, self.told()).await;
        told.unwrap_or_else(|_| {
            Err(StoreError::Away {
                what: "put a copy".to_owned(),
                why: "it takes too long".to_owned(),
            })
        })
    }
}

impl Origin {
    async fn told(&mut self) -> Result<Option<PutPayload>, StoreError> {
        let part = self.read().await?;
        if let Some(part) = &part {
            let bytes: usize = part.iter().map(Bytes::len).sum();
            self.way.pass(bytes as u64).await;
        }
        Ok(part.map(PutPayload::from_iter))
    }
}

/// Memory for pieces of this size is used again and again; fresh memory costs as much as sending what is read into it.
const PIECE_BYTES: u64 = 2 << 20;

fn in_pieces(reader: &SegmentReader, range: Range<u64>) -> Result<Vec<Bytes>, ArchiveError> {
    let starts = range.clone().step_by(PIECE_BYTES as usize);
    starts
        .map(|start| {
            let end = (start + PIECE_BYTES).min(range.end);
            reader.read_aligned(start, (end - start) as usize)
        })
        .collect()
}

/// Copies a segment to `name` in a store and verifies it. What an earlier attempt left there counts if it is the same,
/// and is replaced if not: the name is ours, and nobody reads it yet. `known` is the checksum that the first copy had.
pub(super) async fn copy(
    mut origin: Origin,
    store: &Store,
    name: &str,
    known: Option<u64>,
) -> Result<u64, StoreError> {
    let len = origin.len;
    // Nobody ever compared an object that a rebuild found with anything.
    let unproven = known.is_none() && matches!(origin.source, Source::Object(..));
    outline::put(store, name, || origin.reader()).await?;
    let mut there = false;
    if store.stat(name).await?.is_some() {
        while origin.read().await?.is_some() {}
        match store.verify(name, len, origin.crc64.finish()).await {
            Ok(()) => there = true,
            Err(StoreError::Wrong { why, .. }) => {
                // It may be the file that has changed since, and the object what it was.
                origin.check().await?;
                tracing::warn!(name, why, "what an earlier attempt left in the store is replaced");
                store.delete(name).await?;
                origin.rewind();
            }
            Err(e) => return Err(e),
        }
    }
    if !there {
        store.put(name, &mut origin).await?;
        // Where somebody else was faster, not everything was read.
        while origin.read().await?.is_some() {}
    }
    let crc64 = origin.crc64.finish();
    let mut sound = if there {
        Ok(())
    } else {
        store.verify(name, len, crc64).await
    };
    // A copy of a copy must be what the first one was.
    if sound.is_ok() && known.is_some_and(|known| known != crc64) {
        sound = Err(StoreError::Wrong {
            name: name.to_owned(),
            why: "the copy that it was made from has changed since".to_owned(),
        });
    }
    if sound.is_ok() && unproven {
        sound = prove(&origin, store, name).await;
    }
    match sound {
        Ok(()) => Ok(crc64),
        Err(e @ (StoreError::Wrong { .. } | StoreError::Content(_))) => {
            store.delete(name).await?;
            Err(e)
        }
        Err(e) => Err(e),
    }
}

/// Fails unless every byte of a new copy is what was recorded, by the hashes that it carries. One that cannot be read at
/// once is judged by what it was made from.
async fn prove(origin: &Origin, store: &Store, name: &str) -> Result<(), StoreError> {
    let reader = match store.restoring() {
        Some(_) => origin.reader(),
        None => {
            let objects = Objects::once(store.clone(), Handle::current());
            Arc::new(SegmentReader::of_object(&objects, name, origin.len))
        }
    };
    let proven = tokio::task::spawn_blocking(move || verify(&reader)).await;
    match proven.map_err(|e| unreadable(io(e)))? {
        Err(ArchiveError::Store(e)) => Err(e),
        other => other.map_err(unreadable).map(drop),
    }
}

pub(super) fn unreadable(e: ArchiveError) -> StoreError {
    StoreError::Content(Arc::new(e))
}

pub(super) fn io(e: tokio::task::JoinError) -> ArchiveError {
    ArchiveError::Io {
        op: "read",
        path: "a segment".into(),
        source: std::io::Error::other(e),
    }
}

#[cfg(test)]
mod tests {
    use archive::store::StoreConfig;

    use super::*;

    #[test]
    fn a_copy_that_takes_too_long_leaves_nothing_half_done() {
        let dir = tempfile::tempdir().expect("folder");
        let store = |name: &str| {
            let url = url::Url::from_directory_path(dir.path().join(name)).expect("url");
            Store::open(&StoreConfig::at(url)).expect("store")
        };
        let (from, to) = (store("from"), store("to"));
        let (name, len) = ("a.mp4", 3 * PART_BYTES);
        std::fs::write(dir.path().join("from").join(name), vec![7; len]).expect("object");
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        // Four seconds a part.
        let way = Arc::new(Way::new(Some(PART_BYTES as u64 / 4)));
        let origin = Origin::object(from, name, len as u64, way).within(Duration::from_secs(1));
        let copied = runtime.block_on(copy(origin, &to, name, Some(1)));
        let error = copied.expect_err("too long");
        assert!(error.is_passing(), "{error}");
        let left: Vec<_> = std::fs::read_dir(dir.path().join("to/.unfinished"))
            .expect("list")
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
