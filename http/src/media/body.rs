//! A response body that is read while it is sent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use archive::ArchiveError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::{JoinError, JoinHandle};

use super::Held;
use super::crowd::Counted;

/// How the next piece of a body is had.
pub(crate) enum Job {
    /// It is in memory.
    Ready(Bytes),
    /// Reading it blocks. What is read goes out in this order.
    Read(Box<dyn FnOnce() -> Result<Vec<Bytes>, ArchiveError> + Send>),
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
                Some(Job::Ready(bytes)) => self.ready.push_back(bytes),
                None => return,
            }
        }
    }
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
