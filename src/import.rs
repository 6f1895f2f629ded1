//! `tierline import`: existing MP4 files become footage.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use archive::buffer::Pool;
use archive::{CameraId, Clock, StreamId, StreamName, StreamNo, SystemClock, WallTime};
use indexer::{CameraRow, Index, PRIORITY_DEFAULT};
use ingest::fragmenter::Finished;
use ingest::import::{Import, Importer};
use ingest::{Committer, IngestError, Submit};

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
    let Store { index, disk, .. } = store::open(&config)?;
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
    let mut importer = Importer::resume(&index, pool.clone(), no, args.start, now)
        .with_context(|| format!("--start {} of {id}", args.start))?;
    add_camera(&index, &args.camera, now)?;
    let committer = Committer::start(config.recording.ingest(), index.clone(), disk, pool)?;
    let hand_in = HandIn {
        no,
        submit: committer.submit(),
        committer: &committer,
    };
    let mut start = args.start;
    let mut imported = Ok(());
    for file in &args.files {
        imported = import_file(&mut importer, file, start, &hand_in);
        start = importer.end().unwrap_or(start).max(start);
        if imported.is_err() {
            break;
        }
    }
    hand_in.submit.gaps(no, importer.gaps());
    hand_in.submit.close(no);
    committer.stop()?;
    imported?;
    let durable = index.span(no)?.map(|span| span.to());
    if durable != importer.end() {
        bail!("not everything reached the disk; what did is kept: see the log");
    }
    Ok(ExitCode::SUCCESS)
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

/// Hands in fragments, waiting while the disk is busy.
struct HandIn<'a> {
    no: StreamNo,
    submit: Submit,
    committer: &'a Committer,
}

impl HandIn<'_> {
    fn fragment(&self, finished: Finished) -> Result<(), IngestError> {
        let mut waiting = Some(Box::new(finished));
        let since = Instant::now();
        while let Some(finished) = waiting.take() {
            if let Err(back) = self.submit.fragment(self.no, *finished, Duration::ZERO) {
                if self.committer.has_failed() || since.elapsed() > DISK_WAIT_MAX {
                    let what = "the disk does not take the footage: is it full? See the log";
                    return Err(IngestError::Import(what.to_owned()));
                }
                waiting = Some(back);
                std::thread::sleep(BREATH);
            }
        }
        Ok(())
    }
}

/// Imports a file whose first picture was taken at `start`. What came before an error is kept.
fn import_file(
    importer: &mut Importer,
    file: &Path,
    start: WallTime,
    hand_in: &HandIn<'_>,
) -> anyhow::Result<()> {
    let mut import = Import::open(file, start).with_context(|| file.display().to_string())?;
    for track in import.skipped() {
        tracing::warn!(file = %file.display(), track, "a track is left out");
    }
    let mut fragments = 0_u64;
    let read = importer.file(&mut import, |finished| {
        fragments += 1;
        hand_in.fragment(finished)
    });
    let end = importer.end().unwrap_or(start);
    writeln!(
        std::io::stdout(),
        "{}: {start} to {end}, {fragments} fragments",
        file.display()
    )?;
    read.with_context(|| file.display().to_string())?;
    Ok(())
}
