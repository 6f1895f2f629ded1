//! What both floor recorders share: arguments and the three requests that make a camera send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Where to record from and to, and how often to sync.
pub(crate) struct Options {
    /// Camera URLs without their numbers, such as `rtsp://127.0.0.1:8554/cam/`.
    pub(crate) url: String,
    /// Cameras 0 to this number less one are recorded.
    pub(crate) cameras: u32,
    /// Where the files go.
    pub(crate) dir: PathBuf,
    /// Time between two syncs of a file; zero means never.
    pub(crate) sync_every: Duration,
    words: Vec<String>,
}

impl Options {
    /// Reads the command line and creates the directory.
    pub(crate) fn from_command_line() -> Result<Self> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let required = |name| value(&words, name).with_context(|| format!("{name} is missing"));
        let (url, dir) = (required("--url")?, PathBuf::from(required("--dir")?));
        let cameras = required("--n")?.parse().context("--n takes a number")?;
        ensure!(cameras > 0, "--n must be at least 1");
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut options = Self {
            url,
            cameras,
            dir,
            sync_every: Duration::ZERO,
            words,
        };
        options.sync_every = options.duration_ms("--sync-ms", 1000)?;
        Ok(options)
    }

    /// Whether a flag is given.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.words.iter().any(|word| word == flag)
    }

    /// The value of an option in milliseconds, or `default`.
    pub(crate) fn duration_ms(&self, name: &str, default: u64) -> Result<Duration> {
        let given = value(&self.words, name).map(|text| text.parse());
        let millis = given
            .transpose()
            .with_context(|| format!("{name} takes a number"))?;
        Ok(Duration::from_millis(millis.unwrap_or(default)))
    }

    /// The share of `period` by which camera `number` is later than camera 0, so that they take turns.
    pub(crate) fn phase(&self, number: u32, period: Duration) -> Duration {
        period * number / self.cameras
    }
}

fn value(words: &[String], name: &str) -> Option<String> {
    words
        .windows(2)
        .find(|pair| pair[0] == name)
        .map(|pair| pair[1].clone())
}

/// Makes camera `number` send; returns the connection and what it sent already.
pub(crate) fn play(
    options: &Options,
    number: u32,
    tune: impl FnOnce(&TcpStream) -> Result<()>,
) -> Result<(TcpStream, Vec<u8>)> {
    let url = format!("{}{number}", options.url);
    let address = url
        .strip_prefix("rtsp://")
        .and_then(|rest| rest.split('/').next());
    let address = address.with_context(|| format!("{url} is not an rtsp:// URL"))?;
    let mut socket = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    tune(&socket)?;
    ask(
        &mut socket,
        &format!("DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n"),
    )?;
    let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1";
    ask(
        &mut socket,
        &format!("SETUP {url}/trackID=0 RTSP/1.0\r\nCSeq: 2\r\n{transport}\r\n\r\n"),
    )?;
    let session = number + 0x1000;
    let rest = ask(
        &mut socket,
        &format!("PLAY {url} RTSP/1.0\r\nCSeq: 3\r\nSession: {session:08x}\r\n\r\n"),
    )?;
    Ok((socket, rest))
}

/// Sends one request and returns what came after its answer.
fn ask(socket: &mut TcpStream, request: &str) -> Result<Vec<u8>> {
    socket.write_all(request.as_bytes())?;
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&received[..end]).into_owned();
            ensure!(head.starts_with("RTSP/1.0 200 "), "the camera answered {head}");
            let length = head
                .split("\r\n")
                .find_map(|line| line.strip_prefix("Content-Length: "));
            let whole = end + 4 + length.map_or(Ok(0), str::parse)?;
            if received.len() >= whole {
                return Ok(received.split_off(whole));
            }
        }
        let bytes = socket.read(&mut buffer)?;
        ensure!(bytes > 0, "the camera closed the connection");
        received.extend_from_slice(&buffer[..bytes]);
    }
}
