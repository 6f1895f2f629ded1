//! Long answers that nobody reads hold a bounded amount of memory.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use archive::{Epoch, FragmentEntry, InitSegment, SegmentId, Sha256, Tier};
use common::{EPOCH, Site, after, epoch, id};
use indexer::{Batch, SegmentRow, SegmentState};

/// How much is still sent.
fn rest(stream: &mut TcpStream) -> usize {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes.len()
}

/// A stream whose playlist has `fragments` lines, and no media.
fn index_only(site: &Site, stream: &str, fragments: u32) {
    let init = InitSegment::build(vec![common::Clip::small().track.clone()]);
    let no = site.index.ensure_stream(&id(stream)).expect("stream");
    let at = |n: u32| epoch().plus_micros(i64::from(n) * 1_000_000);
    let row = SegmentRow {
        id: SegmentId { stream: no, seq: 0 },
        epoch: Epoch(1),
        wall_start: epoch(),
        wall_end: at(fragments),
        bytes: u64::from(fragments + 1) * 4096,
        state: SegmentState::Open,
        tier: Tier::Hot,
        init: init.hash,
        head: Sha256::default(),
        fragments,
        generation: 0,
    };
    let mut batch = Batch::default();
    batch.init(&init);
    batch.segment(&row);
    for n in 0..fragments {
        let entry = FragmentEntry {
            offset: u64::from(n + 1) * 4096,
            len: 4000,
            wall_start: at(n),
            wall_duration_us: 1_000_000,
            media_start: u64::from(n) * 90_000,
            media_duration: 90_000,
            keyframe: true,
            run_start: n == 0,
            activity: 0,
            notes: Vec::new(),
        };
        batch.fragment(row.id, entry);
    }
    site.index.commit(batch).expect("commit");
}

#[test]
fn long_playlists_that_nobody_reads_give_way_to_others_beyond_a_bound_of_bytes() {
    const FRAGMENTS: u32 = 120_000;
    let site = Site::new();
    index_only(&site, "lobby/main", FRAGMENTS);
    let service = site.serve(|config| config.timeouts.stall = Duration::from_secs(60));
    let path = format!(
        "/hls/lobby/main/media.m3u8?from={EPOCH}&to={}",
        after(f64::from(FRAGMENTS))
    );
    let ask = || {
        let mut stream = TcpStream::connect(service.address).expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("an answer");
        assert!(
            status.ends_with(b"200") || status.ends_with(b"503"),
            "{}",
            String::from_utf8_lossy(&status)
        );
        stream
    };
    let streams: Vec<TcpStream> = (0..12).map(|_| ask()).collect();
    assert_eq!(service.get("/healthz").status, 200);
    let sent: Vec<usize> = streams.into_iter().map(|mut s| rest(&mut s)).collect();
    let whole = service.get(&path).body.len();
    assert!(whole > 6 << 20, "{whole} bytes are too few for this test");
    // One address has half of 128 MiB.
    let held = sent.iter().filter(|sent| **sent >= whole).count();
    assert!(held > 0 && held * whole <= 64 << 20, "{sent:?} of {whole}");
}
