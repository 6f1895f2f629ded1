//! Readers that do not read hold little memory of the process, in which no other test runs therefore.

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use common::{Site, epoch, get, short, until_closed};

#[test]
fn a_reader_that_does_not_read_is_let_go_and_holds_little_memory() {
    let site = Site::new();
    let clip = std::sync::Arc::new(common::Clip::make("1280x720", "24M"));
    let mut recorder = common::Recorder::new(&site, "lobby/main", epoch(), clip);
    recorder.append(10);
    let row = recorder.seal();
    assert!(row.bytes > 20 << 20, "{}", row.bytes);
    let service = site.serve(short);
    let before = resident();
    let request = b"GET /hls/lobby/main/seg/0.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut streams: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(service.address).expect("connected");
            stream.write_all(request).expect("sent");
            stream
        })
        .collect();
    sleep(Duration::from_millis(300));
    let held = resident().saturating_sub(before);
    println!("{} MiB for 20 readers", held >> 20);
    assert!(held < 20 * (4 << 20), "{held} bytes for 20 readers");
    sleep(Duration::from_millis(1500));
    for stream in &mut streams {
        let (_, bytes) = until_closed(stream);
        assert!((bytes.len() as u64) < row.bytes, "it was sent whole");
    }
    assert_eq!(get(service.address, "/healthz", &[]).status, 200);
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    line.split_whitespace()
        .next()
        .and_then(|kib| kib.parse::<u64>().ok())
        .expect("a number")
        * 1024
}
