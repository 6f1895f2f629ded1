//! `tierline rebuild`: a new index from the footage alone, wherever it lies.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use archive::units::format_size;
use archive::{Clock, SystemClock};
use indexer::{Index, IndexOptions};

use crate::cli::ConfigArgs;
use crate::enrol::enrol;
use crate::store::{footage, lock_holder, view_index};
use crate::stores;

/// Make the index anew from the footage alone.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The index in use is only read, for the cameras that were added over the API; where there is \
none, or it is damaged, those have to be added again. A service may run meanwhile, but stop it before the new index \
takes the place of the old one.

Example:
  tierline rebuild --config site.toml --into /var/lib/tierline/index-anew
  tierline check --config site.toml --index /var/lib/tierline/index-anew"
)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// The folder for the new index: a new one, or an empty one
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?.config;
    let into = std::path::absolute(&args.into)?;
    if !is_free(&into).with_context(|| format!("looking into {}", into.display()))? {
        bail!("{} is not empty: name a new folder", into.display());
    }
    let disk = footage(&config)?;
    let index =
        Index::open(&into, &IndexOptions::default()).with_context(|| format!("in {}", into.display()))?;
    let live_dir = config.index_dir();
    if live_dir != into {
        carry_over(&live_dir, &index)?;
    }
    enrol(&index, &config.cameras, SystemClock::default().wall())?;
    let begun = Instant::now();
    let shown = std::io::stderr().is_terminal();
    let (stores, _runtime) = stores::open_to_read(&config)?;
    let rebuilt = indexer::rebuild(&disk, &stores, &index, |done| {
        if shown {
            eprint!(
                "\r{} segments, {}",
                done.segments,
                format_size(done.bytes >> 20 << 20)
            );
        }
    })?;
    if shown {
        eprintln!();
    }
    drop(index);
    let seconds = begun.elapsed().as_secs_f64();
    let mut out = std::io::stdout().lock();
    for (file, why) in &rebuilt.left_out {
        writeln!(out, "left out: {file}: {why}")?;
    }
    writeln!(
        out,
        "{} segments with {} fragments and {} bytes in {seconds:.1} s, {:.0} segments a second",
        rebuilt.segments,
        rebuilt.fragments,
        rebuilt.bytes,
        rebuilt.segments as f64 / seconds.max(1e-6)
    )?;
    if rebuilt.holds > 0 {
        writeln!(out, "{} holds", rebuilt.holds)?;
    }
    if rebuilt.certificates > 0 {
        writeln!(out, "{} deletion certificates", rebuilt.certificates)?;
    }
    if live_dir != into {
        let (live, into) = (live_dir.display(), into.display());
        if lock_holder(&live_dir).is_some() {
            writeln!(
                out,
                "the service is running: what it records from now on is not in the new index"
            )?;
        }
        writeln!(
            out,
            "to use it, stop the service and run: mv {live} {live}.old && mv {into} {live}"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn is_free(dir: &Path) -> std::io::Result<bool> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(e),
    }
}

/// Footage does not tell the setup of cameras: the index in use does, if it can be read. Nor are holds beside the
/// footage yet that could not be written there.
fn carry_over(live_dir: &Path, index: &Index) -> anyhow::Result<()> {
    match view_index(live_dir).and_then(|live| Ok((live.cameras()?, live.holds()?))) {
        Ok((cameras, holds)) => {
            for row in cameras {
                index.put_camera(&row)?;
            }
            for hold in holds {
                index.put_hold(&hold)?;
            }
        }
        Err(e) => eprintln!("tierline: cameras that were added over the API have to be added again: {e:#}"),
    }
    Ok(())
}
