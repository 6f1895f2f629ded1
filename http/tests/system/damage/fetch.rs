//! A client that takes what comes, also of answers that are cut.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

/// Longer takes no answer here.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) etag: String,
    pub(crate) body: Vec<u8>,
    /// Whether the body is as long as was promised.
    pub(crate) whole: bool,
}

impl Answer {
    /// Whether this is an answer with content, cut or not.
    pub(crate) fn is_good(&self) -> bool {
        matches!(self.status, 200 | 206)
    }

    /// The body of a whole good answer, as text.
    pub(crate) fn text(&self) -> Option<String> {
        (self.is_good() && self.whole).then(|| String::from_utf8_lossy(&self.body).into_owned())
    }
}

/// A running service.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Source(pub(crate) SocketAddr);

impl Source {
    /// Asks for `path`, or a part of what is there.
    pub(crate) fn get(&self, path: &str, part: Option<&Range<u64>>) -> Answer {
        let nothing = Answer {
            status: 0,
            etag: String::new(),
            body: Vec::new(),
            whole: false,
        };
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.0);
        if let Some(part) = part {
            request += &format!("Range: bytes={}-{}\r\n", part.start, part.end - 1);
        }
        request += "\r\n";
        let mut bytes = Vec::new();
        let asked = TcpStream::connect(self.0).and_then(|mut stream| {
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.write_all(request.as_bytes())?;
            // What came before an error counts.
            let _ = stream.read_to_end(&mut bytes);
            Ok(())
        });
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        let (Ok(()), Some(end)) = (asked, end) else {
            return nothing;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let header = |name: &str| head.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        assert_ne!(header("transfer-encoding:"), Some("chunked"), "{path}: no length");
        let body = bytes[end + 4..].to_vec();
        let promised: usize = header("content-length:")
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        assert!(body.len() <= promised, "{path}: more than was promised");
        Answer {
            status: head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0),
            etag: header("etag:").unwrap_or_default().to_owned(),
            whole: body.len() == promised,
            body,
        }
    }
}
