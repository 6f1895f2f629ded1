//! `tierline config`: the commented reference, a check of a file, or what is in force.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::{ConfigArgs, environment};
use crate::config::{REFERENCE, effective, load};

/// Print the commented reference of the configuration, or check a file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tierline config > tierline.toml            the reference, to begin a file of your own with
  tierline config --check tierline.toml      says what is wrong, with line and remedy
  tierline config --show --config site.toml  what is in force with all defaults, without secrets")]
pub(crate) struct Args {
    /// Check this file, and the TIERLINE__… variables with it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["show", "config"])]
    check: Option<PathBuf>,
    /// Print what is in force, defaults included, without secrets
    #[arg(long)]
    show: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if let Some(file) = &args.check {
        let config = load(Some(file), environment())?.config;
        let (cameras, rules) = (config.cameras.len(), config.rules.len());
        writeln!(out, "{}: fine, {cameras} cameras, {rules} rules", file.display())?;
    } else if args.show {
        let loaded = args.config.load()?;
        out.write_all(effective(&loaded.written)?.as_bytes())?;
    } else {
        out.write_all(REFERENCE.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
