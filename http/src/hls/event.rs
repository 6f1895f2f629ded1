//! The playlist that begins at a fixed time and grows into live.
//!
//! A day of it is megabytes and players ask for it every few seconds, so its lines are written once: the old
//! ones stand in shared pieces that are sent without a copy, and only new fragments add lines.

use std::collections::HashSet;

use archive::WallTime;
use bytes::Bytes;
use indexer::SegmentFragments;

use super::Codecs;
use super::media::{Lines, header};

/// Stands before the lines of a fragment that cannot be fetched.
const GAP: &str = "#EXT-X-GAP\n";
/// Lines are frozen into shared pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;

/// A growing playlist.
#[derive(Debug)]
pub(crate) struct EventList {
    start_us: i64,
    lines: Lines,
    frozen: Vec<Bytes>,
    frozen_bytes: usize,
    tail: String,
    /// The segment and offset of the last fragment written.
    last: Option<(u64, u64)>,
    /// The wall time after it.
    end: WallTime,
    /// The segments and offsets of the fragments that are known to be damaged.
    damaged: HashSet<(u64, u64)>,
    /// Up to when segments of the stream had been thinned when it was last extended.
    pub(crate) replaced: Option<WallTime>,
}

impl EventList {
    /// An empty playlist for footage from `from` on.
    pub(crate) fn new(from: WallTime) -> Self {
        Self {
            start_us: 0,
            lines: Lines::new(),
            frozen: Vec::new(),
            frozen_bytes: 0,
            tail: String::new(),
            last: None,
            end: from,
            damaged: HashSet::new(),
            replaced: None,
        }
    }

    /// Marks all fragments of the segment `seq` from `offset` on, of which nothing can be read, as [`mark`](Self::mark)
    /// marks one.
    pub(crate) fn mark_rest(&mut self, seq: u64, offset: u64) {
        if !self.damaged.insert((seq, offset)) {
            return;
        }
        all_with_gap(&mut self.tail, seq, offset);
        for piece in &mut self.frozen {
            let mut text = String::from_utf8_lossy(piece).into_owned();
            if all_with_gap(&mut text, seq, offset) {
                self.frozen_bytes += text.len() - piece.len();
                *piece = Bytes::from(text);
            }
        }
    }

    /// Marks the fragment at `offset` of the segment `seq`, which was found to be damaged. If it has a line, that
    /// stays, since players count lines, and says that there is nothing to fetch.
    pub(crate) fn mark(&mut self, seq: u64, offset: u64) {
        if !self.damaged.insert((seq, offset)) || self.last.is_none_or(|last| last < (seq, offset)) {
            return;
        }
        let line = format!("@{offset}\nseg/{seq}.");
        if with_gap(&mut self.tail, &line) {
            return;
        }
        for piece in self.frozen.iter_mut().rev() {
            let mut text = String::from_utf8_lossy(piece).into_owned();
            if with_gap(&mut text, &line) {
                self.frozen_bytes += text.len() - piece.len();
                *piece = Bytes::from(text);
                return;
            }
        }
    }

    /// Where to look for more fragments: nothing before this is missing.
    pub(crate) fn end(&self) -> WallTime {
        self.end
    }

    /// Whether no fragment was added yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Bytes of text that it keeps.
    pub(crate) fn bytes(&self) -> usize {
        self.frozen_bytes + self.tail.len()
    }

    /// Sets how far into the first fragment playing begins.
    pub(crate) fn start_at(&mut self, start_us: i64) {
        self.start_us = start_us;
    }

    /// Appends the fragments of `rows` that are not there yet.
    pub(crate) fn extend(&mut self, rows: &[SegmentFragments], codecs: &Codecs) {
        for row in rows {
            let Some(&timescale) = codecs.get(&row.segment.init) else {
                continue;
            };
            for entry in &row.fragments {
                let place = (row.segment.id.seq, entry.offset);
                if self.last.is_some_and(|last| place <= last) {
                    continue;
                }
                self.lines.push(&mut self.tail, &row.segment, entry, timescale);
                self.last = Some(place);
                self.end = entry.wall_end();
                if self.tail.len() >= PIECE_BYTES {
                    let piece = Bytes::from(std::mem::take(&mut self.tail));
                    self.frozen_bytes += piece.len();
                    self.frozen.push(piece);
                }
            }
        }
    }

    /// The playlist as it stands.
    pub(crate) fn pieces(&self) -> Vec<Bytes> {
        let mut pieces = Vec::with_capacity(self.frozen.len() + 2);
        pieces.push(Bytes::from(header(self.lines.longest_us, "EVENT", self.start_us)));
        pieces.extend(self.frozen.iter().cloned());
        pieces.push(Bytes::copy_from_slice(self.tail.as_bytes()));
        pieces
    }
}

/// Puts a tag before the lines of the fragment whose lines end with one that begins with `line`, if they are here.
/// Tags every fragment of the segment `seq` that begins at `offset` or later; whether there are any.
fn all_with_gap(text: &mut String, seq: u64, offset: u64) -> bool {
    let uri = format!("\nseg/{seq}.");
    let begins = |end: usize| {
        let before = text.get(..end)?;
        let at: u64 = before.rsplit_once('@')?.1.parse().ok()?;
        (at >= offset).then_some(())?;
        let begin = before.rfind("#EXTINF:")?;
        (!text.get(..begin)?.ends_with(GAP)).then_some(begin)
    };
    let found: Vec<usize> = text
        .match_indices(&uri)
        .filter_map(|(end, _)| begins(end))
        .collect();
    found.iter().rev().for_each(|begin| text.insert_str(*begin, GAP));
    !found.is_empty()
}

fn with_gap(text: &mut String, line: &str) -> bool {
    let begin = text.find(line).and_then(|end| text.get(..end)?.rfind("#EXTINF:"));
    if let Some(begin) = begin {
        text.insert_str(begin, GAP);
    }
    begin.is_some()
}
