//! Bodies that hold leave to take memory until their bytes are gone.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A body whose bytes hold `leave`.
///
/// The connection lets go of a body when it has its last bytes, which may wait long for their reader. What is
/// held is given back when both the body and all of its bytes are gone.
pub(crate) struct Held<B, L> {
    body: B,
    leave: Arc<L>,
}

impl<B, L> Held<B, L> {
    pub(crate) fn new(body: B, leave: L) -> Self {
        Self {
            body,
            leave: Arc::new(leave),
        }
    }
}

struct Piece<L> {
    bytes: Bytes,
    _leave: Arc<L>,
}

impl<L> AsRef<[u8]> for Piece<L> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<B, L> Body for Held<B, L>
where
    B: Body<Data = Bytes> + Unpin,
    L: Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let hold = |bytes| {
            Bytes::from_owner(Piece {
                bytes,
                _leave: Arc::clone(&this.leave),
            })
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(hold))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use http_body_util::Full;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn what_waits_for_its_reader_holds_its_turn_however_little_it_is() {
        // More and less than a connection buffers before it asks a body for more.
        for len in [2 << 20, 400 << 10] {
            let turns = Arc::new(Semaphore::new(8));
            let mut clients = Vec::new();
            for _ in 0..8 {
                let (mut client, server) = UnixStream::pair().expect("sockets");
                let turns = Arc::clone(&turns);
                let service = service_fn(move |_: Request<hyper::body::Incoming>| {
                    let turn = Arc::clone(&turns).try_acquire_owned().expect("a turn");
                    let body = Full::new(Bytes::from(vec![7; len]));
                    async { Ok::<_, Infallible>(Response::new(Held::new(body, turn))) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(server), service));
                client
                    .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    .await
                    .expect("sent");
                clients.push(client);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(turns.available_permits(), 0, "{len} bytes are not sent yet");
            for mut client in clients {
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).await.expect("read");
                assert!(answer.len() > len);
            }
            assert_eq!(turns.available_permits(), 8, "all of it was sent");
        }
    }
}
