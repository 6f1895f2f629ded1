//! Media playlists: the lines of fragments, and the VOD playlist of a range.

use std::collections::HashMap;

use archive::{FragmentEntry, Sha256, Timescale, WallTime};
use indexer::{SegmentFragments, SegmentRow};

use super::{DRIFT_US, WALL_TOLERANCE_US, file_name};

/// The video timescale of each init segment that a playlist's rows name.
pub(crate) type Codecs = HashMap<Sha256, Timescale>;

/// Bytes of text that a fragment takes, for reserving.
const LINE_BYTES: usize = 72;

/// Where a fragment ends, as far as the next one is concerned.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    init: Sha256,
    wall_end: WallTime,
    media_end: u64,
}

impl Edge {
    /// The edge after `entry` of `segment`.
    pub(super) fn after(segment: &SegmentRow, entry: &FragmentEntry) -> Self {
        let media_end = entry.media_start.saturating_add(entry.media_duration.into());
        Self {
            init: segment.init,
            wall_end: entry.wall_end(),
            media_end,
        }
    }

    /// Whether `entry` begins a stretch that players must not join to what ends here.
    pub(super) fn breaks(&self, segment: &SegmentRow, entry: &FragmentEntry, timescale: Timescale) -> bool {
        let wall = entry.wall_start.micros_since(self.wall_end);
        let media = entry.media_start.abs_diff(self.media_end);
        entry.run_start
            || self.init != segment.init
            || wall.abs() > WALL_TOLERANCE_US
            || media > u64::from(timescale.get() / 10)
    }
}

/// Writes the lines of fragments in order.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    /// The last fragment's end, and what a player takes for its wall time.
    last: Option<(Edge, i64)>,
    /// What stands before the range of a fragment that lasts so many microseconds; most last as long as the one before.
    before: (i64, String),
    /// What stands behind the range of a fragment of this sequence and generation.
    behind: ((u64, u8), String),
    /// The duration of the longest fragment so far.
    pub(super) longest_us: i64,
    /// Whether every fragment so far begins with a keyframe.
    pub(super) independent: bool,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self {
            last: None,
            before: Default::default(),
            behind: Default::default(),
            longest_us: 0,
            independent: true,
        }
    }

    fn before(&mut self, duration_us: i64) -> &str {
        let (of, text) = &mut self.before;
        if *of != duration_us || text.is_empty() {
            *of = duration_us;
            text.clear();
            text.push_str("#EXTINF:");
            push_seconds(text, duration_us.unsigned_abs());
            text.push_str(",\n#EXT-X-BYTERANGE:");
        }
        text
    }

    fn behind(&mut self, segment: &SegmentRow) -> &str {
        let (of, text) = &mut self.behind;
        if *of != (segment.id.seq, segment.generation) || text.is_empty() {
            *of = (segment.id.seq, segment.generation);
            *text = format!("\nseg/{}\n", file_name(segment));
        }
        text
    }

    /// Appends `entry` of `segment`.
    pub(super) fn push(
        &mut self,
        text: &mut String,
        segment: &SegmentRow,
        entry: &FragmentEntry,
        timescale: Timescale,
    ) {
        let breaks = self
            .last
            .as_ref()
            .is_some_and(|(edge, _)| edge.breaks(segment, entry, timescale));
        let new_init = self
            .last
            .as_ref()
            .is_none_or(|(edge, _)| edge.init != segment.init);
        if breaks {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if new_init {
            text.push_str("#EXT-X-MAP:URI=\"init/");
            text.push_str(&segment.init.to_string());
            text.push_str(".mp4\"\n");
        }
        let wall = entry.wall_start.micros();
        let assumed = self
            .last
            .as_ref()
            .filter(|_| !breaks)
            .map(|(_, assumed)| *assumed);
        let anchored = assumed.filter(|assumed| (wall - assumed).abs() <= DRIFT_US);
        if anchored.is_none() {
            text.push_str("#EXT-X-PROGRAM-DATE-TIME:");
            text.push_str(&entry.wall_start.to_string());
            text.push('\n');
        }
        let duration_us = entry.media_duration_us(timescale).max(1);
        text.push_str(self.before(duration_us));
        push_int(text, u64::from(entry.len));
        text.push('@');
        push_int(text, entry.offset);
        text.push_str(self.behind(segment));
        self.longest_us = self.longest_us.max(duration_us);
        self.independent &= entry.keyframe;
        self.last = Some((
            Edge::after(segment, entry),
            anchored.unwrap_or(wall) + duration_us,
        ));
    }
}

/// Durations are rounded to whole seconds to be compared with the target duration.
pub(super) fn target_seconds(longest_us: i64) -> u64 {
    ((longest_us + 500_000) / 1_000_000).max(1).unsigned_abs()
}

/// The playlist of fragments that will not change. `start_us` is how far into the first fragment playing
/// begins.
pub(crate) fn vod(rows: &[SegmentFragments], codecs: &Codecs, start_us: i64) -> String {
    let count: usize = rows.iter().map(|row| row.fragments.len()).sum();
    let mut body = String::with_capacity(512 + count * LINE_BYTES);
    let mut lines = Lines::new();
    for row in rows {
        let Some(&timescale) = codecs.get(&row.segment.init) else {
            continue;
        };
        for entry in &row.fragments {
            lines.push(&mut body, &row.segment, entry, timescale);
        }
    }
    body.push_str("#EXT-X-ENDLIST\n");
    let mut text = header(lines.longest_us, "VOD", start_us);
    if lines.independent {
        text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    // The header depends on every line; moving it in front of them costs less than a second pass.
    body.insert_str(0, &text);
    body
}

/// The head of a playlist that begins at its first fragment for good.
pub(super) fn header(longest_us: i64, kind: &str, start_us: i64) -> String {
    let mut text = String::with_capacity(256);
    text.push_str("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:");
    push_int(&mut text, target_seconds(longest_us));
    text.push_str("\n#EXT-X-PLAYLIST-TYPE:");
    text.push_str(kind);
    text.push_str("\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-START:TIME-OFFSET=");
    push_seconds(&mut text, start_us.max(0).unsigned_abs());
    text.push_str(",PRECISE=YES\n");
    text
}

/// Appends a number. `write!` would take a third of a playlist's time.
pub(super) fn push_int(text: &mut String, n: u64) {
    text.push_str(itoa::Buffer::new().format(n));
}

/// Appends microseconds as seconds with six decimals.
fn push_seconds(text: &mut String, micros: u64) {
    push_int(text, micros / 1_000_000);
    text.push('.');
    // A one in front keeps the zeros.
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(1_000_000 + micros % 1_000_000);
    text.push_str(digits.get(1..).unwrap_or_default());
}
