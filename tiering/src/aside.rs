//! Work that waits for a store, beside the thread that decides.

use std::sync::mpsc::{self, Receiver, TryRecvError};

use tokio::runtime::Handle;

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

    pub(crate) fn look(&self) -> Done<T> {
        match self.0.try_recv() {
            Ok(outcome) => Done::With(outcome),
            Err(TryRecvError::Empty) => Done::NotYet,
            Err(TryRecvError::Disconnected) => Done::Lost,
        }
    }
}
