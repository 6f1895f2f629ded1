//! A folder as a store: another disk, or a share that is mounted.
//!
//! Files appear under their names whole and synced, or not at all: they are written below [`UNFINISHED`] and then
//! moved. Nobody but one process writes to a folder.
//!
//! Invariant: the folder itself is made by [`Folder::open`] alone. Where its disk is not mounted any more, another folder
//! stands under its name, or none, and nothing is believed or written there: see [`Folder::at_home`].

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, PutPayload};

use super::error::StoreError;
use super::upload::Content;
use crate::seam::{Seam, Step};

/// Where files are written before they have their names. No object lies there.
const UNFINISHED: &str = ".unfinished";
/// A folder that another object leaves may be removed while one is put into it: it is made again, so often.
const TRIES: usize = 8;

/// A folder. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Folder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Which folder that was when it was opened, or when it was last seen to be the archive's own.
    home: Mutex<Home>,
    objects: Arc<LocalFileSystem>,
    /// Of the next file that is begun.
    number: AtomicU64,
}

/// A folder, whatever it is called: its disk, and its number there.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Home(u64, u64);

impl Home {
    fn of(root: &FilePath) -> io::Result<Self> {
        let found = fs::metadata(root)?;
        Ok(Self(found.dev(), found.ino()))
    }

    /// Fails unless `root` is this folder.
    fn is(self, root: &FilePath) -> io::Result<()> {
        match Self::of(root) {
            Ok(found) if found == self => Ok(()),
            Ok(_) => Err(io::Error::other(
                "another folder stands there than before: is its disk mounted?",
            )),
            Err(e) => Err(io::Error::new(
                e.kind(),
                format!("the folder is not there any more: is its disk mounted? ({e})"),
            )),
        }
    }
}

impl Folder {
    pub(super) fn open(root: &FilePath) -> Result<Self, StoreError> {
        let refused = |why: String| StoreError::Refused {
            what: format!("open the folder {}", root.display()),
            why,
        };
        // The folders above it are missing when its disk is not mounted.
        match fs::create_dir(root) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(refused(
                    "the folder above it is not there: mount its disk, or make it".to_owned(),
                ));
            }
            made => made.map_err(|e| refused(e.to_string()))?,
        }
        let objects = LocalFileSystem::new_with_prefix(root).map_err(|e| refused(e.to_string()))?;
        let home = Home::of(root).map_err(|e| refused(e.to_string()))?;
        Ok(Self(Arc::new(Inner {
            root: root.to_owned(),
            home: Mutex::new(home),
            objects: Arc::new(objects),
            number: AtomicU64::new(0),
        })))
    }

    fn home(&self) -> Home {
        *self.0.home.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails unless the folder is the one that it was. What comes back can pass: a disk is mounted again.
    pub(super) async fn at_home(&self) -> Result<(), StoreError> {
        let (home, root) = (self.home(), self.0.root.clone());
        let seen = blocking(move || home.is(&root)).await;
        seen.map_err(|e| self.away(&e))
    }

    /// Whatever stands under its name now, to be looked at.
    pub(super) async fn as_it_is(&self) -> Result<Self, StoreError> {
        let root = self.0.root.clone();
        let home = blocking(move || Home::of(&root)).await;
        Ok(Self(Arc::new(Inner {
            root: self.0.root.clone(),
            home: Mutex::new(home.map_err(|e| self.away(&e))?),
            objects: self.0.objects.clone(),
            number: AtomicU64::new(0),
        })))
    }

    /// From now on it is the folder that was looked at.
    pub(super) fn settle(&self, seen: &Self) {
        *self.0.home.lock().unwrap_or_else(PoisonError::into_inner) = seen.home();
    }

    fn away(&self, e: &io::Error) -> StoreError {
        StoreError::Away {
            what: format!("use the folder {}", self.0.root.display()),
            why: e.to_string(),
        }
    }

    /// For reading.
    pub(super) fn objects(&self) -> &dyn ObjectStore {
        &self.0.objects
    }

    fn file(&self, path: &Path) -> PathBuf {
        self.0.root.join(path.as_ref())
    }

    fn unfinished(&self) -> PathBuf {
        self.0.root.join(UNFINISHED)
    }

    /// Only one process writes to a folder, so that looking first is enough.
    pub(super) async fn put(
        &self,
        path: &Path,
        content: &mut impl Content,
        seam: &Seam,
    ) -> Result<bool, StoreError> {
        let failed = |e: io::Error| StoreError::of("write", path.as_ref(), generic(e));
        let to = self.file(path);
        let number = self.0.number.fetch_add(1, Ordering::Relaxed);
        let (folder, begun) = (self.unfinished(), self.unfinished().join(number.to_string()));
        let (at, there) = (begun.clone(), to.clone());
        let (home, root) = (self.home(), self.0.root.clone());
        let begin = blocking(move || {
            home.is(&root)?;
            if there.try_exists()? {
                return Ok(None);
            }
            match fs::create_dir(&folder) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&at)?;
            Ok(Some(Arc::new(file)))
        });
        let Some(file) = begin.await.map_err(failed)? else {
            return Ok(false);
        };
        let written = async {
            while let Some(part) = content.next().await? {
                let file = file.clone();
                blocking(move || write(&file, &part)).await.map_err(failed)?;
            }
            let (from, root) = (begun.clone(), self.0.root.clone());
            let finish = move || {
                home.is(&root)?;
                let new = finish(&file, &from, &to, &root)?;
                // What lies under the name counts only if it lies there.
                home.is(&root)?;
                Ok(new)
            };
            blocking(finish).await.map_err(failed)
        };
        let written = written.await;
        if !matches!(written, Ok(true)) && seam.must(Step::PutAbort, &begun).is_ok() {
            let _ = blocking(move || fs::remove_file(&begun)).await;
        }
        written
    }

    /// Removes what was begun by a process that is no more.
    pub(super) async fn clear_unfinished(&self) -> Result<(), StoreError> {
        let folder = self.unfinished();
        let cleared = blocking(move || {
            let entries = match fs::read_dir(&folder) {
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
                entries => entries?,
            };
            for entry in entries {
                let path = entry?.path();
                tracing::info!(path = %path.display(), "what an upload left that was not ended is removed");
                fs::remove_file(path)?;
            }
            Ok(())
        });
        let failed = |e| StoreError::of("clear", UNFINISHED, generic(e));
        cleared.await.map_err(failed)
    }

    /// Removes a file, durably, and the folders that are empty without it.
    pub(super) async fn delete(&self, path: &Path) -> object_store::Result<()> {
        let (file, root) = (self.file(path), self.0.root.clone());
        let name = path.to_string();
        let removed = blocking(move || {
            fs::remove_file(&file)?;
            let mut folder = file.parent();
            // A name that a crash brings back would be an object that nobody knows of.
            folder.map_or(Ok(()), sync_folder)?;
            while let Some(empty) = folder.filter(|folder| *folder != root) {
                if fs::remove_dir(empty).is_err() {
                    break;
                }
                folder = empty.parent();
            }
            Ok(())
        });
        removed.await.map_err(|e| match e.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => object_store::Error::NotFound {
                path: name,
                source: e.into(),
            },
            _ => generic(e),
        })
    }

    /// The first `count` files below `folder` that come after `after`, in the order of their names.
    pub(super) async fn list(
        &self,
        folder: &Path,
        after: Option<&Path>,
        count: usize,
    ) -> object_store::Result<Vec<(Path, u64)>> {
        let mut page = Page {
            after: after.map(ToString::to_string),
            count,
            found: Vec::new(),
        };
        let (at, prefix) = (self.file(folder), folder.to_string());
        let listed = blocking(move || {
            page.walk(&at, &prefix)?;
            Ok(page.found)
        });
        let path = |(name, len): (String, u64)| Some((Path::parse(name).ok()?, len));
        let found = listed.await.map_err(generic)?;
        Ok(found.into_iter().filter_map(path).collect())
    }
}

/// Part of a list, which looks into no folder that has nothing for it.
struct Page {
    after: Option<String>,
    count: usize,
    found: Vec<(String, u64)>,
}

impl Page {
    /// Takes in what lies in `folder`, whose files are called `prefix` and what they are called there.
    fn walk(&mut self, folder: &FilePath, prefix: &str) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            // Removed since it was seen.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            let Ok(name) = OsString::into_string(entry.file_name()) else {
                continue;
            };
            if prefix.is_empty() && name == UNFINISHED {
                continue;
            }
            let path = entry.path();
            let kind = match fs::metadata(&path) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                kind => kind?,
            };
            let slash = if prefix.is_empty() { "" } else { "/" };
            // A folder stands where its files would stand, behind a name that is a part of its own.
            let end = if kind.is_dir() { "/" } else { "" };
            names.push((format!("{prefix}{slash}{name}{end}"), path, kind.len()));
        }
        names.sort_unstable();
        for (name, path, len) in names {
            if self.found.len() >= self.count {
                return Ok(());
            }
            let comes_after = |name: &str| self.after.as_deref().is_none_or(|after| name > after);
            match name.strip_suffix('/') {
                Some(prefix) => {
                    let holds_it = self.after.as_ref().is_some_and(|after| after.starts_with(&name));
                    if holds_it || comes_after(&name) {
                        self.walk(&path, prefix)?;
                    }
                }
                None if comes_after(&name) => self.found.push((name, len)),
                None => {}
            }
        }
        Ok(())
    }
}

fn write(mut file: &File, part: &PutPayload) -> io::Result<()> {
    part.iter().try_for_each(|piece| file.write_all(piece))
}

/// Gives a file that is written its name, unless there is one of that name.
fn finish(file: &File, from: &FilePath, to: &FilePath, root: &FilePath) -> io::Result<bool> {
    file.sync_all()?;
    let folder = to.parent().unwrap_or(root);
    for attempt in 1.. {
        make_folders(folder, root)?;
        match rustix::fs::renameat_with(
            rustix::fs::CWD,
            from,
            rustix::fs::CWD,
            to,
            rustix::fs::RenameFlags::NOREPLACE,
        ) {
            Ok(()) => break,
            Err(rustix::io::Errno::EXIST) => return Ok(false),
            Err(rustix::io::Errno::NOENT) if attempt < TRIES => {}
            // Some file systems of networks cannot: looking first is enough.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                if to.try_exists()? {
                    return Ok(false);
                }
                fs::rename(from, to)?;
                break;
            }
            Err(e) => return Err(e.into()),
        }
    }
    sync_folder(folder)?;
    Ok(true)
}

/// Makes a folder and those above it, each durable before there is something in it. The root is never made.
fn make_folders(folder: &FilePath, root: &FilePath) -> io::Result<()> {
    if folder == root || !folder.starts_with(root) || folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(root);
    make_folders(above, root)?;
    match fs::create_dir(folder) {
        // Removed again, because it was empty: whoever needs it tries again.
        Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => Ok(()),
        made => made.and_then(|()| sync_folder(above)),
    }
}

fn sync_folder(folder: &FilePath) -> io::Result<()> {
    match File::open(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        folder => folder?.sync_all(),
    }
}

/// Runs what waits for a disk where nobody else waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

fn generic(e: io::Error) -> object_store::Error {
    object_store::Error::Generic {
        store: "folder",
        source: e.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(root: &FilePath, folder: &str, after: Option<&str>, count: usize) -> Vec<String> {
        let mut page = Page {
            after: after.map(str::to_owned),
            count,
            found: Vec::new(),
        };
        page.walk(&root.join(folder), folder).expect("walk");
        page.found.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn pages_of_any_length_are_the_whole_list_in_the_order_of_names() {
        let folder = tempfile::tempdir().expect("folder");
        let mut names = Vec::new();
        for name in [
            "a", "a-b", "a.b", "a/b", "a/b.c", "a/b/0", "a/b-/1", "a0", "b/c/d/e", "b/c/d.e", "c",
        ] {
            let file = folder.path().join(format!("{name}.mp4"));
            fs::create_dir_all(file.parent().expect("above")).expect("folder");
            fs::write(file, name).expect("file");
            names.push(format!("{name}.mp4"));
        }
        fs::create_dir_all(folder.path().join(UNFINISHED)).expect("folder");
        fs::write(folder.path().join(UNFINISHED).join("7"), "half").expect("file");
        names.sort_unstable();
        assert_eq!(page(folder.path(), "", None, 100), names);
        for count in 1..=names.len() {
            let (mut all, mut after) = (Vec::new(), None);
            loop {
                let found = page(folder.path(), "", after.as_deref(), count);
                after = found.last().cloned();
                all.extend(found);
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(all, names, "pages of {count}");
        }
        assert_eq!(page(folder.path(), "a/b", None, 9), ["a/b/0.mp4"]);
        assert_eq!(page(folder.path(), "nowhere", None, 9), Vec::<String>::new());
    }

    #[test]
    fn a_page_looks_into_no_folder_that_has_nothing_for_it() {
        let folder = tempfile::tempdir().expect("folder");
        for hour in 10..20 {
            let at = folder.path().join(hour.to_string());
            fs::create_dir(&at).expect("folder");
            fs::write(at.join("a.mp4"), "").expect("file");
        }
        // Whoever looked into these would find no end.
        for hour in [10, 15, 19] {
            let at = folder.path().join(hour.to_string());
            fs::remove_dir_all(&at).expect("removed");
            std::os::unix::fs::symlink(".", &at).expect("link");
        }
        let found = page(folder.path(), "", Some("11/z"), 3);
        assert_eq!(found, ["12/a.mp4", "13/a.mp4", "14/a.mp4"]);
    }
}
