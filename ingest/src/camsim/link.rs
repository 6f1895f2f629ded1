//! The sending side of one connection, shared by its RTSP thread and the pacer.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::SendFlags;

/// How far a client may fall behind before its connection is cut, in bytes.
const BACKLOG_BYTES_MAX: usize = 16 << 20;

/// No camera was named on the connection yet.
const NO_CAMERA: usize = usize::MAX;

/// One client's connection. Messages go out whole and in order, whichever thread sends them.
#[derive(Debug)]
pub(super) struct Link {
    socket: TcpStream,
    backlog: Mutex<Vec<u8>>,
    closed: AtomicBool,
    camera: AtomicUsize,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The system took all of it.
    Whole,
    /// Part of it waits for the client to read.
    Stalled,
    /// The client fell too far behind; the connection is now closed.
    Overrun,
    /// The connection is closed.
    Closed,
}

impl Link {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            backlog: Mutex::default(),
            closed: AtomicBool::new(false),
            camera: AtomicUsize::new(NO_CAMERA),
        }
    }

    /// The connection, for reading.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Sends one message without ever blocking, after what still waits from earlier ones.
    pub(super) fn send(&self, message: &[u8]) -> Sent {
        if self.is_closed() {
            return Sent::Closed;
        }
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        if !backlog.is_empty() {
            match self.push(&backlog) {
                Some(taken) => drop(backlog.drain(..taken)),
                None => return Sent::Closed,
            }
        }
        let mut taken = 0;
        if backlog.is_empty() && !message.is_empty() {
            match self.push(message) {
                Some(bytes) => taken = bytes,
                None => return Sent::Closed,
            }
        }
        backlog.extend_from_slice(message.get(taken..).unwrap_or_default());
        if backlog.is_empty() {
            return Sent::Whole;
        }
        if backlog.len() > BACKLOG_BYTES_MAX {
            self.close();
            return Sent::Overrun;
        }
        Sent::Stalled
    }

    /// Bytes that the system took; `None` when the connection is gone.
    fn push(&self, bytes: &[u8]) -> Option<usize> {
        match rustix::net::send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(taken) => Some(taken),
            Err(Errno::AGAIN | Errno::INTR) => Some(0),
            Err(_) => {
                self.close();
                None
            }
        }
    }

    /// Ends the connection, also for the thread that reads from it.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // Already disconnected is as good as shut down.
        drop(self.socket.shutdown(Shutdown::Both));
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Notes which camera the connection is about.
    pub(super) fn set_camera(&self, camera: usize) {
        self.camera.store(camera, Ordering::Relaxed);
    }

    /// Whether the connection is about `camera`.
    pub(super) fn is_about(&self, camera: usize) -> bool {
        self.camera.load(Ordering::Relaxed) == camera
    }
}
