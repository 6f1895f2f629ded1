//! The one place that touches files of the hot tier: aligned appends, syncs, reads.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rustix::fs::{Advice, FallocateFlags, OFlags};

use crate::buffer::{Aligned, ReadBuffer, SlabBuf};
use crate::error::ArchiveError;
use crate::fragment::BLOCK_BYTES;
use crate::seam::{Faults, Seam, Step};

/// `writev` takes this many pieces at once.
const IOV_MAX: usize = 1024;

/// A local file system. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
    /// Whether the file system takes O_DIRECT; learnt from the first file.
    direct: Arc<AtomicBool>,
    /// Taken while a small file is written: what is written aside has one name for all who write the same file.
    pub(crate) putting: Arc<Mutex<()>>,
    pub(crate) seam: Seam,
}

impl Disk {
    /// The file system that holds `root`, which is made when it is missing.
    pub fn open(root: &Path) -> Result<Self, ArchiveError> {
        Self::with_seam(root, Seam::default())
    }

    /// The same with faults between it and the disk.
    pub fn with_faults(root: &Path, faults: Arc<dyn Faults>) -> Result<Self, ArchiveError> {
        Self::with_seam(root, Seam::with(faults))
    }

    fn with_seam(root: &Path, seam: Seam) -> Result<Self, ArchiveError> {
        fs::create_dir_all(root).map_err(ArchiveError::io("create folder", root))?;
        let probe = root.join(".direct-probe");
        let open = || {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .custom_flags(OFlags::DIRECT.bits() as i32)
                .open(&probe)
                .and_then(|f| f.write_all_at(Aligned::zeroed(BLOCK_BYTES).as_ref(), 0))
        };
        let opened = seam.must(Step::ProbeDirect, &probe).and_then(|()| open());
        // A full disk, or one that may only be read, says nothing of O_DIRECT.
        let direct = !matches!(&opened, Err(e) if e.kind() == io::ErrorKind::InvalidInput);
        let _ = fs::remove_file(&probe);
        if !direct {
            tracing::warn!(root = %root.display(), "no O_DIRECT on this file system: writing through the page cache");
        }
        Ok(Self {
            root: root.to_owned(),
            direct: Arc::new(AtomicBool::new(direct)),
            putting: Arc::default(),
            seam,
        })
    }

    /// The folder that all paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether files are written around the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    /// Where `relative` lies.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Makes a new file for appending and reserves `reserve` bytes for it; the folders on the way are
    /// made too, and synced. Fails when the file is there already.
    pub(crate) fn create(&self, relative: &str, reserve: u64) -> Result<AppendFile, ArchiveError> {
        let path = self.path(relative);
        if let Some(dir) = path.parent() {
            self.create_dirs(dir)?;
        }
        let flags = if self.is_direct() {
            OFlags::DIRECT.bits() as i32
        } else {
            0
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).custom_flags(flags);
        let file = self
            .seam
            .must(Step::Create, &path)
            .and_then(|()| options.open(&path));
        let file = file.map_err(ArchiveError::io("create", &path))?;
        let mut file = AppendFile {
            file,
            path,
            len: 0,
            reserved: 0,
            seam: self.seam.clone(),
        };
        let ready = file
            .reserve(reserve)
            .and_then(|()| file.path.parent().map_or(Ok(()), |dir| self.sync_dir(dir)));
        match ready {
            Ok(()) => Ok(file),
            Err(e) => {
                file.discard();
                Err(e)
            }
        }
    }

    /// Makes a file durable that another process left behind, which may stand in the page cache only: its
    /// bytes, and its name.
    pub fn make_durable(&self, relative: &str) -> Result<(), ArchiveError> {
        let path = self.path(relative);
        let file = self.open_file(&path)?;
        let synced = self
            .seam
            .may(Step::SyncFile, &path)
            .and_then(|sync| if sync { file.sync_all() } else { Ok(()) });
        synced.map_err(ArchiveError::io("fsync", &path))?;
        path.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }

    fn open_file(&self, path: &Path) -> Result<File, ArchiveError> {
        self.seam
            .must(Step::Open, path)
            .and_then(|()| File::open(path))
            .map_err(ArchiveError::io("open", path))
    }

    pub(crate) fn sync_dir(&self, dir: &Path) -> Result<(), ArchiveError> {
        let sync = |sync| match sync {
            true => File::open(dir)?.sync_all(),
            false => Ok(()),
        };
        let synced = self.seam.may(Step::SyncDir, dir).and_then(sync);
        synced.map_err(ArchiveError::io("sync folder", dir))
    }

    /// Removes a name; one that is not there is no error.
    fn unlink(&self, path: &Path) -> Result<(), ArchiveError> {
        let remove = |remove| match remove {
            true => fs::remove_file(path),
            false => Ok(()),
        };
        match self.seam.may(Step::Remove, path).and_then(remove) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(ArchiveError::io("remove", path)(e)),
            _ => Ok(()),
        }
    }

    pub(crate) fn create_dirs(&self, dir: &Path) -> Result<(), ArchiveError> {
        if dir.is_dir() || !dir.starts_with(&self.root) {
            return Ok(());
        }
        if let Some(parent) = dir.parent() {
            self.create_dirs(parent)?;
        }
        let made = self
            .seam
            .must(Step::CreateDir, dir)
            .and_then(|()| fs::create_dir(dir));
        match made {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                Err(ArchiveError::io("create folder", dir)(e))
            }
            made => {
                let synced = dir.parent().map_or(Ok(()), |parent| self.sync_dir(parent));
                // Whoever tries again makes it and syncs it again; one that is there is taken for durable.
                if synced.is_err() && made.is_ok() {
                    let _ = fs::remove_dir(dir);
                }
                synced
            }
        }
    }

    /// Opens a file for reading.
    pub(crate) fn open_read(&self, relative: &str) -> Result<ReadFile, ArchiveError> {
        let path = self.path(relative);
        let file = self.open_file(&path)?;
        // Reads are as long as they should be: what the system would read ahead, megabytes on some, is not wanted.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Random);
        Ok(ReadFile {
            file,
            path,
            direct: self.is_direct(),
            seam: self.seam.clone(),
        })
    }

    /// Removes a file and syncs its folder; a file that is not there is no error.
    pub fn remove(&self, relative: &str) -> Result<(), ArchiveError> {
        let path = self.path(relative);
        self.unlink(&path)?;
        match path.parent() {
            Some(dir) if dir.is_dir() => self.sync_dir(dir),
            _ => Ok(()),
        }
    }

    /// Removes files and then syncs each of their folders once; a file that is not there is no error. After
    /// an error any of them may be gone. Who has one open can read it to its end.
    pub fn remove_all(&self, relatives: &[&str]) -> Result<(), ArchiveError> {
        let mut dirs = BTreeSet::new();
        for relative in relatives {
            let path = self.path(relative);
            self.unlink(&path)?;
            dirs.extend(path.parent().map(Path::to_owned));
        }
        dirs.iter()
            .filter(|dir| dir.is_dir())
            .try_for_each(|dir| self.sync_dir(dir))
    }

    /// Removes a folder unless something is in it; true when it is not there any more. Not synced: an empty
    /// folder that a crash brings back does no harm.
    pub fn remove_if_empty(&self, relative: &str) -> Result<bool, ArchiveError> {
        let path = self.path(relative);
        let removed = self
            .seam
            .must(Step::RemoveDir, &path)
            .and_then(|()| fs::remove_dir(&path));
        match removed {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(ArchiveError::io("remove folder", &path)(e)),
            _ => Ok(true),
        }
    }

    /// Moves a file within this file system and syncs both folders.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), ArchiveError> {
        let (from, to) = (self.path(from), self.path(to));
        if let Some(dir) = to.parent() {
            self.create_dirs(dir)?;
        }
        self.seam
            .must(Step::Rename, &from)
            .and_then(|()| fs::rename(&from, &to))
            .map_err(ArchiveError::io("move", &from))?;
        from.parent().map_or(Ok(()), |dir| self.sync_dir(dir))?;
        to.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }

    /// The names in a folder, sorted; none when the folder is not there.
    pub fn list(&self, relative: &str) -> Result<Vec<String>, ArchiveError> {
        let path = self.path(relative);
        let entries = match self
            .seam
            .must(Step::List, &path)
            .and_then(|()| fs::read_dir(&path))
        {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            other => other.map_err(ArchiveError::io("list", &path))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(ArchiveError::io("list", &path))?;
            // A name that is not UTF-8 is none of ours.
            names.extend(entry.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Bytes that may still be written, and bytes in all.
    pub fn space(&self) -> Result<(u64, u64), ArchiveError> {
        let stat = self
            .seam
            .must(Step::Space, &self.root)
            .and_then(|()| Ok(rustix::fs::statvfs(&self.root)?))
            .map_err(ArchiveError::io("ask the space of", &self.root))?;
        Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
    }
}

fn reserve_space(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, from, bytes) {
        // Without fallocate a full disk is met at the write instead.
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        other => other.map_err(io::Error::from),
    }
}

/// A file that grows at its end in whole blocks. After an error it must not be written again.
#[derive(Debug)]
pub(crate) struct AppendFile {
    file: File,
    path: PathBuf,
    len: u64,
    reserved: u64,
    seam: Seam,
}

impl AppendFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Appends buffers whose lengths are multiples of [`BLOCK_BYTES`]. Nothing is durable yet.
    pub(crate) fn append(&mut self, bufs: &[&SlabBuf], reserve_step: u64) -> Result<(), ArchiveError> {
        let total: usize = bufs.iter().map(|b| b.len()).sum();
        let end = self.len + total as u64;
        if end > self.reserved {
            self.reserve(reserve_step.max(end - self.reserved))?;
        }
        let slices: Vec<IoSlice<'_>> = bufs.iter().flat_map(|b| b.slices()).map(IoSlice::new).collect();
        let mut at = self.len;
        for group in slices.chunks(IOV_MAX) {
            let want: usize = group.iter().map(|s| s.len()).sum();
            let done = self
                .write(group, want, at)
                .map_err(ArchiveError::io("write", &self.path))?;
            if done < want {
                self.finish_short_write(group, done, at)?;
            }
            at += want as u64;
        }
        self.len = end;
        Ok(())
    }

    /// One write at `at`; says how many bytes of `want` it took.
    fn write(&self, group: &[IoSlice<'_>], want: usize, at: u64) -> io::Result<usize> {
        match self.seam.write(want, &self.path)? {
            None => Ok(want),
            Some(n) if n < want => self.write_some(group, n - n % BLOCK_BYTES, at),
            Some(_) => Ok(rustix::io::retry_on_intr(|| {
                rustix::io::pwritev(&self.file, group, at)
            })?),
        }
    }

    /// What a disk does that takes only the first `n` bytes.
    fn write_some(&self, group: &[IoSlice<'_>], n: usize, at: u64) -> io::Result<usize> {
        let mut done = 0;
        for slice in group {
            let take = slice.len().min(n - done);
            self.file
                .write_all_at(slice.get(..take).unwrap_or_default(), at + done as u64)?;
            done += take;
        }
        Ok(done)
    }

    /// Sets aside `bytes` more.
    fn reserve(&mut self, bytes: u64) -> Result<(), ArchiveError> {
        let reserve = |reserve| match reserve {
            true => reserve_space(&self.file, self.reserved, bytes),
            false => Ok(()),
        };
        self.seam
            .may(Step::Reserve, &self.path)
            .and_then(reserve)
            .map_err(ArchiveError::io("reserve space for", &self.path))?;
        self.reserved += bytes;
        Ok(())
    }

    /// Writes what a short write left, slice by slice, beginning at the whole block before the cut.
    fn finish_short_write(&self, group: &[IoSlice<'_>], done: usize, at: u64) -> Result<(), ArchiveError> {
        let mut skip = done - done % BLOCK_BYTES;
        let mut at = at + skip as u64;
        for slice in group {
            let from = skip.min(slice.len());
            skip -= from;
            let rest = slice.get(from..).unwrap_or_default();
            self.seam
                .must(Step::Write, &self.path)
                .and_then(|()| self.file.write_all_at(rest, at))
                .map_err(ArchiveError::io("write", &self.path))?;
            at += rest.len() as u64;
        }
        Ok(())
    }

    /// Makes everything appended durable. Never call it again after it failed.
    pub(crate) fn sync_data(&self) -> Result<(), ArchiveError> {
        let sync = |sync| if sync { self.file.sync_data() } else { Ok(()) };
        self.seam
            .may(Step::SyncData, &self.path)
            .and_then(sync)
            .map_err(ArchiveError::io("fdatasync", &self.path))
    }

    /// Removes a file in which nothing was acknowledged, so that what was reserved for it is free again.
    pub(crate) fn discard(self) {
        let removed = self
            .seam
            .must(Step::Remove, &self.path)
            .and_then(|()| fs::remove_file(&self.path));
        if let Err(e) = removed {
            tracing::warn!(path = %self.path.display(), error = %e, "an empty segment could not be removed");
        }
    }

    /// Gives back what was reserved and not used.
    pub(crate) fn trim(&mut self) -> Result<(), ArchiveError> {
        self.reserved = self.len;
        let trim = |trim| match trim {
            true => self.file.set_len(self.len),
            false => Ok(()),
        };
        self.seam
            .may(Step::Trim, &self.path)
            .and_then(trim)
            .map_err(ArchiveError::io("trim", &self.path))
    }

    /// Opens an existing file to append behind its first `len` bytes; what lies behind is cut off.
    pub(crate) fn reopen(disk: &Disk, relative: &str, len: u64) -> Result<Self, ArchiveError> {
        let path = disk.path(relative);
        let flags = if disk.is_direct() {
            OFlags::DIRECT.bits() as i32
        } else {
            0
        };
        let file = disk
            .seam
            .must(Step::Open, &path)
            .and_then(|()| OpenOptions::new().write(true).custom_flags(flags).open(&path));
        let file = file.map_err(ArchiveError::io("open", &path))?;
        let mut file = Self {
            file,
            path,
            len,
            reserved: len,
            seam: disk.seam.clone(),
        };
        file.trim()?;
        Ok(file)
    }
}

/// A file open for reading.
#[derive(Debug)]
pub(crate) struct ReadFile {
    file: File,
    path: PathBuf,
    direct: bool,
    seam: Seam,
}

impl ReadFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> Result<u64, ArchiveError> {
        self.file
            .metadata()
            .map(|m| m.len())
            .map_err(ArchiveError::io("stat", &self.path))
    }

    /// Reads `len` bytes at `offset` through the page cache: for what is small or read again soon.
    pub(crate) fn read_cached(&self, offset: u64, len: usize) -> Result<Bytes, ArchiveError> {
        let mut buf = vec![0; len];
        self.seam
            .must(Step::Read, &self.path)
            .and_then(|()| self.file.read_exact_at(&mut buf, offset))
            .map_err(ArchiveError::io("read", &self.path))?;
        Ok(buf.into())
    }

    /// Switches this open file to reads around the page cache, where the file system has them.
    pub(crate) fn set_direct(&self) -> bool {
        let set = || {
            let flags = rustix::fs::fcntl_getfl(&self.file)?;
            rustix::fs::fcntl_setfl(&self.file, flags | OFlags::DIRECT)
        };
        self.direct && set().is_ok()
    }

    /// Reads from now on see what the disk has, and not what a failed sync may have left in the page cache:
    /// the system calls pages clean that it could not write. What stands there is dropped, and reads go around
    /// it where the file system can. Pages that were never tried to be written stay; syncing the file before
    /// anything is believed writes those, or fails.
    pub(crate) fn distrust_cache(&self) -> Result<(), ArchiveError> {
        rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)
            .map_err(|e| ArchiveError::io("drop the cache of", &self.path)(e.into()))?;
        self.set_direct();
        Ok(())
    }

    /// Reads `len` bytes at `offset` in whole blocks into aligned memory; works with and without
    /// [`set_direct`](Self::set_direct).
    pub(crate) fn read_aligned(&self, offset: u64, len: usize) -> Result<Bytes, ArchiveError> {
        let skip = (offset % BLOCK_BYTES as u64) as usize;
        let mut buf = ReadBuffer::take(skip + len);
        let start = offset - skip as u64;
        let mut done = 0;
        self.seam
            .must(Step::Read, &self.path)
            .map_err(ArchiveError::io("read", &self.path))?;
        while done < skip + len {
            let into = buf.first(skip + len).get_mut(done..).unwrap_or_default();
            match self.file.read_at(into, start + done as u64) {
                Ok(0) => break,
                // A direct read that stopped inside a block has met the end of the file.
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ArchiveError::io("read", &self.path)(e)),
            }
        }
        if done < skip + len {
            let end = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(ArchiveError::io("read", &self.path)(end));
        }
        Ok(buf.into_bytes(skip..skip + len))
    }
}
