//! What the index keeps of footage that has left the disk, which is nearly all of an archive, is small.

use archive::time::SECOND_US;
use archive::{Epoch, FragmentEntry, SegmentId, Sha256, StreamId, StreamNo, Tier, WallTime};
use rocksdb::{BottommostLevelCompaction, Cache, CompactOptions, DB, Env, Options};
use tierline_indexer::{Batch, Copies, Event, Index, IndexOptions, SegmentRow, SegmentState};

const STREAMS: u32 = 20;
const SEGMENTS: u64 = 1000;
const SEGMENT_US: i64 = 600 * SECOND_US;
/// For each segment: its row, its place in the order of sequences, and its copies. DESIGN: a year of 3,000 cameras
/// in 20 GB.
const BYTES_MAX: u64 = 110;

/// Bytes that nobody can guess, as hashes are.
fn hash(stream: u32, seq: u64, what: u8) -> Sha256 {
    Sha256::of(&[&stream.to_be_bytes()[..], &seq.to_be_bytes(), &[what]].concat())
}

/// A camera that starts at an odd instant and whose pictures come a little late or early.
fn segment(stream: StreamNo, seq: u64) -> (SegmentRow, Vec<FragmentEntry>) {
    let jitter = |n: u64| i64::from(hash(stream.0, n, 0).0[0]) * 137;
    let start = |n: u64| {
        let at = 1_800_000_000 * SECOND_US + i64::from(stream.0) * 17_345_678;
        WallTime::from_micros(at + n.cast_signed() * SEGMENT_US + jitter(n))
    };
    let (from, to) = (start(seq), start(seq + 1));
    let middle = from.plus_micros(SEGMENT_US / 2);
    let entry = |block: u64, from: WallTime, to: WallTime| FragmentEntry {
        offset: block * 4096,
        len: 400_000,
        wall_start: from,
        wall_duration_us: to.micros_since(from) as u32,
        media_start: 90_000 * block,
        media_duration: 90_000,
        keyframe: true,
        run_start: false,
        activity: hash(stream.0, seq, block as u8).0[1],
        notes: Vec::new(),
    };
    let row = SegmentRow {
        id: SegmentId { stream, seq },
        epoch: Epoch(seq as u32 / 500),
        wall_start: from,
        wall_end: to,
        bytes: (28_000 + seq * 7919 % 4700) * 4096,
        state: SegmentState::Open,
        tier: Tier::Hot,
        init: hash(stream.0, 0, 2),
        head: hash(stream.0, seq, 3),
        fragments: 2,
        generation: 0,
    };
    (row, vec![entry(1, from, middle), entry(200, middle, to)])
}

fn left_the_disk(row: &SegmentRow) -> Copies {
    let steps = [
        Event::CopyBegun(Tier::Warm),
        Event::Copied(Tier::Warm),
        Event::DeletionBegun(Tier::Hot),
        Event::Deleted(Tier::Hot),
    ];
    let copies = (steps.iter()).try_fold(Copies::hot_only(), |copies, step| {
        copies.after(*step, row.wall_end)
    });
    let mut copies = copies.expect("steps");
    copies.crc64 = u64::from_be_bytes(*row.head.0.first_chunk().expect("bytes"));
    copies
}

#[test]
fn a_segment_that_has_left_the_disk_takes_a_hundred_bytes_of_the_index() {
    let dir = tempfile::tempdir().expect("folder");
    let index = Index::open(dir.path(), &IndexOptions::default()).expect("index");
    for number in 0..STREAMS {
        let id = StreamId {
            tenant: Default::default(),
            camera: format!("camera-{number}").parse().expect("id"),
            stream: "main".parse().expect("id"),
        };
        let stream = index.ensure_stream(&id).expect("stream");
        let mut rows = Vec::new();
        let (mut recorded, mut sealed, mut moved) = (Batch::default(), Batch::default(), Batch::default());
        for seq in 0..SEGMENTS {
            let (row, entries) = segment(stream, seq);
            recorded.segment(&row);
            entries
                .into_iter()
                .for_each(|entry| recorded.fragment(row.id, entry));
            sealed.seal(&row);
            rows.push(SegmentRow {
                state: SegmentState::Sealed,
                ..row
            });
        }
        rows.iter().for_each(|row| moved.copies(row, left_the_disk(row)));
        for batch in [recorded, sealed, moved] {
            index.commit(batch).expect("commit");
        }
    }
    drop(index);
    let cache = Cache::new_lru_cache(8 << 20);
    let (options, tables) =
        Options::load_latest(dir.path(), Env::new().expect("env"), false, cache).expect("options");
    let db = DB::open_cf_descriptors(&options, dir.path(), tables).expect("open");
    let mut all = Vec::new();
    for name in DB::list_cf(&options, dir.path()).expect("tables") {
        let cf = db.cf_handle(&name).expect("table");
        db.flush_cf(cf).expect("flush");
        // As time does it by itself.
        let mut whole = CompactOptions::default();
        whole.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        db.compact_range_cf_opt(cf, None::<&[u8]>, None::<&[u8]>, &whole);
        let bytes = db.property_int_value_cf(cf, "rocksdb.total-sst-files-size");
        all.push((name, bytes.expect("size").unwrap_or(0)));
    }
    let segments = u64::from(STREAMS) * SEGMENTS;
    let of = |name: &str| all.iter().find(|(n, _)| n == name).map_or(0, |(_, bytes)| *bytes);
    let rows = of("segments") + of("sequences") + of("copies");
    let hours = segments / 6;
    let told = format!(
        "{:.1} bytes a segment, {:.1} of them for its copies; coverage {:.1} an hour",
        rows as f64 / segments as f64,
        of("copies") as f64 / segments as f64,
        of("coverage") as f64 / hours as f64,
    );
    assert!(rows / segments < BYTES_MAX, "{told}");
    assert_eq!(of("fragments") + of("tail"), 0, "{all:?}");
    std::io::Write::write_all(&mut std::io::stdout(), format!("{told}\n").as_bytes()).expect("said");
}
