//! The index with millions of segments: bytes a row on disk, point seeks, the timeline of a day.
//!
//! `TIERLINE_BENCH_ROWS` sets the number of segments (10 million), `TIERLINE_BENCH_OUT` the folder of results
//! (`target/bench`), `TIERLINE_BENCH_KEEP=1` keeps the index and uses it again.

mod footage;
mod report;

use std::path::Path;
use std::time::Instant;

use archive::time::SECOND_US;
use archive::{StreamNo, TimeRange};
use indexer::{Batch, Index, IndexOptions};
use rocksdb::{Cache, DB, Env, Options};

use footage::{Footage, SEGMENT_US, stream_id};
use report::{Dice, Failure, Report};

const STREAMS: u32 = 1000;
/// Streams whose last day has fragment tables.
const STREAMS_WITH_TABLES: u32 = 10;
const SEGMENTS_A_DAY: u64 = 144;
const DAY_US: u64 = 86_400 * SECOND_US.unsigned_abs();
/// Segments of each stream in one commit.
const SEGMENTS_A_COMMIT: u64 = 10;
/// Block caches to measure with: the product's own and one that holds everything.
const CACHES_MIB: [usize; 2] = [32, 2048];

const SEEKS: usize = 100_000;
const TIMELINES: usize = 5_000;

fn main() -> Result<(), Failure> {
    let rows: u64 = match std::env::var("TIERLINE_BENCH_ROWS") {
        Ok(text) => text.replace('_', "").parse()?,
        Err(_) => 10_000_000,
    };
    let per_stream = (rows / u64::from(STREAMS)).max(2 * SEGMENTS_A_DAY);
    let rows = per_stream * u64::from(STREAMS);
    let out = report::folder()?;
    let dir = out.join("index-bench");
    let keep = std::env::var_os("TIERLINE_BENCH_KEEP").is_some();
    let about = format!("{rows} segments: {STREAMS} streams of {per_stream} segments of 10 minutes.");
    let mut report = Report::new("index", about);
    let footage = Footage::new();
    if !(keep && dir.exists()) {
        remove(&dir)?;
        fill(&footage, &dir, per_stream, &mut report)?;
        weigh(&dir, rows, &mut report)?;
    }
    warm(&dir)?;
    for mib in CACHES_MIB {
        measure(&footage, &dir, per_stream, mib, &mut report)?;
    }
    if !keep {
        remove(&dir)?;
    }
    report.finish(&out)
}

fn remove(dir: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// Reads every file once, so that the page cache holds what memory has room for.
fn warm(dir: &Path) -> Result<(), Failure> {
    for entry in std::fs::read_dir(dir)? {
        std::io::copy(&mut std::fs::File::open(entry?.path())?, &mut std::io::sink())?;
    }
    Ok(())
}

/// All streams record at the same time, so rows come ordered by time and not by key, as in life.
fn fill(footage: &Footage, dir: &Path, per_stream: u64, report: &mut Report) -> Result<(), Failure> {
    let begun = Instant::now();
    let index = Index::open(dir, &IndexOptions::default())?;
    let mut batch = Batch::default();
    footage.inits().iter().for_each(|init| batch.init(init));
    index.commit(batch)?;
    let streams = (0..STREAMS).map(|n| Ok(index.ensure_stream(&stream_id(n)?)?));
    let streams: Vec<StreamNo> = streams.collect::<Result<_, Failure>>()?;
    let mut seq = 0;
    while seq < per_stream {
        let until = (seq + SEGMENTS_A_COMMIT).min(per_stream);
        let mut batch = Batch::default();
        for seq in seq..until {
            for stream in &streams {
                if stream.0 <= STREAMS_WITH_TABLES && seq + SEGMENTS_A_DAY >= per_stream {
                    continue;
                }
                batch.segment(&footage.segment(*stream, seq));
                if let Some(gap) = footage.gap(*stream, seq) {
                    batch.gap(*stream, gap);
                }
            }
        }
        index.commit(batch)?;
        seq = until;
        if seq % 1000 == 0 {
            eprintln!(
                "  {seq} of {per_stream} segments a stream, {:.0} s",
                begun.elapsed().as_secs_f64()
            );
        }
    }
    for stream in streams.iter().filter(|stream| stream.0 <= STREAMS_WITH_TABLES) {
        for seq in per_stream - SEGMENTS_A_DAY..per_stream {
            footage.record(&index, *stream, seq)?;
        }
    }
    report.add("filling it", "s", vec![begun.elapsed().as_secs_f64()], None);
    Ok(())
}

/// Sizes on disk, as recording leaves them and after a full compaction, which time brings about by itself.
fn weigh(dir: &Path, rows: u64, report: &mut Report) -> Result<(), Failure> {
    let cache = Cache::new_lru_cache(64 << 20);
    let (options, tables) = Options::load_latest(dir, Env::new()?, false, cache)?;
    let db = DB::open_cf_descriptors(&options, dir, tables)?;
    let names = DB::list_cf(&options, dir)?;
    let sizes = || -> Result<Vec<(String, u64)>, Failure> {
        let size = |name: &String| {
            let cf = db.cf_handle(name).ok_or("a table is missing")?;
            let bytes = db.property_int_value_cf(cf, "rocksdb.total-sst-files-size")?;
            Ok((name.clone(), bytes.unwrap_or(0)))
        };
        names.iter().map(size).collect()
    };
    let a_row = |bytes: u64| vec![bytes as f64 / rows as f64];
    // Fragment tables and coverage stand for a few streams' last day only: they are not about rows.
    let all = |sizes: &[(String, u64)]| -> u64 {
        let of_rows = |name: &str| !matches!(name, "fragments" | "coverage" | "tail");
        sizes
            .iter()
            .filter(|(name, _)| of_rows(name))
            .map(|(_, bytes)| bytes)
            .sum()
    };
    report.add(
        "on disk as filled",
        "bytes a row",
        a_row(all(&sizes()?)),
        Some(100.0),
    );
    let begun = Instant::now();
    for name in &names {
        let cf = db.cf_handle(name).ok_or("a table is missing")?;
        db.compact_range_cf(cf, None::<&[u8]>, None::<&[u8]>);
    }
    report.add("compacting it", "s", vec![begun.elapsed().as_secs_f64()], None);
    let compacted = sizes()?;
    report.add(
        "on disk after a compaction",
        "bytes a row",
        a_row(all(&compacted)),
        Some(100.0),
    );
    for (name, bytes) in compacted
        .iter()
        .filter(|(name, _)| ["segments", "sequences", "gaps"].contains(&name.as_str()))
    {
        report.add(
            format!("… of it the table {name}"),
            "bytes a row",
            a_row(*bytes),
            None,
        );
    }
    let tables = u64::from(STREAMS_WITH_TABLES) * SEGMENTS_A_DAY;
    for (name, bytes) in compacted.iter().filter(|(name, _)| name == "fragments") {
        let a_fragment = *bytes as f64 / (tables * footage::FRAGMENTS.unsigned_abs()) as f64;
        report.add(
            format!("the table {name}"),
            "bytes a fragment",
            vec![a_fragment],
            None,
        );
    }
    Ok(())
}

fn measure(
    footage: &Footage,
    dir: &Path,
    per_stream: u64,
    cache_mib: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    let cache = format!("cache of {cache_mib} MiB");
    let begun = Instant::now();
    let index = Index::open(
        dir,
        &IndexOptions {
            cache_bytes: cache_mib << 20,
            ..IndexOptions::default()
        },
    )?;
    report.add(
        format!("opening it, {cache}"),
        "s",
        vec![begun.elapsed().as_secs_f64()],
        None,
    );
    let mut dice = Dice(7);
    let mut instant = |streams: u32, segments: std::ops::Range<u64>| {
        let stream = StreamNo(dice.below(streams.into()) as u32 + 1);
        let seq = segments.start + dice.below(segments.end - segments.start);
        // Within the segment or the gap behind it, before the next one begins.
        let inside = dice
            .below((SEGMENT_US - 4 * SECOND_US).unsigned_abs())
            .cast_signed();
        (stream, seq, footage.start(stream, seq).plus_micros(inside))
    };
    // Larger caches first see every block.
    let warm_up = if cache_mib > 1000 { 20 * SEEKS } else { SEEKS };
    let mut wrong = 0;
    for call in 0..warm_up {
        let (stream, seq, at) = instant(STREAMS, 0..per_stream);
        let found = index.segments(stream, TimeRange::starting(at, 1))?;
        let expected = footage.segment(stream, seq);
        if call < SEEKS && found != Vec::from_iter(expected.range().contains(at).then_some(expected)) {
            wrong += 1;
        }
    }
    if wrong > 0 {
        return Err(format!("{wrong} of {SEEKS} seeks found another segment than was put in").into());
    }
    let rounds = report::time(SEEKS, || {
        let (stream, _, at) = instant(STREAMS, 0..per_stream);
        index.segments(stream, TimeRange::starting(at, 1))?;
        Ok(())
    })?;
    report.add_times(
        &format!("segment at an instant, {cache}"),
        &rounds,
        Some((0.99, 50.0)),
    );
    report.add_cpu(&format!("segment at an instant, {cache}"), &rounds);
    let rounds = report::time(SEEKS, || {
        let (stream, _, at) = instant(STREAMS_WITH_TABLES, per_stream - SEGMENTS_A_DAY..per_stream);
        index.seek(stream, at)?;
        Ok(())
    })?;
    report.add_times(
        &format!("fragment at an instant, {cache}"),
        &rounds,
        Some((0.99, 50.0)),
    );
    report.add_cpu(&format!("fragment at an instant, {cache}"), &rounds);
    let rounds = report::time(TIMELINES, || {
        let (stream, _, at) = instant(STREAMS, 0..per_stream - SEGMENTS_A_DAY);
        index.timeline(stream, TimeRange::starting(at, DAY_US))?;
        Ok(())
    })?;
    report.add_times(
        &format!("timeline of a day, {cache}"),
        &rounds,
        Some((0.99, 2000.0)),
    );
    report.add_cpu(&format!("timeline of a day, {cache}"), &rounds);
    let rounds = report::time(TIMELINES, || {
        let (stream, _, at) = instant(
            STREAMS_WITH_TABLES,
            per_stream - SEGMENTS_A_DAY..per_stream - SEGMENTS_A_DAY + 1,
        );
        index.coverage(stream, TimeRange::starting(at, DAY_US))?;
        Ok(())
    })?;
    report.add_times(&format!("activity by minute of a day, {cache}"), &rounds, None);
    report.add(
        format!("memory, {cache}"),
        "MiB",
        vec![report::resident_mib()?],
        None,
    );
    Ok(())
}
