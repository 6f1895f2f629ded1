//! The index made anew from segments alone, on the local disk and in a store: how many a second. And from its copy in that
//! store, as on a new machine.
//!
//! The files are written by the code that records, with pictures of some bytes, and without waiting for the disk.

mod folder_store;
mod report;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use archive::buffer::Pool;
use archive::disk::Disk;
use archive::seam::{Answer, Faults, Step};
use archive::segment::{Closing, FragmentBuilder, SegmentHeader, SegmentWriter};
use archive::store::Stores;
use archive::time::SECOND_US;
use archive::{Epoch, InitSegment, Sha256, StreamId, WallTime};
use indexer::{Index, IndexOptions, rebuild, rebuild_from};
use tiering::checkpoint::{fetch, make};

use report::{Failure, Report};

/// Runs of each, of which a table shows the median.
const RUNS: usize = 3;
/// 2026-01-01T00:00:00Z.
const ORIGIN_US: i64 = 1_767_225_600 * SECOND_US;

/// A disk on which nothing is waited for.
#[derive(Debug)]
struct WithoutSyncs;

impl Faults for WithoutSyncs {
    fn at(&self, step: Step, _: &Path) -> Answer {
        match step {
            Step::SyncData | Step::SyncDir | Step::Reserve => Answer::Pretend,
            _ => Answer::GoOn,
        }
    }
}

/// An archive to be.
struct Shape {
    label: &'static str,
    streams: usize,
    segments: usize,
    fragments: i64,
    /// Pictures of a fragment.
    pictures: i64,
}

fn main() -> Result<(), Failure> {
    let out = report::folder()?;
    let count = |name: &str, default: usize| -> Result<usize, Failure> {
        Ok(std::env::var(name).map_or(Ok(default), |text| text.parse())?)
    };
    let small = count("TIERLINE_BENCH_SEGMENTS", 100_000)?;
    let mut report = Report::new(
        "rebuild",
        "Sealed segments on the local disk, heads and footers in the page cache.".to_owned(),
    );
    for shape in [
        Shape {
            label: "segments of 5 fragments",
            streams: 20,
            segments: small / 20,
            fragments: 5,
            pictures: 1,
        },
        Shape {
            label: "ten minutes, 300 fragments of 50 pictures",
            streams: 20,
            segments: small / 400,
            fragments: 300,
            pictures: 50,
        },
    ] {
        let dir = tempfile::tempdir_in(&out)?;
        let hot = dir.path().join("hot");
        let all = shape.make(&Disk::with_faults(&hot, Arc::new(WithoutSyncs))?)?;
        let disk = Disk::open(&hot)?;
        let (mut rates, mut cpu) = (Vec::new(), Vec::new());
        for run in 0..RUNS {
            let index = dir.path().join(format!("index-{run}"));
            let (begun, cpu_before) = (Instant::now(), process_cpu_us()?);
            let opened = Index::open(&index, &IndexOptions::default())?;
            let rebuilt = rebuild(&disk, &Stores::default(), &opened, |_| {})?;
            drop(opened);
            rates.push(all as f64 / begun.elapsed().as_secs_f64());
            cpu.push((process_cpu_us()? - cpu_before) / all as f64);
            if rebuilt.segments != all as u64 || !rebuilt.left_out.is_empty() {
                return Err(format!(
                    "{} of {all} segments: {:?}",
                    rebuilt.segments,
                    rebuilt.left_out.first()
                )
                .into());
            }
            let bytes = folder_bytes(&index)?;
            if run == 0 {
                report.add(
                    format!("{}: index", shape.label),
                    "bytes a segment",
                    vec![bytes as f64 / all as f64],
                    None,
                );
            }
        }
        let times = rates.iter().map(|rate| 1e6 / rate).collect();
        report.add(shape.label, "segments/s", rates, None);
        report.add(format!("{}: each", shape.label), "µs", times, Some(50.0));
        report.add(format!("{}: CPU of each", shape.label), "µs", cpu, None);
        lost_machine(dir.path(), shape.label, all, &mut report)?;
    }
    report.finish(&out)
}

/// The same segments lie in a store, and the disk is new: without a copy of the index, and with one.
fn lost_machine(dir: &Path, label: &str, all: usize, report: &mut Report) -> Result<(), Failure> {
    std::fs::rename(dir.join("hot"), dir.join("warm"))?;
    let disk = Disk::open(&dir.join("new"))?;
    let runtime = tokio::runtime::Runtime::new()?;
    let stores = folder_store::warm(&dir.join("warm"), &runtime)?;
    let warm = stores.warm.as_ref().ok_or("no store")?;
    let options = IndexOptions::default();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let begun = Instant::now();
        let index = Index::open(&dir.join(format!("store-{run}")), &options)?;
        let rebuilt = rebuild(&disk, &stores, &index, |_| {})?;
        without.push(all as f64 / begun.elapsed().as_secs_f64());

        let (work, fetched) = (dir.join("work"), dir.join(format!("fetched-{run}")));
        let now = WallTime::from_micros(ORIGIN_US + run as i64 * SECOND_US);
        make(&index, &work, warm, 1, now, || true)?.ok_or("no copy")?;
        let begun = Instant::now();
        std::fs::create_dir(&fetched)?;
        fetch(warm, &fetched)?.ok_or("no copy")?;
        let known = Index::open_read_only(&fetched)?;
        let index = Index::open(&dir.join(format!("copy-{run}")), &options)?;
        let remembered = rebuild_from(Some(&known), &disk, &stores, &index, |_| {})?.remembered;
        with.push(all as f64 / begun.elapsed().as_secs_f64());
        if (rebuilt.segments, remembered) != (all as u64, all as u64) {
            return Err(format!("{} and {remembered} of {all} segments", rebuilt.segments).into());
        }
    }
    report.add(format!("{label}: in a store"), "segments/s", without, None);
    report.add(
        format!("{label}: in a store, with a copy of the index there"),
        "segments/s",
        with,
        None,
    );
    Ok(())
}

impl Shape {
    /// Writes the files of the first segment of each stream as recording does, and the others after it.
    fn make(&self, disk: &Disk) -> Result<usize, Failure> {
        let pool = Pool::new(64);
        let init = InitSegment::build(vec![archive::fuzzing::video_track(1920, 1080)]);
        for number in 0..self.streams {
            let stream = StreamId {
                tenant: Default::default(),
                camera: format!("cam{number:04}").parse()?,
                stream: "main".parse()?,
            };
            let mut prev = Sha256::default();
            for seq in 0..self.segments {
                let start = WallTime::from_micros(ORIGIN_US + seq as i64 * 600 * SECOND_US);
                let header = SegmentHeader {
                    stream: stream.clone(),
                    seq: seq as u64,
                    epoch: Epoch(1),
                    wall_start: start,
                    prev,
                    init: init.hash,
                    generation: 0,
                };
                let mut writer = SegmentWriter::create(disk, &pool, header, &init, 1)?;
                let mut fragments = self.fragments_from(&pool, start);
                writer.append(&mut fragments)?;
                prev = writer.seal(&pool)?.head;
            }
        }
        Ok(self.streams * self.segments)
    }

    fn fragments_from(&self, pool: &Pool, start: WallTime) -> Vec<archive::segment::ClosedFragment> {
        let us = 600 * SECOND_US / self.fragments;
        let ticks = us * 9 / 100;
        (0..self.fragments)
            .map(|i| {
                let mut b = FragmentBuilder::new(pool, None);
                for picture in 0..self.pictures {
                    let at = i * ticks + picture * ticks / self.pictures;
                    b.push_video(at, picture == 0, &[7; 64]);
                }
                let closing = Closing {
                    wall_start: start.plus_micros(i * us),
                    wall_duration_us: us as u32,
                    media_end: Some((i + 1) * ticks),
                    typical_duration: (ticks / self.pictures) as u32,
                    run_start: i == 0,
                    activity: 50,
                    notes: vec![],
                    clock_offset_us: None,
                    audio_duration: 0,
                };
                b.close(pool, closing)
            })
            .collect()
    }
}

/// CPU time of all threads so far, those that ended too, in the hundredths of a second that the system counts in.
fn process_cpu_us() -> Result<f64, Failure> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? * 10_000.0)
}

fn folder_bytes(dir: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}
