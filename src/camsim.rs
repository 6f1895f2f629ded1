//! `tierline camsim`: simulated cameras.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use archive::units::parse_duration;
use ingest::camsim;

use crate::signals::StopSignals;

/// Simulate RTSP cameras.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Camera N, counted from 0, is at rtsp://ADDRESS:PORT/cam/N, over TCP.

Examples:
  tierline camsim --listen 127.0.0.1:8554 --cameras 4
  tierline camsim --listen 127.0.0.1:0 --cameras 100 --clip street.h264 --clip yard.mp4 --fps 30"
)]
pub(crate) struct Args {
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8554")]
    listen: SocketAddr,
    /// How many cameras
    #[arg(long, value_name = "N", default_value_t = 1)]
    cameras: usize,
    /// A clip to repeat, H.264 or H.265 as Annex B or MP4, given to the cameras in turn; a built-in one otherwise
    #[arg(long = "clip", value_name = "FILE")]
    clips: Vec<PathBuf>,
    /// Frame rate of clips that do not state theirs, or instead of it
    #[arg(long)]
    fps: Option<u32>,
    /// Cut each session after this time, such as 30s
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    drop_after: Option<Duration>,
    /// How often to print counters to standard error
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    report_every: Duration,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut signals = runtime
        .block_on(async { StopSignals::listen() })
        .context("listening for signals")?;
    let farm = camsim::start(camsim::Config {
        listen: args.listen,
        cameras: args.cameras,
        clips: args.clips.clone(),
        fps: args.fps,
        drop_after: args.drop_after,
        report_every: (!args.report_every.is_zero()).then_some(args.report_every),
    })
    .with_context(|| format!("simulating cameras on {}", args.listen))?;
    let (address, last) = (farm.local_addr(), args.cameras.saturating_sub(1));
    let _ = writeln!(
        std::io::stdout(),
        "serving rtsp://{address}/cam/0 to rtsp://{address}/cam/{last}"
    );
    runtime.block_on(signals.recv());
    let counters = farm.counters();
    farm.stop();
    eprintln!("camsim: {counters}");
    Ok(ExitCode::SUCCESS)
}
