use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use url::Url;

use super::*;
use crate::segment::tests::{Fixture, fixture, fragment, path, sealed, write};
use crate::store::{Cache, CacheConfig, Objects, Store, StoreConfig};

fn reader(f: &Fixture, entries: &[FragmentEntry]) -> CheckedReader {
    CheckedReader::new(
        SegmentReader::open(&f.disk, &path(f)).expect("open"),
        entries.into(),
    )
}

fn flip(f: &Fixture, at: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(f.disk.path(&path(f)))
        .expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("write");
}

#[test]
fn any_range_reads_as_it_was_written() {
    let f = fixture();
    let entries = sealed(&f, &[&[0], &[1, 2], &[3]]);
    let whole = std::fs::read(f.disk.path(&path(&f))).expect("read");
    reads_as_written(&whole, || reader(&f, &entries));

    // The same file as an object, which comes in blocks.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads");
    let cache = CacheConfig {
        memory: 64 << 20,
        disk: 0,
        folder: "none".into(),
    };
    let url = Url::from_directory_path(f.disk.root()).expect("url");
    let objects = Objects {
        cache: Some(runtime.block_on(Cache::open(&cache)).expect("cache")),
        ..Objects::once(
            Store::open(&StoreConfig::at(url)).expect("open"),
            runtime.handle().clone(),
        )
    };
    let object = || {
        let reader = SegmentReader::of_object(&objects, &path(&f), whole.len() as u64);
        CheckedReader::new(reader, entries.as_slice().into())
    };
    reads_as_written(&whole, object);
    // What lies in one block is given out as it lies there.
    let border = 5 << 20;
    let read = object().read(border - 500_000..border + 500_000).expect("read");
    assert!(read.len() > 1 && read.iter().all(|piece| piece.len() <= 1 << 20));
}

fn reads_as_written(whole: &[u8], open: impl Fn() -> CheckedReader) {
    let len = whole.len() as u64;
    let mut r = open();
    let mut seed = 7u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    for i in 0..2000 {
        let from = random(len);
        let to = from + 1 + random((len - from).min(if i % 2 == 0 { 300 } else { 400_000 }));
        let read = r.read(from..to.min(len)).expect("read").concat();
        assert!(read == whole[from as usize..to.min(len) as usize], "{from}..{to}");
    }
    // In sequence, too.
    let mut all = Vec::new();
    let mut r = open();
    while (all.len() as u64) < len {
        let at = all.len() as u64;
        all.extend(r.read(at..(at + 100_000).min(len)).expect("read").concat());
    }
    assert!(all == whole);
}

#[test]
fn no_flipped_byte_is_given_out() {
    let f = fixture();
    let entries = sealed(&f, &[&[0], &[1, 2]]);
    let whole = std::fs::read(f.disk.path(&path(&f))).expect("read");
    let len = whole.len() as u64;
    let mut at = 0;
    let mut damaged = 0;
    while at < len {
        flip(&f, at);
        let mut r = reader(&f, &entries);
        let failure = r.read(at..at + 1).expect_err("the flipped byte");
        assert!(
            matches!(failure.error, ArchiveError::Corrupt { .. }),
            "{}",
            failure.error
        );
        if let Some(entry) = failure.damaged {
            assert!((entry.offset..end(&entry)).contains(&at));
            damaged += 1;
        }
        // What lies far from it is still read.
        let far = if at > len / 2 {
            entries[0].offset
        } else {
            entries[2].offset
        };
        assert!(
            r.read(far..far + 4096).is_ok() || far.abs_diff(at) < 2 * SUM,
            "byte {at}"
        );
        flip(&f, at);
        at += 509;
    }
    assert!(damaged > 100, "{damaged}");
}

#[test]
fn a_whole_fragment_from_another_place_is_not_taken_for_the_right_one() {
    let f = fixture();
    let (_, entries) = write(&f, &[&[2], &[2]]);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(f.disk.path(&path(&f)))
        .expect("open");
    let (a, b) = (&entries[0], &entries[1]);
    let mut bytes = vec![0; (end(a) - a.offset) as usize];
    file.read_exact_at(&mut bytes, a.offset).expect("read");
    file.write_all_at(&bytes, b.offset).expect("write");
    let failure = reader(&f, &entries)
        .read(b.offset..b.offset + 10)
        .expect_err("another fragment");
    assert_eq!(failure.damaged.map(|e| e.offset), Some(b.offset));
}

#[test]
fn the_largest_box_is_read_apart() {
    let f = fixture();
    let (_, entries) = write(&f, &[&[0, 4]]);
    let last = &entries[1];
    let whole = std::fs::read(f.disk.path(&path(&f))).expect("read");
    let from = end(last) - 70_000;
    let read = reader(&f, &entries).read(from..from + 10).expect("read").concat();
    assert_eq!(read, &whole[from as usize..from as usize + 10]);
    assert!(fragment(&f, 4, 820).headroom_needed() > 4096);
}
