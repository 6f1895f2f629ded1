//! RTSP requests as clients send them (RFC 2326), parsed within fixed bounds.
#![deny(clippy::indexing_slicing)]

/// Longest request line and headers, in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Longest request body, in bytes. Bodies are read and ignored.
const BODY_BYTES_MAX: usize = 64 << 10;

/// One request, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) uri: String,
    headers: Vec<(String, String)>,
}

/// Input that ends the connection, with the status line to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused(pub(super) &'static str);

/// The bytes received on one connection that do not yet make a request.
#[derive(Debug, Default)]
pub(super) struct Requests {
    buffer: Vec<u8>,
}

impl Requests {
    /// Takes what was read from the connection.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole request; `None` until more bytes come. Interleaved packets (receiver reports) before
    /// it are dropped.
    ///
    /// # Errors
    /// [`Refused`] when the input is not RTSP or exceeds a bound.
    pub(super) fn next(&mut self) -> Result<Option<Request>, Refused> {
        while let Some(&first) = self.buffer.first() {
            let drop_bytes = match first {
                b'\r' | b'\n' => 1,
                b'$' => match self.buffer.get(2..4) {
                    Some(&[high, low]) => 4 + usize::from(u16::from_be_bytes([high, low])),
                    _ => return Ok(None),
                },
                _ => return self.take_request(),
            };
            if self.buffer.len() < drop_bytes {
                return Ok(None);
            }
            self.buffer.drain(..drop_bytes);
        }
        Ok(None)
    }

    fn take_request(&mut self) -> Result<Option<Request>, Refused> {
        let window = self.buffer.get(..HEAD_BYTES_MAX).unwrap_or(&self.buffer);
        let Some(end) = window.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            let full = self.buffer.len() >= HEAD_BYTES_MAX;
            return if full {
                Err(Refused("413 Request Entity Too Large"))
            } else {
                Ok(None)
            };
        };
        let head = self
            .buffer
            .get(..end)
            .and_then(|head| std::str::from_utf8(head).ok());
        let request = head.and_then(Request::parse).ok_or(Refused("400 Bad Request"))?;
        let body = match request.header("content-length") {
            Some(length) => length.parse::<usize>().map_err(|_| Refused("400 Bad Request"))?,
            None => 0,
        };
        if body > BODY_BYTES_MAX {
            return Err(Refused("413 Request Entity Too Large"));
        }
        let whole = end + 4 + body;
        if self.buffer.len() < whole {
            return Ok(None);
        }
        self.buffer.drain(..whole);
        Ok(Some(request))
    }
}

impl Request {
    fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, uri, version) = (words.next()?, words.next()?, words.next()?);
        if method.is_empty() || !version.starts_with("RTSP/1.") || words.next().is_some() {
            return None;
        }
        let headers = lines
            .map(|line| {
                line.split_once(':')
                    .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            method: method.to_owned(),
            uri: uri.to_owned(),
            headers,
        })
    }

    /// A header's value; `name` in any case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The camera number in `rtsp://host:port/cam/<n>[/…][?…]`.
    pub(super) fn camera(&self) -> Option<usize> {
        let path = self.uri.strip_prefix("rtsp://")?.split_once('/')?.1;
        let number = path.split('?').next()?.strip_prefix("cam/")?.split('/').next()?;
        number.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(bytes: &[u8]) -> Requests {
        let mut requests = Requests::default();
        requests.feed(bytes);
        requests
    }

    #[test]
    fn requests_are_cut_out_between_interleaved_packets() {
        let mut input = requests(
            b"$\x01\x00\x02\x80\xc9DESCRIBE rtsp://h:1/cam/12 RTSP/1.0\r\ncseq: 2\r\nContent-Length: 3\r\n\r\nabc$\x01\x00",
        );
        let request = input.next().expect("well formed").expect("whole");
        assert_eq!(
            (request.method.as_str(), request.camera()),
            ("DESCRIBE", Some(12))
        );
        assert_eq!(request.header("CSeq"), Some("2"));
        assert_eq!(input.next(), Ok(None));
        input.feed(b"\x00PLAY rtsp://h:1/cam/0/trackID=0?x=1 RTSP/1.0\r\n\r\n");
        assert_eq!(
            input.next().expect("well formed").expect("whole").camera(),
            Some(0)
        );
        assert_eq!(input.next(), Ok(None));
    }

    #[test]
    fn what_is_not_rtsp_or_too_long_is_refused() {
        assert_eq!(
            requests(b"GET / HTTP/1.1\r\n\r\n").next(),
            Err(Refused("400 Bad Request"))
        );
        assert_eq!(
            requests(b"OPTIONS * RTSP/1.0\r\nno colon\r\n\r\n").next(),
            Err(Refused("400 Bad Request"))
        );
        assert_eq!(
            requests(&[b'a'; HEAD_BYTES_MAX]).next(),
            Err(Refused("413 Request Entity Too Large"))
        );
        let long = b"OPTIONS * RTSP/1.0\r\nContent-Length: 99999999\r\n\r\n";
        assert_eq!(
            requests(long).next(),
            Err(Refused("413 Request Entity Too Large"))
        );
        for length in ["-1", "x"] {
            let request = format!("OPTIONS * RTSP/1.0\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(
                requests(request.as_bytes()).next(),
                Err(Refused("400 Bad Request"))
            );
        }
    }

    #[test]
    fn only_camera_addresses_name_a_camera() {
        for uri in [
            "*",
            "rtsp://h/cam/",
            "rtsp://h/cam/-1",
            "rtsp://h/kam/1",
            "rtsp://h",
            "http://h/cam/1",
        ] {
            let request = Request {
                method: "PLAY".into(),
                uri: uri.into(),
                headers: Vec::new(),
            };
            assert_eq!(request.camera(), None, "{uri}");
        }
    }
}
