//! HTTP Live Streaming (RFC 8216) playlists, written from index rows. Pure: rows in, text out.
//!
//! What the playlists call a segment is a fragment here, addressed by byte range in its segment's file.

mod event;
mod live;
mod media;
mod multivariant;
#[cfg(test)]
mod tests;

use indexer::SegmentRow;

pub(crate) use event::EventList;
pub(crate) use live::{LOOK_BACK_US, LiveWindow};
pub(crate) use media::{Codecs, vod};
pub(crate) use multivariant::{Variant, multivariant};

/// The name of a segment's file in URLs. What thinning has made of it has another, so that nothing that a client has kept
/// of the one is taken for the other.
pub(crate) fn file_name(segment: &SegmentRow) -> String {
    match segment.generation {
        0 => format!("{}.mp4", segment.id.seq),
        n => format!("{}.t{n}.mp4", segment.id.seq),
    }
}

/// The sequence and the generation in a name of a segment's file.
pub(crate) fn parse_file_name(file: &str) -> Option<(u64, u8)> {
    let name = file.strip_suffix(".mp4")?;
    match name.split_once(".t") {
        None => Some((name.parse().ok()?, 0)),
        Some((seq, generation)) => {
            let generation = generation.parse().ok().filter(|n| *n > 0)?;
            Some((seq.parse().ok()?, generation))
        }
    }
}

/// What playlists are sent as.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.apple.mpegurl";

/// Two fragments belong to one stretch when the wall time between them is not more than this. Wall time is
/// corrected by less from one fragment to the next.
const WALL_TOLERANCE_US: i64 = 100_000;
/// Program date times are given again when they have drifted from what durations add up to by this much.
const DRIFT_US: i64 = 20_000;
