//! A camera that misbehaves: an RTSP server in front of an honest camera of the farm.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::answers::{self, Answer};
use crate::media;
use crate::misbehaviour::Misbehaviour;

/// A stack for each connection: nothing large stands on it.
const STACK_BYTES: usize = 256 << 10;

/// A running camera.
pub(crate) struct Camera {
    shared: Arc<Shared>,
    port: u16,
}

/// What the connections of a camera share.
pub(crate) struct Shared {
    does: Mutex<Misbehaviour>,
    /// Where genuine media comes from; the second is H.265, if there is any.
    pub(crate) upstream: Vec<String>,
    pub(crate) address: String,
    pub(crate) connections: AtomicUsize,
    /// Sessions that have begun to play.
    pub(crate) played: AtomicUsize,
    /// Requests that carried credentials.
    pub(crate) tried: AtomicUsize,
    pub(crate) nonce: AtomicUsize,
    occupied: AtomicBool,
    pub(crate) began: Instant,
}

/// One client's connection.
pub(crate) struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) does: Misbehaviour,
    pub(crate) socket: TcpStream,
    pub(crate) description: String,
    /// Where the client wants its datagrams.
    pub(crate) datagrams: Option<(UdpSocket, UdpSocket)>,
    holds_place: bool,
}

/// A request: its first line's words, and its headers in lower case.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) uri: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Camera {
    /// A camera in front of those at `upstream` that does this.
    pub(crate) fn start(does: Misbehaviour, upstream: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            does: Mutex::new(does),
            upstream,
            address: address.to_string(),
            connections: AtomicUsize::new(0),
            played: AtomicUsize::new(0),
            tried: AtomicUsize::new(0),
            nonce: AtomicUsize::new(0),
            occupied: AtomicBool::new(does == Misbehaviour::OneSession),
            began: Instant::now(),
        });
        let camera = shared.clone();
        spawn(move || {
            for socket in listener.incoming().flatten() {
                camera.connections.fetch_add(1, Ordering::Relaxed);
                let camera = camera.clone();
                spawn(move || serve(camera, socket));
            }
        });
        Self {
            shared,
            port: address.port(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("rtsp://viewer:s3cret@127.0.0.1:{}/cam/0", self.port)
    }

    /// From the next connection on it does this.
    pub(crate) fn set(&self, does: Misbehaviour) {
        *self.shared.does.lock().unwrap_or_else(PoisonError::into_inner) = does;
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

pub(crate) fn spawn(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    thread.spawn(work).expect("a thread");
}

impl Shared {
    /// Takes the one place there is, unless somebody has it. Somebody else leaves after three seconds.
    pub(crate) fn take_place(&self) -> bool {
        if self.played.load(Ordering::Relaxed) == 0 && self.began.elapsed() < Duration::from_secs(3) {
            return false;
        }
        self.played.load(Ordering::Relaxed) == 0 || !self.occupied.swap(true, Ordering::AcqRel)
    }
}

fn serve(shared: Arc<Shared>, socket: TcpStream) {
    let does = *shared.does.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = socket.set_nodelay(true);
    let Ok(reading) = socket.try_clone() else { return };
    let mut client = Client {
        shared,
        does,
        socket,
        description: String::new(),
        datagrams: None,
        holds_place: false,
    };
    let mut reading = BufReader::with_capacity(4096, reading);
    if does == Misbehaviour::ClosesAtOnce {
        return;
    }
    while let Some(request) = read(&mut reading) {
        if does == Misbehaviour::OneSession && request.method == "SETUP" {
            client.holds_place = client.holds_place || client.shared.take_place();
            if !client.holds_place {
                let _ = client.say(&answers::status(&request, "453 Not Enough Bandwidth"));
                continue;
            }
        }
        let going_on = match answers::to(&mut client, &request) {
            Answer::Say(text) => client.say(&text).is_ok(),
            Answer::Pour { head, again } => client.pour(&head, &again),
            Answer::Trickle(text) => client.trickle(&text),
            Answer::Play(text) => client.say(&text).is_ok() && media::start(&mut client),
            Answer::Silence => true,
            Answer::Close => false,
        };
        if !going_on {
            break;
        }
    }
    if client.holds_place {
        client.shared.occupied.store(false, Ordering::Release);
    }
    let _ = client.socket.shutdown(Shutdown::Both);
}

impl Client {
    fn say(&mut self, text: &str) -> std::io::Result<()> {
        self.socket.write_all(text.as_bytes())
    }

    /// Says `again` over and over until the client has had enough.
    fn pour(&mut self, head: &str, again: &str) -> bool {
        let again = again.repeat((16 << 10) / again.len().max(1) + 1);
        let mut said = self.say(head);
        while said.is_ok() {
            said = self.say(&again);
        }
        false
    }

    fn trickle(&mut self, text: &str) -> bool {
        for byte in text.bytes() {
            if self.socket.write_all(&[byte]).is_err() {
                return false;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        true
    }
}

/// The next request; interleaved packets before it are passed over.
fn read(reading: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    loop {
        line.clear();
        match reading.fill_buf().ok()?.first()? {
            b'$' => {
                let mut head = [0; 4];
                std::io::Read::read_exact(reading, &mut head).ok()?;
                let mut body = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
                std::io::Read::read_exact(reading, &mut body).ok()?;
            }
            _ => {
                reading.read_line(&mut line).ok()?;
                if !line.trim().is_empty() {
                    break;
                }
            }
        }
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, uri) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reading.read_line(&mut line).ok()?;
        match line.trim().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    Some(Request { method, uri, headers })
}
