//! Work that takes turns, so that what is asked for at once never takes more than this machine has.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::places::Places;
use crate::problem::{Code, Problem};

/// Answers that are computed at once; a few, since recording needs the cores too.
const TURNS: usize = 4;
/// Bodies of media that are under way at once. Each holds up to three pieces of a MiB.
const READERS: usize = 256;
/// How long a request waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(2);

fn overloaded() -> Problem {
    Problem::new(
        Code::Overloaded,
        "Too much is asked for at once: try again in a moment.",
    )
    .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
}

async fn turn(turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    let acquired = tokio::time::timeout(WAIT_MAX, Arc::clone(turns).acquire_owned()).await;
    acquired.map_err(|_| overloaded())?.map_err(Problem::internal)
}

/// Answers that have to be computed: playlists, timelines, layouts of exports.
#[derive(Debug)]
pub(crate) struct Desk(Arc<Semaphore>);

impl Default for Desk {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TURNS)))
    }
}

impl Desk {
    /// Does work that blocks, when it is its turn.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = turn(&self.0).await?;
        // The turn ends with the work, also when nobody waits for it any more.
        let work = move || {
            let done = work();
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|e| Err(Problem::internal(e)))
    }
}

/// Bodies of media on their way to readers.
#[derive(Debug)]
pub(crate) struct Readers {
    turns: Arc<Semaphore>,
    places: Arc<Places>,
}

impl Readers {
    pub(crate) fn new(places: Arc<Places>) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(READERS)),
            places,
        }
    }

    /// Leave to send media while the permit is held. When too many do, the one whose reader takes nothing for
    /// the longest time is let go.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        if let Ok(permit) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(permit);
        }
        let _ = self.places.drop_a_stalled_reader();
        turn(&self.turns).await
    }
}
