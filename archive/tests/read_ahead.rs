//! What is asked of a store before somebody needs it, and what is not.

#[path = "rig/content.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod content;
#[path = "rig/counted.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod counted;
#[path = "rig/proxy.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod proxy;
#[path = "rig/servers.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod servers;

use std::sync::Arc;
use std::time::Duration;

use content::{Told, noise, server_store, store_at};
use counted::Counted;
use proxy::{Fault, Proxy};
use servers::{Kind, Server};
use tierline_archive::segment::SegmentReader;
use tierline_archive::store::{Cache, CacheConfig, Objects, Store, StoreConfig};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

const MIB: u64 = 1 << 20;
/// What the cache keeps in memory; half of it may be read ahead.
const MEMORY: u64 = 128 * MIB;
/// What a body is read in.
const PIECE: u64 = 2 * MIB;

struct Site {
    _runtime: Runtime,
    objects: Objects,
    bytes: Vec<u8>,
    _folder: Option<tempfile::TempDir>,
}

impl Site {
    /// Some objects, all of the same `len` bytes, which `through` reads.
    fn new(truth: &Store, through: Store, names: &[&str], len: u64, memory: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .expect("threads");
        let bytes = noise(len as usize, 7);
        let cache = runtime.block_on(async {
            for name in names {
                truth.put(name, &mut Told::new(&bytes)).await.expect("put");
            }
            let config = CacheConfig {
                memory: memory as usize,
                disk: 0,
                folder: "none".into(),
            };
            Cache::open(&config).await.expect("a cache")
        });
        let objects = Objects {
            store: through,
            cache: Some(cache),
            runtime: runtime.handle().clone(),
            turns: Arc::new(Semaphore::new(64)),
        };
        Self {
            _runtime: runtime,
            objects,
            bytes,
            _folder: None,
        }
    }

    /// The same in a folder whose reads are counted.
    fn counted(names: &[&str], len: u64) -> (Self, Arc<Counted>) {
        Self::counted_with(names, len, MEMORY)
    }

    /// With so much of a cache.
    fn counted_with(names: &[&str], len: u64, memory: u64) -> (Self, Arc<Counted>) {
        let folder = tempfile::tempdir().expect("folder");
        let url = url::Url::from_directory_path(folder.path().join("store")).expect("url");
        let store = Store::open(&StoreConfig::at(url)).expect("open");
        let counted = Arc::new(Counted::default());
        let through = store.clone().with_faults(counted.clone());
        let mut site = Self::new(&store, through, names, len, memory);
        site._folder = Some(folder);
        (site, counted)
    }

    fn reader(&self, name: &str) -> SegmentReader {
        SegmentReader::of_object(&self.objects, name, self.bytes.len() as u64)
    }

    /// Reads a range as the body of an answer is read: a little first.
    fn request(&self, name: &str, range: std::ops::Range<u64>) {
        let reader = self.reader(name);
        reader.expect(range.end);
        let first = range.end.min(range.start + (64 << 10));
        self.read(&reader, range.start..first);
        self.read(&reader, first..range.end);
    }

    /// Reads in order, and looks that everything is right.
    fn read(&self, reader: &SegmentReader, range: std::ops::Range<u64>) {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + PIECE);
            let read = reader.read_aligned(at, (end - at) as usize).expect("read");
            assert!(read == self.bytes[at as usize..end as usize], "bytes at {at}");
            at = end;
        }
    }
}

#[test]
fn a_reader_in_order_has_several_requests_under_way_and_asks_for_nothing_twice() {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(Kind::Minio, folder.path());
    let proxy = Proxy::start(server.address());
    let len = 50 * MIB + 4096;
    let through = store_at(&proxy.endpoint(), folder.path(), None);
    let site = Site::new(
        &server_store(&server, folder.path()),
        through,
        &["a"],
        len,
        MEMORY,
    );
    proxy.set(Some(Fault::Slow(200 * MIB)));

    site.read(&site.reader("a"), 0..len);

    let reads = proxy.reads();
    assert!(reads.at_once >= 2, "{reads:?}");
    assert_eq!(reads.lens.iter().sum::<u64>(), len, "{reads:?}");
    assert!(reads.lens.len() <= 12, "few and large: {reads:?}");
    assert!(reads.lens.iter().all(|len| *len <= 16 * MIB), "{reads:?}");
}

#[test]
fn beside_another_reader_requests_are_as_large_as_there_is_room() {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(Kind::Minio, folder.path());
    let proxy = Proxy::start(server.address());
    let through = store_at(&proxy.endpoint(), folder.path(), None);
    // As it is where nothing else is configured.
    let truth = server_store(&server, folder.path());
    let site = Site::new(&truth, through, &["a", "b", "c"], 48 * MIB, 64 * MIB);
    let others = ["a", "b"].map(|name| {
        let reader = site.reader(name);
        site.read(&reader, 0..24 * MIB);
        reader
    });
    std::thread::sleep(Duration::from_millis(300));
    let before = proxy.reads().lens.len();
    site.read(&site.reader("c"), 0..32 * MIB);
    let asked = proxy.reads().lens.len() - before;
    assert!(asked <= 14, "{asked} requests for 32 MiB");
    drop(others);
}

#[test]
fn many_who_miss_the_same_block_at_once_are_one_request() {
    let (site, counted) = Site::counted(&["a"], 64 * MIB);
    let gate = counted.gate.write();
    std::thread::scope(|scope| {
        for reader in 0..8 {
            let (site, start) = (&site, 20 * MIB + reader * 65_536);
            scope.spawn(move || site.read(&site.reader("a"), start..start + 65_536));
        }
        // All of them wait for the store by now.
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(counted.blocks(), 1);
        drop(gate);
    });
    assert_eq!(counted.settled(), 1);
}

#[test]
fn a_single_range_asks_for_its_own_blocks_and_nothing_else() {
    let (site, counted) = Site::counted(&["a"], 64 * MIB);
    let mut blocks = 0;
    // Across a border, within one block, and again at the end.
    for (start, touched) in [(5 * MIB + 300_000, 2), (20 * MIB + 4096, 2), (63 * MIB, 1)] {
        site.request("a", start..(start + MIB).min(64 * MIB));
        blocks += touched;
        assert_eq!(counted.settled(), blocks, "from {start}");
    }
    // Nobody says where it ends.
    let reader = site.reader("a");
    site.read(&reader, 30 * MIB..30 * MIB + 65536);
    site.read(&reader, 30 * MIB + 65536..31 * MIB);
    assert_eq!(counted.settled(), blocks + 1);
}

#[test]
fn what_somebody_is_about_to_read_is_asked_for_and_nothing_twice() {
    let (site, counted) = Site::counted(&["a", "b", "c"], 64 * MIB);
    let about_to = |name: &str, range: std::ops::Range<u64>| {
        let reader = site.reader(name);
        reader.begin(range);
        counted.settled();
        reader
    };
    // Within one block, and across a border.
    for (start, len, touched) in [(20 * MIB + 4096, 65_536, 1), (5 * MIB + 300_000, MIB, 3)] {
        let reader = about_to("a", start..start + len);
        assert_eq!(counted.settled(), touched, "from {start}");
        // Who checks what he reads begins a little earlier.
        site.read(&reader, start - 4096..start + len);
        assert_eq!(counted.settled(), touched, "from {start}");
    }
    let before = counted.settled();
    drop(about_to("b", 4 * MIB..60 * MIB));
    assert!(counted.settled() - before <= 16, "with its reader it ends");
    let reader = about_to("c", 0..30 * MIB);
    site.read(&reader, 0..30 * MIB);
    let reader = site.reader("c");
    reader.begin(0..65 * MIB);
    site.read(&reader, 0..4096);
    assert!(
        counted.settled() - before <= 16 + 30,
        "what is no range asks for nothing"
    );
}

#[test]
fn nothing_behind_what_somebody_asked_for_is_read_ahead() {
    let (site, counted) = Site::counted(&["a", "b"], 64 * MIB);
    site.request("a", 4 * MIB..30 * MIB);
    assert_eq!(counted.settled(), 26);
    // Where nobody says it, as much as for a reader at all.
    let reader = site.reader("b");
    site.read(&reader, 0..10 * MIB);
    let ahead = counted.settled() - 26 - 10;
    assert!((1..=32).contains(&ahead), "{ahead} blocks");
}

#[test]
fn who_comes_to_the_end_in_order_says_so_once_and_nobody_else_does() {
    let (site, counted) = Site::counted(&["a", "b", "c"], 64 * MIB);
    let download = site.reader("a");
    download.expect(64 * MIB);
    site.read(&download, 0..50 * MIB);
    assert!(!download.is_ending());
    site.read(&download, 50 * MIB..57 * MIB);
    assert!(download.is_ending() && !download.is_ending());
    site.read(&download, 57 * MIB..64 * MIB);
    assert!(!download.is_ending());
    // A part that ends long before, and a range near the end that follows no other.
    let part = site.reader("b");
    part.expect(59 * MIB);
    site.read(&part, 40 * MIB..59 * MIB);
    let single = site.reader("b");
    single.expect(63 * MIB);
    site.read(&single, 62 * MIB..63 * MIB);
    assert!(!part.is_ending() && !single.is_ending());
    // One fragment after the other.
    let ends = |from: u64| {
        let fragment = site.reader("c");
        fragment.expect(from + MIB);
        site.read(&fragment, from..from + MIB);
        fragment.is_ending()
    };
    assert!(!ends(58 * MIB) && ends(59 * MIB) && ends(60 * MIB));
    // What is made ready is its beginning.
    let before = counted.settled();
    site.reader("b").ready();
    assert_eq!(counted.settled() - before, 4);
}

#[test]
fn a_player_finds_what_it_asks_for_next() {
    let (site, counted) = Site::counted(&["a"], 64 * MIB);
    site.request("a", 10 * MIB..11 * MIB);
    assert_eq!(counted.settled(), 1, "nobody knows yet that it is one");
    site.request("a", 11 * MIB..12 * MIB);
    assert_eq!(counted.settled(), 6, "four behind the second");
    let held = counted.gate.write();
    site.request("a", 12 * MIB..13 * MIB);
    drop(held);
    assert_eq!(counted.settled(), 7);
    // Nobody has read what lies before this.
    site.request("a", 40 * MIB..41 * MIB);
    assert_eq!(counted.settled(), 8);
}

#[test]
fn many_readers_together_read_ahead_no_more_than_half_of_the_caches_memory() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let (site, counted) = Site::counted(&names, 40 * MIB);
    let readers: Vec<_> = names.iter().map(|name| site.reader(name)).collect();
    for at in (0..14 * MIB).step_by(PIECE as usize) {
        for reader in &readers {
            site.read(reader, at..at + PIECE);
        }
    }
    let (read, half) = (14 * names.len() as u64, MEMORY / 2 / MIB);
    let ahead = counted.settled() - read;
    assert!((half / 2..=half).contains(&ahead), "{ahead} blocks");
    // When they go, there is room for others.
    drop(readers);
    let before = counted.settled();
    site.read(&site.reader("a"), 0..14 * MIB);
    site.read(&site.reader("j"), 0..14 * MIB);
    assert!(counted.settled() > before);
}

#[test]
fn a_reader_who_leaves_stops_asking() {
    let (site, counted) = Site::counted(&["a"], 64 * MIB);
    let reader = site.reader("a");
    site.read(&reader, 0..12 * MIB);
    let before = counted.settled();
    let held = counted.gate.write();
    // All of it is there already, and the next blocks are asked for.
    site.read(&reader, 12 * MIB..14 * MIB);
    drop(reader);
    std::thread::sleep(Duration::from_millis(300));
    drop(held);
    let more = counted.settled() - before;
    assert_eq!(more, 1, "the block that was under way");
}

#[test]
fn a_block_that_could_not_be_read_ahead_is_asked_for_when_it_is_needed() {
    let (site, counted) = Site::counted(&["a"], 32 * MIB);
    *counted.fail.lock().expect("no panic") = Some(9);
    let reader = site.reader("a");
    site.read(&reader, 0..8 * MIB);
    counted.settled();
    // A store that failed is left alone for a second.
    std::thread::sleep(Duration::from_millis(1100));
    site.read(&reader, 8 * MIB..32 * MIB);
    assert_eq!(counted.settled(), 33);
}
