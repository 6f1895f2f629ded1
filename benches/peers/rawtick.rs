//! The floor under any recorder with batched reads: one thread, all sockets non-blocking, one read of each
//! per tick, and once per second one write and one `fdatasync` per camera. What it keeps are the raw
//! interleaved bytes: nothing is parsed, hashed or indexed.
//!
//! ```text
//! rawtick --url rtsp://127.0.0.1:8554/cam/ --n 40 --dir OUT [--tick-ms 100] [--sync-ms 1000] [--journal]
//! ```
//! `--journal` appends all cameras to one shared file with one `fdatasync`; `--sync-ms 0` never syncs.

mod play;

use std::fs::File;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use play::Options;

/// Bytes read from a socket at a time, and so per tick.
const READ_BYTES: usize = 512 << 10;

/// Receive buffer asked of the system: what comes between two ticks must fit.
const SOCKET_BUFFER_BYTES: usize = 1 << 20;

/// A camera's file is replaced by the next after this time.
const ROTATE_EVERY: Duration = Duration::from_secs(60);

/// The shared journal is replaced by the next after this time.
const ROTATE_JOURNAL_EVERY: Duration = Duration::from_secs(10);

struct Camera {
    number: u32,
    socket: TcpStream,
    unwritten: Vec<u8>,
    file: Option<File>,
    files: u32,
    write_next: Instant,
    rotate_next: Instant,
}

impl Camera {
    fn connect(options: &Options, number: u32, write_every: Duration, started: Instant) -> Result<Self> {
        let tune = |socket: &TcpStream| {
            Ok(rustix::net::sockopt::set_socket_recv_buffer_size(
                socket,
                SOCKET_BUFFER_BYTES,
            )?)
        };
        let (socket, unwritten) = play::play(options, number, tune)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            number,
            socket,
            unwritten,
            file: None,
            files: 0,
            write_next: started + write_every + options.phase(number, write_every),
            rotate_next: started + ROTATE_EVERY + options.phase(number, ROTATE_EVERY),
        })
    }

    /// Reads once; 0 when nothing has come.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self.socket.read(buffer) {
            Ok(0) => bail!("camera {} closed the connection", self.number),
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what has come since the last time, and syncs it.
    fn write(&mut self, dir: &Path, now: Instant, sync: bool) -> Result<()> {
        if self.file.is_some() && now >= self.rotate_next {
            self.rotate_next += ROTATE_EVERY;
            self.file = None;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let name = format!("cam{:04}-{:06}.rtp", self.number, self.files);
                self.files += 1;
                none.insert(File::create(dir.join(name))?)
            }
        };
        file.write_all(&self.unwritten)?;
        self.unwritten.clear();
        if sync {
            file.sync_data()?;
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let options = Options::from_command_line()?;
    let tick = options.duration_ms("--tick-ms", 100)?;
    let sync = !options.sync_every.is_zero();
    let write_every = if sync {
        options.sync_every
    } else {
        Duration::from_secs(1)
    };
    let started = Instant::now();
    let connect = |number| Camera::connect(&options, number, write_every, started);
    let cameras = (0..options.cameras).map(connect).collect::<Result<Vec<_>>>()?;
    if options.has("--journal") {
        record_into_journal(cameras, &options.dir, tick, write_every, sync)
    } else {
        record_apart(cameras, &options.dir, tick, write_every, sync)
    }
}

fn record_apart(
    mut cameras: Vec<Camera>,
    dir: &Path,
    tick: Duration,
    every: Duration,
    sync: bool,
) -> Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        std::thread::sleep(tick);
        let now = Instant::now();
        for camera in &mut cameras {
            let bytes = camera.read(&mut buffer)?;
            camera.unwritten.extend_from_slice(&buffer[..bytes]);
            if now >= camera.write_next {
                camera.write_next += every;
                camera.write(dir, now, sync)?;
            }
        }
    }
}

/// Each read becomes one record: camera number and length, both 32 bits little-endian, then the bytes.
fn record_into_journal(
    mut cameras: Vec<Camera>,
    dir: &Path,
    tick: Duration,
    every: Duration,
    sync: bool,
) -> Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let create = |number: u32| File::create(dir.join(format!("journal-{number:06}")));
    let (mut journal, mut journals) = (create(0)?, 1);
    let mut rotate_next = Instant::now() + ROTATE_JOURNAL_EVERY;
    let mut sync_next = Instant::now() + every;
    loop {
        std::thread::sleep(tick);
        let now = Instant::now();
        if now >= rotate_next {
            rotate_next = now + ROTATE_JOURNAL_EVERY;
            journal = create(journals)?;
            journals += 1;
        }
        for camera in &mut cameras {
            let bytes = camera.read(&mut buffer)?;
            if bytes > 0 {
                let head = [camera.number.to_le_bytes(), (bytes as u32).to_le_bytes()].concat();
                let written =
                    journal.write_vectored(&[IoSlice::new(&head), IoSlice::new(&buffer[..bytes])])?;
                anyhow::ensure!(written == head.len() + bytes, "the journal took part of a record");
            }
        }
        if sync && now >= sync_next {
            sync_next = now + every;
            journal.sync_data()?;
        }
    }
}
