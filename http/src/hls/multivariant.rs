//! Multivariant playlists: one entry per stream of a camera.

use std::sync::Arc;

use archive::{InitSegment, TrackKind};
use indexer::SegmentRow;

use super::media::push_int;

/// A stream as a player chooses it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    /// The stream's name.
    pub(crate) name: String,
    /// Where its media playlist is.
    pub(crate) uri: String,
    /// RFC 6381, in order of first appearance.
    pub(crate) codecs: Vec<String>,
    /// The largest picture.
    pub(crate) resolution: Option<(u16, u16)>,
    /// Bits per second of the segment that has most.
    pub(crate) peak_bps: u64,
    /// Bits per second over all segments.
    pub(crate) average_bps: u64,
}

impl Variant {
    /// The variant of a stream with these segments and their init segments.
    pub(crate) fn new(
        name: String,
        uri: String,
        segments: &[SegmentRow],
        inits: &[Arc<InitSegment>],
    ) -> Self {
        let mut codecs: Vec<String> = Vec::new();
        let mut resolution = None;
        for track in inits.iter().flat_map(|init| &init.tracks) {
            if !codecs.contains(&track.codec) {
                codecs.push(track.codec.clone());
            }
            if track.kind == TrackKind::Video {
                resolution = resolution.max(Some((track.width, track.height)));
            }
        }
        let rate = |bytes: u64, us: i64| {
            let bps = u128::from(bytes) * 8 * 1_000_000 / u128::from(us.max(1).unsigned_abs());
            u64::try_from(bps).unwrap_or(u64::MAX)
        };
        let span = |s: &SegmentRow| s.wall_end.micros_since(s.wall_start);
        let total = segments.iter().fold((0u64, 0i64), |(bytes, us), s| {
            (bytes.saturating_add(s.bytes), us.saturating_add(span(s)))
        });
        let average_bps = rate(total.0, total.1).max(1);
        // The first seconds of a segment say little about its rate.
        let long = segments.iter().filter(|s| span(s) >= 1_000_000);
        let peak = long.map(|s| rate(s.bytes, span(s))).max().unwrap_or(average_bps);
        // Keyframes make a single fragment larger than its segment's mean.
        let peak_bps = (peak.max(average_bps) / 2).saturating_mul(3);
        Self {
            name,
            uri,
            codecs,
            resolution,
            peak_bps,
            average_bps,
        }
    }
}

/// The playlist of `variants`, the best one first.
pub(crate) fn multivariant(mut variants: Vec<Variant>) -> String {
    variants.sort_by_key(|v| std::cmp::Reverse((v.resolution, v.average_bps)));
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:7\n");
    for variant in &variants {
        text.push_str("#EXT-X-STREAM-INF:BANDWIDTH=");
        push_int(&mut text, variant.peak_bps.max(1));
        text.push_str(",AVERAGE-BANDWIDTH=");
        push_int(&mut text, variant.average_bps);
        if !variant.codecs.is_empty() {
            text.push_str(",CODECS=\"");
            text.push_str(&variant.codecs.join(","));
            text.push('"');
        }
        if let Some((width, height)) = variant.resolution.filter(|&(w, h)| w > 0 && h > 0) {
            text.push_str(",RESOLUTION=");
            push_int(&mut text, width.into());
            text.push('x');
            push_int(&mut text, height.into());
        }
        text.push_str(",NAME=\"");
        text.push_str(&variant.name);
        text.push_str("\"\n");
        text.push_str(&variant.uri);
        text.push('\n');
    }
    text
}
