//! A bucket as a store, and the one place that knows in what servers differ.
//!
//! - A conditional PUT of one piece locks its name on some servers while it lasts, so that readers wait. In parts
//!   only the end is conditional.
//! - The library says neither there that the object must be new, nor with HEAD that the checksum is wanted. Clients
//!   of their own send those headers, each for that alone: some servers refuse headers that are not signed, and the
//!   library signs them with few requests.
//! - A checksum of the whole comes back from CRC-64/NVME alone when an object was uploaded in parts: SHA-256 is
//!   combined from those of the parts. What has a `-` in it is combined too, and no answer.
//! - The end of an upload that was told twice is "no such upload", and a conditional one that was, "exists": so
//!   neither proves anything, and who asks looks at the object.
//! - Versions and object lock: see [`lock`].
//! - Servers keep parts of uploads that were never ended; they are aborted as far as we live to see it.
//! - What lies in an archive class cannot be read back to be verified: it has to have a checksum of the whole. So it
//!   goes up in parts always, since some servers keep no checksum of what came in one piece.

mod lock;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, Extensions, HeaderMap, HeaderValue, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, RetryConfig,
};
use tokio::sync::OnceCell;

use super::config::StoreConfig;
use super::error::StoreError;
use super::raw::Raw;
use super::restore::Access;
use super::upload::{Content, PART_BYTES};

pub(super) const CHECKSUM: &str = "x-amz-checksum-crc64nvme";
pub(super) const CHECKSUM_TYPE: &str = "x-amz-checksum-type";
/// Parts of one object on their way at a time. Two keep a server busy; more cost CPU and no time.
const PARTS_AT_ONCE: usize = 2;
/// A part on its way takes no longer: 8 MiB at 2 Mbit/s, two at a time, take 64 s.
const PART_TIMEOUT: Duration = Duration::from_secs(90);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A bucket. Cloning shares the connections.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    objects: Arc<AmazonS3>,
    /// For HEAD: asks for checksums too.
    looking: Arc<AmazonS3>,
    /// For the end of uploads: only names that do not exist yet.
    ending: Arc<AmazonS3>,
    /// For what the library does not know.
    raw: Raw,
    /// Whether the bucket keeps versions; asked once.
    versions: Arc<OnceCell<bool>>,
    storage_class: Option<String>,
    /// Whether that class has to be restored from.
    archives: bool,
}

impl Bucket {
    pub(super) fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let sending = |header: Option<(&'static str, &'static str)>| {
            let mut headers = HeaderMap::new();
            if let Some((name, value)) = header {
                headers.insert(name, HeaderValue::from_static(value));
            }
            client(config, headers).map(Arc::new)
        };
        let objects = sending(None)?;
        let http = ReqwestConnector::default().connect(&options(config));
        let http = http.map_err(|e| refused(config, e.to_string()))?;
        Ok(Self {
            raw: Raw::new(Arc::clone(&objects), http),
            objects,
            looking: sending(Some(("x-amz-checksum-mode", "ENABLED")))?,
            ending: sending(Some(("if-none-match", "*")))?,
            versions: Arc::default(),
            storage_class: config.storage_class.clone(),
            archives: config.restoring().is_some(),
        })
    }

    pub(super) fn raw(&self) -> &Raw {
        &self.raw
    }

    pub(super) fn objects(&self) -> &dyn ObjectStore {
        &*self.objects
    }

    pub(super) fn looking(&self) -> &dyn ObjectStore {
        &*self.looking
    }

    fn attributes(&self, in_class: bool) -> Attributes {
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, "video/mp4".into());
        if let Some(class) = self.storage_class.as_ref().filter(|_| in_class) {
            attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        attributes
    }

    pub(super) async fn put(&self, path: &Path, content: &mut impl Content) -> Result<bool, StoreError> {
        if content.len() > PART_BYTES as u64 || self.archives {
            return self.put_in_parts(path, content).await;
        }
        self.put_whole(path, content, true).await
    }

    /// The same for what is read at every start, or when the index is lost: never in a class that answers hours later.
    pub(super) async fn put_at_hand(
        &self,
        path: &Path,
        content: &mut impl Content,
    ) -> Result<bool, StoreError> {
        self.put_whole(path, content, !self.archives).await
    }

    async fn put_whole(
        &self,
        path: &Path,
        content: &mut impl Content,
        in_class: bool,
    ) -> Result<bool, StoreError> {
        let bytes = content.next().await?.unwrap_or_default();
        let options = PutOptions {
            mode: PutMode::Create,
            attributes: self.attributes(in_class),
            ..PutOptions::default()
        };
        created(path, self.objects.put_opts(path, bytes, options).await.map(drop))
    }

    async fn put_in_parts(&self, path: &Path, content: &mut impl Content) -> Result<bool, StoreError> {
        let failed = |e| StoreError::of("begin the upload of", path.as_ref(), e);
        let options = PutMultipartOptions {
            attributes: self.attributes(true),
            ..PutMultipartOptions::default()
        };
        let upload = self
            .objects
            .create_multipart_opts(path, options)
            .await
            .map_err(failed)?;
        let ended = match self.put_parts(path, &upload, content).await {
            Ok(parts) => {
                let end = self.ending.complete_multipart(path, &upload, parts).await;
                created(path, end.map(drop))
            }
            Err(e) => Err(e),
        };
        if !matches!(ended, Ok(true)) {
            let _ = self.objects.abort_multipart(path, &upload).await;
        }
        ended
    }

    async fn put_parts(
        &self,
        path: &Path,
        upload: &String,
        content: &mut impl Content,
    ) -> Result<Vec<PartId>, StoreError> {
        let failed = |e| StoreError::of("upload a part of", path.as_ref(), e);
        let one = |at: usize, part: PutPayload| async move {
            let id = self.objects.put_part(path, upload, at, part).await?;
            Ok::<_, object_store::Error>((at, id))
        };
        let mut under_way = FuturesUnordered::new();
        let mut parts: Vec<(usize, PartId)> = Vec::new();
        let mut begun = 0;
        while let Some(part) = content.next().await? {
            under_way.push(one(begun, part));
            begun += 1;
            if under_way.len() >= PARTS_AT_ONCE
                && let Some(done) = under_way.next().await
            {
                parts.push(done.map_err(failed)?);
            }
        }
        while let Some(done) = under_way.next().await {
            parts.push(done.map_err(failed)?);
        }
        parts.sort_unstable_by_key(|(at, _)| *at);
        Ok(parts.into_iter().map(|(_, id)| id).collect())
    }
}

/// Whether the object is new.
fn created(path: &Path, put: object_store::Result<()>) -> Result<bool, StoreError> {
    match put {
        Ok(()) => Ok(true),
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
            Ok(false)
        }
        Err(e) => Err(StoreError::of("put", path.as_ref(), e)),
    }
}

fn refused(config: &StoreConfig, why: String) -> StoreError {
    StoreError::Refused {
        what: format!("open {}", config.url),
        why,
    }
}

fn options(config: &StoreConfig) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(config.allow_http)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(PART_TIMEOUT)
        .with_http1_only()
}

fn client(config: &StoreConfig, headers: HeaderMap) -> Result<AmazonS3, StoreError> {
    let refused = |why: String| refused(config, why);
    let options = options(config).with_default_headers(headers);
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 2,
        retry_timeout: Duration::from_secs(15),
    };
    // Without any, Amazon's machines are asked for some at an address that others answer with whatever they like.
    if config.credentials_file.is_none()
        && config.endpoint.is_some()
        && !has_keys(|name| std::env::var_os(name).is_some())
    {
        return Err(refused(
            "it has no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment of the service, or credentials_file"
                .to_owned(),
        ));
    }
    let bucket = config.url.host_str().unwrap_or_default();
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(options)
        .with_http_connector(KeepHeaders)
        .with_retry(retry)
        .with_unsigned_payload(true)
        .with_checksum_algorithm(Checksum::CRC64NVME)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_allow_http(config.allow_http);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/'));
    }
    let in_path = config.path_style.unwrap_or(config.endpoint.is_some());
    builder = builder.with_virtual_hosted_style_request(!in_path);
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    if let Some(file) = &config.credentials_file {
        let text = std::fs::read_to_string(file)
            .map_err(|e| refused(format!("credentials_file {}: {e}", file.display())))?;
        let (id, secret) = credentials(&text).ok_or_else(|| {
            refused(format!(
                "credentials_file {} has no aws_access_key_id and aws_secret_access_key",
                file.display()
            ))
        })?;
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
    }
    builder.build().map_err(|e| refused(e.to_string()))
}

/// Whether the environment tells where keys are to be had, by the variables that `is_set`.
fn has_keys(is_set: impl Fn(&str) -> bool) -> bool {
    const WAYS: [&str; 4] = [
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    WAYS.into_iter().any(is_set)
}

/// The first key id and secret of a file in the format of Amazon's tools.
pub(super) fn credentials(text: &str) -> Option<(&str, &str)> {
    let value = |key: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        lines
            .find(|(name, _)| name.trim() == key)
            .map(|(_, value)| value.trim())
    };
    value("aws_access_key_id").zip(value("aws_secret_access_key"))
}

/// The CRC-64/NVME of a whole object among the headers of an answer.
pub(super) fn whole_crc64(answer: &Extensions) -> Option<u64> {
    let headers = answer.get::<HeaderMap>()?;
    let text = |name: &str| headers.get(name)?.to_str().ok();
    if text(CHECKSUM_TYPE).is_some_and(|kind| kind != "FULL_OBJECT") {
        return None;
    }
    // 8 bytes in Base64; a combined one has `-` and a number behind it.
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text(CHECKSUM)?).ok()?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// Whether the object whose headers came with an answer can be read.
pub(super) fn access(answer: &Extensions) -> Access {
    let headers = answer.get::<HeaderMap>();
    headers.map_or(Access::AtOnce, Access::of)
}

/// Keeps the headers of answers where the library passes them on.
#[derive(Debug)]
struct KeepHeaders;

impl HttpConnector for KeepHeaders {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Keeping(inner)))
    }
}

#[derive(Debug)]
struct Keeping(HttpClient);

#[async_trait::async_trait]
impl HttpService for Keeping {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut response = self.0.execute(request).await?;
        let headers = response.headers().clone();
        response.extensions_mut().insert(headers);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_a_file_as_amazons_tools_write_it() {
        let text = "[default]\naws_access_key_id = AKIA1\naws_secret_access_key=s/e+c=\n";
        assert_eq!(credentials(text), Some(("AKIA1", "s/e+c=")));
        assert_eq!(credentials("[default]\naws_access_key_id = AKIA1\n"), None);
    }

    #[test]
    fn only_a_checksum_of_the_whole_object_counts() {
        let answer = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().expect("value"));
            }
            let mut answer = Extensions::new();
            answer.insert(headers);
            whole_crc64(&answer)
        };
        assert_eq!(answer(&[(CHECKSUM, "AAAAAAAAAAE=")]), Some(1));
        assert_eq!(
            answer(&[(CHECKSUM, "AAAAAAAAAAE="), (CHECKSUM_TYPE, "FULL_OBJECT")]),
            Some(1)
        );
        assert_eq!(
            answer(&[(CHECKSUM, "AAAAAAAAAAE="), (CHECKSUM_TYPE, "COMPOSITE")]),
            None
        );
        assert_eq!(answer(&[(CHECKSUM, "AAAAAAAAAAE=-3")]), None);
        assert_eq!(answer(&[]), None);
    }
}
