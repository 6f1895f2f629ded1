//! The floor under any recorder with a thread per camera: blocking reads, the raw interleaved bytes into
//! one file per camera, `fdatasync` once per second. Nothing is parsed, hashed or indexed.
//!
//! ```text
//! rawrec --url rtsp://127.0.0.1:8554/cam/ --n 40 --dir OUT [--sync-ms 1000] [--buffer] [--rotate-ms 60000]
//! ```
//! `--buffer` collects in memory and writes once per sync instead of once per read; `--sync-ms 0` never
//! syncs.

mod play;

use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use play::Options;

/// Bytes read from a socket at a time.
const READ_BYTES: usize = 64 << 10;

/// Enough for a thread that copies from a socket to a file.
const STACK_BYTES: usize = 256 << 10;

fn main() -> Result<()> {
    let options = Options::from_command_line()?;
    let buffered = options.has("--buffer");
    ensure!(
        !buffered || !options.sync_every.is_zero(),
        "--buffer needs a --sync-ms above 0"
    );
    let rotate_every = options.duration_ms("--rotate-ms", 60_000)?;
    let options = &options;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for number in 0..options.cameras {
            let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
            threads
                .push(builder.spawn_scoped(scope, move || record(options, number, buffered, rotate_every))?);
        }
        for thread in threads {
            match thread.join() {
                Ok(ended) => ended?,
                Err(_) => bail!("a camera's thread panicked"),
            }
        }
        Ok(())
    })
}

fn record(options: &Options, number: u32, buffered: bool, rotate_every: Duration) -> Result<()> {
    let tune = |socket: &std::net::TcpStream| Ok(socket.set_nodelay(true)?);
    let (mut socket, mut unwritten) = play::play(options, number, tune)?;
    let sync_every = options.sync_every;
    let create = |files: u32| File::create(options.dir.join(format!("cam{number:04}-{files:06}.rtp")));
    let (mut file, mut files) = (create(0)?, 1);
    let mut buffer = vec![0; READ_BYTES];
    let started = Instant::now();
    let mut sync_next = started + sync_every + options.phase(number, sync_every);
    let mut rotate_next = started + rotate_every + options.phase(number, rotate_every);
    loop {
        let bytes = socket.read(&mut buffer)?;
        ensure!(bytes > 0, "camera {number} closed the connection");
        if buffered {
            unwritten.extend_from_slice(&buffer[..bytes]);
        } else {
            file.write_all(&buffer[..bytes])?;
        }
        let now = Instant::now();
        let (syncs, rotates) = (!sync_every.is_zero() && now >= sync_next, now >= rotate_next);
        if buffered && (syncs || rotates) {
            file.write_all(&unwritten)?;
            unwritten.clear();
        }
        if syncs {
            sync_next = now + sync_every;
            file.sync_data()?;
        }
        if rotates {
            rotate_next += rotate_every;
            if !sync_every.is_zero() {
                file.sync_data()?;
            }
            file = create(files)?;
            files += 1;
        }
    }
}
