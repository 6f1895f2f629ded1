//! `tierline rebuild`: a new index from the footage alone, wherever it lies.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use archive::store::Stores;
use archive::units::format_size;
use archive::{Clock, SystemClock};
use indexer::{ARCHIVE_TIME, CLOCK_DOUBT, Index, IndexOptions};
use tiering::checkpoint;

use crate::cli::ConfigArgs;
use crate::config::Config;
use crate::enrol::enrol;
use crate::identity::{ID_FILE, MARKER, read_id, write_id};
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
    /// Begin with the newest copy of the index in the first store, and read only what it does not know
    #[arg(long)]
    from_checkpoint: bool,
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
    let (stores, _runtime) = stores::open_to_read(&config)?;
    let checkpoint = args
        .from_checkpoint
        .then(|| Fetched::fetch(&stores, &into))
        .transpose()?
        .flatten();
    let known = checkpoint.as_ref().map(|fetched| &fetched.index);
    let live_dir = config.index_dir();
    if live_dir != into {
        carry_over(&live_dir, known, &index)?;
    }
    enrol(&index, &config.cameras, SystemClock::default().wall())?;
    let begun = Instant::now();
    let shown = std::io::stderr().is_terminal();
    let rebuilt = indexer::rebuild_from(known, &disk, &stores, &index, |done| {
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
    carry_id(&config, &stores)?;
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
    if checkpoint.is_some() {
        writeln!(out, "{} of them as the checkpoint knew them", rebuilt.remembered)?;
    }
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

/// A machine that was lost has taken the id of the archive with it: its stores know it, and refuse any other.
fn carry_id(config: &Config, stores: &Stores) -> anyhow::Result<()> {
    let (data, hot) = (config.data_dir.join(ID_FILE), config.hot_dir().join(MARKER));
    if read_id(&data)?.is_some() || read_id(&hot)?.is_some() {
        return Ok(());
    }
    if let Some(id) = stores::archive_of(stores).context("asking a store whose it is")? {
        write_id(&hot, &id).with_context(|| format!("writing {}", hot.display()))?;
        eprintln!(
            "tierline: {} says now that it belongs to the archive {id}",
            config.hot_dir().display()
        );
    }
    Ok(())
}

/// A checkpoint on the local disk; it goes with this.
struct Fetched {
    index: Index,
    folder: PathBuf,
}

impl Fetched {
    /// The newest one that is whole; `None` when there is none.
    fn fetch(stores: &Stores, into: &Path) -> anyhow::Result<Option<Self>> {
        let Some(objects) = stores.warm.as_ref().or(stores.cold.as_ref()) else {
            bail!("there is no store that could hold a checkpoint: configure [tiers.warm] or [tiers.cold]");
        };
        let mut folder = into.as_os_str().to_owned();
        folder.push(".checkpoint");
        let folder = PathBuf::from(folder);
        if !is_free(&folder).with_context(|| format!("looking into {}", folder.display()))? {
            bail!("{} is in the way: move it away", folder.display());
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let fetched = checkpoint::fetch(objects, &folder).context("fetching a checkpoint")?;
        let opened = fetched.map(|name| (Index::open_read_only(&folder), name));
        match opened {
            Some((Ok(index), name)) => {
                eprintln!("tierline: beginning with {name}");
                Ok(Some(Self { index, folder }))
            }
            other => {
                let _ = std::fs::remove_dir_all(&folder);
                let why = match other {
                    Some((Err(e), name)) => format!("{name} cannot be opened ({e})"),
                    _ => format!("there is no whole checkpoint in {}", objects.store.url()),
                };
                eprintln!("tierline: {why}: everything is read");
                Ok(None)
            }
        }
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Footage does not tell the setup of cameras: the index in use does, if it can be read, or else a checkpoint, without
/// passwords. Nor are holds beside the footage yet that could not be written there, and what time it is tells neither.
fn carry_over(live_dir: &Path, checkpoint: Option<&Index>, index: &Index) -> anyhow::Result<()> {
    let told = |index: &Index| {
        // Without them the new index would believe whatever the clock says.
        let marks = [ARCHIVE_TIME, CLOCK_DOUBT].map(|key| index.mark(key).map(|at| at.map(|at| (key, at))));
        let [time, doubt] = marks;
        let marks: Vec<_> = [time?, doubt?].into_iter().flatten().collect();
        Ok((index.cameras()?, index.holds()?, marks))
    };
    let live = view_index(live_dir).and_then(|live| told(&live));
    let is_live = live.is_ok();
    let told = match (live, checkpoint) {
        (Err(_), Some(checkpoint)) => {
            eprintln!(
                "tierline: cameras that were added over the API are those of the checkpoint, which has no passwords: \
                 set their URLs again"
            );
            told(checkpoint)
        }
        (live, _) => live,
    };
    match told {
        Ok((cameras, holds, marks)) => {
            // Of a checkpoint the doubt counts; the time has gone on since, as the footage tells.
            let marks = marks
                .into_iter()
                .filter(|(key, _)| is_live || *key == CLOCK_DOUBT);
            index.set_marks(marks)?;
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

#[cfg(test)]
mod tests {
    use archive::WallTime;

    use super::*;

    fn index(folder: &Path) -> Index {
        Index::open(folder, &IndexOptions::default()).expect("index")
    }

    #[test]
    fn a_clock_that_is_doubted_is_doubted_by_the_new_index_too() {
        let dir = tempfile::tempdir().expect("folder");
        let (live, at) = (
            dir.path().join("live"),
            WallTime::from_micros(1_800_000_000_000_000),
        );
        index(&live)
            .set_marks([(ARCHIVE_TIME, at), (CLOCK_DOUBT, WallTime::MAX)])
            .expect("marks");
        let anew = index(&dir.path().join("anew"));
        carry_over(&live, None, &anew).expect("carried");
        assert_eq!(anew.mark(ARCHIVE_TIME).expect("mark"), Some(at));
        assert_eq!(anew.mark(CLOCK_DOUBT).expect("mark"), Some(WallTime::MAX));

        // Of a checkpoint the doubt, and not the time.
        let later = index(&dir.path().join("later"));
        carry_over(&dir.path().join("nowhere"), Some(&index(&live)), &later).expect("carried");
        assert_eq!(later.mark(ARCHIVE_TIME).expect("mark"), None);
        assert_eq!(later.mark(CLOCK_DOUBT).expect("mark"), Some(WallTime::MAX));
    }
}
