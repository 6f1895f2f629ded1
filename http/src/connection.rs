//! One connection: HTTP/1.1 with a bound on every wait.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tower::ServiceExt;

use crate::config::Timeouts;

/// Request line and headers together.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// The read buffer, which bounds a head that does not end; also how much unsent body makes a body wait.
const BUFFER_BYTES: usize = 512 << 10;

/// Who is at the other end.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Serves requests until the peer goes, a bound is passed, or `stop` turns true.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    timeouts: Timeouts,
    mut stop: watch::Receiver<bool>,
) {
    // Heads and last pieces go out at once; bodies are written in large pieces anyway.
    let _ = stream.set_nodelay(true);
    let phase = Arc::new(Phase(AtomicU8::new(Phase::HEAD)));
    let io = TokioIo::new(Guarded::new(stream, &timeouts, Arc::clone(&phase)));
    let service = service_fn(move |mut request: Request<Incoming>| {
        phase.set(Phase::BUSY);
        request.extensions_mut().insert(Peer(peer));
        let answering = router.clone().oneshot(request.map(Body::new));
        let phase = Arc::clone(&phase);
        async move {
            let response = answering.await;
            phase.set(Phase::IDLE);
            response
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // Runs while nothing was asked; from a request's first byte on `Guarded` is stricter.
        .header_read_timeout(timeouts.idle)
        .max_header_size(HEADER_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES);
    let connection = http.serve_connection(io, service);
    tokio::pin!(connection);
    let mut stopping = *stop.borrow();
    if stopping {
        connection.as_mut().graceful_shutdown();
    }
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%peer, %error, "connection ended");
                }
                return;
            }
            _ = stop.changed(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// What a connection waits for.
struct Phase(AtomicU8);

impl Phase {
    /// A new request.
    const IDLE: u8 = 0;
    /// The rest of a request's head.
    const HEAD: u8 = 1;
    /// Us.
    const BUSY: u8 = 2;

    fn set(&self, phase: u8) {
        self.0.store(phase, Ordering::Relaxed);
    }

    fn is(&self, phase: u8) -> bool {
        self.0.load(Ordering::Relaxed) == phase
    }
}

/// A socket that gives up on heads that do not end and on readers that do not read.
struct Guarded {
    stream: TcpStream,
    phase: Arc<Phase>,
    header: Duration,
    stall: Duration,
    head_deadline: Pin<Box<Sleep>>,
    /// Runs while a write waits.
    stall_deadline: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    fn new(stream: TcpStream, timeouts: &Timeouts, phase: Arc<Phase>) -> Self {
        Self {
            stream,
            phase,
            header: timeouts.header,
            stall: timeouts.stall,
            head_deadline: Box::pin(tokio::time::sleep(timeouts.header)),
            stall_deadline: None,
        }
    }

    /// Passes on how far a write got, and minds the time while it gets nowhere.
    fn watch_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stall_deadline = None;
            return written;
        }
        let deadline = self
            .stall_deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(self.stall)));
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the reader does not read",
            )));
        }
        Poll::Pending
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = &mut *self;
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                if buf.filled().len() > before && this.phase.is(Phase::IDLE) {
                    this.phase.set(Phase::HEAD);
                    let deadline = Instant::now() + this.header;
                    this.head_deadline.as_mut().reset(deadline);
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                if this.phase.is(Phase::HEAD) && this.head_deadline.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the head does not end",
                    )));
                }
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
