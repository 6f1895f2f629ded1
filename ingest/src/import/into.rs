//! Puts imported media behind what a stream has already.

use std::io::{Read, Seek};

use archive::buffer::Pool;
use archive::{Gap, GapCause, StreamNo, TimeRange, WallTime};
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
        let mut gap = GapTracker::default();
        let end = index.span(no)?.map(|span| span.to());
        if let Some(end) = end {
            if start < end {
                let what = format!("the stream has footage until {end}: choose a later start, or another stream");
                return Err(IngestError::Import(what));
            }
            gap.start(end, GapCause::NotImported);
            let since = TimeRange::new(end, start).unwrap_or(TimeRange::ALL);
            for known in index.gaps(no, since)? {
                if known.cause != GapCause::Retention && known.from >= end {
                    gap.start(known.from, known.cause);
                }
            }
        }
        Ok(Self {
            fragmenter: Fragmenter::new(pool, end.unwrap_or(start), gap),
            end,
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
        let mut take = |end: &mut Option<WallTime>, finished: Finished| {
            let wall_end = finished.fragment.entry().wall_end();
            if wall_end > self.now {
                let what = "the footage reaches into the future: its start is too late";
                return Err(IngestError::Import(what.to_owned()));
            }
            hand_in(finished)?;
            *end = Some(wall_end);
            fragments += 1;
            Ok(())
        };
        let read = loop {
            let event = match import.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => break Ok(()),
                Err(e) => break Err(e),
            };
            if let Some(finished) = self.fragmenter.push(event) {
                take(&mut self.end, finished)?;
            }
        };
        if let Some(finished) = self.fragmenter.end_session() {
            take(&mut self.end, finished)?;
        }
        self.fragmenter.begin_gap(self.now, GapCause::NotImported);
        read.map_err(|e| IngestError::Import(format!("{e}; what came before is imported")))?;
        Ok(fragments)
    }

    /// The gap behind what was imported, to be told once all is handed in.
    pub fn gaps(&mut self) -> Vec<Gap> {
        self.fragmenter.gap().pieces().collect()
    }
}

impl std::fmt::Debug for Importer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Importer")
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
