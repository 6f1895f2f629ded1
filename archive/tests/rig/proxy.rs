//! A proxy in front of a real object store that does to requests and answers what networks, busy servers and bad
//! memory do. What it passes on it passes on as it came, `Host` too, so that signatures hold.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// More is no head of a request or an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// What passes at a time where the line is slow.
const PIECE_BYTES: usize = 16 << 10;
/// How often a request that is held looks whether it still is.
const HOLD: Duration = Duration::from_millis(50);

/// What goes wrong. Shares are percents of the requests that it can happen to.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The server says 500, and the request never reached it.
    Broken(u64),
    /// The server says 503 SlowDown, and the request never reached it.
    SlowDown(u64),
    /// The connection is reset: before the request was taken, or in the middle of its answer.
    Reset(u64),
    /// So many bytes a second pass, both ways and of all connections together.
    Slow(u64),
    /// What was put is there, and nobody is told: the connection ends instead.
    LostAnswer(u64),
    /// A byte of what is put is another one when it reaches the server.
    DamagedUpload(u64),
    /// A byte of what is read is another one when it comes back.
    DamagedRead(u64),
    /// The server tells another checksum than that of what it has.
    WrongChecksum(u64),
    /// What is listed is what was listed the first time.
    StaleList,
    /// Nothing comes back, and nothing goes on.
    BlackHole,
}

/// A proxy on a port of its own. It takes nobody any more when this is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    fault: Mutex<Option<Fault>>,
    /// How often it happened since it was set.
    happened: AtomicU64,
    stop: AtomicBool,
    dice: AtomicU64,
    /// When the slow line has passed on all that it took.
    free: Mutex<Option<Instant>>,
    /// The first answer to each list.
    lists: Mutex<HashMap<String, Vec<u8>>>,
    reads: Mutex<Reads>,
}

/// What was asked for of objects.
#[derive(Clone, Default, Debug)]
pub(crate) struct Reads {
    /// How many bytes, each time.
    pub(crate) lens: Vec<u64>,
    /// How many requests were under way at most.
    pub(crate) at_once: u64,
    under_way: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Stands in front of `server`, which need not run yet.
    pub(crate) fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared {
            server,
            fault: Mutex::default(),
            happened: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            dice: AtomicU64::new(1),
            free: Mutex::default(),
            lists: Mutex::default(),
            reads: Mutex::default(),
        });
        let theirs = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if theirs.stop.load(Ordering::Acquire) {
                    return;
                }
                let shared = theirs.clone();
                std::thread::spawn(move || drop(serve(&shared, client)));
            }
        });
        Self { address, shared }
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets a fault happen from now on; `None` for none.
    pub(crate) fn set(&self, fault: Option<Fault>) {
        *locked(&self.shared.fault) = fault;
        *locked(&self.shared.free) = None;
        self.shared.happened.store(0, Ordering::Release);
    }

    /// What was read of objects until now.
    pub(crate) fn reads(&self) -> Reads {
        locked(&self.shared.reads).clone()
    }

    /// How often it happened since it was set.
    pub(crate) fn happened(&self) -> u64 {
        self.shared.happened.load(Ordering::Acquire)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Whoever waits for the next connection gets one.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn fault(&self) -> Option<Fault> {
        *locked(&self.fault)
    }

    /// Whether it happens this time.
    fn hits(&self, percent: u64) -> bool {
        let hit = self.below(100) < percent;
        if hit {
            self.happened.fetch_add(1, Ordering::AcqRel);
        }
        hit
    }

    /// SplitMix64, always the same numbers.
    fn below(&self, end: u64) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.dice.fetch_add(step, Ordering::AcqRel).wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// Waits until so many more bytes have passed the slow line.
    fn pass(&self, bytes: usize) {
        let Some(Fault::Slow(rate)) = self.fault() else {
            return;
        };
        let wait = {
            let mut free = locked(&self.free);
            let now = Instant::now();
            let after = free.unwrap_or(now).max(now) + Duration::from_secs_f64(bytes as f64 / rate as f64);
            *free = Some(after);
            after - now
        };
        self.happened.fetch_add(1, Ordering::AcqRel);
        std::thread::sleep(wait);
    }

    /// Holds a request as long as the fault lasts.
    fn hold(&self) {
        self.happened.fetch_add(1, Ordering::AcqRel);
        while self.fault() == Some(Fault::BlackHole) && !self.stop.load(Ordering::Acquire) {
            std::thread::sleep(HOLD);
        }
    }
}

/// A request or an answer, as it came.
struct Message {
    head: Vec<u8>,
    body: Vec<u8>,
}

/// Head and body of what comes next; `None` when nothing does. `bodiless` answers say how long what they do not have
/// would be.
fn read(shared: &Shared, from: &mut BufReader<TcpStream>, bodiless: bool) -> io::Result<Option<Message>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if from.read_until(b'\n', &mut head)? == 0 {
            return Ok(None);
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(io::Error::other("an endless head"));
        }
    }
    let mut message = Message {
        head,
        body: Vec::new(),
    };
    if bodiless {
        return Ok(Some(message));
    }
    if message
        .header("transfer-encoding")
        .is_some_and(|v| v == "chunked")
    {
        message.read_chunks(shared, from)?;
    } else if let Some(len) = message.header("content-length").and_then(|v| v.parse().ok()) {
        message.read_more(shared, from, len)?;
    }
    Ok(Some(message))
}

impl Message {
    fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.head)
    }

    fn header(&self, name: &str) -> Option<String> {
        let text = self.text();
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned())
    }

    /// Method and target of a request.
    fn request(&self) -> (String, String) {
        let text = self.text();
        let mut words = text.split(' ').map(str::to_owned);
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// How many bytes are asked for; 0 for all.
    fn range_len(&self) -> u64 {
        let range = self.header("range").unwrap_or_default();
        let ends = range.strip_prefix("bytes=").and_then(|ends| ends.split_once('-'));
        ends.and_then(|(first, last)| Some(last.parse::<u64>().ok()? + 1 - first.parse::<u64>().ok()?))
            .unwrap_or(0)
    }

    /// The status of an answer.
    fn status(&self) -> u16 {
        self.text()
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .unwrap_or(0)
    }

    fn read_more(&mut self, shared: &Shared, from: &mut impl Read, len: usize) -> io::Result<()> {
        let mut left = len;
        while left > 0 {
            let at = self.body.len();
            let piece = left.min(PIECE_BYTES);
            self.body.resize(at + piece, 0);
            from.read_exact(&mut self.body[at..])?;
            shared.pass(piece);
            left -= piece;
        }
        Ok(())
    }

    fn read_chunks(&mut self, shared: &Shared, from: &mut BufReader<TcpStream>) -> io::Result<()> {
        loop {
            let begin = self.body.len();
            from.read_until(b'\n', &mut self.body)?;
            let line = String::from_utf8_lossy(&self.body[begin..]);
            let digits = line.split(';').next().unwrap_or_default().trim();
            let len = usize::from_str_radix(digits, 16).map_err(io::Error::other)?;
            // With the end of the line behind it.
            self.read_more(shared, from, len + 2)?;
            if len == 0 {
                return Ok(());
            }
        }
    }

    /// Changes one byte in the middle.
    fn damage(&mut self) {
        let middle = self.body.len() / 2;
        if let Some(byte) = self.body.get_mut(middle) {
            *byte ^= 0x40;
        }
    }

    /// Tells the checksum of something else.
    fn change_checksum(&mut self) {
        const NAME: &str = "x-amz-checksum-crc64nvme";
        if let Some(value) = self.header(NAME) {
            self.head = self.text().replace(&value, "AAAAAAAAAAE=").into_bytes();
        }
    }

    fn bytes(&self) -> Vec<u8> {
        [self.head.as_slice(), self.body.as_slice()].concat()
    }
}

/// One connection of a client: a request and its answer after the other.
fn serve(shared: &Shared, client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut from = BufReader::new(client.try_clone()?);
    let mut client = client;
    while let Some(mut request) = read(shared, &mut from, false)? {
        let (method, target) = request.request();
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let is_list = method == "GET" && query.contains("list-type");
        let is_read = method == "GET" && !is_list;
        // A part alone is no object yet.
        let makes = method == "PUT" && !query.contains("partNumber")
            || method == "POST" && query.contains("uploadId");
        let fault = shared.fault();
        match fault {
            Some(Fault::Broken(share)) if shared.hits(share) => {
                client.write_all(&refusal("500 Internal Server Error", "InternalError", &method))?;
                continue;
            }
            Some(Fault::SlowDown(share)) if shared.hits(share) => {
                client.write_all(&refusal("503 Service Unavailable", "SlowDown", &method))?;
                continue;
            }
            Some(Fault::Reset(share)) if shared.hits(share) => {
                if shared.below(2) == 0 {
                    let answer = forward(shared, &request, &method)?.bytes();
                    client.write_all(answer.get(..answer.len() / 2).unwrap_or_default())?;
                }
                return reset(&client);
            }
            Some(Fault::DamagedUpload(share)) if method == "PUT" && shared.hits(share) => request.damage(),
            Some(Fault::BlackHole) => {
                shared.hold();
                return Ok(());
            }
            Some(Fault::StaleList) if is_list => {
                if let Some(earlier) = locked(&shared.lists).get(&target).cloned() {
                    shared.happened.fetch_add(1, Ordering::AcqRel);
                    client.write_all(&earlier)?;
                    continue;
                }
            }
            _ => {}
        }
        if is_read {
            locked(&shared.reads).begun(request.range_len());
        }
        let mut answer = forward(shared, &request, &method)?;
        match fault {
            Some(Fault::LostAnswer(share)) if makes && answer.status() < 300 && shared.hits(share) => {
                return reset(&client);
            }
            Some(Fault::DamagedRead(share)) if is_read && answer.status() < 300 && shared.hits(share) => {
                answer.damage();
            }
            Some(Fault::WrongChecksum(share)) if method == "HEAD" && shared.hits(share) => {
                answer.change_checksum();
            }
            _ => {}
        }
        let answer = answer.bytes();
        if is_list {
            locked(&shared.lists)
                .entry(target)
                .or_insert_with(|| answer.clone());
        }
        if is_read {
            locked(&shared.reads).under_way -= 1;
        }
        client.write_all(&answer)?;
    }
    Ok(())
}

impl Reads {
    fn begun(&mut self, len: u64) {
        self.lens.push(len);
        self.under_way += 1;
        self.at_once = self.at_once.max(self.under_way);
    }
}

/// What the server answers. Each request has a connection of its own, so that none meets one that is over.
fn forward(shared: &Shared, request: &Message, method: &str) -> io::Result<Message> {
    let mut server = TcpStream::connect(shared.server)?;
    server.set_nodelay(true)?;
    server.write_all(&request.bytes())?;
    let mut from = BufReader::new(server);
    loop {
        let answer = read(shared, &mut from, method == "HEAD")?;
        let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        if answer.status() >= 200 {
            return Ok(answer);
        }
    }
}

fn refusal(status: &str, code: &str, method: &str) -> Vec<u8> {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>The test says so</Message></Error>"
    );
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    if method == "HEAD" {
        head.into_bytes()
    } else {
        (head + &body).into_bytes()
    }
}

/// Ends a connection as a broken line does: what was not read is lost too.
fn reset(client: &TcpStream) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_linger(
        client,
        Some(Duration::ZERO),
    )?)
}
