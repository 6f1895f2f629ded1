//! Copies in real servers: what is damaged on its way counts never, and what somebody changes behind our back, or a
//! server's own disk, is found and made anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::layout::{MARKER, segment_path};
use archive::segment::Pace;
use archive::store::{Crc64, Objects, Store, StoreConfig, Stores};
use archive::{StreamNo, Tier, WallTime};
use indexer::{Batch, Event, FaultKind, Scrubbed, SegmentRow};
use tierline_tiering::scrub::{ScrubConfig, Scrubber};
use tierline_tiering::{Below, Hands, Mover, RetentionRule, Rules};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::archive_of_segments::{Archive, DAY_US, deep_check, minute};
use crate::proxy::{Fault, Proxy};
use crate::servers::{BUCKET, Kind, Server, keys_file};

/// An archive of eight segments on the disk, and a server for their copies behind a proxy.
pub(crate) struct Site {
    pub(crate) archive: Archive,
    pub(crate) stores: Stores,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) runtime: Runtime,
    pub(crate) stream: StreamNo,
    pub(crate) proxy: Proxy,
    _server: Server,
}

fn store(proxy: &Proxy, folder: &Path) -> Store {
    let keys = keys_file(folder);
    let config = StoreConfig {
        endpoint: Some(proxy.endpoint().parse().expect("url")),
        allow_http: true,
        credentials_file: Some(keys),
        ..StoreConfig::at(format!("s3://{BUCKET}/site").parse().expect("url"))
    };
    Store::open(&config).expect("store")
}

impl Site {
    pub(crate) fn new(kind: Kind) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let server = Server::start(kind, folder.path());
        let proxy = Proxy::start(server.address());
        let runtime = Runtime::new().expect("runtime");
        let warm = Some(Objects {
            store: store(&proxy, folder.path()),
            cache: None,
            runtime: runtime.handle().clone(),
            turns: Arc::new(Semaphore::new(4)),
        });
        let archive = Archive::new();
        let stream = archive.camera("lobby", 5);
        archive.record_many(stream, 0..8);
        std::fs::write(archive.disk.path(MARKER), "ours").expect("marker");
        let stores = Stores { warm, cold: None };
        let site = Self {
            archive,
            stores,
            folder,
            runtime,
            stream,
            proxy,
            _server: server,
        };
        let marked = site.warm().put_bytes(MARKER, b"ours".to_vec());
        site.runtime.block_on(marked).expect("marker");
        site
    }

    pub(crate) fn warm(&self) -> &Store {
        &self.stores.warm.as_ref().expect("a warm tier").store
    }

    pub(crate) fn mover(&self) -> Mover {
        let below = Below {
            warm: true,
            cold: false,
        };
        Mover::new(
            self.archive.index.clone(),
            self.archive.disk.clone(),
            self.stores.clone(),
            Rules::with_tiers(vec![RetentionRule::default()], below).expect("sound"),
            Duration::from_secs(60),
            self.runtime.handle().clone(),
        )
    }

    /// Passes some minutes apart, so that what failed is tried again.
    pub(crate) fn settle(&self, mover: &mut Mover, passes: std::ops::Range<u64>) {
        let now = minute(110);
        for n in passes {
            let monotonic_us = 1 + n * 600 * 1_000_000;
            mover.pass(now, true, 0, monotonic_us).expect("pass");
            while mover.moved().under_way + mover.moved().leaving > 0 {
                std::thread::sleep(Duration::from_millis(5));
                mover.go_on(now, true, monotonic_us).expect("pass");
            }
        }
    }

    /// How many copies count.
    pub(crate) fn whole(&self) -> usize {
        let rows = self.archive.rows(self.stream);
        let copies = rows
            .iter()
            .map(|row| self.archive.index.copies(row).expect("copies"));
        copies.filter(|c| c.authority == Tier::Warm).count()
    }

    pub(crate) fn name(&self, row: &SegmentRow) -> String {
        let stream = self.archive.index.stream_id(row.id.stream).expect("stream");
        segment_path(&stream, &row.name())
    }

    /// Puts other bytes in the place of an object, as anybody can who has the keys.
    fn replace(&self, row: &SegmentRow, bytes: Vec<u8>) {
        let name = self.name(row);
        self.runtime.block_on(async {
            self.warm().delete(&name).await.expect("delete");
            assert!(self.warm().put_bytes(&name, bytes).await.expect("put"));
        });
    }

    pub(crate) fn object(&self, row: &SegmentRow) -> Option<Vec<u8>> {
        let name = self.name(row);
        self.runtime.block_on(async {
            let stat = self.warm().stat(&name).await.expect("stat")?;
            Some(self.warm().read(&name, 0..stat.len).await.ok()?.to_vec())
        })
    }

    /// The file in which MinIO keeps the bytes of an object.
    fn rotting(&self, row: &SegmentRow) -> PathBuf {
        let object = self
            .folder
            .path()
            .join("minio")
            .join(BUCKET)
            .join("site")
            .join(self.name(row));
        let versions = std::fs::read_dir(&object).expect("the folder of an object");
        let version = versions
            .filter_map(|e| Some(e.ok()?.path()))
            .find(|path| path.is_dir());
        version.expect("data beside xl.meta").join("part.1")
    }

    pub(crate) fn scrubber(&self) -> Scrubber {
        Scrubber::new(
            self.archive.index.clone(),
            self.archive.disk.clone(),
            self.stores.clone(),
            ScrubConfig::default(),
            Hands::default(),
            Pace::new(|_| {}),
        )
    }
}

pub(crate) fn days(n: i64) -> WallTime {
    minute(120).plus_micros(n * DAY_US)
}

#[test]
fn what_its_server_cannot_read_any_more_is_made_anew_where_another_copy_is_right() {
    let site = Site::new(Kind::Minio);
    site.settle(&mut site.mover(), 0..1);
    let rows = site.archive.rows(site.stream);
    // Of the other one there is nothing but the object.
    let alone = &rows[7];
    let mut copies = site.archive.index.copies(alone).expect("copies");
    for event in [Event::DeletionBegun(Tier::Hot), Event::Deleted(Tier::Hot)] {
        copies = copies.after(event, minute(120)).expect("allowed");
    }
    let mut batch = Batch::default();
    batch.copies(alone, copies);
    site.archive.index.commit(batch).expect("commit");
    std::fs::remove_file(site.archive.file(alone)).expect("file");
    for row in [&rows[4], alone] {
        let rotting = site.rotting(row);
        let mut bytes = std::fs::read(&rotting).expect("part");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&rotting, bytes).expect("part");
    }
    let read = |row: &SegmentRow| {
        let name = site.name(row);
        let read = site.warm().read(&name, 0..row.bytes);
        site.runtime.block_on(read)
    };
    let rots = read(&rows[4]).expect_err("it rots");
    assert!(
        rots.is_passing(),
        "no other error than of a server that is away: {rots}"
    );
    let mut scrubber = site.scrubber();
    let is_over = |told: Scrubbed| told.oldest_s[1].is_some_and(|s| s < 24 * 3600);
    settle(&site, &mut scrubber, days(50), |told, faults| {
        is_over(told) && told.repaired > 0 && faults == 1
    });
    let told = scrubber.scrubbed();
    // By this clock the server is away for hours after each, so that a third one may be passed over, and is found right.
    assert!(told.passed_over >= 2 && told.repaired == 1, "{told:?}");
    assert!(told.bytes >= 12 * rows[0].bytes, "the others were read: {told:?}");
    let file = std::fs::read(site.archive.file(&rows[4])).expect("file");
    // It answers nothing for a moment after it was asked for what rots.
    let begun = Instant::now();
    let anew = loop {
        match read(&rows[4]) {
            Err(e) if e.is_passing() && begun.elapsed() < Duration::from_secs(20) => {
                std::thread::sleep(Duration::from_millis(200));
            }
            read => break read.expect("put anew"),
        }
    };
    assert!(anew == file);
    // It may be the server's fault, and nothing is lost until that is known.
    let faults = site.archive.index.faults(10).expect("faults");
    let kept: Vec<_> = faults.iter().map(|f| (f.segment, f.kind, f.lost)).collect();
    assert_eq!(kept, [(alone.id, FaultKind::Unreadable, false)]);
}

/// Steps until `is_done`, minutes apart: a store that does not answer is left alone for a moment, by any clock.
pub(crate) fn settle(
    site: &Site,
    scrubber: &mut Scrubber,
    now: WallTime,
    is_done: impl Fn(Scrubbed, usize) -> bool,
) {
    let mut monotonic_us = now.micros_since(minute(120)).max(0).unsigned_abs() + 1;
    let begun = Instant::now();
    loop {
        while scrubber.step(now, monotonic_us).expect("index") {}
        let faults = site.archive.index.faults(10).expect("faults");
        if is_done(scrubber.scrubbed(), faults.len()) {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?} {faults:?}",
            scrubber.scrubbed()
        );
        std::thread::sleep(Duration::from_millis(100));
        monotonic_us += 600 * 1_000_000;
    }
}

/// Neither a byte that is another one on the line nor a server that keeps something else makes a copy that counts.
#[test]
fn what_is_damaged_on_its_way_to_a_server_never_counts() {
    for (kind, fault) in [
        (Kind::Minio, Fault::DamagedUpload(100)),
        (Kind::Minio, Fault::WrongChecksum(100)),
        (Kind::Moto, Fault::DamagedUpload(100)),
    ] {
        let site = Site::new(kind);
        let mut mover = site.mover();
        site.proxy.set(Some(fault));
        site.settle(&mut mover, 0..3);
        assert!(site.proxy.happened() > 0, "{kind:?} {fault:?}");
        assert_eq!(site.whole(), 0, "{kind:?} {fault:?}");
        site.proxy.set(None);
        // A store that did not answer is left alone for a moment.
        std::thread::sleep(Duration::from_millis(1500));
        site.settle(&mut mover, 3..8);
        assert_eq!(site.whole(), 8, "{kind:?} {fault:?}");
        for row in site.archive.rows(site.stream) {
            let file = std::fs::read(site.archive.file(&row)).expect("file");
            assert!(
                site.object(&row) == Some(file),
                "{kind:?} {fault:?}: {}",
                row.id.seq
            );
        }
    }
}

#[test]
fn what_others_change_in_minio_is_found_and_made_anew() {
    let site = Site::new(Kind::Minio);
    site.settle(&mut site.mover(), 0..1);
    assert_eq!(site.whole(), 8);
    let rows = site.archive.rows(site.stream);
    let sound: Vec<Vec<u8>> = rows.iter().map(|row| site.object(row).expect("there")).collect();
    for (row, bytes) in rows.iter().zip(&sound) {
        assert!(&std::fs::read(site.archive.file(row)).expect("file") == bytes);
    }
    // One byte is another: what the server says of the object is right for the wrong bytes.
    let mut flipped = sound[0].clone();
    flipped[100_000] ^= 1;
    site.replace(&rows[0], flipped);
    // Another object of the same length.
    site.replace(&rows[1], vec![7; sound[1].len()]);
    site.replace(&rows[2], sound[2][..sound[2].len() - 4096].to_vec());
    site.runtime
        .block_on(site.warm().delete(&site.name(&rows[3])))
        .expect("delete");
    // And the file of the disk is wrong where the object is right.
    let file = site.archive.file(&rows[4]);
    let mut bytes = std::fs::read(&file).expect("file");
    bytes[150_000] ^= 1;
    std::fs::write(&file, bytes).expect("file");
    let mut scrubber = site.scrubber();
    settle(&site, &mut scrubber, days(0), |told, _| told.found == 0);
    // Names and lengths.
    settle(&site, &mut scrubber, days(2), |told, faults| {
        (told.repaired, faults) == (2, 0)
    });
    // Bytes. What is made anew counts when the server has told that it is what was put.
    site.proxy.set(Some(Fault::WrongChecksum(100)));
    settle(&site, &mut scrubber, days(50), |told, faults| {
        told.found == 5 && faults == 2
    });
    assert_eq!(
        scrubber.scrubbed().repaired,
        3,
        "the file of the disk, and no object"
    );
    assert!(site.proxy.happened() > 0);
    site.proxy.set(None);
    settle(&site, &mut scrubber, days(50), |told, faults| {
        (told.repaired, faults) == (5, 0)
    });
    for (row, bytes) in rows.iter().zip(&sound) {
        assert!(site.object(row).as_ref() == Some(bytes), "object {}", row.id.seq);
        assert!(
            &std::fs::read(site.archive.file(row)).expect("file") == bytes,
            "file {}",
            row.id.seq
        );
        let mut crc64 = Crc64::new();
        crc64.update(bytes);
        let copies = site.archive.index.copies(row).expect("copies");
        assert_eq!((copies.authority, copies.crc64), (Tier::Warm, crc64.finish()));
    }
    assert_eq!(site.archive.index.faults(10).expect("faults"), []);
    let found = deep_check(&site.archive.index, &site.archive.disk, &site.stores);
    assert_eq!(found, []);
}
