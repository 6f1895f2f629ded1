//! Small files of the service's own beside the footage: written whole or not at all, and durable when a call returns.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::PoisonError;

use crate::disk::Disk;
use crate::error::ArchiveError;
use crate::seam::Step;

/// Bytes that are looked through at a time for the end of a line.
const WINDOW_BYTES: usize = 64 << 10;
/// What a file is called while it is being written.
const ASIDE: &str = ".new";

impl Disk {
    /// Writes a file whole or not at all, over one that is there; its folders are made too. Durable when this returns.
    pub fn put_small(&self, relative: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        let (path, aside) = (self.path(relative), self.path(&format!("{relative}{ASIDE}")));
        let _putting = self.putting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = path.parent() {
            self.create_dirs(dir)?;
        }
        let written = self
            .seam
            .must(Step::Create, &aside)
            .and_then(|()| File::create(&aside))
            .and_then(|mut file| {
                self.seam.must(Step::Write, &aside)?;
                file.write_all(bytes)?;
                match self.seam.may(Step::SyncFile, &aside)? {
                    true => file.sync_all(),
                    false => Ok(()),
                }
            });
        written.map_err(ArchiveError::io("write", &aside))?;
        self.seam
            .must(Step::Rename, &aside)
            .and_then(|()| fs::rename(&aside, &path))
            .map_err(ArchiveError::io("move", &aside))?;
        path.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }

    /// Appends whole lines to a file, which is made where it is missing; its folders are made too. What stands behind the
    /// last line break was being written when the power failed, and is cut off. Durable when this returns.
    pub fn append_lines(&self, relative: &str, lines: &[u8]) -> Result<(), ArchiveError> {
        let path = self.path(relative);
        let dir = path.parent().unwrap_or(self.root());
        self.create_dirs(dir)?;
        let is_new = !path.exists();
        let append = || {
            self.seam.must(Step::Open, &path)?;
            let mut options = OpenOptions::new();
            let file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            let end = end_of_lines(&file)?;
            if self.seam.may(Step::Trim, &path)? {
                file.set_len(end)?;
            }
            self.seam.must(Step::Write, &path)?;
            file.write_all_at(lines, end)?;
            match self.seam.may(Step::SyncData, &path)? {
                true => file.sync_data(),
                false => Ok(()),
            }
        };
        append().map_err(ArchiveError::io("append to", &path))?;
        if is_new { self.sync_dir(dir) } else { Ok(()) }
    }

    /// Reads a file of at most `bytes_max`; a larger one is an error.
    pub fn read_small(&self, relative: &str, bytes_max: u64) -> Result<Vec<u8>, ArchiveError> {
        let path = self.path(relative);
        let read = || {
            self.seam.must(Step::Open, &path)?;
            let mut bytes = Vec::new();
            let file = File::open(&path)?;
            self.seam.must(Step::Read, &path)?;
            file.take(bytes_max + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > bytes_max {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large"));
            }
            Ok(bytes)
        };
        read().map_err(ArchiveError::io("read", &path))
    }
}

/// Where the last whole line of a file ends.
fn end_of_lines(file: &File) -> io::Result<u64> {
    let mut window = vec![0; WINDOW_BYTES];
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(WINDOW_BYTES as u64);
        let bytes = window.get_mut(..(end - start) as usize).unwrap_or_default();
        file.read_exact_at(bytes, start)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_whole_and_read_back_and_a_larger_one_is_not_read() {
        let folder = tempfile::tempdir().expect("folder");
        let disk = Disk::open(folder.path()).expect("disk");
        disk.put_small(".holds/a.1.json", b"first").expect("write");
        disk.put_small(".holds/a.1.json", b"second").expect("write");
        assert_eq!(disk.list(".holds").expect("list"), ["a.1.json"]);
        assert_eq!(disk.read_small(".holds/a.1.json", 6).expect("read"), b"second");
        assert!(disk.read_small(".holds/a.1.json", 5).is_err());
        let missing = disk.read_small(".holds/b.1.json", 5).expect_err("missing");
        assert!(missing.is_not_found());
    }

    #[test]
    fn those_who_write_the_same_file_at_once_all_succeed() {
        let folder = tempfile::tempdir().expect("folder");
        let disk = Disk::open(folder.path()).expect("disk");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let put = || disk.put_small(".holds/a.1.json", b"the same").expect("write");
                scope.spawn(move || (0..50).for_each(|_| put()));
            }
        });
        assert_eq!(disk.list(".holds").expect("list"), ["a.1.json"]);
        assert_eq!(disk.read_small(".holds/a.1.json", 8).expect("read"), b"the same");
    }

    #[test]
    fn lines_are_appended_behind_the_last_whole_one() {
        let folder = tempfile::tempdir().expect("folder");
        let disk = Disk::open(folder.path()).expect("disk");
        let file = "a/b.jsonl";
        let read = || String::from_utf8(disk.read_small(file, 1 << 20).expect("read")).expect("text");
        disk.append_lines(file, b"one\n").expect("append");
        disk.append_lines(file, b"two\nthree\n").expect("append");
        assert_eq!(read(), "one\ntwo\nthree\n");
        let torn = "four".repeat(WINDOW_BYTES);
        fs::write(disk.path(file), format!("one\n{torn}")).expect("write");
        disk.append_lines(file, b"two\n").expect("append");
        assert_eq!(read(), "one\ntwo\n");
        fs::write(disk.path(file), "torn").expect("write");
        disk.append_lines(file, b"one\n").expect("append");
        assert_eq!(read(), "one\n");
    }
}
