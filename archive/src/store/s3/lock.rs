//! What buckets do that keep versions, and those that have object lock.
//!
//! - DELETE in a bucket with versions says yes and removes nothing: it puts a marker in front, HEAD finds nothing, and
//!   every byte stays. So there objects are removed version by version, each by its id.
//! - A version under a legal hold is not removed by its id; some servers say so with 400, others with 403.
//! - A legal hold is put on the newest version where none is named, and its body has to carry a checksum.
//! - A bucket without object lock answers 400, 404 or 501, and means the bucket.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::client::{HttpRequest, HttpRequestBody};
use object_store::path::Path;
use object_store::signer::{HeaderName, Method, SignedUrlOptions, Signer};
use object_store::{GetOptions, HeaderValue, ObjectStore, ObjectStoreExt};

use super::{Bucket, PART_TIMEOUT};
use crate::store::error::StoreError;

/// Versions of one object that are removed at a time.
const VERSIONS_MAX: usize = 32;
/// Of an answer that is read for its words.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What a server answered.
struct Said {
    status: u16,
    text: String,
}

impl Said {
    fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    fn mentions(&self, words: &[&str]) -> bool {
        words.iter().any(|words| self.text.contains(words))
    }
}

impl Bucket {
    /// Puts a legal hold on an object, or lifts it. False where the bucket has no object lock.
    pub(crate) async fn legal_hold(&self, path: &Path, on: bool) -> Result<bool, StoreError> {
        let status = if on { "ON" } else { "OFF" };
        let body = format!(
            "<LegalHold xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>{status}</Status></LegalHold>"
        );
        let said = self.ask(Method::PUT, path, &[("legal-hold", "")], body).await?;
        let no_lock = ["ObjectLock", "Object Lock", "object lock", "NotImplemented"];
        match said.status {
            _ if said.is_ok() => Ok(true),
            400 | 404 | 405 | 501 if said.mentions(&no_lock) => Ok(false),
            405 | 501 => Ok(false),
            404 => Err(StoreError::Missing {
                name: path.to_string(),
            }),
            _ => Err(refused("put a legal hold on", path, &said)),
        }
    }

    /// Removes an object, with all its versions where the bucket keeps them.
    pub(crate) async fn delete(&self, path: &Path) -> Result<(), StoreError> {
        let failed = |e| StoreError::of("delete", path.as_ref(), e);
        if !self.keeps_versions().await? {
            return self.objects.delete(path).await.map_err(failed);
        }
        for _ in 0..VERSIONS_MAX {
            let options = GetOptions {
                head: true,
                ..GetOptions::default()
            };
            let version = match self.looking.get_opts(path, options).await {
                Ok(found) => found.meta.version,
                Err(object_store::Error::NotFound { .. }) => return Ok(()),
                Err(e) => return Err(failed(e)),
            };
            let version = version.unwrap_or_else(|| "null".to_owned());
            let said = self
                .ask(Method::DELETE, path, &[("versionId", &version)], String::new())
                .await?;
            if said.mentions(&["WORM", "AccessDenied", "ObjectLocked"]) && !said.is_ok() {
                return Err(StoreError::Held {
                    name: path.to_string(),
                });
            }
            if !said.is_ok() && said.status != 404 {
                return Err(refused("delete", path, &said));
            }
        }
        Ok(())
    }

    /// Whether a DELETE by name alone would remove nothing. Asked once.
    async fn keeps_versions(&self) -> Result<bool, StoreError> {
        let ask = async || {
            let said = self
                .ask(
                    Method::GET,
                    &Path::default(),
                    &[("versioning", "")],
                    String::new(),
                )
                .await?;
            // A server that does not know the question keeps none.
            Ok(said.is_ok() && said.mentions(&["<Status>Enabled", "<Status>Suspended"]))
        };
        self.versions.get_or_try_init(ask).await.copied()
    }

    /// One request that the library does not know.
    async fn ask(
        &self,
        method: Method,
        path: &Path,
        query: &[(&str, &str)],
        body: String,
    ) -> Result<Said, StoreError> {
        let away = |why: String| StoreError::Away {
            what: format!("ask about {path}"),
            why,
        };
        let mut options = SignedUrlOptions::default().with_query(query.iter().copied());
        if !body.is_empty() {
            use base64::Engine;
            use sha2::Digest;
            let sum = sha2::Sha256::digest(body.as_bytes());
            let sum = base64::engine::general_purpose::STANDARD.encode(sum);
            let value = HeaderValue::from_str(&sum).map_err(|e| away(e.to_string()))?;
            options = options.with_signed_header(HeaderName::from_static("x-amz-checksum-sha256"), value);
        }
        let headers = options.signed_headers.clone();
        let signed = self
            .objects
            .signed_url_opts(method.clone(), path, PART_TIMEOUT, &options);
        let url = signed
            .await
            .map_err(|e| StoreError::of("sign", path.as_ref(), e))?;
        let mut request = HttpRequest::new(HttpRequestBody::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = url
            .as_str()
            .parse()
            .map_err(|_| away("its URL is none".to_owned()))?;
        *request.headers_mut() = headers;
        let response = self.raw.execute(request).await.map_err(|e| away(e.to_string()))?;
        let status = response.status().as_u16();
        let mut text = BytesMut::new();
        let mut pieces = response.into_body().bytes_stream();
        while let Some(piece) = pieces.next().await {
            let piece: Bytes = piece.map_err(|e| away(e.to_string()))?;
            if text.len() + piece.len() > ANSWER_BYTES_MAX {
                break;
            }
            text.extend_from_slice(&piece);
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        if status >= 500 && status != 501 {
            return Err(away(format!("it answered {status}")));
        }
        Ok(Said { status, text })
    }
}

fn refused(verb: &str, path: &Path, said: &Said) -> StoreError {
    StoreError::Refused {
        what: format!("{verb} {path}"),
        why: format!(
            "it answered {}: {}",
            said.status,
            said.text.chars().take(200).collect::<String>()
        ),
    }
}
