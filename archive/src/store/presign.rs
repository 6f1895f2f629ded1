//! URLs by which others read from a bucket.

use std::time::Duration;

use object_store::signer::{HeaderName, HeaderValue, Method, Url};

use super::error::StoreError;
use super::{Backend, Store};

impl Store {
    /// A URL by which anybody can read the bytes `range` of an object, as the header `Range` says them, and nothing else,
    /// for as long as `lifetime`; `None` for a folder, which has no URLs, and for a bucket that was not seen to be the
    /// archive's own yet. Nothing takes it back.
    pub async fn presign(
        &self,
        name: &str,
        range: &str,
        lifetime: Duration,
    ) -> Result<Option<Url>, StoreError> {
        let Backend::Bucket(bucket) = &self.backend else {
            return Ok(None);
        };
        if !self.is_claimed() {
            return Ok(None);
        }
        let path = self.path(name);
        let value = HeaderValue::from_str(range).map_err(|_| StoreError::Refused {
            what: format!("sign a URL for {name}"),
            why: "not a range".to_owned(),
        })?;
        let headers = [(HeaderName::from_static("range"), value)];
        let signed = bucket.raw().sign(Method::GET, &path, lifetime, &[], &headers);
        signed.await.map(Some)
    }
}
