//! The index with millions of segments: bytes a row on disk, point seeks, the timeline of a day.
//!
//! `TIERLINE_BENCH_ROWS` lists numbers of segments (1 and 10 million), to which one index grows in turn;
//! `TIERLINE_BENCH_OUT` names the folder of results (`target/bench`).

mod footage;
mod report;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use archive::time::SECOND_US;
use archive::{StreamNo, TimeRange, WallTime};
use indexer::{Batch, Index, IndexOptions};
use rocksdb::{Cache, DB, Env, Options};

use footage::{Footage, SEGMENT_US, stream_id};
use report::{Dice, Failure, Report};

const ROWS: &str = "1_000_000,10_000_000";
const STREAMS: u32 = 1000;
/// Streams whose last day has fragment tables.
const STREAMS_WITH_TABLES: u32 = 10;
const SEGMENTS_A_DAY: u64 = 144;
const DAY_US: u64 = 86_400 * SECOND_US.unsigned_abs();
/// Segments of each stream in one commit.
const SEGMENTS_A_COMMIT: u64 = 10;
/// A block cache that holds most of it, to compare the product's own with.
const LARGE_CACHE_BYTES: usize = 2 << 30;

const SEEKS: usize = 100_000;
const TIMELINES: usize = 5_000;

fn main() -> Result<(), Failure> {
    let rows = std::env::var("TIERLINE_BENCH_ROWS").unwrap_or_else(|_| ROWS.to_owned());
    let rows = rows.split(',').map(|text| text.replace('_', "").trim().parse());
    let rows: Vec<u64> = rows.collect::<Result<_, _>>()?;
    if !rows.is_sorted() {
        return Err("TIERLINE_BENCH_ROWS must rise: the index grows from one number to the next".into());
    }
    let out = report::folder()?;
    let dir = out.join("index-bench");
    let about = format!("{STREAMS} streams of segments of 10 minutes, calls at random streams and times.");
    let mut report = Report::new("index", about);
    let footage = Footage::new();
    remove(&dir)?;
    let mut filled = Filled::default();
    for (number, of_all) in rows.iter().enumerate() {
        let per_stream = (of_all / u64::from(STREAMS)).max(2 * SEGMENTS_A_DAY);
        let bench = Bench {
            footage: &footage,
            dir: &dir,
            per_stream,
        };
        report.section(per_stream * u64::from(STREAMS));
        filled.grow(&bench, &mut report)?;
        bench.as_filled(&mut report)?;
        filled.weigh(&dir, &mut report)?;
        bench.all(IndexOptions::default().cache_bytes, &mut report)?;
        if number + 1 == rows.len() {
            bench.all(LARGE_CACHE_BYTES, &mut report)?;
        }
    }
    remove(&dir)?;
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

/// The database by itself, and the names of its tables.
fn database(dir: &Path) -> Result<(DB, Vec<String>), Failure> {
    let cache = Cache::new_lru_cache(64 << 20);
    let (options, tables) = Options::load_latest(dir, Env::new()?, false, cache)?;
    let names = DB::list_cf(&options, dir)?;
    Ok((DB::open_cf_descriptors(&options, dir, tables)?, names))
}

/// How far the index has grown.
#[derive(Default)]
struct Filled {
    /// Segments of each stream.
    per_stream: u64,
    /// Days of a stream that have fragment tables.
    days_with_tables: u64,
}

impl Filled {
    fn rows(&self) -> u64 {
        self.per_stream * u64::from(STREAMS)
    }

    /// All streams record at the same time, so rows come ordered by time and not by key, as in life.
    fn grow(&mut self, bench: &Bench<'_>, report: &mut Report) -> Result<(), Failure> {
        let (footage, per_stream) = (bench.footage, bench.per_stream);
        let begun = Instant::now();
        let index = Index::open(bench.dir, &IndexOptions::default())?;
        let mut batch = Batch::default();
        footage.inits().iter().for_each(|init| batch.init(init));
        index.commit(batch)?;
        let streams = (0..STREAMS).map(|n| Ok(index.ensure_stream(&stream_id(n)?)?));
        let streams: Vec<StreamNo> = streams.collect::<Result<_, Failure>>()?;
        let rows_before = self.rows();
        while self.per_stream < per_stream {
            let until = (self.per_stream + SEGMENTS_A_COMMIT).min(per_stream);
            let mut batch = Batch::default();
            for seq in self.per_stream..until {
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
            self.per_stream = until;
            if until % 1000 == 0 {
                let seconds = begun.elapsed().as_secs_f64();
                eprintln!("  {until} of {per_stream} segments a stream, {seconds:.0} s");
            }
        }
        for stream in streams.iter().filter(|stream| stream.0 <= STREAMS_WITH_TABLES) {
            for seq in per_stream - SEGMENTS_A_DAY..per_stream {
                footage.record(&index, *stream, seq)?;
            }
        }
        self.days_with_tables += 1;
        let micros_a_row = begun.elapsed().as_secs_f64() * 1e6 / (self.rows() - rows_before).max(1) as f64;
        report.add("filling it", "µs a row", vec![micros_a_row], None);
        Ok(())
    }

    /// Sizes on disk, as recording leaves them and after a full compaction.
    fn weigh(&self, dir: &Path, report: &mut Report) -> Result<(), Failure> {
        let (db, names) = database(dir)?;
        let sizes = || -> Result<Vec<(&str, u64)>, Failure> {
            let size = |name| {
                let cf = db.cf_handle(name).ok_or("a table is missing")?;
                let bytes = db.property_int_value_cf(cf, "rocksdb.total-sst-files-size")?;
                Ok((name, bytes.unwrap_or(0)))
            };
            names.iter().map(|name| size(name.as_str())).collect()
        };
        let a_row = |bytes: u64| vec![bytes as f64 / self.rows() as f64];
        // Fragment tables and coverage stand for a few streams' last day only: they are not about rows.
        let of_rows = |name: &str| !matches!(name, "fragments" | "coverage" | "tail");
        let all = |sizes: &[(&str, u64)]| sizes.iter().filter(|(n, _)| of_rows(n)).map(|(_, b)| b).sum();
        let bar = Some(100.0);
        report.add("on disk as filled", "bytes a row", a_row(all(&sizes()?)), bar);
        let begun = Instant::now();
        for name in &names {
            let cf = db.cf_handle(name).ok_or("a table is missing")?;
            db.compact_range_cf(cf, None::<&[u8]>, None::<&[u8]>);
        }
        report.add("compacting it", "s", vec![begun.elapsed().as_secs_f64()], None);
        let sizes = sizes()?;
        report.add(
            "on disk after a compaction",
            "bytes a row",
            a_row(all(&sizes)),
            bar,
        );
        for (name, bytes) in &sizes {
            if ["segments", "sequences", "gaps"].contains(name) {
                report.add(
                    format!("… of it the table {name}"),
                    "bytes a row",
                    a_row(*bytes),
                    None,
                );
            }
            if *name == "fragments" {
                let tables = u64::from(STREAMS_WITH_TABLES) * SEGMENTS_A_DAY * self.days_with_tables;
                let a_fragment = *bytes as f64 / (tables * footage::FRAGMENTS.unsigned_abs()) as f64;
                report.add("the table fragments", "bytes a fragment", vec![a_fragment], None);
            }
        }
        Ok(())
    }
}

/// An index of `per_stream` segments of each stream.
struct Bench<'a> {
    footage: &'a Footage,
    dir: &'a Path,
    per_stream: u64,
}

/// Asks for random instants of recorded streams.
struct Instants<'a> {
    footage: &'a Footage,
    dice: Dice,
}

impl Instants<'_> {
    /// An instant of one of the first `streams`, within one of `segments` or the gap behind it.
    fn any(&mut self, streams: u32, segments: std::ops::Range<u64>) -> (StreamNo, u64, WallTime) {
        let stream = StreamNo(self.dice.below(streams.into()) as u32 + 1);
        let seq = segments.start + self.dice.below(segments.end - segments.start);
        // Before the next one begins.
        let inside = self.dice.below((SEGMENT_US - 4 * SECOND_US).unsigned_abs());
        (
            stream,
            seq,
            self.footage.start(stream, seq).plus_micros(inside.cast_signed()),
        )
    }
}

impl Bench<'_> {
    fn open(&self, cache_bytes: usize) -> Result<(Index, Instants<'_>), Failure> {
        warm(self.dir)?;
        let index = Index::open(
            self.dir,
            &IndexOptions {
                cache_bytes,
                ..IndexOptions::default()
            },
        )?;
        let (footage, dice) = (self.footage, Dice(7));
        Ok((index, Instants { footage, dice }))
    }

    /// Point seeks of the product's own cache in an index whose levels are as recording leaves them.
    fn as_filled(&self, report: &mut Report) -> Result<(), Failure> {
        self.settle()?;
        let (index, mut instants) = self.open(IndexOptions::default().cache_bytes)?;
        self.segment_seeks(&index, &mut instants, SEEKS, "as filled", report)
    }

    /// Waits for the compactions that filling it a hundred thousand times as fast as cameras do has put off.
    fn settle(&self) -> Result<(), Failure> {
        const OUTSTANDING: [&str; 2] = ["rocksdb.compaction-pending", "rocksdb.num-running-compactions"];
        const LONGEST: Duration = Duration::from_secs(1800);
        let (db, names) = database(self.dir)?;
        let begun = Instant::now();
        let mut quiet = 0;
        while quiet < 10 {
            if begun.elapsed() > LONGEST {
                return Err("compactions do not end: is the disk full?".into());
            }
            std::thread::sleep(Duration::from_millis(100));
            quiet += 1;
            for name in &names {
                let cf = db.cf_handle(name).ok_or("a table is missing")?;
                for what in OUTSTANDING {
                    if db.property_int_value_cf(cf, what)?.ok_or(what)? > 0 {
                        quiet = 0;
                    }
                }
            }
        }
        Ok(())
    }

    fn segment_seeks(
        &self,
        index: &Index,
        instants: &mut Instants<'_>,
        warm_up: usize,
        how: &str,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let mut wrong = 0;
        for call in 0..warm_up.max(SEEKS) {
            let (stream, seq, at) = instants.any(STREAMS, 0..self.per_stream);
            let found = index.segments(stream, TimeRange::starting(at, 1))?;
            let expected = self.footage.segment(stream, seq);
            let expected = expected.range().contains(at).then_some(expected);
            if call < SEEKS && found != Vec::from_iter(expected) {
                wrong += 1;
            }
        }
        if wrong > 0 {
            return Err(format!("{wrong} of {SEEKS} seeks found another segment than was put in").into());
        }
        let rounds = report::time(SEEKS, || {
            let (stream, _, at) = instants.any(STREAMS, 0..self.per_stream);
            index.segments(stream, TimeRange::starting(at, 1))?;
            Ok(())
        })?;
        let what = format!("segment at an instant, {how}");
        report.add_times(&what, &rounds, Some((0.99, 50.0)));
        report.add_cpu(&what, &rounds);
        Ok(())
    }

    /// All calls in an index that was compacted.
    fn all(&self, cache_bytes: usize, report: &mut Report) -> Result<(), Failure> {
        let how = match cache_bytes {
            LARGE_CACHE_BYTES => format!("cache of {} MiB", cache_bytes >> 20),
            _ => "its own cache".to_owned(),
        };
        let begun = Instant::now();
        let (index, mut instants) = self.open(cache_bytes)?;
        report.add(
            format!("reading and opening it, {how}"),
            "s",
            vec![begun.elapsed().as_secs_f64()],
            None,
        );
        // A larger cache first sees every block.
        let warm_up = if cache_bytes >= LARGE_CACHE_BYTES {
            20 * SEEKS
        } else {
            SEEKS
        };
        self.segment_seeks(&index, &mut instants, warm_up, &how, report)?;
        let last_day = self.per_stream - SEGMENTS_A_DAY;
        let rounds = report::time(SEEKS, || {
            let (stream, _, at) = instants.any(STREAMS_WITH_TABLES, last_day..self.per_stream);
            index.seek(stream, at)?;
            Ok(())
        })?;
        let what = format!("fragment at an instant, {how}");
        report.add_times(&what, &rounds, Some((0.99, 50.0)));
        report.add_cpu(&what, &rounds);
        let rounds = report::time(TIMELINES, || {
            let (stream, _, at) = instants.any(STREAMS, 0..last_day);
            index.timeline(stream, TimeRange::starting(at, DAY_US))?;
            Ok(())
        })?;
        let what = format!("timeline of a day, {how}");
        report.add_times(&what, &rounds, Some((0.99, 2000.0)));
        report.add_cpu(&what, &rounds);
        let rounds = report::time(TIMELINES, || {
            let (stream, _, at) = instants.any(STREAMS_WITH_TABLES, last_day..last_day + 1);
            index.coverage(stream, TimeRange::starting(at, DAY_US))?;
            Ok(())
        })?;
        report.add_times(&format!("activity by minute of a day, {how}"), &rounds, None);
        report.add(
            format!("memory, {how}"),
            "MiB",
            vec![report::resident_mib()?],
            None,
        );
        if let Some(share) = in_page_cache(self.dir)? {
            report.add(
                format!("in the page cache afterwards, {how}"),
                "%",
                vec![share * 100.0],
                None,
            );
        }
        Ok(())
    }
}

/// The share of the index that the page cache holds; `None` where `fincore` is not installed.
fn in_page_cache(dir: &Path) -> Result<Option<f64>, Failure> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "sst") {
            files.push(path);
        }
    }
    let bytes = files.iter().map(|path| Ok(path.metadata()?.len()));
    let bytes: u64 = bytes.collect::<std::io::Result<Vec<_>>>()?.iter().sum();
    let Ok(output) = Command::new("fincore")
        .args(["-b", "-n", "-o", "RES"])
        .args(&files)
        .output()
    else {
        return Ok(None);
    };
    let held = String::from_utf8(output.stdout)?;
    let held = held.lines().map(|line| line.trim().parse::<u64>());
    let held: u64 = held.collect::<Result<Vec<_>, _>>()?.iter().sum();
    Ok((bytes > 0).then(|| held as f64 / bytes as f64))
}
