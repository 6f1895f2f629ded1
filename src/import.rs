//! `tierline import`: existing MP4 files become footage.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use archive::{CameraId, StreamName, WallTime};

use crate::cli::ConfigArgs;

/// Put existing MP4 files into a stopped archive.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The files follow each other from --start on. H.264 and H.265 with AAC audio, progressive or \
fragmented; nothing is encoded anew.

Example:
  tierline import --config site.toml --camera lobby --stream main --start 2026-11-20T08:30:00Z a.mp4 b.mp4"
)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// The camera's id
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
    let _ = args;
    bail!("not yet")
}
