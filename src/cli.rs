//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{ConfigError, Loaded, load};
use crate::{camsim, check, demo, export, import, rebuild, report, serve, show_config};

/// Records cameras around the clock, keeps every second findable, plays and exports any of it.
#[derive(Debug, Parser)]
#[command(
    name = "tierline",
    version,
    after_help = "Begin with `tierline demo`; then `tierline config` for what can be configured."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Record, index, play and export, until told to stop
    Serve(serve::Args),
    /// Try it: record four simulated cameras and show them on a page
    Demo(demo::Args),
    /// Simulate RTSP cameras
    Camsim(camsim::Args),
    /// Put existing MP4 files into a stopped archive
    Import(import::Args),
    /// Take a time range out of an archive as one MP4 file
    Export(export::Args),
    /// Verify an archive, or compare an index with a rebuilt one
    Check(check::Args),
    /// Make the index anew from the footage alone
    Rebuild(rebuild::Args),
    /// Print figures to plan with
    Report(report::Args),
    /// Print the commented reference of the configuration, or check a file
    Config(show_config::Args),
}

impl Command {
    /// Does it.
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Serve(args) => serve::run(args),
            Self::Demo(args) => demo::run(args),
            Self::Camsim(args) => camsim::run(args),
            Self::Import(args) => import::run(args),
            Self::Export(args) => export::run(args),
            Self::Check(args) => check::run(args),
            Self::Rebuild(args) => rebuild::run(args),
            Self::Report(args) => report::run(args),
            Self::Config(args) => show_config::run(args),
        }
    }

    /// The exit status when it could not be done. For `check`, 1 means that there are findings.
    pub(crate) fn failure(&self) -> ExitCode {
        match self {
            Self::Check(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Which configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file; without it, defaults and TIERLINE__… variables hold
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl ConfigArgs {
    /// Loads it, with the variables of the environment.
    pub(crate) fn load(&self) -> Result<Loaded, ConfigError> {
        load(self.config.as_deref(), environment())
    }
}

/// The variables of the environment that are text.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
