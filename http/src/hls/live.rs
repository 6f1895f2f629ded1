//! The live playlist: a window over the newest fragments.
//!
//! Its sequence numbers must grow by one per fragment, for ever, on every reload, and after a restart of the
//! service too. They are counted from an anchor: the wall time of the first fragment of the window in
//! hundredths of a second. No stream has a hundred fragments a second, so a later anchor always lies above
//! what was counted from an earlier one.

use std::collections::VecDeque;

use archive::{FragmentEntry, Timescale, WallTime};
use indexer::{SegmentFragments, SegmentRow};

use super::Codecs;
use super::media::{Edge, Lines, push_int, target_seconds};

/// The window holds at least this many fragments where there are as many.
const FRAGMENTS_MIN: usize = 6;
/// And at least this much time.
const DURATION_MIN_US: i64 = 12_000_000;
/// A stream that nobody watched is not counted on through more than this: a new anchor is taken.
pub(crate) const CATCH_UP_MAX_US: i64 = 60_000_000;
/// How far back a new window looks.
pub(crate) const LOOK_BACK_US: i64 = 60_000_000;

/// A stream's window and its counts.
#[derive(Debug, Default)]
pub(crate) struct LiveWindow {
    fragments: VecDeque<Shown>,
    /// The sequence number of the first fragment in the window.
    sequence: u64,
    /// The number of discontinuities before the first fragment in the window, counted from the anchor.
    discontinuities: u64,
}

#[derive(Debug)]
struct Shown {
    segment: SegmentRow,
    entry: FragmentEntry,
    timescale: Timescale,
    /// Whether a discontinuity stands before it.
    breaks: bool,
    /// Whether its bytes were found to be damaged since it was first listed.
    damaged: bool,
}

impl LiveWindow {
    /// The wall time after the newest fragment; `None` while empty.
    pub(crate) fn end(&self) -> Option<WallTime> {
        self.fragments.back().map(|shown| shown.entry.wall_end())
    }

    /// Whether the window is too old to be counted on from, with media durable until `until`.
    pub(crate) fn is_stale(&self, until: WallTime) -> bool {
        self.end()
            .is_none_or(|end| until.micros_since(end) > CATCH_UP_MAX_US)
    }

    /// Forgets everything; the next fragment gives a new anchor.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds the fragments of `rows` that are newer than the window, and lets go of what falls out of it.
    pub(crate) fn extend(&mut self, rows: Vec<SegmentFragments>, codecs: &Codecs) {
        for row in rows {
            let Some(&timescale) = codecs.get(&row.segment.init) else {
                continue;
            };
            for entry in row.fragments {
                let newest = self.fragments.back().map(|s| (s.segment.id.seq, s.entry.offset));
                if newest.is_some_and(|newest| (row.segment.id.seq, entry.offset) <= newest) {
                    continue;
                }
                self.push(row.segment.clone(), entry, timescale);
            }
        }
        self.slide();
    }

    fn push(&mut self, segment: SegmentRow, entry: FragmentEntry, timescale: Timescale) {
        // A window begins with a picture that can be decoded.
        if self.fragments.is_empty() && !entry.keyframe {
            return;
        }
        let breaks = match self.fragments.back() {
            None => {
                let anchor = entry.wall_start.micros().unsigned_abs() / 10_000;
                (self.sequence, self.discontinuities) = (anchor, anchor);
                false
            }
            Some(before) => Edge::after(&before.segment, &before.entry).breaks(&segment, &entry, timescale),
        };
        self.fragments.push_back(Shown {
            segment,
            entry,
            timescale,
            breaks,
            damaged: false,
        });
    }

    /// The first fragment of the window: the last keyframe with enough behind it. Never moves back.
    fn slide(&mut self) {
        let (mut count, mut duration) = (0, 0);
        let mut first = 0;
        for (at, shown) in self.fragments.iter().enumerate().rev() {
            count += 1;
            duration += shown.entry.media_duration_us(shown.timescale);
            first = at;
            if count >= FRAGMENTS_MIN && duration >= DURATION_MIN_US && shown.entry.keyframe {
                break;
            }
        }
        for shown in self.fragments.drain(..first) {
            self.sequence += 1;
            self.discontinuities += u64::from(shown.breaks);
        }
    }

    /// When the first fragment of the window begins; `None` while empty.
    pub(crate) fn begin(&self) -> Option<WallTime> {
        self.fragments.front().map(|shown| shown.entry.wall_start)
    }

    /// Marks what was found to be damaged. Its line stays, since players count lines, and says that there is
    /// nothing to fetch. True when something is marked that was not before.
    pub(crate) fn mark(&mut self, is_damaged: impl Fn(&SegmentRow, &FragmentEntry) -> bool) -> bool {
        let mut news = false;
        for shown in self.fragments.iter_mut().filter(|shown| !shown.damaged) {
            shown.damaged = is_damaged(&shown.segment, &shown.entry);
            news |= shown.damaged;
        }
        news
    }

    /// The playlist; `None` when the window is empty.
    pub(crate) fn text(&self) -> Option<String> {
        let first = self.fragments.front()?;
        let mut lines = Lines::new();
        let mut body = String::with_capacity(2048);
        // A discontinuity before the first fragment stays listed until that fragment goes, so that the count
        // before the window changes only with it.
        if first.breaks {
            body.push_str("#EXT-X-DISCONTINUITY\n");
        }
        for shown in &self.fragments {
            if shown.damaged {
                body.push_str("#EXT-X-GAP\n");
            }
            lines.push(&mut body, &shown.segment, &shown.entry, shown.timescale);
        }
        let mut text = String::with_capacity(body.len() + 160);
        text.push_str("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:");
        push_int(&mut text, target_seconds(lines.longest_us));
        text.push_str("\n#EXT-X-MEDIA-SEQUENCE:");
        push_int(&mut text, self.sequence);
        text.push_str("\n#EXT-X-DISCONTINUITY-SEQUENCE:");
        push_int(&mut text, self.discontinuities);
        text.push('\n');
        text.push_str(&body);
        Some(text)
    }
}
