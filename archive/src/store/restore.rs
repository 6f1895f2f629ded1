//! Archive classes: objects that have to be restored before they can be read, hours later and for some days.

use std::time::Duration;

use object_store::HeaderMap;
use object_store::path::Path;
use object_store::signer::Method;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::raw::Raw;
use super::upload::Crc64;
use super::{Backend, CALL_TIMEOUT, Store};
use crate::layout::outline_path;
use crate::seam::Step;
use crate::time::WallTime;

pub(super) const CLASS: &str = "x-amz-storage-class";
pub(super) const RESTORE: &str = "x-amz-restore";
const HOUR: Duration = Duration::from_secs(3600);

/// The classes whose objects cannot be read at once.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum ArchiveClass {
    Glacier,
    DeepArchive,
}

impl ArchiveClass {
    pub(super) fn of(class: &str) -> Option<Self> {
        match class {
            "GLACIER" => Some(Self::Glacier),
            "DEEP_ARCHIVE" => Some(Self::DeepArchive),
            _ => None,
        }
    }
}

/// How much of a hurry a restore is in; the faster, the dearer.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum RestoreTier {
    /// Minutes; not for every class, and not at every time.
    Expedited,
    /// Hours.
    #[default]
    Standard,
    /// Half a day to two days.
    Bulk,
}

impl RestoreTier {
    fn as_str(self) -> &'static str {
        match self {
            Self::Expedited => "Expedited",
            Self::Standard => "Standard",
            Self::Bulk => "Bulk",
        }
    }
}

/// How objects of a store are restored.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Restoring {
    /// In how much of a hurry.
    pub tier: RestoreTier,
    /// For how many days they can be read then.
    pub days: u32,
    /// How long that takes, as far as one can tell.
    pub takes: Duration,
}

impl Restoring {
    /// What Amazon promises: the later end of what it says. `None` where a class has no such restore.
    pub(super) fn usual_time(class: ArchiveClass, tier: RestoreTier) -> Option<Duration> {
        match (class, tier) {
            (ArchiveClass::Glacier, RestoreTier::Expedited) => Some(Duration::from_secs(300)),
            (ArchiveClass::Glacier, RestoreTier::Standard) => Some(5 * HOUR),
            (ArchiveClass::Glacier, RestoreTier::Bulk) => Some(12 * HOUR),
            (ArchiveClass::DeepArchive, RestoreTier::Expedited) => None,
            (ArchiveClass::DeepArchive, RestoreTier::Standard) => Some(12 * HOUR),
            (ArchiveClass::DeepArchive, RestoreTier::Bulk) => Some(48 * HOUR),
        }
    }

    fn request(&self) -> String {
        format!(
            "<RestoreRequest xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Days>{}</Days>\
             <GlacierJobParameters><Tier>{}</Tier></GlacierJobParameters></RestoreRequest>",
            self.days,
            self.tier.as_str()
        )
    }
}

/// Whether an object can be read.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// Now.
    AtOnce,
    /// When it has been restored, which nobody has asked for.
    Archived,
    /// When its restore is over.
    Restoring,
    /// Now: it was restored. Until then, where the server says it.
    Restored {
        /// When it is as it was before.
        until: Option<WallTime>,
    },
}

impl Access {
    /// Whether a GET would give bytes.
    pub fn is_readable(self) -> bool {
        matches!(self, Self::AtOnce | Self::Restored { .. })
    }

    /// What the headers of an answer to HEAD tell.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if text(CLASS).and_then(ArchiveClass::of).is_none() {
            return Self::AtOnce;
        }
        match text(RESTORE) {
            Some(told) if told.contains("ongoing-request=\"true\"") => Self::Restoring,
            Some(told) if told.contains("ongoing-request=\"false\"") => Self::Restored {
                until: told.split_once("expiry-date=\"").and_then(|(_, rest)| date(rest)),
            },
            _ => Self::Archived,
        }
    }
}

/// The date in front of a quotation mark.
fn date(text: &str) -> Option<WallTime> {
    let (date, _) = text.split_once('"')?;
    let stamp = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(date)
        .ok()?;
    Some(WallTime::from_micros(stamp.as_microsecond()))
}

impl Store {
    /// How segments are restored, where they have to be before they can be read: see [`Store::restore`].
    pub fn restoring(&self) -> Option<&Restoring> {
        self.restoring.as_ref()
    }

    /// Asks for an object to be made readable. When it is, [`Store::stat`] tells, hours later. Asking again is no
    /// error.
    pub async fn restore(&self, name: &str) -> Result<(), StoreError> {
        let (Backend::Bucket(bucket), Some(how)) = (&self.backend, &self.restoring) else {
            return Ok(());
        };
        self.step(Step::Restore, "restore", name)?;
        let path = self.path(name);
        let asked = begin(bucket.raw(), &path, name, how);
        self.answered(CALL_TIMEOUT, "restore", name, asked).await?;
        self.step(Step::RestoreAsked, "restore", name)
    }

    /// Puts something small there that can be read at once, verified; what an accident left under this name is replaced.
    pub async fn keep_bytes(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let len = bytes.len() as u64;
        let mut crc64 = Crc64::new();
        crc64.update(&bytes);
        self.put_bytes(name, bytes.clone()).await?;
        match self.verify(name, len, crc64.finish()).await {
            Err(StoreError::Wrong { .. }) => {
                self.delete(name).await?;
                self.put_bytes(name, bytes).await?;
                self.verify(name, len, crc64.finish()).await
            }
            other => other,
        }
    }

    /// Removes a segment, and what stands beside it: see [`outline_path`].
    pub async fn delete_segment(&self, name: &str) -> Result<(), StoreError> {
        self.delete(name).await?;
        match self.restoring {
            Some(_) => self.delete(&outline_path(name)).await,
            None => Ok(()),
        }
    }
}

/// Asks for a restore. One that was asked for before, or that is not needed, is no error.
async fn begin(raw: &Raw, path: &Path, name: &str, how: &Restoring) -> Result<(), StoreError> {
    let answer = raw
        .call(Method::POST, path, &[("restore", "")], how.request())
        .await?;
    match (answer.status, answer.code()) {
        (200 | 202 | 204, _) => Ok(()),
        (409, Some("RestoreAlreadyInProgress")) => Ok(()),
        // It is in no archive class: HEAD says so too.
        (403, Some("InvalidObjectState")) => Ok(()),
        _ => Err(answer.into_error(format!("restore {name}"), name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(pairs: &[(&'static str, &str)]) -> Access {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().expect("value"));
        }
        Access::of(&headers)
    }

    #[test]
    fn an_object_says_whether_it_can_be_read() {
        assert_eq!(access(&[]), Access::AtOnce);
        assert_eq!(access(&[(CLASS, "STANDARD_IA")]), Access::AtOnce);
        assert_eq!(access(&[(CLASS, "GLACIER_IR")]), Access::AtOnce);
        assert_eq!(access(&[(CLASS, "DEEP_ARCHIVE")]), Access::Archived);
        let glacier = |told: &str| access(&[(CLASS, "GLACIER"), (RESTORE, told)]);
        assert_eq!(glacier("ongoing-request=\"true\""), Access::Restoring);
        let until = "2012-12-21T00:00:00Z".parse().ok();
        assert_eq!(
            glacier("ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\""),
            Access::Restored { until }
        );
        assert_eq!(
            glacier("ongoing-request=\"false\", expiry-date=\"soon\""),
            Access::Restored { until: None }
        );
        assert_eq!(glacier("nonsense"), Access::Archived);
    }
}
