//! One stream as it is recorded: what its media becomes, and which gaps are told, apart from where media
//! comes from. Time is an argument.

use std::sync::Arc;
use std::time::Duration;

use archive::buffer::Pool;
use archive::{Gap, GapCause, Note, StreamId, StreamNo, TimeRange, WallTime};
use indexer::{Index, PRIORITY_DEFAULT, SessionState};

use crate::committer::Submit;
use crate::error::IngestError;
use crate::event::Event;
use crate::fragmenter::{Finished, Fragmenter};
use crate::gap_tracker::GapTracker;
use crate::lateness::Lateness;

/// What of one stream is handed to the committer.
pub struct Recording {
    index: Arc<Index>,
    submit: Submit,
    no: StreamNo,
    id: StreamId,
    priority: u8,
    fragmenter: Fragmenter,
    /// Fragments are being given up; said once, not for each.
    dropping: bool,
    lateness: Lateness,
    /// When the last event was read, on the host's monotonic clock.
    read_us: u64,
    /// The gap as it was told last.
    told: Vec<Gap>,
}

/// Goes on with a stream after a start: from where it ended, with the gap since then as the index knows it.
pub fn resume(index: &Index, pool: &Pool, no: StreamNo, now: WallTime) -> Result<Fragmenter, IngestError> {
    let begin = index.end(no)?.map(|end| end.wall_end);
    let since = TimeRange::new(begin.unwrap_or(WallTime::MIN), WallTime::MAX).unwrap_or(TimeRange::ALL);
    let known: Vec<_> = (index.gaps(no, since)?.into_iter())
        .filter(|g| g.cause != GapCause::Retention && begin.is_none_or(|b| g.from >= b))
        .collect();
    let mut gap = GapTracker::default();
    let mut end = begin;
    for g in &known {
        gap.start(g.from, g.cause);
        end = Some(g.to.unwrap_or(g.from));
    }
    let explained = known.last().is_some_and(|g| g.to.is_none());
    match end {
        // Media, or a gap that was not left open, ended without a word: the service was killed.
        Some(end) if !explained => gap.start(end, GapCause::ServiceKilled),
        Some(_) | None => {}
    }
    let from = begin.or_else(|| known.first().map(|g| g.from)).unwrap_or(now);
    Ok(Fragmenter::new(pool.clone(), from, gap))
}

impl Recording {
    /// Goes on where the index says that the stream ended, in the gap that lasts since then.
    pub fn resume(
        index: Arc<Index>,
        submit: Submit,
        pool: Pool,
        id: &StreamId,
        now: WallTime,
    ) -> Result<Self, IngestError> {
        let no = index.ensure_stream(id)?;
        let fragmenter = resume(&index, &pool, no, now)?;
        Ok(Self {
            index,
            submit,
            no,
            id: id.clone(),
            priority: PRIORITY_DEFAULT,
            fragmenter,
            dropping: false,
            lateness: Lateness::default(),
            read_us: 0,
            told: Vec::new(),
        })
    }

    /// The stream's number.
    pub fn no(&self) -> StreamNo {
        self.no
    }

    /// Sets how long it is recorded while the disk fills.
    pub fn set_priority(&mut self, priority: u8) {
        self.priority = priority;
    }

    /// The first session is being made. Who had to give way is missing for that reason until media comes, or
    /// does not.
    pub fn begin(&mut self, now: WallTime) {
        let gave_way = |gap: Gap| gap.cause == GapCause::Overload;
        if !self.fragmenter.gap().current().is_some_and(gave_way) {
            self.begin_gap(now, GapCause::Connecting);
        }
    }

    /// How late the last picture was read, by the stream's own clock, in microseconds.
    pub(crate) fn late_us(&self) -> u64 {
        self.lateness.late_us()
    }

    /// A session stands: media time counts anew.
    pub fn begin_session(&mut self) {
        self.fragmenter.begin_session();
    }

    /// Takes in what the session tells, read at `now` and on the monotonic clock at `read_us`. Returns whether
    /// that completed a fragment.
    pub fn push(&mut self, event: Event, now: WallTime, read_us: u64) -> bool {
        self.read_us = read_us;
        self.lateness.observe(&event);
        let finished = self.fragmenter.push(event);
        finished.map(|finished| self.hand_in(finished, now)).is_some()
    }

    /// The session is over: hands in what is complete, and tells the gap that begins.
    pub fn end_session(&mut self, now: WallTime, cause: GapCause) {
        if let Some(finished) = self.fragmenter.end_session() {
            self.hand_in(finished, now);
        }
        self.lateness = Lateness::default();
        self.begin_gap(now, cause);
    }

    /// From `now` on there is no media for another cause, or no longer any.
    pub fn begin_gap(&mut self, now: WallTime, cause: GapCause) {
        self.fragmenter.begin_gap(now, cause);
        self.tell_gap();
    }

    /// The stream is not recorded any more: its open segment is to be sealed.
    pub fn stop(&mut self, now: WallTime, cause: GapCause) {
        self.end_session(now, cause);
        self.submit.close(self.no);
        self.set_state(
            now,
            match cause {
                GapCause::Overload => SessionState::Shed,
                _ => SessionState::Stopped,
            },
        );
    }

    /// Shows what the session is doing.
    pub fn set_state(&self, now: WallTime, state: SessionState) {
        self.index.set_status(self.no, |s| {
            (s.state, s.since) = (state, now);
            (s.bitrate_bps, s.fps) = (0, 0.0);
        });
    }

    /// Gives a complete fragment to the committer, unless the disk cannot take it.
    fn hand_in(&mut self, finished: Finished, now: WallTime) {
        let entry = finished.fragment.entry();
        let (from, end, us) = (
            entry.wall_start,
            entry.wall_end(),
            u64::from(entry.wall_duration_us).max(1),
        );
        let shed = self.priority < self.index.shed_below();
        let (bits, pictures) = (finished.bytes as u64 * 8, finished.pictures as u64);
        let (lost, offset) = (finished.packets_lost, finished.clock_offset_ms);
        let state = if shed {
            SessionState::Shed
        } else {
            SessionState::Recording
        };
        self.index.set_status(self.no, |s| {
            if s.state != state {
                (s.state, s.since) = (state, now);
            }
            s.bitrate_bps = bits.saturating_mul(1_000_000) / us;
            s.fps = pictures as f32 * 1e6 / us as f32;
            s.clock_offset_ms = offset;
            s.packets_lost += u64::from(lost);
            s.provisional_until = Some(end);
            (s.last_cause, s.last_error) = (None, None);
        });
        let refused = if shed {
            Some((GapCause::DiskFull, Box::new(finished)))
        } else {
            let waited_us = self.read_us.saturating_sub(finished.arrived_us);
            let age = Duration::from_micros(waited_us.saturating_add(self.lateness.late_us()));
            self.submit
                .fragment(self.no, finished, age)
                .err()
                .map(|f| (GapCause::Overload, f))
        };
        match refused {
            Some((cause, finished)) => self.give_up(cause, from, &finished),
            None => {
                self.dropping = false;
                self.told.clear();
                self.index.set_status(self.no, |s| s.pictures += pictures);
            }
        }
    }

    /// A fragment is not kept: its time, and the gap before it, go to the next that is.
    fn give_up(&mut self, cause: GapCause, from: WallTime, finished: &Finished) {
        let gap = self.fragmenter.gap();
        for note in &finished.fragment.entry().notes {
            if let Note::Gap { from, cause, .. } = *note {
                gap.start(from, cause);
            }
        }
        gap.start(from, cause);
        if !std::mem::replace(&mut self.dropping, true) {
            tracing::warn!(stream = %self.id, cause = cause.as_str(), "footage is given up");
        }
        self.tell_gap();
    }

    /// A gap that is as it was told costs no commit.
    fn tell_gap(&mut self) {
        let pieces: Vec<Gap> = self.fragmenter.gap().pieces().collect();
        if pieces != self.told {
            self.submit.gaps(self.no, pieces.clone());
            self.told = pieces;
        }
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording")
            .field("stream", &self.id)
            .field("fragmenter", &self.fragmenter)
            .finish_non_exhaustive()
    }
}
