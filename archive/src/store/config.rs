//! `[tiers.warm]` and `[tiers.cold]` of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use url::Url;

use super::restore::{ArchiveClass, RestoreTier, Restoring};
use crate::units::{format_rate, optional_duration};

/// For so many days a restored object can be read.
const RESTORE_DAYS: u32 = 3;
const RESTORE_DAYS_MAX: u32 = 365;

/// Where a store is and how it is asked.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// `file:///FOLDER`, or `s3://BUCKET/PREFIX`.
    #[serde(deserialize_with = "whole_url")]
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
    /// The class in which objects are stored, such as `STANDARD_IA` or `GLACIER_IR`. What lies in `GLACIER` or
    /// `DEEP_ARCHIVE`, which the cold tier may use, has to be restored before it can be read.
    #[serde(default)]
    pub storage_class: Option<String>,
    /// What may be put there, for the forecast; without end where nothing is said.
    #[serde(default, with = "crate::units::optional_size")]
    pub capacity: Option<u64>,
    /// How much of a hurry restores are in.
    #[serde(default)]
    pub restore_tier: Option<RestoreTier>,
    /// For how many days what was restored can be read.
    #[serde(default)]
    pub restore_days: Option<u32>,
    /// How long a restore takes; what Amazon says of the class where nothing is said.
    #[serde(default, with = "optional_duration")]
    pub restore_time: Option<Duration>,
    /// A file with `aws_access_key_id = …` and `aws_secret_access_key = …`; the usual `AWS_…` variables where
    /// nothing is said.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    /// Bytes a second that are copied into it at most; as many as it takes where nothing is said.
    #[serde(default, with = "crate::units::optional_rate")]
    pub rate: Option<u64>,
    /// Segments that are copied into it at a time.
    #[serde(default = "copies")]
    pub copies: usize,
}

/// A URL parser takes `file:warm` for a folder in the root of the file system.
fn whole_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.starts_with("file:") && !text.starts_with("file:///") {
        return Err(D::Error::custom(
            "write file:///FOLDER, with the whole path of the folder",
        ));
    }
    let not_one = "write file:///FOLDER for a folder of this machine, or s3://BUCKET/PREFIX";
    Url::parse(&text).map_err(|_| D::Error::custom(not_one))
}

/// A server has enough to do with that.
fn copies() -> usize {
    4
}

/// More cost connections and memory, 16 MiB each, and no server is faster for it.
const COPIES_MAX: usize = 64;
/// Below it a segment takes hours.
const RATE_MIN: u64 = 100_000 / 8;

/// What may be copied into a store at a time.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes a second.
    pub rate: Option<u64>,
    /// Segments.
    pub copies: usize,
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
            restore_tier: None,
            restore_days: None,
            restore_time: None,
            credentials_file: None,
            rate: None,
            copies: copies(),
        }
    }

    /// What may be copied into it at a time.
    pub fn limits(&self) -> Limits {
        Limits {
            rate: self.rate,
            copies: self.copies.clamp(1, COPIES_MAX),
        }
    }

    fn archive_class(&self) -> Option<ArchiveClass> {
        self.storage_class.as_deref().and_then(ArchiveClass::of)
    }

    /// How objects are restored, where they have to be before they can be read.
    pub fn restoring(&self) -> Option<Restoring> {
        let class = self.archive_class()?;
        let tier = self.restore_tier.unwrap_or_default();
        Some(Restoring {
            tier,
            days: self.restore_days.unwrap_or(RESTORE_DAYS),
            takes: self.restore_time.or(Restoring::usual_time(class, tier))?,
        })
    }

    /// What is wrong with it: the key, and why.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        if !(1..=COPIES_MAX).contains(&self.copies) {
            return Some((
                "copies",
                format!("{} is out of range: use 1 to {COPIES_MAX}", self.copies),
            ));
        }
        if self.rate.is_some_and(|rate| rate < RATE_MIN) {
            return Some((
                "rate",
                format!("is too low: use at least {}", format_rate(RATE_MIN)),
            ));
        }
        let s3_only = [
            ("endpoint", self.endpoint.is_some()),
            ("region", self.region.is_some()),
            ("allow_http", self.allow_http),
            ("path_style", self.path_style.is_some()),
            ("storage_class", self.storage_class.is_some()),
            ("restore_tier", self.restore_tier.is_some()),
            ("restore_days", self.restore_days.is_some()),
            ("restore_time", self.restore_time.is_some()),
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
            "s3" if self.restore_problem().is_some() => self.restore_problem(),
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
    fn restore_problem(&self) -> Option<(&'static str, String)> {
        let Some(class) = self.archive_class() else {
            let keys = [
                ("restore_tier", self.restore_tier.is_some()),
                ("restore_days", self.restore_days.is_some()),
                ("restore_time", self.restore_time.is_some()),
            ];
            let set = keys.into_iter().find(|(_, set)| *set);
            return set.map(|(key, _)| {
                let what = "is for storage_class = \"GLACIER\" or \"DEEP_ARCHIVE\" alone";
                (key, what.to_owned())
            });
        };
        let tier = self.restore_tier.unwrap_or_default();
        if Restoring::usual_time(class, tier).is_none() {
            let what = "DEEP_ARCHIVE has no Expedited restore: use \"Standard\" or \"Bulk\"";
            return Some(("restore_tier", what.to_owned()));
        }
        if self
            .restore_days
            .is_some_and(|days| !(1..=RESTORE_DAYS_MAX).contains(&days))
        {
            return Some(("restore_days", format!("use 1 to {RESTORE_DAYS_MAX}")));
        }
        None
    }
}
