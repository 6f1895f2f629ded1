//! Small files of the service's own beside the footage: written whole or not at all, and durable when a call returns.

use std::fs::{self, File};
use std::io::{self, Read, Write};

use crate::disk::Disk;
use crate::error::ArchiveError;
use crate::seam::Step;

/// What a file is called while it is being written.
const ASIDE: &str = ".new";

impl Disk {
    /// Writes a file whole or not at all, over one that is there; its folders are made too. Durable when this returns.
    pub fn put_small(&self, relative: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        let (path, aside) = (self.path(relative), self.path(&format!("{relative}{ASIDE}")));
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
}
