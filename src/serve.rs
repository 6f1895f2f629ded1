//! `tierline serve`: runs until it is told to stop.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::MissedTickBehavior;

use crate::cli::ConfigArgs;
use crate::config::Config;
use crate::log;
use crate::service::Service;
use crate::signals::StopSignals;

/// How often is looked whether recording still runs.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// Read buffers that nobody needed for so long go back to the system.
const RELEASE_INTERVAL: Duration = Duration::from_secs(60);
/// A stop that takes longer is cut off; what is durable stays so, and the next start seals the rest.
const STOP_MAX: Duration = Duration::from_secs(9);

/// Record, index, play and export.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tierline serve --config /etc/tierline.toml
  TIERLINE__HTTP__LISTEN=127.0.0.1:0 tierline serve --config site.toml

When everything runs, one line on standard output says `listening on http://ADDRESS:PORT`. SIGTERM and Ctrl-C
seal what is open and exit with 0; a second one exits at once.")]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?.config;
    log::start(&config.log)?;
    serve(&config, |service| {
        format!("listening on http://{}", service.address())
    })
}

/// Serves until SIGTERM or SIGINT. `greet` makes what is printed when everything runs.
pub(crate) fn serve(config: &Config, greet: impl FnOnce(&Service) -> String) -> anyhow::Result<ExitCode> {
    let service = Service::start(config)?;
    let mut signals = service
        .runtime()
        .block_on(async { StopSignals::listen() })
        .context("listening for signals")?;
    // Nobody may be reading; recording goes on.
    let _ = writeln!(std::io::stdout(), "{}", greet(&service));
    let failed = service.runtime().block_on(async {
        let mut watch = tokio::time::interval(WATCH_INTERVAL);
        let mut release = tokio::time::interval(RELEASE_INTERVAL);
        // After a pause of the machine two looks in a row would take what is in use.
        release.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = signals.recv() => return false,
                _ = watch.tick() => if service.has_failed() { return true },
                _ = release.tick() => archive::buffer::release_idle(),
            }
        }
    });
    tracing::info!("stopping");
    service.runtime().spawn(signals.exit_at_next());
    std::thread::spawn(|| {
        std::thread::sleep(STOP_MAX);
        tracing::error!("stopping takes too long: exiting; the next start seals what is still open");
        std::process::exit(1);
    });
    let stopped = service.stop();
    if failed {
        bail!(
            "recording or retention ended because the index failed; see the log, and start again to recover"
        );
    }
    stopped?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}
