//! What a source of media tells the fragmenter, be it a live session or a file.

use archive::{Timescale, TrackKind, WallTime};

/// One piece of news from a source, in the order in which it happened.
#[derive(Debug)]
pub enum Event {
    /// The tracks are known, or have changed. Always the first event.
    Start {
        /// Video first, then audio if there is any.
        tracks: Vec<TrackParams>,
        /// Whether a run begins: the samples that follow count their time anew from about 0. When false,
        /// only the parameters changed and time goes on.
        new_run: bool,
    },
    /// A coded picture or a piece of sound.
    Sample(Sample),
    /// The camera stated what its own clock says.
    SenderReport(SenderReport),
}

/// A track as its source describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackParams {
    /// Video or audio.
    pub kind: TrackKind,
    /// The clock of its samples.
    pub timescale: Timescale,
    /// The codec as RFC 6381 names it.
    pub codec: String,
    /// The whole sample entry box for `stsd`; parameter sets stand in it.
    pub sample_entry: Vec<u8>,
    /// Picture width in pixels; 0 for audio.
    pub width: u16,
    /// Picture height in pixels; 0 for audio.
    pub height: u16,
    /// Channels; 0 for video.
    pub channels: u16,
    /// Sound samples per second; 0 for video.
    pub sample_rate: u32,
}

/// One access unit, in decode order within its track.
///
/// The tracks are not interleaved by time: sound may come some seconds late while its place against the
/// pictures is being found, but always before the second keyframe.
#[derive(Debug)]
pub struct Sample {
    /// The track.
    pub track: TrackKind,
    /// Presentation time since the beginning of the run, in ticks of the track's own clock. With B-frames
    /// it goes back and forth. 0 is the first picture on both tracks' clocks; pictures that lead the first
    /// keyframe of an open GOP are below that, sound never is.
    pub pts: i64,
    /// Whether decoding can begin here; always true for sound.
    pub keyframe: bool,
    /// The bytes for `mdat`: NAL units behind their lengths, or raw AAC.
    pub data: Vec<u8>,
    /// The host's wall clock when it arrived.
    pub arrival_wall: WallTime,
    /// The host's monotonic clock when it arrived, in microseconds.
    pub arrival_mono_us: u64,
    /// RTP packets known to be missing right before or in it.
    pub packets_lost: u32,
}

/// An RTCP sender report, placed on the run's clock.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct SenderReport {
    /// The track it is about.
    pub track: TrackKind,
    /// The camera's clock.
    pub camera_wall: WallTime,
    /// What was captured at that moment, in ticks since the beginning of the run.
    pub pts: i64,
    /// The host's wall clock when it arrived.
    pub arrival_wall: WallTime,
    /// The host's monotonic clock when it arrived, in microseconds.
    pub arrival_mono_us: u64,
}
