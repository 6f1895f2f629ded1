//! One connection: HTTP/1.1 with a bound on every wait.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body::{Frame, SizeHint};
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
use crate::places::{Phase, Seat, Taken};

/// Request line and headers together.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// The read buffer, which bounds a head that does not end; also how much unsent body makes a body wait.
const BUFFER_BYTES: usize = 512 << 10;

/// Who is at the other end.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Serves requests until the peer goes, a bound is passed, its place is needed, or `stop` turns true.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    timeouts: Timeouts,
    place: Taken,
    mut stop: watch::Receiver<bool>,
) {
    // Heads and last pieces go out at once; bodies are written in large pieces anyway.
    let _ = stream.set_nodelay(true);
    let seat = &place.seat;
    let io = TokioIo::new(Guarded::new(stream, &timeouts, Arc::clone(seat)));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let answering = Answering(Arc::clone(seat));
        seat.set(Phase::Busy);
        request.extensions_mut().insert(Peer(peer));
        let response = router.clone().oneshot(request.map(Body::new));
        async move {
            let response = response.await?;
            Ok::<_, std::convert::Infallible>(response.map(|body| Answer {
                body,
                _answering: answering,
            }))
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
            () = seat.asked_to_leave() => {
                tracing::debug!(%peer, "a connection gave way to another");
                return;
            }
            _ = stop.changed(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// A request that is being answered, until its answer's body has ended.
struct Answering(Arc<Seat>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.set(Phase::Idle);
    }
}

/// A body that knows when it has ended.
struct Answer {
    body: Body,
    _answering: Answering,
}

impl http_body::Body for Answer {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket that gives up on heads that do not end and on readers that do not read.
struct Guarded {
    stream: TcpStream,
    seat: Arc<Seat>,
    header: Duration,
    stall: Duration,
    head_deadline: Pin<Box<Sleep>>,
    /// Runs while a write waits. The system takes more only when a third of its buffer is free: a reader that
    /// takes a byte now and then does not read either.
    stall_deadline: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    fn new(stream: TcpStream, timeouts: &Timeouts, seat: Arc<Seat>) -> Self {
        Self {
            stream,
            seat,
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
            if self.stall_deadline.take().is_some() {
                self.seat.set_stalled(false);
            }
            return written;
        }
        let deadline = self.stall_deadline.get_or_insert_with(|| {
            self.seat.set_stalled(true);
            Box::pin(tokio::time::sleep(self.stall))
        });
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the reader does not read",
        )))
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
                if buf.filled().len() > before && this.seat.is(Phase::Idle) {
                    this.seat.set(Phase::Head);
                    let deadline = Instant::now() + this.header;
                    this.head_deadline.as_mut().reset(deadline);
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                if this.seat.is(Phase::Head) && this.head_deadline.as_mut().poll(cx).is_ready() {
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
