//! A time range of a stream as one progressive MP4 file that is never written anywhere.
//!
//! [`Assembly::build`] works from sample tables alone: it lays out `ftyp`, `moov` and the head of one
//! `mdat` in memory and says where in the segment files the content of the `mdat` lies, so that any byte
//! range of the file can be served without having made the rest of it.
//!
//! - **Exact cut.** The first picture shown is the first one taken at or after the beginning of the range,
//!   the last one the last before its end. Coded samples begin at the keyframe before; an edit list hides
//!   what is only there to be decoded. Ranges that meet share no picture and lose none.
//!   Where pictures were thinned out, each is shown until the next, also over the border of two ranges.
//! - **Gaps close.** Media time runs on where wall time has a gap, so players play across it; where the
//!   gaps were stands as JSON in the comment. The video decides how long each run is; its audio is cut or
//!   stretched to that, so that the two stay together however many runs follow.
//! - **One edit per track.** Composition offsets are made positive by delaying all of them alike, and the
//!   edit takes the delay back. An edit is needed for the cut anyway, and files without negative offsets
//!   play everywhere, also where only version 0 of `ctts` is understood.
//! - **New parameters.** Each set of parameters gets its own sample entry. Since not every player follows
//!   those, every keyframe of such a file also carries its parameter sets. Else samples are as recorded.

mod about;
mod assemble;
mod cut;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod moov;
mod parameter_sets;
mod pieces;
mod tables;

use std::sync::Arc;

use bytes::Bytes;

use crate::fragment::FragmentEntry;
use crate::id::{SegmentId, StreamId};
use crate::mp4::{InitSegment, TrackSamples};
use crate::time::{HOUR_US, TimeRange};
pub use parameter_sets::in_band as parameter_sets_in_band;
use pieces::Extent;
pub use pieces::{Piece, Pieces};

/// The longest range of one export.
pub const EXPORT_DURATION_MAX_US: i64 = 24 * HOUR_US;
/// The most samples of one export, audio included. Bounds the memory of a build to about 250 MB.
pub const EXPORT_SAMPLES_MAX: usize = 8_000_000;
/// Part of every entity tag: counts up when the same footage would give other bytes.
const LAYOUT_VERSION: u8 = 1;

/// A fragment that an export may draw from.
#[derive(Clone, Debug)]
pub struct ExportFragment {
    /// The segment that holds it.
    pub segment: SegmentId,
    /// The init segment that it needs.
    pub init: Arc<InitSegment>,
    /// Where and when it is.
    pub entry: FragmentEntry,
    /// Its samples; `data_offset` counts from the beginning of the segment file.
    pub tracks: Vec<TrackSamples>,
    /// That of its segment. Where pictures were thinned out, each stands for the time until the next.
    pub generation: u8,
}

/// What to export.
#[derive(Copy, Clone, Debug)]
pub struct ExportInput<'a> {
    /// The stream, for the comment in the file.
    pub stream: &'a StreamId,
    /// The wall time wanted.
    pub range: TimeRange,
    /// The fragments that overlap `range`, in order. Where the first of them does not begin with a
    /// keyframe, or `range` begins among pictures that refer to the fragment before, the fragments back to
    /// the last one that begins with a keyframe belong in front; without them the first pictures are left
    /// out. More fragments on either side do no harm.
    pub fragments: &'a [ExportFragment],
}

/// Why a range cannot be exported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// No picture in the range, or none that can be decoded: answer with the nearest recorded times.
    #[error("nothing is recorded in this range")]
    Nothing,
    /// Ask for less.
    #[error("the range is longer than 24 hours")]
    TooLong,
    /// Ask for less.
    #[error("the range holds more than {EXPORT_SAMPLES_MAX} samples")]
    TooManySamples,
    /// The tables contradict each other: the segment needs to be verified.
    #[error("stream {} segment {}, fragment at byte {offset}: {what}", segment.stream.0, segment.seq)]
    Inconsistent {
        /// The segment.
        segment: SegmentId,
        /// Where the fragment begins in it.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// A file that exists only as a layout. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Assembly {
    head: Bytes,
    extents: Arc<[Extent]>,
    len: u64,
    etag: Arc<str>,
    shown: TimeRange,
}

impl Assembly {
    /// Lays the file out. Takes no I/O; for an hour of 30 pictures per second and audio a few milliseconds.
    pub fn build(input: &ExportInput<'_>) -> Result<Self, ExportError> {
        assemble::assemble(input)
    }

    /// The length of the file in bytes.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// A strong entity tag, with its quotes. Equal for equal bytes: it is made of what the layout follows
    /// from, segments, places, times and range.
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// From the instant of the first picture shown to the end of the last.
    pub fn shown(&self) -> TimeRange {
        self.shown
    }

    /// Bytes in front of the media: what a player fetches before anything else.
    pub fn head_len(&self) -> u64 {
        self.head.len() as u64
    }

    /// The bytes `range` of the file, in order; what lies beyond its end is left out.
    pub fn pieces(&self, range: std::ops::Range<u64>) -> Pieces {
        Pieces::new(
            self.head.clone(),
            self.extents.clone(),
            range.start..range.end.min(self.len),
        )
    }
}

impl ExportFragment {
    fn inconsistent(&self, what: &'static str) -> ExportError {
        ExportError::Inconsistent {
            segment: self.segment,
            offset: self.entry.offset,
            what,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
