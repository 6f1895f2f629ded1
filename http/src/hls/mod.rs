//! HTTP Live Streaming (RFC 8216) playlists, written from index rows. Pure: rows in, text out.
//!
//! What the playlists call a segment is a fragment here, addressed by byte range in its segment's file.

mod event;
mod live;
mod media;
mod multivariant;
#[cfg(test)]
mod tests;

pub(crate) use event::EventList;
pub(crate) use live::{LOOK_BACK_US, LiveWindow};
pub(crate) use media::{Codecs, vod};
pub(crate) use multivariant::{Variant, multivariant};

/// What playlists are sent as.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.apple.mpegurl";

/// Two fragments belong to one stretch when the wall time between them is not more than this. Wall time is
/// corrected by less from one fragment to the next.
const WALL_TOLERANCE_US: i64 = 100_000;
/// Program date times are given again when they have drifted from what durations add up to by this much.
const DRIFT_US: i64 = 20_000;
