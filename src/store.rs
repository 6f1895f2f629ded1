//! Opens an archive as a configuration names it: its index and its local disk.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use archive::disk::Disk;
use archive::store::Stores;
use indexer::{Index, IndexError, IndexOptions, with_tables};
use rustix::process::{Flock, FlockType, fcntl_getlk};
use tokio::runtime::Runtime;

use crate::config::Config;
use crate::identity::{Found, ID_FILE, IndexFound, MARKER, judge, new_id, read_id, write_id};
use crate::stores;

/// An archive open for writing; no other process has it.
pub(crate) struct Store {
    /// The index.
    pub(crate) index: Arc<Index>,
    /// Where footage is written.
    pub(crate) disk: Disk,
    /// The id of the archive.
    pub(crate) id: String,
}

/// An archive as it is now, which a service may be writing to.
pub(crate) struct View {
    /// The index as it was when it was opened.
    pub(crate) index: Index,
    /// Where footage lies.
    pub(crate) disk: Disk,
    /// Where footage lies that has left the disk.
    pub(crate) stores: Stores,
    /// What waits for them; it ends with this.
    _runtime: Option<Runtime>,
    /// Whether another process is writing.
    pub(crate) running: bool,
}

impl View {
    /// What `read` gives of the index, when it has all tables at hand that it needs.
    pub(crate) fn read<T>(
        &self,
        mut read: impl FnMut(&Index) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        with_tables(&self.index, &self.disk, &self.stores, || read(&self.index))
    }
}

/// Opens an archive for writing and makes it where there is none.
pub(crate) fn open(config: &Config) -> anyhow::Result<Store> {
    let (data, hot) = (&config.data_dir, config.hot_dir());
    make_folder(data, "data_dir")?;
    make_folder(&hot, "tiers.hot.url")?;
    let index_dir = config.index_dir();
    let there = has_index(&index_dir);
    // The index is the lock: opened before anything is written, and never made where one should have been.
    let opened = if there {
        Some(open_index(&index_dir)?)
    } else {
        None
    };
    let found = Found {
        index: match &opened {
            None => IndexFound::Missing,
            Some(index) if knows_footage(index)? => IndexFound::WithFootage,
            Some(_) => IndexFound::Empty,
        },
        data_id: read_id(&data.join(ID_FILE))
            .with_context(|| format!("reading {ID_FILE} in {}", data.display()))?,
        hot_id: read_id(&hot.join(MARKER))
            .with_context(|| format!("reading {MARKER} in {}", hot.display()))?,
        hot_has_footage: has_footage(&hot).with_context(|| format!("listing {}", hot.display()))?,
    };
    let fresh = new_id().context("asking the system for a random number")?;
    let id = match judge(&found, || fresh) {
        Ok(id) => id,
        Err(refusal) => bail!(refusal.explain(data, &hot)),
    };
    let disk = Disk::open(&hot).context("opening the hot tier")?;
    if found.hot_id.is_none() {
        write_id(&hot.join(MARKER), &id).with_context(|| format!("writing {MARKER} in {}", hot.display()))?;
    }
    let index = match opened {
        Some(index) => index,
        None => open_index(&index_dir)?,
    };
    if found.data_id.is_none() {
        write_id(&data.join(ID_FILE), &id)
            .with_context(|| format!("writing {ID_FILE} in {}", data.display()))?;
        tracing::info!(archive = id, data_dir = %data.display(), hot = %hot.display(), "a new archive begins");
    }
    Ok(Store {
        index: Arc::new(index),
        disk,
        id,
    })
}

/// Opens an archive for reading, beside a service that may run.
pub(crate) fn view(config: &Config) -> anyhow::Result<View> {
    let index_dir = config.index_dir();
    let running = lock_holder(&index_dir).is_some();
    let index = view_index(&index_dir)?;
    let (stores, _runtime) = stores::open_to_read(config)?;
    Ok(View {
        index,
        disk: footage(config)?,
        stores,
        _runtime,
        running,
    })
}

/// The hot tier of an archive that exists.
pub(crate) fn footage(config: &Config) -> anyhow::Result<Disk> {
    let hot = config.hot_dir();
    if !hot.is_dir() {
        bail!(
            "{} is not a folder: is the disk mounted, and is tiers.hot.url right?",
            hot.display()
        );
    }
    Disk::open(&hot).context("opening the hot tier")
}

/// Opens an index for reading.
pub(crate) fn view_index(dir: &Path) -> anyhow::Result<Index> {
    if !has_index(dir) {
        bail!(
            "there is no index in {}: is data_dir right, and was the service ever started?",
            dir.display()
        );
    }
    Index::open_read_only(dir).with_context(|| format!("opening the index in {}", dir.display()))
}

/// The process that has an index open for writing.
pub(crate) fn lock_holder(index_dir: &Path) -> Option<i32> {
    let file = fs::File::open(index_dir.join("LOCK")).ok()?;
    let lock = fcntl_getlk(file, &Flock::from(FlockType::WriteLock)).ok()??;
    lock.pid.map(|pid| pid.as_raw_nonzero().get())
}

fn open_index(dir: &Path) -> anyhow::Result<Index> {
    match Index::open(dir, &IndexOptions::default()) {
        Err(e) if e.is_locked() => {
            let by = lock_holder(dir).map_or_else(String::new, |pid| format!(" (process {pid})"));
            bail!(
                "the archive in {} is in use{by}: only one tierline can write to it; stop the other one first",
                dir.parent().unwrap_or(dir).display()
            )
        }
        other => other.with_context(|| format!("opening the index in {}", dir.display())),
    }
}

fn has_index(dir: &Path) -> bool {
    dir.join("CURRENT").exists()
}

fn knows_footage(index: &Index) -> Result<bool, IndexError> {
    for (no, _) in index.streams() {
        if index.span(no)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether anything stands in a folder but what begins with a dot, or what a new file system brings.
fn has_footage(hot: &Path) -> std::io::Result<bool> {
    for entry in fs::read_dir(hot)? {
        let name = entry?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") && name != "lost+found" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes a folder, but not the folders above it: those are missing when a disk is not mounted.
fn make_folder(folder: &Path, key: &str) -> anyhow::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(folder);
    if !above.is_dir() {
        bail!(
            "{key}: {} is not there: mount its disk, or make the folder, or correct {key}",
            above.display()
        );
    }
    fs::create_dir(folder).with_context(|| format!("{key}: making {}", folder.display()))
}
