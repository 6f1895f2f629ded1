//! Genuine media: one session with a camera of the farm.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;

/// What the farm's camera sends, packet by packet.
pub(crate) struct Upstream {
    socket: BufReader<TcpStream>,
    pub(crate) description: String,
}

/// An RTP packet, or an RTCP one.
pub(crate) struct Packet {
    pub(crate) is_report: bool,
    pub(crate) bytes: Vec<u8>,
}

impl Upstream {
    /// Begins a session with the camera at `url`.
    pub(crate) fn open(url: &str) -> io::Result<Self> {
        let address = url
            .trim_start_matches("rtsp://")
            .split('/')
            .next()
            .unwrap_or_default();
        let mut socket = BufReader::new(TcpStream::connect(address)?);
        let (_, description) = ask(
            &mut socket,
            &format!("DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
        )?;
        let setup = format!(
            "SETUP {url}/trackID=0 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
        );
        ask(&mut socket, &setup)?;
        Ok(Self { socket, description })
    }

    /// Lets it send.
    pub(crate) fn play(&mut self, url: &str) -> io::Result<()> {
        ask(
            &mut self.socket,
            &format!("PLAY {url} RTSP/1.0\r\nCSeq: 3\r\n\r\n"),
        )
        .map(drop)
    }

    pub(crate) fn next(&mut self) -> io::Result<Packet> {
        let mut head = [0; 4];
        self.socket.read_exact(&mut head)?;
        let mut bytes = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
        self.socket.read_exact(&mut bytes)?;
        Ok(Packet {
            is_report: head[1] == 1,
            bytes,
        })
    }
}

/// Sends a request and reads the answer: head and body.
fn ask(socket: &mut BufReader<TcpStream>, request: &str) -> io::Result<(String, String)> {
    socket.get_mut().write_all(request.as_bytes())?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if socket.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    Ok((head, String::from_utf8_lossy(&body).into_owned()))
}
