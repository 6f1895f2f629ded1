//! Accepts connections, bounds their number, and stops in an orderly way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::config::{ConfigError, HttpConfig, Timeouts};
use crate::connection;
use crate::routes::router;
use crate::state::{App, HttpState, Shared};

/// What a connection over the limit gets.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\
    Content-Type: application/problem+json\r\nContent-Length: 106\r\n\r\n\
    {\"type\":\"urn:tierline:problem:overloaded\",\"title\":\"Too many connections\",\"status\":503,\"code\":\"overloaded\"}";
/// Connections that were told to go and have not gone yet; with more of them newcomers wait.
const LEAVING_MAX: usize = 32;
/// After an accept that failed, which happens when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration does not allow it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be had.
    #[error(
        "cannot listen on {address}: set another in http.listen (--listen of a demo), with port 0 for any that is free"
    )]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running service. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Where it listens; the port is the real one.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets requests in progress end within their bound, and cuts off the rest.
    pub async fn shutdown(self) {
        let _ = self.stop.send(true);
        let _ = self.accepting.await;
    }
}

/// Starts the service on the caller's tokio runtime.
pub fn start(config: &HttpConfig, state: HttpState) -> Result<Server, StartError> {
    config.validate()?;
    let listen = |source| StartError::Listen {
        address: config.listen,
        source,
    };
    let listener = std::net::TcpListener::bind(config.listen).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let listener = TcpListener::from_std(listener).map_err(listen)?;
    let (stop, stopped) = watch::channel(false);
    let app = Arc::new(Shared::new(config, state));
    let accepting = tokio::spawn(accept(listener, app, config.timeouts, stopped));
    Ok(Server {
        address,
        stop,
        accepting,
    })
}

async fn accept(listener: TcpListener, app: App, timeouts: Timeouts, mut stop: watch::Receiver<bool>) {
    let router = router(app.clone());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.changed() => break,
            Some(_) = connections.join_next() => continue,
            // Those that were told to go are still here for a moment, each with its file descriptor.
            accepted = listener.accept(), if connections.len() < app.places.max() + LEAVING_MAX => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(place) = app.places.take(peer.ip().to_canonical()) else {
                    app.metrics.connections_refused.inc();
                    refuse(&stream);
                    continue;
                };
                let serving = connection::serve(stream, peer, router.clone(), timeouts, place, stop.clone());
                let gauge = app.metrics.connections.clone();
                gauge.inc();
                connections.spawn(async move {
                    serving.await;
                    gauge.dec();
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(timeouts.shutdown, all).await.is_err() {
        tracing::info!(
            left = connections.len(),
            "cutting off requests that did not end in time"
        );
        connections.shutdown().await;
    }
}

/// Says why, if the socket takes it at once, and closes.
fn refuse(stream: &TcpStream) {
    let _ = stream.try_write(REFUSAL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_says_how_long_it_is() {
        let text = std::str::from_utf8(REFUSAL).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{}",
            body.len()
        );
    }
}
