//! A pass of the thread that moves and deletes segments, over millions of them: the first one after a start, and those
//! that follow, most of which find nothing to do. And looks ahead, which count all that is kept, some of it at a time.
//!
//! `TIERLINE_BENCH_ROWS` is the number of segments (10 million); `TIERLINE_BENCH_OUT` names the folder of results.

mod folder_store;
mod footage;
mod report;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::disk::Disk;
use archive::site_key::SiteKey;
use archive::time::{HOUR_US, SECOND_US};
use archive::{StreamNo, Tier, WallTime};
use indexer::{Batch, Copies, Event, Index, IndexOptions, SegmentRow};
use tiering::{Below, Mover, Outlook, Reaper, RetentionRule, Rules, TieringConfig};
use tokio::runtime::Runtime;

use footage::{Footage, SEGMENT_US, stream_id};
use report::{Failure, Report};

const ROWS: &str = "10_000_000";
const STREAMS: u32 = 1000;
/// Segments of each stream in one commit.
const SEGMENTS_A_COMMIT: u64 = 10;
const DAY: Duration = Duration::from_secs(86_400);
const PASSES: usize = 20;

fn main() -> Result<(), Failure> {
    let rows = std::env::var("TIERLINE_BENCH_ROWS").unwrap_or_else(|_| ROWS.to_owned());
    let rows: u64 = rows.replace('_', "").trim().parse()?;
    let per_stream = (rows / u64::from(STREAMS)).max(2);
    let out = report::folder()?;
    let dir = tempfile::tempdir_in(&out)?;
    let about = format!(
        "{STREAMS} streams of segments of 10 minutes; a month on the disk, all of it copied below, nothing due."
    );
    let mut report = Report::new("tick", about);
    report.section(per_stream * u64::from(STREAMS));

    let index = Arc::new(Index::open(&dir.path().join("index"), &IndexOptions::default())?);
    let footage = Footage::new();
    let now = fill(&index, &footage, per_stream)?;

    let runtime = Runtime::new()?;
    let mut passing = Passing::open(dir.path(), &index, &runtime)?;
    let begun = Instant::now();
    passing.once(now)?;
    report.add("first pass after a start", "ms", vec![millis(begun)], None);
    // Time goes on, and a segment or two of each stream come of age.
    let mut at = now;
    let rounds = report::time(PASSES, || {
        at = at.plus_micros(10 * SECOND_US);
        passing.once(at)
    })?;
    report.add_times("a pass", &rounds, None);
    report.add_cpu("a pass", &rounds);

    let begun = Instant::now();
    passing.count()?;
    report.add(
        "all of it counted for the first forecast",
        "ms",
        vec![millis(begun)],
        None,
    );
    let looks = report::time(PASSES, || passing.look())?;
    report.add_times("a look ahead, which counts 60,000 anew", &looks, None);
    report.finish(&out)
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

/// Rows as `per_stream` segments of each stream leave them; tells when the last one ended.
fn fill(index: &Index, footage: &Footage, per_stream: u64) -> Result<WallTime, Failure> {
    let mut batch = Batch::default();
    footage.inits().iter().for_each(|init| batch.init(init));
    index.commit(batch)?;
    let streams = (0..STREAMS).map(|n| Ok(index.ensure_stream(&stream_id(n)?)?));
    let streams: Vec<StreamNo> = streams.collect::<Result<_, Failure>>()?;
    let ends = streams
        .iter()
        .map(|stream| footage.segment(*stream, per_stream - 1).wall_end);
    let now = ends.max().ok_or("no stream")?;
    for seq in (0..per_stream).step_by(SEGMENTS_A_COMMIT as usize) {
        let mut batch = Batch::default();
        for seq in seq..(seq + SEGMENTS_A_COMMIT).min(per_stream) {
            for stream in &streams {
                let row = footage.segment(*stream, seq);
                batch.copies(&row, copied(&row, now)?);
                if let Some(gap) = footage.gap(*stream, seq) {
                    batch.gap(*stream, gap);
                }
            }
        }
        index.commit(batch)?;
        if seq % 1000 == 0 {
            eprintln!("  {seq} of {per_stream} segments a stream");
        }
    }
    Ok(now)
}

/// Where the copies of a segment are by the rule of [`Passing`], and some have left the disk a day early, for space.
fn copied(row: &SegmentRow, now: WallTime) -> Result<Copies, Failure> {
    let at = row.wall_end;
    let mut copies = Copies::hot_only();
    copies = copies.after(Event::CopyBegun(Tier::Warm), at)?;
    copies = copies.after(Event::Copied(Tier::Warm), at)?;
    let age_us = now.micros_since(row.wall_end);
    if age_us > 29 * DAY.as_micros() as i64 - SEGMENT_US {
        copies = copies.after(Event::DeletionBegun(Tier::Hot), at)?;
        copies = copies.after(Event::Deleted(Tier::Hot), at)?;
    }
    Ok(copies)
}

/// What a pass needs.
struct Passing {
    index: Arc<Index>,
    mover: Mover,
    reaper: Reaper,
    outlook: Outlook,
    /// How far time has gone for looks ahead.
    ahead_us: i64,
    monotonic_us: u64,
}

impl Passing {
    fn open(dir: &Path, index: &Arc<Index>, runtime: &Runtime) -> Result<Self, Failure> {
        let disk = Disk::open(&dir.join("hot"))?;
        let stores = folder_store::warm(&dir.join("warm"), runtime)?;
        let rule = RetentionRule {
            hot: Some(30 * DAY),
            max: Some(3650 * DAY),
            ..RetentionRule::default()
        };
        let below = Below {
            warm: true,
            cold: false,
        };
        let rules = Rules::with_tiers(vec![rule], below)?;
        let grace = Duration::from_secs(60);
        let mover = Mover::new(
            index.clone(),
            disk.clone(),
            stores.clone(),
            rules.clone(),
            grace,
            runtime.handle().clone(),
        );
        let key = SiteKey::from_secret([1; 32]);
        let outlook = Outlook::new(index.clone(), rules.clone(), TieringConfig::default());
        let reaper =
            Reaper::new(index.clone(), disk, rules, TieringConfig::default(), key)?.with_stores(stores);
        Ok(Self {
            index: index.clone(),
            mover,
            reaper,
            outlook,
            ahead_us: 0,
            monotonic_us: 0,
        })
    }

    fn count(&mut self) -> Result<(), Failure> {
        while !self
            .index
            .pulse()
            .forecast()
            .is_some_and(|forecast| forecast.complete)
        {
            self.look()?;
        }
        // What was counted an hour ago is counted anew.
        self.ahead_us += 2 * HOUR_US;
        Ok(())
    }

    fn look(&mut self) -> Result<(), Failure> {
        self.ahead_us += 60 * SECOND_US;
        self.monotonic_us += 60 * SECOND_US.unsigned_abs();
        let mut progress = self.reaper.progress();
        progress.archive_time = progress.archive_time.plus_micros(self.ahead_us);
        Ok(self.outlook.look(&progress, self.monotonic_us)?)
    }

    fn once(&mut self, now: WallTime) -> Result<(), Failure> {
        self.monotonic_us += 10 * SECOND_US.unsigned_abs();
        self.reaper.spare(self.mover.busy());
        self.reaper.pass(now, self.monotonic_us)?;
        self.mover.pass(now, true, 0, self.monotonic_us)?;
        Ok(())
    }
}
