//! The HLS playlist of a whole day of fragments of 2 s: the index query alone, and the request over loopback to
//! its last byte.

mod footage;
mod report;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use archive::disk::Disk;
use archive::time::SECOND_US;
use archive::{SystemClock, TimeRange};
use http_api::{HttpConfig, HttpState};
use indexer::{Batch, Index, IndexOptions};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use footage::{FRAGMENTS, Footage, stream_id};
use report::{Failure, Report};

const DAYS: u64 = 3;
const SEGMENTS_A_DAY: u64 = 144;
const DAY_US: u64 = 86_400 * SECOND_US.unsigned_abs();
const CALLS: usize = 200;

fn main() -> Result<(), Failure> {
    let out = report::folder()?;
    let dir = tempfile::tempdir_in(&out)?;
    let index = Arc::new(Index::open(&dir.path().join("index"), &IndexOptions::default())?);
    let footage = Footage::new();
    let mut batch = Batch::default();
    footage.inits().iter().for_each(|init| batch.init(init));
    index.commit(batch)?;
    let stream = index.ensure_stream(&stream_id(0)?)?;
    for seq in 0..DAYS * SEGMENTS_A_DAY {
        footage.record(&index, stream, seq)?;
    }
    let fragments = SEGMENTS_A_DAY as i64 * FRAGMENTS;
    let mut report = Report::new(
        "playlist",
        format!("A day of {fragments} fragments in {SEGMENTS_A_DAY} segments."),
    );
    let from = footage.start(stream, SEGMENTS_A_DAY);
    let day = TimeRange::starting(from, DAY_US);

    let rounds = report::time(CALLS, || {
        let rows = index.fragments(stream, day)?;
        let found: usize = rows.iter().map(|row| row.fragments.len()).sum();
        if found.abs_diff(fragments as usize) > 5 {
            Err(format!("{found} fragments"))?
        } else {
            Ok(())
        }
    })?;
    report.add_times("index query", &rounds, None);
    report.add_cpu("index query", &rounds);

    let runtime = Runtime::new()?;
    let (_ready, is_ready) = watch::channel(true);
    let state = HttpState {
        index: index.clone(),
        disk: Disk::open(&dir.path().join("hot"))?,
        stores: Default::default(),
        clock: Arc::new(SystemClock::default()),
        ready: is_ready,
        incident_age: Arc::new(|_| None),
        camera_url_allowed: Arc::new(|_| Ok(())),
    };
    let config = HttpConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..HttpConfig::default()
    };
    let server = {
        let _inside = runtime.enter();
        http_api::start(&config, state)?
    };
    let path = format!(
        "/hls/cam0000/main/media.m3u8?from={}&to={}",
        day.from().micros(),
        day.to().micros()
    );
    let mut client = TcpStream::connect(server.local_addr())?;
    client.set_nodelay(true)?;
    let mut answer = Vec::new();
    let rounds = report::time(CALLS, || fetch(&mut client, &path, &mut answer))?;
    report.add_times("request to last byte", &rounds, Some((0.5, 5000.0)));
    let lines = answer
        .split(|b| *b == b'\n')
        .filter(|line| line.starts_with(b"#EXTINF"))
        .count();
    if lines.abs_diff(fragments as usize) > 5 {
        return Err(format!("{lines} fragments in the playlist").into());
    }
    report.add("the playlist", "KiB", vec![answer.len() as f64 / 1024.0], None);
    drop(client);
    runtime.block_on(server.shutdown());
    report.finish(&out)
}

/// One request on a connection that stays open; leaves the body in `answer`.
fn fetch(client: &mut TcpStream, path: &str, answer: &mut Vec<u8>) -> Result<(), Failure> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.write_all(request.as_bytes())?;
    answer.clear();
    let mut buffer = vec![0; 1 << 20];
    let mut body = None;
    loop {
        let read = client.read(&mut buffer)?;
        answer.extend(buffer.get(..read).unwrap_or_default());
        if read == 0 {
            return Err("the connection was closed".into());
        }
        if body.is_none() {
            body = length(answer)?;
        }
        if let Some((head, len)) = body
            && answer.len() >= head + len
        {
            answer.drain(..head);
            return Ok(());
        }
    }
}

/// How long the head of an answer is and what body it announces, when all of the head is there.
fn length(answer: &[u8]) -> Result<Option<(usize, usize)>, Failure> {
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(answer.get(..end).unwrap_or_default()).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        return Err(String::from_utf8_lossy(answer).into_owned().into());
    }
    let len = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    Ok(Some((end + 4, len.ok_or("no length")?.trim().parse()?)))
}
