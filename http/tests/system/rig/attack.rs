//! Clients that mean no good: threads that yield to everything else on this machine, as if they were far away.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// A server that accepts nothing for so long is not there.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The least a thread can ask for.
const NICE: i32 = 19;

/// The other addresses of this machine's loopback: each is a client of its own.
pub(crate) fn client(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, number)
}

/// Connects from one address of this machine.
pub(crate) fn dial(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let fd: OwnedFd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&fd, &SocketAddr::new(IpAddr::V4(from), 0))?;
    connect(&fd, &to)?;
    let stream = TcpStream::from(fd);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// What one kind of attacker did and saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Connections made.
    pub(crate) connections: AtomicU64,
    /// Of these, closed by the service.
    pub(crate) closed: AtomicU64,
    /// Answers, by their first digit.
    pub(crate) answers: [AtomicU64; 6],
    /// Answers 503 and 429.
    pub(crate) put_off: AtomicU64,
    /// The longest time that the service left a connection open, in milliseconds.
    pub(crate) longest_ms: AtomicU64,
}

impl Seen {
    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&self, since: Instant) {
        Self::add(&self.closed);
        let ms = since.elapsed().as_millis() as u64;
        self.longest_ms.fetch_max(ms, Ordering::Relaxed);
    }

    fn answer(&self, head: &[u8]) {
        let status: u16 = std::str::from_utf8(head.get(9..12).unwrap_or_default())
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        Self::add(&self.answers[usize::from(status / 100).min(5)]);
        if status == 503 || status == 429 {
            Self::add(&self.put_off);
        }
    }
}

/// Attackers at work. They stop when this is dropped.
#[derive(Default)]
pub(crate) struct Attack {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    seen: Vec<(&'static str, Arc<Seen>)>,
}

/// What an attacker's loop needs.
#[derive(Clone)]
struct Attacker {
    to: SocketAddr,
    from: Ipv4Addr,
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
}

impl Attacker {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn dial(&self) -> Option<(TcpStream, Instant)> {
        let stream = dial(self.from, self.to).ok()?;
        Seen::add(&self.seen.connections);
        Some((stream, Instant::now()))
    }

    /// Sends `request` again and again on `pool` connections and reads what comes.
    fn flood(&self, request: &[u8]) {
        let mut buffer = vec![0; 64 << 10];
        while self.goes_on() {
            let Some((mut stream, since)) = self.dial() else {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            while self.goes_on() && stream.write_all(request).is_ok() {
                match answer(&mut stream, &mut buffer) {
                    Some(head) => self.seen.answer(&head),
                    None => break,
                }
            }
            if self.goes_on() {
                self.seen.ended(since);
            }
        }
    }

    /// Keeps `many` connections on which `first` was sent; each second `drip` is sent too, and those that were
    /// closed are made anew. Nothing is ever read but to see whether the service closed.
    fn hold(&self, many: usize, first: &[u8], drip: &[u8]) {
        let mut held: Vec<(TcpStream, Instant)> = Vec::new();
        let mut byte = 0;
        while self.goes_on() {
            let began = Instant::now();
            while held.len() < many && self.goes_on() && began.elapsed() < Duration::from_secs(1) {
                let Some((mut stream, since)) = self.dial() else {
                    break;
                };
                // What is not taken at once is not sent: the service may not read.
                let _ = stream.set_nonblocking(true);
                let _ = stream.write(first);
                held.push((stream, since));
            }
            let next = drip.get(byte % drip.len().max(1)).copied();
            byte += 1;
            held.retain_mut(|(stream, since)| {
                let sent = next.is_none_or(|byte| match stream.write(&[byte]) {
                    Ok(_) => true,
                    Err(error) => error.kind() == ErrorKind::WouldBlock,
                });
                let open = sent && !is_closed(stream);
                if !open {
                    self.seen.ended(*since);
                }
                open
            });
            std::thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
        }
    }
}

/// Whether the other side has closed; what it sent stays unread.
fn is_closed(stream: &TcpStream) -> bool {
    let mut byte = [0];
    match stream.peek(&mut byte) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// One answer with a length, its body read and dropped; its head.
pub(crate) fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Option<Vec<u8>> {
    let mut head: Vec<u8> = Vec::new();
    let end = loop {
        let n = stream.read(buffer).ok().filter(|n| *n > 0)?;
        head.extend_from_slice(&buffer[..n]);
        if let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut left = length?.parse::<usize>().ok()?.saturating_sub(head.len() - end);
    while left > 0 {
        let n = stream.read(buffer).ok().filter(|n| *n > 0)?;
        left = left.saturating_sub(n);
    }
    head.truncate(end);
    Some(head)
}

impl Attack {
    fn attacker(&mut self, name: &'static str, to: SocketAddr, from: Ipv4Addr) -> Attacker {
        let seen = match self.seen.iter().find(|(known, _)| *known == name) {
            Some((_, seen)) => seen.clone(),
            None => {
                let seen = Arc::<Seen>::default();
                self.seen.push((name, seen.clone()));
                seen
            }
        };
        Attacker {
            to,
            from,
            stop: self.stop.clone(),
            seen,
        }
    }

    fn spawn(&mut self, work: impl FnOnce() + Send + 'static) {
        self.threads.push(std::thread::spawn(move || {
            let _ = rustix::process::nice(NICE);
            work();
        }));
    }

    /// Keeps `many` connections open; see [`Attacker::hold`].
    pub(crate) fn hold(
        &mut self,
        name: &'static str,
        (to, from): (SocketAddr, Ipv4Addr),
        many: usize,
        first: String,
        drip: &'static str,
    ) {
        let attacker = self.attacker(name, to, from);
        self.spawn(move || attacker.hold(many, first.as_bytes(), drip.as_bytes()));
    }

    /// Asks as fast as it can on `many` connections.
    pub(crate) fn flood(
        &mut self,
        name: &'static str,
        (to, from): (SocketAddr, Ipv4Addr),
        many: usize,
        request: &str,
    ) {
        for _ in 0..many {
            let (attacker, request) = (self.attacker(name, to, from), request.to_owned());
            self.spawn(move || attacker.flood(request.as_bytes()));
        }
    }

    /// What attackers of one kind saw.
    pub(crate) fn seen(&self, name: &str) -> &Seen {
        let found = self.seen.iter().find(|(known, _)| *known == name);
        &found.unwrap_or_else(|| panic!("no attackers {name}")).1
    }

    /// Ends all attackers and tells what they saw.
    pub(crate) fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("an attacker");
        }
        for (name, seen) in &self.seen {
            let answers: Vec<_> = seen.answers.iter().map(Seen::get).collect();
            println!(
                "{name}: {} connections, {} closed by the service after at most {} ms; answers by class {answers:?}, {} put off",
                Seen::get(&seen.connections),
                Seen::get(&seen.closed),
                Seen::get(&seen.longest_ms),
                Seen::get(&seen.put_off),
            );
        }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
