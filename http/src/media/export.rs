//! The reads behind an exported file.

use std::collections::HashMap;
use std::iter::Peekable;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use archive::export::{Piece, Pieces};
use archive::{ArchiveError, Tier};
use bytes::Bytes;
use indexer::SegmentRow;

use super::Job;
use super::crowd::piece_bytes;
use crate::auth::{FootageFile, StreamHandle};

/// Turns the pieces of an assembled file into reads: pieces that lie close together are one read.
pub(crate) struct ExportReads {
    pieces: Peekable<Pieces>,
    /// The rest of a piece that was too long for one read.
    rest: Option<(u64, Range<u64>)>,
    files: Arc<Files>,
}

/// The segments of an export, opened one after another.
struct Files {
    stream: StreamHandle,
    rows: HashMap<u64, SegmentRow>,
    /// The last segment, and where what is wanted of it ends.
    last: Option<(u64, u64)>,
    open: Mutex<Option<(u64, FootageFile)>>,
}

impl ExportReads {
    /// The reads for `pieces` out of the segments `rows` of `stream`.
    pub(crate) fn new(stream: StreamHandle, rows: HashMap<u64, SegmentRow>, pieces: Pieces) -> Self {
        let files = Arc::new(Files {
            stream,
            rows,
            last: pieces.last_of_file().map(|(segment, end)| (segment.seq, end)),
            open: Mutex::new(None),
        });
        Self {
            pieces: pieces.peekable(),
            rest: None,
            files,
        }
    }

    /// The next stretch of a file to read, if the next piece is one.
    fn next_stretch(&mut self) -> Option<(u64, Range<u64>)> {
        if let Some(rest) = self.rest.take() {
            return Some(rest);
        }
        match self.pieces.next_if(|piece| matches!(piece, Piece::File { .. }))? {
            Piece::File { segment, range } => Some((segment.seq, range)),
            Piece::Memory(_) => None,
        }
    }

    /// Stretches of one file that fit into one read.
    fn group(&mut self) -> Option<(u64, Vec<Range<u64>>)> {
        let (seq, first) = self.next_stretch()?;
        let (start, span) = (first.start, piece_bytes());
        let mut group = Vec::new();
        let mut next = Some((seq, first));
        while let Some((of, range)) = next {
            let room = start + span;
            if of != seq || range.start < start || range.start >= room {
                self.rest = Some((of, range));
                break;
            }
            let end = range.end.min(room);
            if end < range.end {
                self.rest = Some((of, end..range.end));
            }
            group.push(range.start..end);
            next = if self.rest.is_none() {
                self.next_stretch()
            } else {
                None
            };
        }
        Some((seq, group))
    }
}

impl Iterator for ExportReads {
    type Item = Job;

    fn next(&mut self) -> Option<Job> {
        if self.rest.is_none() {
            let memory = self.pieces.next_if(|piece| matches!(piece, Piece::Memory(_)));
            if let Some(Piece::Memory(bytes)) = memory {
                return Some(Job::Ready(bytes));
            }
        }
        let (seq, group) = self.group()?;
        let files = Arc::clone(&self.files);
        let tier = files.rows.get(&seq).map_or(Tier::Hot, |row| row.tier);
        Some(Job::on(tier, move || files.read(seq, &group)))
    }
}

impl Files {
    /// The bytes of `group`, which lies close together in the segment `seq`. Blocks.
    fn read(&self, seq: u64, group: &[Range<u64>]) -> Result<Vec<Bytes>, ArchiveError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_none_or(|(of, _)| *of != seq) {
            *open = Some((seq, self.open(seq)?));
        }
        let Some((_, file)) = open.as_mut() else {
            return Ok(Vec::new());
        };
        file.read_all(group)
    }

    fn open(&self, seq: u64) -> Result<FootageFile, ArchiveError> {
        let gone = || ArchiveError::Io {
            op: "find",
            path: format!("segment {seq}").into(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let mut file = self.stream.open(self.rows.get(&seq).ok_or_else(gone)?)?;
        // An export is read once, from end to end: the page cache is for others.
        file.set_direct();
        if let Some((_, end)) = self.last.filter(|(last, _)| *last == seq) {
            file.expect(end);
        }
        Ok(file)
    }
}
