//! `[tiers.warm]` and `[tiers.cold]` of the configuration.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

/// Where a store is and how it is asked.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// `file:///FOLDER`, or `s3://BUCKET/PREFIX`.
    pub url: Url,
    /// The server, `https://HOST:PORT`; Amazon's where nothing is said.
    #[serde(default)]
    pub endpoint: Option<Url>,
    /// The region; `AWS_REGION` or `us-east-1` where nothing is said.
    #[serde(default)]
    pub region: Option<String>,
    /// Whether an endpoint without TLS may be used: bytes and names then travel in the open.
    #[serde(default)]
    pub allow_http: bool,
    /// Whether the bucket stands in the path and not in the host's name: so it does where `endpoint` is set and
    /// nothing is said.
    #[serde(default)]
    pub path_style: Option<bool>,
    /// The class in which objects are stored, such as `STANDARD_IA` or `GLACIER_IR`.
    #[serde(default)]
    pub storage_class: Option<String>,
    /// What may be put there, for the forecast; without end where nothing is said.
    #[serde(default, with = "crate::units::optional_size")]
    pub capacity: Option<u64>,
    /// A file with `aws_access_key_id = …` and `aws_secret_access_key = …`; the usual `AWS_…` variables where
    /// nothing is said.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
}

impl StoreConfig {
    /// A store with defaults for everything but its URL.
    pub fn at(url: Url) -> Self {
        Self {
            url,
            endpoint: None,
            region: None,
            allow_http: false,
            path_style: None,
            storage_class: None,
            capacity: None,
            credentials_file: None,
        }
    }

    /// What is wrong with it: the key, and why.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let s3_only = [
            ("endpoint", self.endpoint.is_some()),
            ("region", self.region.is_some()),
            ("allow_http", self.allow_http),
            ("path_style", self.path_style.is_some()),
            ("storage_class", self.storage_class.is_some()),
            ("credentials_file", self.credentials_file.is_some()),
        ];
        match self.url.scheme() {
            "file" if self.url.to_file_path().is_err() => {
                Some(("url", "not a folder of this machine: write file:///FOLDER".to_owned()))
            }
            "file" => s3_only
                .iter()
                .find(|(_, set)| *set)
                .map(|(key, _)| (*key, "is for s3:// alone; a folder needs only `url`".to_owned())),
            "s3" if self.url.host_str().is_none_or(|bucket| bucket.len() < 3) => {
                Some(("url", "write s3://BUCKET/PREFIX; a bucket's name has 3 letters at least".to_owned()))
            }
            "s3" if !self.url.username().is_empty() || self.url.password().is_some() => Some((
                "url",
                "keys do not belong here: use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `credentials_file`"
                    .to_owned(),
            )),
            "s3" if matches!(self.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE")) => Some((
                "storage_class",
                "what has to be restored before it can be read is not in this version: use a class that answers at once"
                    .to_owned(),
            )),
            "s3" => match &self.endpoint {
                Some(e) if !matches!(e.scheme(), "http" | "https") || e.host_str().is_none() => {
                    Some(("endpoint", "write https://HOST:PORT".to_owned()))
                }
                Some(e) if e.scheme() == "http" && !self.allow_http => Some((
                    "endpoint",
                    "without TLS footage travels in the open: use https://, or set allow_http = true".to_owned(),
                )),
                _ => None,
            },
            other => Some(("url", format!("{other}:// is no store: use file:// or s3://"))),
        }
    }
}
