//! What buckets do that keep versions, and those that have object lock.
//!
//! - DELETE in a bucket with versions says yes and removes nothing: it puts a marker in front, HEAD finds nothing, and
//!   every byte stays. So there objects are removed version by version, each by its id, and so are markers that others have
//!   put there: HEAD tells of them in the headers of its 404.
//! - A version under a legal hold is not removed by its id; some servers say so with 400, others with 403.
//! - A legal hold is put on the newest version where none is named.
//! - A bucket without object lock answers 400, 404 or 501, and means the bucket.

use object_store::ObjectStoreExt;
use object_store::path::Path;
use object_store::signer::Method;

use super::Bucket;
use crate::store::error::StoreError;
use crate::store::raw::Answer;

/// Versions of one object that are removed at a time.
const VERSIONS_MAX: usize = 32;

impl Answer {
    fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    fn mentions(&self, words: &[&str]) -> bool {
        let text = String::from_utf8_lossy(&self.body);
        words.iter().any(|words| text.contains(words))
    }
}

impl Bucket {
    /// Puts a legal hold on an object, or lifts it. False where the bucket has no object lock.
    pub(crate) async fn legal_hold(&self, path: &Path, on: bool) -> Result<bool, StoreError> {
        let status = if on { "ON" } else { "OFF" };
        let body = format!(
            "<LegalHold xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>{status}</Status></LegalHold>"
        );
        let answer = self
            .raw
            .call(Method::PUT, path, &[("legal-hold", "")], body)
            .await?;
        let no_lock = ["ObjectLock", "Object Lock", "object lock", "NotImplemented"];
        match answer.status {
            _ if answer.is_ok() => Ok(true),
            400 | 404 if answer.mentions(&no_lock) => Ok(false),
            405 if self.newest(path).await?.is_marker => Err(StoreError::Missing {
                name: path.to_string(),
            }),
            405 | 501 => Ok(false),
            _ => Err(answer.into_error(format!("put a legal hold on {path}"), path.as_ref())),
        }
    }

    /// Removes an object, with all its versions where the bucket keeps them.
    pub(crate) async fn delete(&self, path: &Path) -> Result<(), StoreError> {
        let failed = |e| StoreError::of("delete", path.as_ref(), e);
        if !self.keeps_versions(path).await? {
            return self.objects.delete(path).await.map_err(failed);
        }
        let refused = |why: &str| StoreError::Refused {
            what: format!("delete {path}"),
            why: why.to_owned(),
        };
        for _ in 0..VERSIONS_MAX {
            let newest = self.newest(path).await?;
            match newest.status {
                404 if !newest.is_marker => return Ok(()),
                404 if newest.version.is_some() => {}
                404 => {
                    return Err(refused(
                        "a delete marker hides it whose version the server does not tell",
                    ));
                }
                _ if newest.is_ok() => {}
                _ => return Err(newest.into_error(format!("delete {path}"), path.as_ref())),
            }
            let version = newest.version.as_deref().unwrap_or("null");
            let query = [("versionId", version)];
            let answer = self.raw.call(Method::DELETE, path, &query, String::new()).await?;
            if answer.is_ok() || answer.status == 404 {
                continue;
            }
            if answer.mentions(&["WORM", "AccessDenied", "ObjectLocked"]) {
                return Err(StoreError::Held {
                    name: path.to_string(),
                });
            }
            return Err(answer.into_error(format!("delete {path}"), path.as_ref()));
        }
        // The next try goes on; the store is not away.
        Err(refused("it has more versions than are removed at a time"))
    }

    /// What the server has of an object, or of the marker that hides it.
    async fn newest(&self, path: &Path) -> Result<Answer, StoreError> {
        let ask = || self.raw.call(Method::HEAD, path, &[], String::new());
        match ask().await {
            Ok(answer) if !matches!(answer.status, 429 | 500..) => Ok(answer),
            // One bad moment is no reason to let the store rest.
            Ok(_) | Err(_) => ask().await,
        }
    }

    /// Whether a DELETE by name alone would remove nothing. Asked once.
    async fn keeps_versions(&self, path: &Path) -> Result<bool, StoreError> {
        let ask = async || {
            let bucket = Path::default();
            let query = [("versioning", "")];
            let answer = self.raw.call(Method::GET, &bucket, &query, String::new()).await?;
            match answer.status {
                200 => Ok(answer.mentions(&["<Status>Enabled", "<Status>Suspended"])),
                // A server that does not know the question keeps none.
                400 | 404 | 405 | 501 => Ok(false),
                // One that is busy, or does not let us ask, has not said it: deleting by name alone might remove nothing.
                _ => {
                    Err(answer.into_error("ask whether the bucket keeps versions".to_owned(), path.as_ref()))
                }
            }
        };
        self.versions.get_or_try_init(ask).await.copied()
    }
}
