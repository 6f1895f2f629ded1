//! `tierline config`: the commented reference, a check of a file, or what is in force.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use archive::{Clock, SystemClock};

use crate::cli::{ConfigArgs, environment};
use crate::config::{Config, REFERENCE, effective, load};
use crate::enrol::enrolled;
use crate::promises::Promises;
use crate::store;

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

/// What it promises, held against the archive that it is for; `None` where there is none yet, or none that can be read.
fn promises(config: &Config) -> anyhow::Result<Option<Promises>> {
    let (Ok(index), Ok(disk)) = (store::view_index(&config.index_dir()), store::footage(config)) else {
        return Ok(None);
    };
    let cameras = enrolled(&index.cameras()?, &config.cameras, SystemClock::default().wall());
    Ok(Some(Promises::look(config, &index, &disk, &cameras)?))
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if let Some(file) = &args.check {
        let config = load(Some(file), environment())?.config;
        let (cameras, rules) = (config.cameras.len(), config.rules.len());
        if let Some(promises) = promises(&config)? {
            promises.refuse().with_context(|| file.display().to_string())?;
            for why in promises.warnings() {
                writeln!(out, "{}: warning: {why}", file.display())?;
            }
        }
        let number = |n: usize, what| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let (cameras, rules) = (number(cameras, "camera"), number(rules, "rule"));
        writeln!(out, "{}: fine, {cameras}, {rules}", file.display())?;
    } else if args.show {
        let loaded = args.config.load()?;
        out.write_all(effective(&loaded.written)?.as_bytes())?;
    } else {
        out.write_all(REFERENCE.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
