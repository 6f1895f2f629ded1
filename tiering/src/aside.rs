//! Work that waits for a store, beside the thread that decides.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::runtime::Handle;

/// Who begins something waits for so long before leaving it to a later pass: most stores answer in less.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// Work under way. What comes of it is taken in by a later pass.
pub(crate) struct Aside<T>(Receiver<T>);

/// How far it is.
pub(crate) enum Done<T> {
    NotYet,
    /// It has panicked, which was reported where it happened, or everything ends.
    Lost,
    With(T),
}

impl<T: Send + 'static> Aside<T> {
    /// Begins work that may block.
    pub(crate) fn begin(runtime: &Handle, work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (tell, ended) = mpsc::channel();
        runtime.spawn_blocking(move || {
            let _ = tell.send(work());
        });
        Self(ended)
    }

    /// The same on a thread of its own, for who has no runtime. One that cannot be started is lost.
    pub(crate) fn begin_thread(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (tell, ended) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name.to_owned());
        let started = thread.spawn(move || {
            let _ = tell.send(work());
        });
        if let Err(error) = started {
            tracing::error!(name, %error, "a thread cannot be started: tried again");
        }
        Self(ended)
    }

    pub(crate) fn look(&self) -> Done<T> {
        self.look_for(Duration::ZERO)
    }

    /// Looks until there is an outcome, for so long at most.
    pub(crate) fn look_for(&self, patience: Duration) -> Done<T> {
        match self.0.recv_timeout(patience) {
            Ok(outcome) => Done::With(outcome),
            Err(RecvTimeoutError::Timeout) => Done::NotYet,
            Err(RecvTimeoutError::Disconnected) => Done::Lost,
        }
    }
}
