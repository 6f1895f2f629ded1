//! What the cache keeps of objects: on its disk after the process has died too, no more than it may, and nobody who reads
//! through it is given anything but what the store has.

#[path = "rig/content.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod content;
#[path = "rig/counted.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod counted;
#[path = "rig/servers.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod servers;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use content::{Told, noise};
use counted::Counted;
use tierline_archive::segment::SegmentReader;
use tierline_archive::store::{Cache, CacheConfig, Objects, Store, StoreConfig};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

const MIB: u64 = 1 << 20;
/// The disk is given up in files of this size.
const REGION: u64 = 64 * MIB;
/// What a block takes on the disk: what says what it is makes it a page longer.
const ON_DISK: u64 = MIB + 4096;

/// A store with some objects, and room for the files of a cache.
struct Site {
    folder: tempfile::TempDir,
    objects: Vec<Vec<u8>>,
}

impl Site {
    /// Each of so many bytes, and called by its number.
    fn new(lens: &[u64]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let made = lens.iter().enumerate();
        let site = Self {
            objects: made.map(|(n, len)| noise(*len as usize, n as u64)).collect(),
            folder,
        };
        let (store, runtime) = (site.store(), Runtime::new().expect("threads"));
        for (n, bytes) in site.objects.iter().enumerate() {
            let put = async { store.put(&n.to_string(), &mut Told::new(bytes)).await };
            runtime.block_on(put).expect("put");
        }
        site
    }

    fn store(&self) -> Store {
        let url = url::Url::from_directory_path(self.folder.path().join("store")).expect("url");
        Store::open(&StoreConfig::at(url)).expect("open")
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// A process that reads through a cache.
    fn start(&self, memory: u64, disk: u64) -> Process<'_> {
        let runtime = Runtime::new().expect("threads");
        let config = CacheConfig {
            memory: memory as usize,
            disk: disk as usize,
            folder: self.cache(),
        };
        let counted = Arc::new(Counted::default());
        let cache = runtime.block_on(Cache::open(&config)).expect("a cache");
        let objects = Objects {
            store: self.store().with_faults(counted.clone()),
            cache: Some(cache),
            runtime: runtime.handle().clone(),
            turns: Arc::new(Semaphore::new(64)),
        };
        Process {
            site: self,
            runtime,
            objects,
            counted,
        }
    }

    /// A file of the cache.
    fn region(&self, number: u64) -> PathBuf {
        self.cache().join(format!("foyer-storage-direct-fs-{number:08}"))
    }

    /// The bytes that the files of the cache may grow to, and those that they take now.
    fn on_disk(&self) -> (u64, u64) {
        let files = fs::read_dir(self.cache()).expect("the folder of the cache");
        files
            .map(|file| file.expect("a file").metadata().expect("its size"))
            .fold((0, 0), |(len, taken), file| {
                (len + file.len(), taken + file.blocks() * 512)
            })
    }

    /// Waits until so many blocks are in the files of the cache.
    fn wait_for_blocks(&self, blocks: u64) {
        let begun = Instant::now();
        while self.on_disk().1 < blocks * ON_DISK {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "not written: {:?}",
                self.on_disk()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What lies on the disk once nothing more comes.
    fn settled(&self) -> u64 {
        let mut taken = self.on_disk().1;
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let now = self.on_disk().1;
            if now == taken {
                return taken;
            }
            taken = now;
        }
    }
}

struct Process<'a> {
    site: &'a Site,
    runtime: Runtime,
    objects: Objects,
    counted: Arc<Counted>,
}

impl Process<'_> {
    /// Reads an object, which must be right; how many of its blocks the store was asked for.
    fn read(&self, object: usize) -> u64 {
        let (bytes, before) = (&self.site.objects[object], self.counted.blocks());
        let reader = SegmentReader::of_object(&self.objects, &object.to_string(), bytes.len() as u64);
        for (n, piece) in bytes.chunks(2 * MIB as usize).enumerate() {
            let read = reader
                .read_aligned(n as u64 * 2 * MIB, piece.len())
                .expect("read");
            assert!(read == piece, "object {object} at {n} × 2 MiB");
        }
        self.counted.blocks() - before
    }

    /// Reads an object until all of it comes from the disk: there may be more at a time than that takes.
    fn read_until_kept(&self, object: usize) {
        let begun = Instant::now();
        while self.read(object) > 0 {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "object {object} is not kept"
            );
        }
    }

    /// Ends it as `kill -9` does: what is under way is not done any more, and nothing is put in order.
    fn kill(self) {
        drop(self.runtime);
    }
}

#[test]
fn what_was_read_is_on_the_disk_after_a_kill() {
    let site = Site::new(&[24 * MIB, MIB]);
    let process = site.start(64 * MIB, 4 * REGION);
    assert_eq!(process.read(0), 24);
    site.wait_for_blocks(24);
    // What stands behind it in the files is written when it is complete.
    process.read(1);
    site.wait_for_blocks(25);
    process.kill();

    let process = site.start(64 * MIB, 4 * REGION);
    assert_eq!(process.read(0), 0, "blocks came from the store");
    process.kill();
    let process = site.start(64 * MIB, 0);
    assert_eq!(process.read(0), 24, "nothing else has them");
}

#[test]
fn a_block_is_written_to_the_disk_once_however_often_it_is_read() {
    let site = Site::new(&[24 * MIB, MIB]);
    let process = site.start(64 * MIB, 4 * REGION);
    process.read(0);
    site.wait_for_blocks(24);
    for _ in 0..3 {
        assert_eq!(process.read(0), 0);
    }
    // Behind what was written until then.
    process.read(1);
    site.wait_for_blocks(25);
    let taken = site.settled();
    assert!(taken < 26 * ON_DISK, "{taken} bytes of 25 blocks");
    process.kill();
}

/// The first file of a cache of four that has eight blocks of object 0 and one more, after the process has died.
fn filled(site: &Site) -> Vec<u8> {
    let process = site.start(64 * MIB, 4 * REGION);
    process.read(0);
    site.wait_for_blocks(8);
    process.read(1);
    site.wait_for_blocks(9);
    process.kill();
    let mut bytes = fs::read(site.region(0)).expect("the file");
    bytes.truncate((4096 + 9 * ON_DISK) as usize);
    bytes
}

#[test]
fn what_is_damaged_on_the_disk_is_asked_for_again() {
    let site = Site::new(&[8 * MIB, MIB]);
    let sound = filled(&site);
    // Behind a page that says what stands where.
    let block = |n: u64| (4096 + n * ON_DISK) as usize;
    let asked_with = |what: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        fs::remove_dir_all(site.cache()).expect("removed");
        fs::create_dir(site.cache()).expect("a folder");
        fs::write(site.region(0), &bytes).expect("written");
        let process = site.start(64 * MIB, 4 * REGION);
        let asked = process.read(0);
        assert_eq!(process.read(0), 0, "{what}: it is kept now");
        process.kill();
        asked
    };
    assert_eq!(asked_with("nothing", &|_| ()), 0);
    let every_block = |bytes: &mut Vec<u8>| (0..8).for_each(|n| bytes[block(n) + 500_000] ^= 1);
    assert_eq!(asked_with("a bit in each block", &every_block), 8);
    for at in (0..4096).step_by(373) {
        asked_with("what stands where", &|bytes| bytes[at] ^= 0x10);
    }
    // Each byte before the blocks, one in each of them.
    for round in 0..5 {
        asked_with("heads", &|bytes| {
            (0..8).for_each(|n| bytes[block(n) + round * 8 + n as usize] ^= 1)
        });
    }
    let swap = |bytes: &mut Vec<u8>| {
        let (a, b) = bytes.split_at_mut(block(3));
        a[block(2)..].swap_with_slice(&mut b[..ON_DISK as usize]);
    };
    assert_eq!(asked_with("two in each other's place", &swap), 2);
    for (whole, len) in [
        (0, 0),
        (0, 1),
        (0, 4095),
        (0, block(0) + 1),
        (4, block(5) - 4096),
        (8, block(8)),
    ] {
        assert_eq!(
            asked_with("cut off", &|bytes| bytes.truncate(len)),
            8 - whole,
            "{len}"
        );
    }
    assert_eq!(
        asked_with("noise", &|bytes| *bytes = noise(REGION as usize, 9)),
        8
    );
    for seed in 0..8 {
        let places = noise(400, seed);
        asked_with("a hundred bytes", &|bytes| {
            for place in places.chunks(4) {
                let at = place.iter().fold(0, |at, byte| at << 8 | usize::from(*byte)) % bytes.len();
                bytes[at] ^= 0x20;
            }
        });
    }
}

#[test]
fn a_folder_that_is_none_of_a_cache_is_begun_anew_and_what_is_no_folder_is_left_alone() {
    let site = Site::new(&[8 * MIB, MIB]);
    filled(&site);
    fs::write(site.cache().join("notes"), noise(5000, 5)).expect("written");
    for number in 0..4 {
        fs::remove_file(site.region(number)).expect("removed");
        fs::create_dir_all(site.region(number).join("more")).expect("a folder");
    }
    filled(&site);
    let process = site.start(64 * MIB, 4 * REGION);
    assert_eq!(process.read(0), 0);
    process.kill();

    assert!(
        site.cache().join("notes").exists(),
        "somebody else's file is gone"
    );

    let in_memory_alone = || {
        let process = site.start(64 * MIB, 4 * REGION);
        assert_eq!((process.read(0), process.read(0)), (8, 0), "in memory alone");
        process.kill();
    };
    // Where its disk is not mounted.
    fs::remove_dir_all(site.cache()).expect("removed");
    std::os::unix::fs::symlink("nowhere", site.cache()).expect("a link");
    in_memory_alone();
    fs::remove_file(site.cache()).expect("the link");

    fs::write(site.cache(), "a file").expect("written");
    in_memory_alone();
    assert_eq!(fs::read(site.cache()).expect("the file"), b"a file");
}

#[test]
fn memory_keeps_no_more_than_it_may() {
    let site = Site::new(&[60 * MIB; 5]);
    let process = site.start(8 * MIB, 0);
    for object in [0, 1, 2, 3, 4, 0, 4] {
        let asked = process.read(object);
        assert!(asked >= 60 - 8, "{asked} of object {object}: it had the rest");
    }
    process.kill();
}

#[test]
fn the_disk_keeps_no_more_than_it_may_and_goes_on_keeping() {
    let site = Site::new(&[60 * MIB; 5]);
    let process = site.start(8 * MIB, 2 * REGION);
    for object in [0, 1, 2, 3, 4, 0] {
        process.read_until_kept(object);
        let (len, taken) = site.on_disk();
        assert!(
            len <= 2 * REGION && taken <= 2 * REGION,
            "{len} bytes, {taken} taken"
        );
    }
    assert!(process.read(2) > 0, "nothing was given up");
    process.kill();
}

#[test]
fn a_disk_that_is_made_smaller_is_given_back_and_what_is_left_of_it_is_used() {
    let site = Site::new(&[60 * MIB; 3]);
    let process = site.start(8 * MIB, 4 * REGION);
    // Some in each of the first two files.
    process.read_until_kept(0);
    process.read_until_kept(1);
    process.kill();

    let process = site.start(8 * MIB, 2 * REGION);
    assert_eq!(site.on_disk().0, 2 * REGION);
    process.read_until_kept(2);
    process.kill();
    let process = site.start(8 * MIB, 0);
    assert_eq!(site.on_disk(), (0, 0), "nothing uses it any more");
    process.kill();
}
