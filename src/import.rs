//! `tierline import`: existing MP4 files become footage.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use archive::buffer::Pool;
use archive::{CameraId, Clock, GapCause, StreamId, StreamName, StreamNo, SystemClock, TimeRange, WallTime};
use indexer::{CameraRow, Index, PRIORITY_DEFAULT};
use ingest::fragmenter::{Finished, Fragmenter};
use ingest::gap_tracker::GapTracker;
use ingest::import::Import;
use ingest::{Committer, Submit};

use crate::cli::ConfigArgs;
use crate::enrol::enrol;
use crate::log;
use crate::store::{self, Store};

/// Buffers that are used again and again.
const POOL_SLABS: usize = 512;
/// Between two attempts to hand in a fragment while the disk is busy.
const BREATH: Duration = Duration::from_millis(10);
/// A disk that takes nothing for this long is full or broken.
const DISK_WAIT_MAX: Duration = Duration::from_secs(60);

/// Put existing MP4 files into a stopped archive.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The files follow each other from --start on, which must not lie before the end of what the \
stream has already. H.264 and H.265 with AAC audio, progressive or fragmented; nothing is encoded anew.

Example:
  tierline import --config site.toml --camera lobby --stream main --start 2026-11-20T08:30:00Z a.mp4 b.mp4"
)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// The camera's id; a camera that is not there yet is added, without a source
    #[arg(long)]
    camera: CameraId,
    /// The stream's name
    #[arg(long, default_value = "main")]
    stream: StreamName,
    /// When the first picture was taken: RFC 3339 with a zone, or Unix microseconds
    #[arg(long, value_name = "TIME")]
    start: WallTime,
    /// The files, in order
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?.config;
    log::start(&config.log)?;
    let now = SystemClock::default().wall();
    if args.start > now {
        bail!("--start {} lies in the future", args.start);
    }
    // Told before anything is opened for writing.
    for file in &args.files {
        Import::open(file, args.start).with_context(|| file.display().to_string())?;
    }
    let Store { index, disk } = store::open(&config)?;
    enrol(&index, &config.cameras, now)?;
    let pool = Pool::new(POOL_SLABS);
    let recovered = ingest::recover(&disk, &index)?;
    ingest::seal_left_open(&disk, &index, &pool, &recovered.unsealed)?;
    let id = StreamId {
        tenant: Default::default(),
        camera: args.camera.clone(),
        stream: args.stream.clone(),
    };
    let no = index.ensure_stream(&id)?;
    let (end, gap) = before(&index, no, args.start)?;
    if end.is_some_and(|end| args.start < end) {
        let end = end.unwrap_or_default();
        bail!("{id} has footage until {end}: choose a later --start, or another --stream");
    }
    add_camera(&index, &args.camera, now)?;
    let committer = Committer::start(config.recording.ingest(), index.clone(), disk, pool.clone())?;
    let mut importer = Importer {
        no,
        index,
        fragmenter: Fragmenter::new(pool, end.unwrap_or(args.start), gap),
        submit: committer.submit(),
        handed_in: end,
        now,
    };
    let mut start = args.start;
    let mut imported = Ok(());
    for file in &args.files {
        imported = importer.file(file, start, &committer);
        start = importer.handed_in.unwrap_or(start).max(start);
        if imported.is_err() {
            break;
        }
    }
    let gaps = importer.fragmenter.gap().pieces().collect();
    importer.submit.gaps(no, gaps);
    importer.submit.close(no);
    committer.stop()?;
    imported?;
    let durable = importer.index.span(no)?.map(|span| span.to());
    if durable != importer.handed_in {
        bail!("not everything reached the disk; what did is kept: see the log");
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the stream ends, and what is known of the gap since then.
fn before(index: &Index, no: StreamNo, start: WallTime) -> anyhow::Result<(Option<WallTime>, GapTracker)> {
    let mut gap = GapTracker::default();
    let Some(end) = index.span(no)?.map(|span| span.to()) else {
        return Ok((None, gap));
    };
    gap.start(end, GapCause::NotImported);
    let since = TimeRange::new(end, start.max(end)).unwrap_or(TimeRange::ALL);
    for known in index.gaps(no, since)? {
        if known.cause != GapCause::Retention && known.from >= end {
            gap.start(known.from, known.cause);
        }
    }
    Ok((Some(end), gap))
}

/// A camera that has footage is one that can be seen.
fn add_camera(index: &Index, camera: &CameraId, now: WallTime) -> anyhow::Result<()> {
    if index.camera(camera)?.is_some() {
        return Ok(());
    }
    Ok(index.put_camera(&CameraRow {
        id: camera.clone(),
        name: camera.to_string(),
        streams: Vec::new(),
        priority: PRIORITY_DEFAULT,
        created: now,
        removed: None,
        from_config: false,
    })?)
}

struct Importer {
    no: StreamNo,
    index: Arc<Index>,
    fragmenter: Fragmenter,
    submit: Submit,
    /// The end of the last fragment handed in, or of the stream before.
    handed_in: Option<WallTime>,
    now: WallTime,
}

impl Importer {
    /// Imports a file whose first picture was taken at `start`. What came before an error is kept.
    fn file(&mut self, file: &Path, start: WallTime, committer: &Committer) -> anyhow::Result<()> {
        let mut import = Import::open(file, start).with_context(|| file.display().to_string())?;
        for track in import.skipped() {
            tracing::warn!(file = %file.display(), track, "a track is left out");
        }
        self.fragmenter.begin_session();
        let mut fragments = 0_u64;
        let read = loop {
            let event = match import.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => break Ok(()),
                Err(e) => break Err(e),
            };
            if let Some(finished) = self.fragmenter.push(event) {
                fragments += 1;
                self.hand_in(finished, committer)?;
            }
        };
        if let Some(finished) = self.fragmenter.end_session() {
            fragments += 1;
            self.hand_in(finished, committer)?;
        }
        self.fragmenter.begin_gap(self.now, GapCause::NotImported);
        let end = self.handed_in.unwrap_or(start);
        writeln!(
            std::io::stdout(),
            "{}: {start} to {end}, {fragments} fragments",
            file.display()
        )?;
        read.with_context(|| format!("{}: what came before is imported", file.display()))
    }

    fn hand_in(&mut self, finished: Finished, committer: &Committer) -> anyhow::Result<()> {
        let end = finished.fragment.entry().wall_end();
        if end > self.now {
            bail!("the footage reaches into the future: --start is too late");
        }
        let mut waiting = Some(Box::new(finished));
        let since = Instant::now();
        while let Some(finished) = waiting.take() {
            if let Err(back) = self.submit.fragment(self.no, *finished, Duration::ZERO) {
                if committer.has_failed() || since.elapsed() > DISK_WAIT_MAX {
                    bail!("the disk does not take the footage: is it full? See the log");
                }
                waiting = Some(back);
                std::thread::sleep(BREATH);
            }
        }
        self.handed_in = Some(end);
        Ok(())
    }
}
