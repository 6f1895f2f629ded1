//! The playlist that begins at a fixed time and grows into live.
//!
//! A day of it is megabytes and players ask for it every few seconds, so its lines are written once: the old
//! ones stand in shared pieces that are sent without a copy, and only new fragments add lines.

use archive::WallTime;
use bytes::Bytes;
use indexer::SegmentFragments;

use super::Codecs;
use super::media::{Lines, header};

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
    /// How many damaged fragments were passed over.
    damaged: usize,
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
            damaged: 0,
        }
    }

    /// Begins anew when the number of fragments that are known to be damaged changed: the list must not go on
    /// naming what cannot be read.
    pub(crate) fn without_damage(&mut self, from: WallTime, damaged: usize) {
        if self.damaged != damaged {
            *self = Self::new(from);
            self.damaged = damaged;
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
