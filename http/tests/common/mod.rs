//! A service over real segments, and a client that says exactly what it is told to.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test file uses its part"
)]

mod client;
mod clip;
mod forecast;
mod warm;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use archive::buffer::Pool;
use archive::disk::Disk;
use archive::segment::{Closing, FragmentBuilder, SegmentHeader, SegmentWriter};
use archive::{
    Clock, Epoch, Gap, GapCause, InitSegment, SegmentId, Sha256, StreamId, SystemClock, Tier, WallTime,
};
use indexer::{Batch, Index, IndexOptions, SegmentRow, SegmentState};
use tempfile::TempDir;
use tierline_http::{Destination, HttpConfig, HttpState, Server, Timeouts, destination, start};
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub use client::{Answer, ask, get, raw, until_closed};
pub use clip::{Clip, GOP_SECONDS};
pub use forecast::forecast;

/// Makes a service give up on its clients within a second or so.
pub fn short(config: &mut HttpConfig) {
    config.timeouts = Timeouts {
        header: Duration::from_millis(400),
        idle: Duration::from_millis(1200),
        body: Duration::from_millis(400),
        stall: Duration::from_millis(600),
        shutdown: Duration::from_millis(500),
    };
}

/// When recordings of tests begin, unless they must be live.
pub const EPOCH: &str = "2026-03-01T12:00:00Z";

pub fn time(text: &str) -> WallTime {
    text.parse().expect("a time")
}

pub fn epoch() -> WallTime {
    time(EPOCH)
}

pub fn now() -> WallTime {
    SystemClock::default().wall()
}

/// `seconds` after [`EPOCH`], as a query takes it.
pub fn after(seconds: f64) -> String {
    epoch().plus_micros((seconds * 1e6) as i64).to_string()
}

/// Index and disk of a service.
pub struct Site {
    pub dir: TempDir,
    pub index: Arc<Index>,
    pub disk: Disk,
    pool: Pool,
}

impl Site {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let index = Index::open(&dir.path().join("index"), &IndexOptions::default()).expect("index");
        let disk = Disk::open(&dir.path().join("hot")).expect("disk");
        Self {
            dir,
            index: Arc::new(index),
            disk,
            pool: Pool::new(64),
        }
    }

    /// Records `gops` GOPs of the clip from `from` on as one segment of a new run.
    pub fn record(&self, stream: &str, from: WallTime, gops: usize) -> SegmentRow {
        let mut recorder = Recorder::new(self, stream, from, Clip::small());
        recorder.append(gops);
        recorder.seal()
    }

    pub fn gap(&self, stream: &str, from: WallTime, to: WallTime, cause: GapCause) {
        let stream = self.index.ensure_stream(&id(stream)).expect("stream");
        let mut batch = Batch::default();
        batch.gap(
            stream,
            Gap {
                from,
                to: Some(to),
                cause,
            },
        );
        self.index.commit(batch).expect("commit");
    }

    /// The service, with everything at its default but what `change` changes.
    pub fn serve(&self, change: impl FnOnce(&mut HttpConfig)) -> Service {
        self.serve_with(Runtime::new().expect("runtime"), Default::default(), change)
    }

    /// The same with other tiers than the hot one.
    pub fn serve_with(
        &self,
        runtime: Runtime,
        stores: archive::store::Stores,
        change: impl FnOnce(&mut HttpConfig),
    ) -> Service {
        let mut config = HttpConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..HttpConfig::default()
        };
        change(&mut config);
        let (ready, is_ready) = watch::channel(true);
        let state = HttpState {
            index: Arc::clone(&self.index),
            disk: self.disk.clone(),
            stores,
            clock: Arc::new(SystemClock::default()),
            ready: is_ready,
            incident_age: Arc::new(|stream| {
                let days = (stream.camera.as_str() == "lobby").then_some(60);
                days.map(|days| std::time::Duration::from_secs(days * 24 * 3600))
            }),
            camera_url_allowed: Arc::new(|url| match destination(url) {
                Destination::Loopback => Err("this machine is no camera".to_owned()),
                _ => Ok(()),
            }),
        };
        let _inside = runtime.enter();
        let server = start(&config, state).expect("started");
        let address = server.local_addr();
        drop(_inside);
        Service {
            runtime,
            server: Some(server),
            address,
            ready,
        }
    }
}

/// `camera/stream`.
pub fn id(text: &str) -> StreamId {
    let (camera, stream) = text.split_once('/').expect("camera/stream");
    StreamId {
        tenant: Default::default(),
        camera: camera.parse().expect("id"),
        stream: stream.parse().expect("id"),
    }
}

/// A running service.
pub struct Service {
    pub runtime: Runtime,
    server: Option<Server>,
    pub address: SocketAddr,
    pub ready: watch::Sender<bool>,
}

impl Service {
    pub fn get(&self, path: &str) -> Answer {
        get(self.address, path, &[])
    }

    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        get(self.address, path, headers)
    }

    pub fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        ask(self.address, method, path, headers, body)
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.send(
            "POST",
            path,
            &[("Content-Type", "application/json")],
            body.as_bytes(),
        )
    }

    /// Stops it in an orderly way.
    pub fn shutdown(mut self) {
        let server = self.server.take().expect("running");
        self.runtime.block_on(server.shutdown());
    }
}

/// Records a stream as ingest does: append, sync, commit.
pub struct Recorder<'a> {
    site: &'a Site,
    row: SegmentRow,
    writer: SegmentWriter,
    clip: Arc<Clip>,
    next: usize,
}

impl<'a> Recorder<'a> {
    /// Opens a segment of a new run that begins at `from`.
    pub fn new(site: &'a Site, stream: &str, from: WallTime, clip: Arc<Clip>) -> Self {
        Self::chained(site, stream, from, clip, Sha256::default())
    }

    fn chained(site: &'a Site, stream: &str, from: WallTime, clip: Arc<Clip>, prev: Sha256) -> Self {
        let stream = id(stream);
        let no = site.index.ensure_stream(&stream).expect("stream");
        let init = InitSegment::build(vec![clip.track.clone()]);
        let seq = site
            .index
            .last_segment(no)
            .expect("last")
            .map_or(0, |last| last.id.seq + 1);
        let epoch = Epoch(1);
        let header = SegmentHeader {
            stream,
            seq,
            epoch,
            wall_start: from,
            prev,
            init: init.hash,
            generation: 0,
        };
        let writer = SegmentWriter::create(&site.disk, &site.pool, header, &init, 0).expect("segment");
        let row = SegmentRow {
            id: SegmentId { stream: no, seq },
            epoch,
            wall_start: from,
            wall_end: from,
            bytes: 0,
            state: SegmentState::Open,
            tier: Tier::Hot,
            init: init.hash,
            head: Sha256::default(),
            fragments: 0,
            generation: 0,
        };
        let mut batch = Batch::default();
        batch.init(&init);
        site.index.commit(batch).expect("commit");
        Self {
            site,
            row,
            writer,
            clip,
            next: 0,
        }
    }

    /// Makes `gops` more GOPs durable.
    pub fn append(&mut self, gops: usize) {
        for _ in 0..gops {
            let gop = &self.clip.gops[self.next % self.clip.gops.len()];
            let base = self.next as i64 * GOP_SECONDS * 90_000;
            let mut builder = FragmentBuilder::new(&self.site.pool, None);
            for sample in gop {
                builder.push_video(base + sample.pts, sample.keyframe, &sample.data);
            }
            let closing = Closing {
                wall_start: self.row.wall_end,
                wall_duration_us: GOP_SECONDS as u32 * 1_000_000,
                media_end: Some(base + GOP_SECONDS * 90_000),
                typical_duration: 3600,
                run_start: self.next == 0,
                activity: 40,
                notes: Vec::new(),
                clock_offset_us: None,
                audio_duration: 0,
            };
            let entries = self
                .writer
                .append(&mut [builder.close(&self.site.pool, closing)])
                .expect("append");
            self.writer.sync().expect("sync");
            self.row.bytes = self.writer.bytes();
            self.row.wall_end = self.writer.wall_end();
            self.row.head = self.writer.head();
            self.row.fragments = self.writer.fragments();
            let mut batch = Batch::default();
            batch.segment(&self.row);
            entries
                .into_iter()
                .for_each(|entry| batch.fragment(self.row.id, entry));
            self.site.index.commit(batch).expect("commit");
            self.next += 1;
        }
    }

    /// Seals the segment and goes on with the same run in the next one.
    pub fn rotate(self) -> Self {
        let (site, clip, next) = (self.site, self.clip.clone(), self.next);
        let before = self.seal();
        let stream = site.index.stream_id(before.id.stream).expect("stream");
        let name = format!("{}/{}", stream.camera, stream.stream);
        let mut recorder = Self::chained(site, &name, before.wall_end, clip, before.head);
        recorder.next = next;
        recorder
    }

    pub fn seal(mut self) -> SegmentRow {
        let sealed = self.writer.seal(&self.site.pool).expect("sealed");
        self.row.bytes = sealed.bytes;
        self.row.head = sealed.head;
        self.row.state = SegmentState::Sealed;
        let mut batch = Batch::default();
        batch.seal(&self.row);
        self.site.index.commit(batch).expect("commit");
        self.row
    }
}
