//! Fragments as the index and the footer know them: where, when, and what is noteworthy.

use serde::{Deserialize, Serialize};

use crate::id::SegmentId;
use crate::time::{TimeRange, Timescale, WallTime};

/// Fragments begin at multiples of this many bytes, so that an acknowledged block is never rewritten.
pub const BLOCK_BYTES: usize = 4096;
/// A fragment is closed before it grows beyond this.
pub const FRAGMENT_BYTES_MAX: usize = 16 << 20;
/// A fragment is closed before it lasts longer than this.
pub const FRAGMENT_DURATION_MAX_US: i64 = 10 * crate::time::SECOND_US;

/// Why wall time has no media.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum GapCause {
    /// The first connection, or one after a restart, was still being made.
    Connecting = 1,
    /// The camera could not be reached or did not answer in time.
    Unreachable = 2,
    /// The camera answered and refused: credentials, path, or no more sessions.
    Refused = 3,
    /// The session stood but no media came.
    NoData = 4,
    /// The camera ended the session, or broke the protocol.
    SessionLost = 5,
    /// The camera offers nothing that can be recorded.
    Unsupported = 6,
    /// This service could not keep up.
    Overload = 7,
    /// No space was left for a camera of this priority.
    DiskFull = 8,
    /// The disk failed.
    DiskError = 9,
    /// The service was stopped.
    ServiceStopped = 10,
    /// The service was killed, or the power failed.
    ServiceKilled = 11,
    /// The wall clock was set forward.
    ClockStep = 12,
    /// The stream was switched off or its camera removed.
    Disabled = 13,
    /// Packets were lost, and pictures with them.
    PacketsLost = 14,
    /// Media was deleted by a retention rule.
    Retention = 15,
    /// Media was recorded but cannot be read any more.
    Lost = 16,
    /// Nothing was imported for this time.
    NotImported = 17,
}

impl GapCause {
    /// All causes.
    pub const ALL: [Self; 17] = [
        Self::Connecting,
        Self::Unreachable,
        Self::Refused,
        Self::NoData,
        Self::SessionLost,
        Self::Unsupported,
        Self::Overload,
        Self::DiskFull,
        Self::DiskError,
        Self::ServiceStopped,
        Self::ServiceKilled,
        Self::ClockStep,
        Self::Disabled,
        Self::PacketsLost,
        Self::Retention,
        Self::Lost,
        Self::NotImported,
    ];

    /// The cause with this number in files and index rows.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|c| *c as u8 == code)
    }

    /// Whether somebody meant it: nothing failed.
    pub fn is_meant(self) -> bool {
        matches!(self, Self::Disabled | Self::Retention | Self::NotImported)
    }

    /// The word used in JSON, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::NoData => "no_data",
            Self::SessionLost => "session_lost",
            Self::Unsupported => "unsupported",
            Self::Overload => "overload",
            Self::DiskFull => "disk_full",
            Self::DiskError => "disk_error",
            Self::ServiceStopped => "service_stopped",
            Self::ServiceKilled => "service_killed",
            Self::ClockStep => "clock_step",
            Self::Disabled => "disabled",
            Self::PacketsLost => "packets_lost",
            Self::Retention => "retention",
            Self::Lost => "lost",
            Self::NotImported => "not_imported",
        }
    }
}

/// A stretch of wall time without media.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Gap {
    /// The first instant without media.
    pub from: WallTime,
    /// The first instant with media again; `None` while the gap lasts.
    pub to: Option<WallTime>,
    /// Why.
    pub cause: GapCause,
}

/// Something noteworthy that is stored with the fragment that follows it, so that the index can be
/// rebuilt from media alone.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Note {
    /// Wall time before this fragment has no media. Always closed.
    Gap {
        /// The first instant without media.
        from: WallTime,
        /// The first instant after.
        to: WallTime,
        /// Why.
        cause: GapCause,
    },
    /// The host's wall clock was seen to have moved by `by_us` against its monotonic clock.
    ClockStep {
        /// When, on the stream's own wall time.
        at: WallTime,
        /// Positive when it was set forward.
        by_us: i64,
    },
    /// RTP packets missing inside this fragment; pictures may be damaged.
    PacketsLost {
        /// How many, at least.
        packets: u32,
    },
}

/// At most this many notes stand with one fragment; gaps beyond it are joined into their neighbours.
pub const NOTES_MAX: usize = 16;

/// Leaves at most `max` notes: the oldest gaps become one with those after them, so that no time loses its
/// cause, and only then other notes go.
pub fn bound_notes(notes: &mut Vec<Note>, max: usize) {
    let is_gap = |note: &Note| matches!(note, Note::Gap { .. });
    while notes.len() > max {
        let mut gaps = notes
            .iter()
            .enumerate()
            .filter(|(_, n)| is_gap(n))
            .map(|(i, _)| i);
        let (first, second) = (gaps.next(), gaps.next());
        let earlier = first.filter(|_| second.is_some());
        let gone = notes.remove(
            earlier
                .or_else(|| notes.iter().position(|n| !is_gap(n)))
                .unwrap_or(0),
        );
        let later = notes.iter_mut().find(|n| is_gap(n)).filter(|_| earlier.is_some());
        if let (Note::Gap { from: begin, .. }, Some(Note::Gap { from, .. })) = (gone, later) {
            *from = begin;
        }
    }
}

/// One fragment of a segment. Wall spans of a stream's fragments never overlap nor run backwards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FragmentEntry {
    /// Where it begins in the segment, in bytes; a multiple of [`BLOCK_BYTES`].
    pub offset: u64,
    /// Bytes from `offset` to the end of its `mdat`; the padding behind is not counted.
    pub len: u32,
    /// When its first picture was taken.
    pub wall_start: WallTime,
    /// How long it lasts on the wall, in microseconds.
    pub wall_duration_us: u32,
    /// Its first video sample's decode time in its run, in video ticks (`tfdt`).
    pub media_start: u64,
    /// How long its video lasts, in video ticks.
    pub media_duration: u32,
    /// Whether its first video sample is a keyframe.
    pub keyframe: bool,
    /// Whether a run begins here: media time has no relation to the fragment before.
    pub run_start: bool,
    /// How much moves, 0 to 255: bytes of its pictures against the stream's own recent past.
    pub activity: u8,
    /// Gaps before it, clock steps, losses.
    pub notes: Vec<Note>,
}

impl FragmentEntry {
    /// The wall time it covers.
    pub fn range(&self) -> TimeRange {
        TimeRange::starting(self.wall_start, u64::from(self.wall_duration_us))
    }

    /// The first instant after it.
    pub fn wall_end(&self) -> WallTime {
        self.range().to()
    }

    /// Its media duration in microseconds.
    pub fn media_duration_us(&self, timescale: Timescale) -> i64 {
        timescale.to_micros(i64::from(self.media_duration))
    }
}

/// A fragment and the segment that holds it: all that is needed to read its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FragmentRef {
    /// The segment.
    pub segment: SegmentId,
    /// The fragment in it.
    pub entry: FragmentEntry,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_notes_lose_no_time() {
        let at = |s: i64| WallTime::from_micros(s * 1_000_000);
        let cause = GapCause::Overload;
        let mut notes = Vec::new();
        for i in 0..9 {
            notes.push(Note::Gap {
                from: at(i),
                to: at(i + 1),
                cause,
            });
            notes.push(Note::ClockStep { at: at(i), by_us: 1 });
        }
        bound_notes(&mut notes, 4);
        assert_eq!(notes.len(), 4);
        let gaps: Vec<_> = notes.iter().filter(|n| matches!(n, Note::Gap { .. })).collect();
        let whole = Note::Gap {
            from: at(0),
            to: at(9),
            cause,
        };
        assert_eq!(gaps, [&whole]);
    }
}
