//! Object stores: sealed segments on the warm and the cold tier, whole and immutable.
//!
//! A store is a folder (`file:///…`) or a bucket with a prefix (`s3://bucket/prefix`); both pass the suite in
//! `archive/tests/stores.rs`. What a server does otherwise than the protocol says stays in [`s3`]. An object has one
//! name and one content for ever: what stands under a name is either what was put there or not ours.
//!
//! Nothing here tries again for long: who calls knows what can wait. Each call ends within its time.

mod ahead;
mod away;
mod belonging;
mod cache;
mod config;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod local;
mod object_file;
mod playback;
mod presign;
mod raw;
mod restore;
mod s3;
mod stretch;
mod upload;

use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore};

pub use belonging::{Claim, Marker};
pub use cache::{Cache, CacheConfig};
pub use config::{Limits, StoreConfig};
pub use error::StoreError;
pub(crate) use object_file::ObjectFile;
pub use object_file::{Objects, Stores};
pub use restore::{Access, RestoreTier, Restoring};
pub use upload::{Content, Crc64, PART_BYTES};

use away::AwayUntil;
use belonging::Belonging;
use local::Folder;
use s3::Bucket;
use upload::Told;

use crate::seam::{Faults, Seam, Step};

/// A read of up to [`READ_BYTES_MAX`] takes no longer, or the store counts as away.
const READ_TIMEOUT: Duration = Duration::from_secs(15);
/// Who reads more asks several times: while a read lasts, some servers let nobody delete the object.
pub const READ_BYTES_MAX: u64 = 8 << 20;
/// Everything that carries no content.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// What is put in one piece and is no footage: some MiB at most.
const SMALL_PUT_TIMEOUT: Duration = Duration::from_secs(30);

/// What a store says of an object.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Its length in bytes.
    pub len: u64,
    /// The CRC-64/NVME of all its bytes, where the store keeps one.
    pub crc64: Option<u64>,
    /// Whether it can be read.
    pub access: Access,
}

/// One tier's objects. Cloning shares the connections.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    /// Stands before every name.
    prefix: Path,
    /// For messages: the URL, which has no credentials.
    url: String,
    /// How what is put here is read again, where that takes hours.
    restoring: Option<Restoring>,
    limits: Limits,
    away: Arc<AwayUntil>,
    /// Whether it is the archive's own.
    belonging: Arc<Belonging>,
    /// What stands between us and the store: nothing but in fault tests.
    seam: Seam,
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
            restoring: config.restoring(),
            limits: config.limits(),
            away: Arc::default(),
            belonging: Arc::default(),
            seam: Seam::default(),
        })
    }

    /// The same with faults between us and the store.
    #[must_use]
    pub fn with_faults(self, faults: Arc<dyn Faults>) -> Self {
        Self {
            seam: Seam::with(faults),
            ..self
        }
    }

    /// What may be copied into it at a time.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Removes what uploads have left that an earlier process did not end. Nobody may be putting anything meanwhile.
    /// Servers see to that themselves.
    pub async fn clear_unfinished(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Folder(folder) => folder.clear_unfinished().await,
            Backend::Bucket(_) => Ok(()),
        }
    }

    /// Asks before a step.
    fn step(&self, step: Step, verb: &'static str, name: &str) -> Result<(), StoreError> {
        self.seam
            .must(step, FilePath::new(name))
            .map_err(|e| StoreError::Away {
                what: format!("{verb} {name}"),
                why: e.to_string(),
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
            Ok(_) | Err(StoreError::Missing { .. }) if self.is_folder() => Ok(()),
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
        self.step(Step::Put, "put", name)?;
        self.at_home().await?;
        let told = &mut Told::new(content, |step| self.step(step, "put", name));
        let new = match &self.backend {
            Backend::Folder(folder) => folder.put(&path, told, &self.seam).await?,
            Backend::Bucket(bucket) => bucket.put(&path, told).await?,
        };
        self.step(Step::PutEnded, "put", name)?;
        Ok(new)
    }

    /// The same for something small that is no footage: it can be read at once, also where footage cannot.
    pub async fn put_bytes(&self, name: &str, bytes: Vec<u8>) -> Result<bool, StoreError> {
        let (path, mut content) = (self.path(name), upload::Whole::new(bytes));
        self.step(Step::Put, "put", name)?;
        let put = async {
            match &self.backend {
                Backend::Folder(folder) => folder.put(&path, &mut content, &self.seam).await,
                Backend::Bucket(bucket) => bucket.put_at_hand(&path, &mut content).await,
            }
        };
        let new = self.answered(SMALL_PUT_TIMEOUT, "put", name, put).await?;
        self.step(Step::PutEnded, "put", name)?;
        Ok(new)
    }

    /// What the store says of an object; `None` when there is none.
    pub async fn stat(&self, name: &str) -> Result<Option<Stat>, StoreError> {
        let path = self.path(name);
        self.step(Step::LookUp, "look at", name)?;
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let asked = self.backend.looking().get_opts(&path, options);
        match self.within(CALL_TIMEOUT, "look at", name, asked).await {
            Ok(found) => Ok(Some(Stat {
                len: found.meta.size,
                crc64: s3::whole_crc64(&found.extensions),
                access: s3::access(&found.extensions),
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
        let read = async { self.get(name, &range).await?.bytes().await };
        self.step(Step::Fetch, "read", name)?;
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

    /// The same piece by piece: whoever asks takes them at once.
    async fn read_in_pieces(
        &self,
        name: &str,
        range: &Range<u64>,
    ) -> Result<BoxStream<'static, object_store::Result<Bytes>>, StoreError> {
        self.step(Step::Fetch, "read", name)?;
        let asked = self.get(name, range);
        let answer = self.within(READ_TIMEOUT, "read", name, asked).await?;
        Ok(answer.into_stream())
    }

    async fn get(&self, name: &str, range: &Range<u64>) -> object_store::Result<GetResult> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            ..GetOptions::default()
        };
        self.backend.objects().get_opts(&self.path(name), options).await
    }

    fn is_folder(&self) -> bool {
        matches!(self.backend, Backend::Folder(_))
    }

    /// Whether the object is `len` bytes whose CRC-64/NVME is `crc64`; it is downloaded only where the store keeps
    /// no checksum of the whole. An object that differs is [`StoreError::Wrong`]. One in an archive class that has no
    /// checksum cannot be verified, and counts for nothing.
    pub async fn verify(&self, name: &str, len: u64, crc64: u64) -> Result<(), StoreError> {
        let found = self.compare(name, len, crc64).await?;
        if found.crc64.is_some() {
            return Ok(());
        }
        if !found.access.is_readable() {
            return Err(StoreError::Refused {
                what: format!("verify {name}"),
                why: "the server keeps no CRC-64/NVME of whole objects, and what lies in an archive class cannot be \
                      read back: use a server that does, or a storage_class that answers at once"
                    .to_owned(),
            });
        }
        same_crc64(name, self.read_crc64(name, len).await?, crc64)
    }

    /// The same as far as the store tells without a download; false where it keeps no checksum of the whole.
    pub async fn confirm(&self, name: &str, len: u64, crc64: u64) -> Result<bool, StoreError> {
        Ok(self.compare(name, len, crc64).await?.crc64.is_some())
    }

    /// What the store says of an object, none of which differs.
    async fn compare(&self, name: &str, len: u64, crc64: u64) -> Result<Stat, StoreError> {
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
        Ok(found)
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
        self.step(Step::Delete, "delete", name)?;
        let removed = match &self.backend {
            Backend::Folder(folder) => {
                self.within(CALL_TIMEOUT, "delete", name, folder.delete(&path))
                    .await
            }
            Backend::Bucket(bucket) => {
                self.answered(CALL_TIMEOUT, "delete", name, bucket.delete(&path))
                    .await
            }
        };
        match removed {
            Err(StoreError::Missing { .. }) => return Ok(()),
            other => other?,
        }
        self.step(Step::Deleted, "delete", name)?;
        match self.stat(name).await? {
            None => Ok(()),
            Some(_) => Err(StoreError::Away {
                what: format!("delete {name}"),
                why: "it is still there".to_owned(),
            }),
        }
    }

    /// Puts a legal hold of the store's own on an object, or lifts it. False where the store has no such thing.
    pub async fn legal_hold(&self, name: &str, on: bool) -> Result<bool, StoreError> {
        let Backend::Bucket(bucket) = &self.backend else {
            return Ok(false);
        };
        let path = self.path(name);
        self.answered(CALL_TIMEOUT, "hold", name, bucket.legal_hold(&path, on))
            .await
    }

    /// The names below `folder` that come after `after`, in order, with their lengths: at most `count`.
    pub async fn list(
        &self,
        folder: &str,
        after: Option<&str>,
        count: usize,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        self.step(Step::ListObjects, "list", folder)?;
        let (below, after) = (self.path(folder), after.map(|after| self.path(after)));
        let found = async {
            match &self.backend {
                Backend::Folder(folder) => folder.list(&below, after.as_ref(), count).await,
                Backend::Bucket(bucket) => {
                    let objects = bucket.objects();
                    let all = match &after {
                        Some(after) => objects.list_with_offset(Some(&below), after),
                        None => objects.list(Some(&below)),
                    };
                    let found = all.map_ok(|meta| (meta.location, meta.size)).take(count);
                    found.try_collect::<Vec<_>>().await
                }
            }
        };
        let found = match self.within(4 * CALL_TIMEOUT, "list", below.as_ref(), found).await {
            Err(StoreError::Missing { .. }) => Vec::new(),
            other => other?,
        };
        Ok(found
            .iter()
            .filter_map(|(path, size)| Some((self.relative(path)?, *size)))
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
        let call = async { call.await.map_err(|e| StoreError::of(verb, name, e)) };
        self.answered(time, verb, name, call).await
    }

    async fn answered<T>(
        &self,
        time: Duration,
        verb: &'static str,
        name: &str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let away = |why: String| StoreError::Away {
            what: format!("{verb} {name}"),
            why,
        };
        if let Some(why) = self.away.why() {
            return Err(away(why));
        }
        let begun = Instant::now();
        let call = async {
            self.at_home().await?;
            let answer = call.await;
            // What a folder says that is not the one it was, or was not for a moment, counts for nothing.
            self.in_place().await?;
            answer
        };
        let answer = match tokio::time::timeout(time, call).await {
            Ok(answer) => answer,
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
