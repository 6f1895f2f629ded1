//! Puts imported media behind what a stream has already.

use std::io::{Read, Seek};

use archive::buffer::Pool;
use archive::{Gap, GapCause, Note, StreamNo, TimeRange, WallTime};
use indexer::Index;

use super::Import;
use crate::error::IngestError;
use crate::fragmenter::{Finished, Fragmenter};
use crate::gap_tracker::GapTracker;

/// Files that become footage of one stream, one after the other. What it completes has to be committed by
/// whoever uses it.
pub struct Importer {
    fragmenter: Fragmenter,
    /// The end of the last fragment handed in, or of the stream before.
    end: Option<WallTime>,
    /// Whether anything was handed in.
    any: bool,
    now: WallTime,
}

impl Importer {
    /// Goes on where the stream ended, which must not be later than `start`.
    pub fn resume(
        index: &Index,
        pool: Pool,
        no: StreamNo,
        start: WallTime,
        now: WallTime,
    ) -> Result<Self, IngestError> {
        let end = index.end(no)?.map(|end| end.wall_end);
        if let Some(end) = end.filter(|end| start < *end) {
            let what = format!("the stream has footage until {end}: choose a later start, or another stream");
            return Err(IngestError::Import(what));
        }
        let mut gap = GapTracker::default();
        if let Some(end) = end {
            gap.start(end, GapCause::NotImported);
        }
        // A stream that was never recorded may have been missed for long.
        let begin = end.unwrap_or(WallTime::MIN);
        let since = TimeRange::new(begin, start).unwrap_or(TimeRange::ALL);
        for known in index.gaps(no, since)? {
            if known.cause != GapCause::Retention && known.from >= begin {
                gap.start(known.from, known.cause);
            }
        }
        let first = gap.pieces().next().map(|piece| piece.from);
        Ok(Self {
            fragmenter: Fragmenter::new(pool, first.unwrap_or(start), gap),
            end,
            any: false,
            now,
        })
    }

    /// The end of the last fragment that was handed in, or of the stream before.
    pub fn end(&self) -> Option<WallTime> {
        self.end
    }

    /// Reads a file to its end and gives what it becomes to `hand_in`; returns how many fragments that were.
    /// What came before an error is kept.
    pub fn file<R: Read + Seek>(
        &mut self,
        import: &mut Import<R>,
        mut hand_in: impl FnMut(Finished) -> Result<(), IngestError>,
    ) -> Result<u64, IngestError> {
        self.fragmenter.begin_session();
        let mut fragments = 0;
        let read = loop {
            let finished = match import.next_event() {
                Ok(Some(event)) => self.fragmenter.push(event),
                Ok(None) => break Ok(()),
                Err(e) => break Err(e),
            };
            if let Some(finished) = finished {
                self.take(finished, &mut hand_in)?;
                fragments += 1;
            }
        };
        if let Some(finished) = self.fragmenter.end_session() {
            self.take(finished, &mut hand_in)?;
            fragments += 1;
        }
        self.fragmenter.begin_gap(self.now, GapCause::NotImported);
        read.map_err(|e| IngestError::Import(format!("{e}; what came before is imported")))?;
        Ok(fragments)
    }

    fn take(
        &mut self,
        finished: Finished,
        hand_in: &mut impl FnMut(Finished) -> Result<(), IngestError>,
    ) -> Result<(), IngestError> {
        let entry = finished.fragment.entry().clone();
        let taken = if entry.wall_end() > self.now {
            let what = "the footage reaches into the future: its start is too late";
            Err(IngestError::Import(what.to_owned()))
        } else {
            hand_in(finished)
        };
        match &taken {
            Ok(()) => (self.end, self.any) = (Some(entry.wall_end()), true),
            Err(_) => {
                // The gap before it goes on.
                let gap = self.fragmenter.gap();
                for note in &entry.notes {
                    if let Note::Gap { from, cause, .. } = *note {
                        gap.start(from, cause);
                    }
                }
                gap.start(entry.wall_start, GapCause::NotImported);
            }
        }
        taken
    }

    /// The gap behind what was imported, to be told once all is handed in; none when nothing was, and what is
    /// known stands.
    pub fn gaps(&mut self) -> Vec<Gap> {
        let pieces = self.fragmenter.gap().pieces();
        pieces.filter(|_| self.any).collect()
    }
}

impl std::fmt::Debug for Importer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Importer")
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
