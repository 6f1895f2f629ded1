//! Certificates beside the footage: a file for each hour, to which lines are appended.

use std::collections::HashMap;

use archive::WallTime;
use archive::disk::Disk;
use archive::layout::hour_dir;

use super::{Certificate, text};
use crate::error::IndexError;
use crate::index::Index;

/// Where they lie, in the hot folder and in stores. What begins with a dot is the service's own.
pub const CERTIFICATES_FOLDER: &str = ".certificates";
/// A larger file is none of ours.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 30;

/// The file of the hour in which a certificate was issued.
pub(super) fn file_path(certificate: &Certificate) -> String {
    format!(
        "{CERTIFICATES_FOLDER}/{}.jsonl",
        hour_dir(certificate.archive_time)
    )
}

/// The object in a store that holds certificates `first` to `last`. What has this name never changes.
pub fn store_path(first: u64, last: u64, at: WallTime) -> String {
    format!(
        "{CERTIFICATES_FOLDER}/{}.{first:012}-{last:012}.jsonl",
        hour_dir(at)
    )
}

/// Writes certificates beside the footage, each once.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Up to here they are there; `None` until somebody looked.
    filed: Option<u64>,
}

impl Ledger {
    /// Appends what the index has and the files have not; durable when it returns.
    pub fn append(&mut self, index: &Index, disk: &Disk) -> Result<(), IndexError> {
        let last = index.last_certificate()?;
        let filed = match self.filed {
            Some(filed) => filed,
            None => look(index, disk, last)?,
        };
        self.filed = Some(filed);
        let mut at = filed;
        while at < last {
            let mut lines = String::new();
            let mut file = None;
            // Those of one file at a time.
            while at < last {
                let (line, path) = read(index, at + 1)?;
                if file.as_ref().is_some_and(|file| *file != path) {
                    break;
                }
                file = Some(path);
                lines.push_str(&line);
                lines.push('\n');
                at += 1;
            }
            if let Some(file) = file {
                disk.append_lines(&file, lines.as_bytes())?;
            }
            self.filed = Some(at);
        }
        Ok(())
    }
}

/// A certificate's line, and the file that it belongs into.
fn read(index: &Index, number: u64) -> Result<(String, String), IndexError> {
    let missing = || super::bad(&format!("certificate {number} is missing"));
    let line = index.certificate(number)?.ok_or_else(missing)?;
    let (certificate, _) = text::parse(&line).map_err(|why| super::bad(&why))?;
    Ok((line, file_path(&certificate)))
}

/// Up to which number they are there: a kill leaves out the last ones.
fn look(index: &Index, disk: &Disk, last: u64) -> Result<u64, IndexError> {
    let mut files: HashMap<String, Vec<u8>> = HashMap::new();
    for number in (1..=last).rev() {
        let (line, path) = read(index, number)?;
        let bytes = match files.entry(path) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                let bytes = match disk.read_small(new.key(), FILE_BYTES_MAX) {
                    Err(e) if e.is_not_found() => Vec::new(),
                    read => read?,
                };
                new.insert(bytes)
            }
        };
        // One without a line break at its end was being written.
        let mut there = bytes.split_inclusive(|byte| *byte == b'\n');
        if there.any(|there| there.strip_suffix(b"\n") == Some(line.as_bytes())) {
            return Ok(number);
        }
    }
    Ok(0)
}
