//! A response body that is read while it is sent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use std::time::Duration;

use archive::store::StoreError;
use archive::{ArchiveError, Tier};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};

use super::Held;
use super::crowd::Counted;

/// Pieces that are asked of object stores at once. Each takes a thread while its store answers, and others wait without
/// one: there have to be threads for those who read the disk, however many want what a store does not give out.
static FETCHES: Semaphore = Semaphore::const_new(32);
/// Nobody waits longer than this for his.
const FETCH_WAIT_MAX: Duration = Duration::from_secs(10);

/// How the next piece of a body is had.
pub(crate) enum Job {
    /// It is in memory.
    Ready(Bytes),
    /// Reading it blocks for the disk.
    Read(Reading),
    /// Reading it blocks for an object store.
    Fetch(Reading),
}

/// What is read goes out in this order.
pub(crate) type Reading = Box<dyn FnOnce() -> Result<Vec<Bytes>, ArchiveError> + Send>;

impl Job {
    /// A piece of what lies on a tier.
    pub(crate) fn on(
        tier: Tier,
        read: impl FnOnce() -> Result<Vec<Bytes>, ArchiveError> + Send + 'static,
    ) -> Self {
        match tier {
            Tier::Hot => Self::Read(Box::new(read)),
            Tier::Warm | Tier::Cold => Self::Fetch(Box::new(read)),
        }
    }
}

/// Sends the pieces of `jobs` in order and reads one piece ahead: at most two pieces are in memory here, and
/// what of a third the connection has not sent.
///
/// An error ends this one response: its length was promised, so the connection closes short of it.
pub(crate) struct ReadAhead<I> {
    jobs: I,
    /// What was read and not sent.
    ready: VecDeque<Bytes>,
    next: Next,
    left: u64,
    counted: Arc<Counted>,
}

enum Next {
    Idle,
    Reading(JoinHandle<Result<Vec<Bytes>, ArchiveError>>),
}

/// What nobody waits for any more is not begun.
impl Drop for Next {
    fn drop(&mut self) {
        if let Self::Reading(task) = self {
            task.abort();
        }
    }
}

impl<I: Iterator<Item = Job> + Send + Unpin> ReadAhead<I> {
    /// A body of `len` bytes, whose first piece is read before it is returned: an error then can still
    /// become an answer.
    pub(crate) async fn begin(jobs: I, len: u64) -> Result<Self, ArchiveError> {
        let mut body = Self {
            jobs,
            ready: VecDeque::new(),
            next: Next::Idle,
            left: len,
            counted: Arc::new(Counted::new()),
        };
        body.start_next();
        if let Next::Reading(task) = &mut body.next {
            body.ready.extend(joined(task.await)?);
            body.next = Next::Idle;
        }
        Ok(body)
    }

    /// Holds `leave`, and counts among the bodies that are sent, until its bytes are gone too.
    pub(crate) fn holding<L: Send + Sync + 'static>(
        self,
        leave: L,
    ) -> impl Body<Data = Bytes, Error = ArchiveError> + Send {
        let counted = Arc::clone(&self.counted);
        Held::new(self, (leave, counted))
    }

    /// Starts on the next piece, if none is being read.
    fn start_next(&mut self) {
        while matches!(self.next, Next::Idle) {
            match self.jobs.next() {
                Some(Job::Read(read)) => self.next = Next::Reading(tokio::task::spawn_blocking(read)),
                Some(Job::Fetch(read)) => self.next = Next::Reading(tokio::spawn(fetch(read))),
                Some(Job::Ready(bytes)) => self.ready.push_back(bytes),
                None => return,
            }
        }
    }
}

/// Waits for leave to ask an object store, and asks it.
async fn fetch(read: Reading) -> Result<Vec<Bytes>, ArchiveError> {
    let Ok(Ok(leave)) = tokio::time::timeout(FETCH_WAIT_MAX, FETCHES.acquire()).await else {
        let away = StoreError::Away {
            what: "read footage".to_owned(),
            why: "too much is read from object stores at once".to_owned(),
        };
        return Err(away.into());
    };
    // It lasts as long as the thread is taken, whoever waits for that.
    let read = move || {
        let _leave = leave;
        read()
    };
    joined(tokio::task::spawn_blocking(read).await)
}

/// A read that was cancelled, or that panicked, counts as a read that failed.
fn joined(result: Result<Result<Vec<Bytes>, ArchiveError>, JoinError>) -> Result<Vec<Bytes>, ArchiveError> {
    result.unwrap_or_else(|e| {
        let source = std::io::Error::other(e);
        Err(ArchiveError::Io {
            op: "read",
            path: "media".into(),
            source,
        })
    })
}

impl<I: Iterator<Item = Job> + Send + Unpin> Body for ReadAhead<I> {
    type Data = Bytes;
    type Error = ArchiveError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ArchiveError>>> {
        let this = self.get_mut();
        if this.ready.is_empty() {
            this.start_next();
            if let Next::Reading(task) = &mut this.next {
                let read = joined(ready!(Pin::new(task).poll(cx)));
                this.next = Next::Idle;
                match read {
                    Ok(bytes) => this.ready.extend(bytes),
                    Err(error) => {
                        tracing::error!(%error, "a response was cut short: its media cannot be read");
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        }
        let Some(bytes) = this.ready.pop_front() else {
            return Poll::Ready(None);
        };
        this.left = this.left.saturating_sub(bytes.len() as u64);
        // While these go out, the next ones come in.
        this.start_next();
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn those_who_wait_for_stores_leave_threads_to_those_who_read_the_disk() {
        const THREADS: usize = 40;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .max_blocking_threads(THREADS)
            .enable_all()
            .build()
            .expect("runtime");
        // The store answers when this is let go.
        let silence = Arc::new(Mutex::new(()));
        let silent = silence.lock().expect("a lock");
        let piece = || Ok(vec![Bytes::from_static(b"piece")]);
        let fetches: Vec<_> = (0..2 * THREADS)
            .map(|_| {
                let silence = Arc::clone(&silence);
                let job = Job::on(Tier::Warm, move || {
                    drop(silence.lock());
                    piece()
                });
                runtime.spawn(ReadAhead::begin([job].into_iter(), 5))
            })
            .collect();
        runtime.block_on(async {
            for _ in 0..100 {
                let near = ReadAhead::begin([Job::on(Tier::Hot, piece)].into_iter(), 5);
                let near = tokio::time::timeout(Duration::from_secs(5), near).await;
                assert!(
                    near.is_ok_and(|body| body.is_ok()),
                    "a read of the disk waits for a store"
                );
            }
        });
        drop(silent);
        for fetch in fetches {
            assert!(runtime.block_on(fetch).is_ok_and(|body| body.is_ok()));
        }
    }
}
