//! Clients that are slow, silent, greedy or many.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Answer, Site, epoch, get, short, until_closed};

#[test]
fn a_client_that_sends_nothing_is_let_go() {
    let service = Site::new().serve(short);
    let mut stream = TcpStream::connect(service.address).expect("connected");
    let (took, bytes) = until_closed(&mut stream);
    assert!(
        took > Duration::from_millis(300) && took < Duration::from_secs(3) && bytes.is_empty(),
        "{took:?}"
    );
}

#[test]
fn headers_that_drip_are_cut_off_at_the_limit_and_not_later() {
    let service = Site::new().serve(short);
    let mut stream = TcpStream::connect(service.address).expect("connected");
    let started = Instant::now();
    for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: yes\r\n\r\n"
        .iter()
        .cycle()
    {
        if stream.write_all(&[*byte]).is_err() || started.elapsed() > Duration::from_secs(5) {
            break;
        }
        sleep(Duration::from_millis(50));
    }
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_connection_may_idle_between_requests_longer_than_a_head_may_take() {
    let service = Site::new().serve(short);
    let mut stream = TcpStream::connect(service.address).expect("connected");
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut answer = [0; 4096];
    stream.write_all(request).expect("sent");
    assert!(stream.read(&mut answer).expect("answered") > 0);
    sleep(Duration::from_millis(700));
    stream.write_all(request).expect("sent");
    assert!(
        stream.read(&mut answer).expect("answered") > 0,
        "closed too early"
    );
    let (took, _) = until_closed(&mut stream);
    assert!(
        took > Duration::from_millis(600) && took < Duration::from_secs(4),
        "{took:?}"
    );
}

#[test]
fn a_body_that_does_not_come_is_answered_408() {
    let service = Site::new().serve(short);
    let mut stream = TcpStream::connect(service.address).expect("connected");
    let head = b"POST /api/v1/cameras HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    stream.write_all(head).expect("sent");
    let (took, bytes) = until_closed(&mut stream);
    assert_eq!(
        Answer::parse(&bytes).map(|a| a.status),
        Some(408),
        "{:?}",
        String::from_utf8_lossy(&bytes)
    );
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn one_connection_too_many_takes_the_place_of_the_one_that_has_been_idle_the_longest() {
    let service = Site::new().serve(|config| {
        config.connections_max = 4;
        config.connections_per_client = Some(4);
    });
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut answer = [0; 4096];
    let mut held: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(service.address).expect("connected");
            stream.write_all(request).expect("sent");
            assert!(stream.read(&mut answer).expect("answered") > 0);
            sleep(Duration::from_millis(20));
            stream
        })
        .collect();
    assert_eq!(get(service.address, "/healthz", &[]).status, 200);
    let (took, bytes) = until_closed(&mut held[0]);
    assert!(took < Duration::from_secs(1) && bytes.is_empty(), "{took:?}");
    for stream in &mut held[1..] {
        stream.write_all(request).expect("sent");
        assert!(stream.read(&mut answer).expect("answered") > 0);
    }
}

#[test]
fn one_connection_too_many_is_refused_while_all_are_busy_and_room_is_made_again() {
    let service = Site::new().serve(|config| {
        short(config);
        config.timeouts.body = Duration::from_secs(5);
        config.connections_max = 4;
        config.connections_per_client = Some(4);
    });
    let head = b"POST /api/v1/cameras HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    let held: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(service.address).expect("connected");
            stream.write_all(head).expect("sent");
            stream
        })
        .collect();
    sleep(Duration::from_millis(100));
    let mut extra = TcpStream::connect(service.address).expect("connected");
    let (took, bytes) = until_closed(&mut extra);
    assert!(took < Duration::from_millis(300));
    let refused = Answer::parse(&bytes).expect("an answer");
    assert_eq!(
        (
            refused.status,
            refused.header("retry-after"),
            refused.text().contains("overloaded")
        ),
        (503, Some("1"), true)
    );
    drop(held);
    sleep(Duration::from_millis(100));
    assert_eq!(get(service.address, "/healthz", &[]).status, 200);
}

#[test]
fn a_reader_that_hardly_reads_is_let_go_although_it_takes_a_byte_now_and_then() {
    let site = Site::new();
    let clip = std::sync::Arc::new(common::Clip::make("1280x720", "24M"));
    let mut recorder = common::Recorder::new(&site, "lobby/main", epoch(), clip);
    recorder.append(10);
    let row = recorder.seal();
    let service = site.serve(short);
    let mut stream = TcpStream::connect(service.address).expect("connected");
    let request = b"GET /hls/lobby/main/seg/0.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).expect("sent");
    let (mut byte, mut drops) = ([0; 1], 0);
    for _ in 0..20 {
        drops += stream.read(&mut byte).unwrap_or(0);
        sleep(Duration::from_millis(100));
    }
    let (_, bytes) = until_closed(&mut stream);
    assert_eq!(drops, 20);
    assert!((bytes.len() as u64) < row.bytes, "it was sent whole");
}

#[test]
fn a_request_that_waits_behind_a_long_answer_does_not_end_it() {
    let site = Site::new();
    let clip = std::sync::Arc::new(common::Clip::make("1280x720", "24M"));
    let mut recorder = common::Recorder::new(&site, "lobby/main", epoch(), clip);
    recorder.append(10);
    let row = recorder.seal();
    let service = site.serve(|config| {
        short(config);
        config.timeouts.stall = Duration::from_secs(10);
    });
    let mut stream = TcpStream::connect(service.address).expect("connected");
    let requests = b"GET /hls/lobby/main/seg/0.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n\
        GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(requests).expect("sent");
    // Longer than a head may take.
    sleep(Duration::from_millis(900));
    let (_, bytes) = until_closed(&mut stream);
    assert!(bytes.len() as u64 > row.bytes, "{} of {}", bytes.len(), row.bytes);
    assert!(
        bytes.ends_with(b"}") || bytes.windows(3).rev().take(400).any(|w| w == b"200"),
        "no second answer"
    );
}

#[test]
fn stopping_closes_idle_connections_at_once_and_stuck_ones_at_the_bound() {
    let service = Site::new().serve(short);
    let mut idle = TcpStream::connect(service.address).expect("connected");
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("sent");
    let mut answer = [0; 4096];
    assert!(idle.read(&mut answer).expect("answered") > 0);
    let address = service.address;
    let started = Instant::now();
    service.shutdown();
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert!(TcpStream::connect(address).is_err());
}
