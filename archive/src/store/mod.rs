//! Object stores: sealed segments on the warm and the cold tier, whole and immutable.
//!
//! A store is a folder (`file:///…`) or a bucket with a prefix (`s3://bucket/prefix`); both pass the suite in
//! `archive/tests/stores.rs`. What a server does otherwise than the protocol says stays in [`s3`]. An object has one
//! name and one content for ever: what stands under a name is either what was put there or not ours.
//!
//! Nothing here tries again for long: who calls knows what can wait. Each call ends within its time.

mod cache;
mod config;
mod error;
mod local;
mod object_file;
mod s3;
mod upload;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};

pub use cache::{Cache, CacheConfig};
pub use config::StoreConfig;
pub use error::StoreError;
pub(crate) use object_file::ObjectFile;
pub use object_file::{Objects, Stores};
pub use upload::{Content, Crc64, PART_BYTES};

use local::Folder;
use s3::Bucket;

/// A read of up to [`READ_BYTES_MAX`] takes no longer, or the store counts as away.
const READ_TIMEOUT: Duration = Duration::from_secs(15);
/// Who reads more asks several times: while a read lasts, some servers let nobody delete the object.
pub const READ_BYTES_MAX: u64 = 8 << 20;
/// Everything that carries no content.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// What a store says of an object.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Its length in bytes.
    pub len: u64,
    /// The CRC-64/NVME of all its bytes, where the store keeps one.
    pub crc64: Option<u64>,
}

/// One tier's objects. Cloning shares the connections.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    /// Stands before every name.
    prefix: Path,
    /// For messages: the URL, which has no credentials.
    url: String,
    away: Arc<AwayUntil>,
}

#[derive(Clone, Debug)]
enum Backend {
    Folder(Folder),
    Bucket(Box<Bucket>),
}

impl Backend {
    fn objects(&self) -> &dyn ObjectStore {
        match self {
            Self::Folder(folder) => folder.objects(),
            Self::Bucket(bucket) => bucket.objects(),
        }
    }

    /// The same, for asking about objects.
    fn looking(&self) -> &dyn ObjectStore {
        match self {
            Self::Folder(folder) => folder.objects(),
            Self::Bucket(bucket) => bucket.looking(),
        }
    }
}

impl Store {
    /// Opens a store; a folder is made when it is missing. Nothing is asked of a server yet: see
    /// [`Store::probe`].
    pub fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let url = config.url.to_string();
        let refused = |why: String| StoreError::Refused {
            what: format!("open {url}"),
            why,
        };
        let (backend, prefix) = match config.url.scheme() {
            "file" => {
                let root = config
                    .url
                    .to_file_path()
                    .map_err(|()| refused("not a folder".to_owned()))?;
                (Backend::Folder(Folder::open(&root)?), Path::default())
            }
            "s3" => {
                let prefix = Path::from_url_path(config.url.path()).map_err(|e| refused(e.to_string()))?;
                (Backend::Bucket(Box::new(Bucket::open(config)?)), prefix)
            }
            other => return Err(refused(format!("{other}:// is no store: use file:// or s3://"))),
        };
        Ok(Self {
            backend,
            prefix,
            url,
            away: Arc::default(),
        })
    }

    /// Where it is, for messages.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn path(&self, name: &str) -> Path {
        Path::from_iter(self.prefix.parts().chain(Path::from(name).parts()))
    }

    /// Whether the store answers and lets us list it. A bucket that is not there is an error here; later it would
    /// look like an object that is not there.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let first = async {
            let mut all = self.backend.objects().list(Some(&self.prefix));
            all.next().await.transpose()
        };
        match self.within(CALL_TIMEOUT, "list", &self.url, first).await {
            // A folder without objects.
            Ok(_) | Err(StoreError::Missing { .. }) if matches!(self.backend, Backend::Folder(_)) => Ok(()),
            Err(StoreError::Missing { .. }) => Err(StoreError::Refused {
                what: format!("list {}", self.url),
                why: "there is no such bucket: make it, or correct `url` or `endpoint`".to_owned(),
            }),
            other => other.map(drop),
        }
    }

    /// Puts an object there, unless one of this name is: then nothing is changed, and the answer is `false`. What was
    /// put is durable when this returns; whether it is what was meant, [`Store::verify`] tells.
    pub async fn put(&self, name: &str, content: &mut impl Content) -> Result<bool, StoreError> {
        let path = self.path(name);
        match &self.backend {
            Backend::Folder(folder) => folder.put(&path, content).await,
            Backend::Bucket(bucket) => bucket.put(&path, content).await,
        }
    }

    /// The same for something small.
    pub async fn put_bytes(&self, name: &str, bytes: Vec<u8>) -> Result<bool, StoreError> {
        self.put(name, &mut upload::Whole::new(bytes)).await
    }

    /// What the store says of an object; `None` when there is none.
    pub async fn stat(&self, name: &str) -> Result<Option<Stat>, StoreError> {
        let path = self.path(name);
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let asked = self.backend.looking().get_opts(&path, options);
        match self.within(CALL_TIMEOUT, "look at", name, asked).await {
            Ok(found) => Ok(Some(Stat {
                len: found.meta.size,
                crc64: s3::whole_crc64(&found.extensions),
            })),
            Err(StoreError::Missing { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The bytes `range` of an object: all of them or an error. At most [`READ_BYTES_MAX`].
    pub async fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let path = self.path(name);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            ..GetOptions::default()
        };
        let read = async {
            let found = self.backend.objects().get_opts(&path, options).await?;
            found.bytes().await
        };
        let bytes = self.within(READ_TIMEOUT, "read", name, read).await?;
        // A range beyond the end comes back shortened, and not as an error.
        if bytes.len() as u64 != range.end - range.start {
            return Err(StoreError::Wrong {
                name: name.to_owned(),
                why: format!(
                    "{} bytes at {} are not all there",
                    range.end - range.start,
                    range.start
                ),
            });
        }
        Ok(bytes)
    }

    /// Whether the object is `len` bytes whose CRC-64/NVME is `crc64`; it is downloaded only where the store keeps
    /// no checksum of the whole. An object that differs is [`StoreError::Wrong`].
    pub async fn verify(&self, name: &str, len: u64, crc64: u64) -> Result<(), StoreError> {
        if !self.confirm(name, len, crc64).await? {
            same_crc64(name, self.read_crc64(name, len).await?, crc64)?;
        }
        Ok(())
    }

    /// The same as far as the store tells without a download; false where it keeps no checksum of the whole.
    pub async fn confirm(&self, name: &str, len: u64, crc64: u64) -> Result<bool, StoreError> {
        let found = self.stat(name).await?.ok_or_else(|| StoreError::Missing {
            name: name.to_owned(),
        })?;
        if found.len != len {
            return Err(StoreError::Wrong {
                name: name.to_owned(),
                why: format!("it has {} bytes instead of {len}", found.len),
            });
        }
        found
            .crc64
            .map_or(Ok(()), |there| same_crc64(name, there, crc64))?;
        Ok(found.crc64.is_some())
    }

    async fn read_crc64(&self, name: &str, len: u64) -> Result<u64, StoreError> {
        let mut crc64 = upload::Crc64::new();
        let mut at = 0;
        while at < len {
            let end = (at + READ_BYTES_MAX).min(len);
            crc64.update(&self.read(name, at..end).await?);
            at = end;
        }
        Ok(crc64.finish())
    }

    /// Removes an object and looks that it is gone; one that is not there is no error.
    pub async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name);
        match self
            .within(CALL_TIMEOUT, "delete", name, self.backend.objects().delete(&path))
            .await
        {
            Err(StoreError::Missing { .. }) => return Ok(()),
            other => other?,
        }
        match self.stat(name).await? {
            None => Ok(()),
            Some(_) => Err(StoreError::Away {
                what: format!("delete {name}"),
                why: "it is still there".to_owned(),
            }),
        }
    }

    /// The names below `folder` that come after `after`, in order, with their lengths: at most `count`.
    pub async fn list(
        &self,
        folder: &str,
        after: Option<&str>,
        count: usize,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let folder = self.path(folder);
        let objects = self.backend.objects();
        let found = async {
            let all = match after {
                Some(after) => objects.list_with_offset(Some(&folder), &self.path(after)),
                None => objects.list(Some(&folder)),
            };
            // A folder of the file system is listed in no order.
            let mut found: Vec<_> = match &self.backend {
                Backend::Folder(_) => all.try_collect().await?,
                Backend::Bucket(_) => all.take(count).try_collect().await?,
            };
            found.sort_unstable_by(|a, b| a.location.cmp(&b.location));
            found.truncate(count);
            Ok(found)
        };
        let found = match self
            .within(4 * CALL_TIMEOUT, "list", folder.as_ref(), found)
            .await
        {
            Err(StoreError::Missing { .. }) => Vec::new(),
            other => other?,
        };
        Ok(found
            .iter()
            .filter_map(|meta| Some((self.relative(&meta.location)?, meta.size)))
            .collect())
    }

    /// What lies directly in `folder`: folders, and objects, in order. Meant for where there are few of both.
    pub async fn folder(&self, folder: &str) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let folder = self.path(folder);
        let list = self.backend.objects().list_with_delimiter(Some(&folder));
        let found = match self.within(4 * CALL_TIMEOUT, "list", folder.as_ref(), list).await {
            Err(StoreError::Missing { .. }) => return Ok((Vec::new(), Vec::new())),
            other => other?,
        };
        let mut folders: Vec<_> = found
            .common_prefixes
            .iter()
            .filter_map(|path| self.relative(path))
            .collect();
        let mut objects: Vec<_> = found
            .objects
            .iter()
            .filter_map(|meta| self.relative(&meta.location))
            .collect();
        folders.sort_unstable();
        objects.sort_unstable();
        Ok((folders, objects))
    }

    /// The name of an object without what stands before every name.
    fn relative(&self, path: &Path) -> Option<String> {
        let parts: Vec<_> = path.prefix_match(&self.prefix)?.collect();
        Some(Path::from_iter(parts).to_string())
    }

    /// What is asked of the store, and its answer within `time`. While it is away it is not asked: otherwise everybody
    /// who wants something would wait for it, one after the other.
    async fn within<T>(
        &self,
        time: Duration,
        verb: &'static str,
        name: &str,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        let away = |why: String| StoreError::Away {
            what: format!("{verb} {name}"),
            why,
        };
        if let Some(why) = self.away.why() {
            return Err(away(why));
        }
        let begun = Instant::now();
        let answer = match tokio::time::timeout(time, call).await {
            Ok(answer) => answer.map_err(|e| StoreError::of(verb, name, e)),
            Err(_) => Err(away(format!("no answer within {} s", time.as_secs()))),
        };
        if let Err(StoreError::Away { why, .. }) = &answer {
            self.away.note(why, begun.elapsed());
        }
        answer
    }
}

fn same_crc64(name: &str, there: u64, crc64: u64) -> Result<(), StoreError> {
    if there == crc64 {
        return Ok(());
    }
    Err(StoreError::Wrong {
        name: name.to_owned(),
        why: format!("its CRC-64 is {there:016x} instead of {crc64:016x}"),
    })
}

/// For how long a store that did not answer is not asked again.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Whether a store is left alone for a moment, and why.
#[derive(Debug, Default)]
struct AwayUntil(Mutex<Option<(Instant, String)>>);

impl AwayUntil {
    fn why(&self) -> Option<String> {
        let until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until
            .as_ref()
            .filter(|(until, _)| Instant::now() < *until)
            .map(|(_, why)| why.clone())
    }

    /// It took `waited` to learn that it is away: so long it is not asked.
    fn note(&self, why: &str, waited: Duration) {
        let until = Instant::now() + waited.clamp(REST.0, REST.1);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((until, why.to_owned()));
    }
}
