//! SIGTERM and SIGINT.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit status of a process that was told twice to stop.
const EXIT_AT_ONCE: i32 = 130;

/// The signals that ask to stop. From its making on they no longer end the process by themselves.
pub(crate) struct StopSignals {
    term: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Begins to listen. Within a tokio runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns when the process is asked to stop.
    pub(crate) async fn recv(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// From now on one more signal ends the process at once. What was durable stays so.
    pub(crate) async fn exit_at_next(mut self) {
        self.recv().await;
        std::process::exit(EXIT_AT_ONCE);
    }
}
