//! Whose a store is: nothing is put there, removed or believed before it was seen to be the archive's own.
//!
//! A store that is down at the start is looked at when it is there, and a folder again when another stands in its place:
//! a disk that is mounted anew may have another number.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt};

use super::error::StoreError;
use super::{Backend, Store};
use crate::layout::MARKER;

/// No marker is longer.
const MARKER_BYTES_MAX: u64 = 256;

/// What says in a store whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Marker {
    /// All of it.
    pub text: String,
    /// Whether it may be put there where none is: not where footage is known to lie already.
    pub may_be_new: bool,
}

/// Why a store is not the archive's own.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Claim {
    /// It cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is somebody else's, or not what it was.
    #[error("{0}")]
    Foreign(String),
}

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Belonging {
    /// `None` for who only reads, and knows by hashes what is whose.
    marker: Option<Marker>,
    is_ours: AtomicBool,
    /// Held by who looks.
    looking: tokio::sync::Mutex<()>,
    /// What was last said of it in the log.
    said: Mutex<Option<String>>,
}

impl Belonging {
    fn is_known(&self) -> bool {
        self.marker.is_none() || self.is_ours.load(Ordering::Acquire)
    }

    /// Says it once.
    fn say(&self, url: &str, why: Option<String>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said == why {
            return;
        }
        match &why {
            Some(why) => tracing::error!(url, why, "nothing is put into a store or read from it"),
            None => tracing::info!(url, "the store is seen to be the archive's own: it is used"),
        }
        *said = why;
    }
}

impl Store {
    /// The same, of which nothing is believed before `marker` was seen in it.
    #[must_use]
    pub fn belonging_to(self, marker: Marker) -> Self {
        let belonging = Belonging {
            marker: Some(marker),
            ..Belonging::default()
        };
        Self {
            belonging: Arc::new(belonging),
            ..self
        }
    }

    /// Whether it was seen to be the archive's own.
    pub(super) fn is_claimed(&self) -> bool {
        self.belonging.is_known()
    }

    /// Sees that the store is the archive's own, and says so in it where it may be new. Whoever wants something of it
    /// does that first, as long as nobody has.
    pub fn claim(&self) -> BoxFuture<'_, Result<(), Claim>> {
        let claimed = async {
            let belonging = &self.belonging;
            let _one = belonging.looking.lock().await;
            if belonging.is_known() {
                match self.in_place().await {
                    // Somebody was faster.
                    Ok(()) => return Ok(()),
                    Err(e) if belonging.marker.is_none() => return Err(e.into()),
                    Err(_) => {}
                }
            }
            let Some(marker) = &belonging.marker else {
                return Ok(());
            };
            let known = belonging.is_ours.load(Ordering::Acquire);
            let seen = self.as_it_is().await?;
            seen.look_for(marker, marker.may_be_new && !known).await?;
            if let (Backend::Folder(folder), Backend::Folder(seen)) = (&self.backend, &seen.backend) {
                folder.settle(seen);
            }
            // Nothing is being put there yet.
            if !known && let Err(error) = seen.clear_unfinished().await {
                tracing::warn!(url = self.url, %error, "what uploads have left that were not ended stays");
            }
            belonging.is_ours.store(true, Ordering::Release);
            Ok(())
        };
        claimed
            .inspect(|claimed| match claimed {
                Ok(()) => self.belonging.say(&self.url, None),
                Err(Claim::Foreign(why)) => self.belonging.say(&self.url, Some(why.clone())),
                // Whoever asked tells it.
                Err(Claim::Store(_)) => {}
            })
            .boxed()
    }

    /// Fails unless the store is the archive's own, here and now.
    pub(super) async fn at_home(&self) -> Result<(), StoreError> {
        if self.belonging.is_known() && self.in_place().await.is_ok() {
            return Ok(());
        }
        self.claim().await.map_err(|e| match e {
            Claim::Store(e) => e,
            // What is mounted there later is looked at again.
            Claim::Foreign(why) => StoreError::Away {
                what: format!("use {}", self.url),
                why,
            },
        })
    }

    /// Fails where a folder is not the one any more that it was.
    pub(super) async fn in_place(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Folder(folder) => folder.at_home().await,
            Backend::Bucket(_) => Ok(()),
        }
    }

    /// What stands there now, whosever it is.
    async fn as_it_is(&self) -> Result<Self, StoreError> {
        let backend = match &self.backend {
            Backend::Folder(folder) => Backend::Folder(folder.as_it_is().await?),
            bucket => bucket.clone(),
        };
        Ok(Self {
            backend,
            belonging: Arc::default(),
            ..self.clone()
        })
    }

    async fn look_for(&self, marker: &Marker, may_be_new: bool) -> Result<(), Claim> {
        self.probe().await?;
        let url = self.url();
        let Some(stat) = self.stat(MARKER).await? else {
            if !may_be_new {
                return Err(Claim::Foreign(format!(
                    "{url} does not hold the footage that was copied to it: is its disk mounted, and is `url` right?"
                )));
            }
            self.put_bytes(MARKER, marker.text.clone().into_bytes()).await?;
            return Ok(());
        };
        let found = self.read(MARKER, 0..stat.len.min(MARKER_BYTES_MAX)).await?;
        if found != marker.text.as_bytes() {
            let found = String::from_utf8_lossy(&found);
            return Err(Claim::Foreign(format!(
                "{url} belongs to another archive or tier ({}): name another place",
                found.trim()
            )));
        }
        Ok(())
    }
}
