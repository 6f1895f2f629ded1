//! How datagrams of a hostile camera travel.

use std::io;
use std::net::UdpSocket;

use crate::misbehaviour::Misbehaviour as M;

pub(crate) struct Datagrams {
    does: M,
    media: UdpSocket,
    reports: UdpSocket,
    sent: u64,
    held: Option<Vec<u8>>,
}

impl Datagrams {
    pub(crate) fn new(does: M, (media, reports): (UdpSocket, UdpSocket)) -> Self {
        Self {
            does,
            media,
            reports,
            sent: 0,
            held: None,
        }
    }

    pub(crate) fn send(&mut self, channel: u8, bytes: &[u8]) -> io::Result<()> {
        if channel == 1 {
            return sent(&self.reports, bytes);
        }
        self.sent += 1;
        match self.does {
            M::Loses if self.sent.is_multiple_of(40) => Ok(()),
            M::Duplicates => sent(&self.media, bytes).and_then(|()| sent(&self.media, bytes)),
            M::Reorders if self.sent.is_multiple_of(40) => {
                self.held = Some(bytes.to_vec());
                Ok(())
            }
            _ => {
                sent(&self.media, bytes)?;
                match self.held.take() {
                    Some(held) => sent(&self.media, &held),
                    None => Ok(()),
                }
            }
        }
    }
}

/// A client that does not listen yet is no reason to stop.
fn sent(socket: &UdpSocket, bytes: &[u8]) -> io::Result<()> {
    match socket.send(bytes) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Err(error),
        _ => Ok(()),
    }
}
