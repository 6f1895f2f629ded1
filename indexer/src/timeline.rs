//! Runs and gaps of a stream, from its segments and gap rows.

use archive::{Gap, Tier, TimeRange};

use crate::rows::SegmentRow;

/// An uninterrupted stretch of recorded wall time in one tier.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// When.
    pub range: TimeRange,
    /// Where it is read from.
    pub tier: Tier,
    /// Whether pictures were thinned out.
    pub thinned: bool,
}

/// What a stream has and lacks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Timeline {
    /// In order, without overlap.
    pub runs: Vec<Run>,
    /// In order; the last may still last.
    pub gaps: Vec<Gap>,
}

/// Segments less gaps, clipped to `range`. Both come in order and overlap `range`.
pub(crate) fn build(range: TimeRange, segments: &[SegmentRow], gaps: Vec<Gap>) -> Timeline {
    let mut runs: Vec<Run> = Vec::new();
    let mut next_gap = 0;
    for segment in segments {
        let Some(span) = segment.range().intersect(range) else {
            continue;
        };
        let mut from = span.from();
        // A gap that ends before this segment ends before all that follow.
        while gaps
            .get(next_gap)
            .is_some_and(|g| g.to.is_some_and(|to| to <= from))
        {
            next_gap += 1;
        }
        for gap in gaps.get(next_gap..).unwrap_or_default() {
            if gap.from >= span.to() {
                break;
            }
            push(&mut runs, TimeRange::new(from, gap.from.max(from)), segment);
            from = from.max(gap.to.unwrap_or(span.to()));
        }
        push(&mut runs, TimeRange::new(from, span.to()), segment);
    }
    let clip = |g: Gap| {
        let to = g.to.map(|to| to.min(range.to()));
        Gap {
            from: g.from.max(range.from()),
            to,
            cause: g.cause,
        }
    };
    Timeline {
        runs,
        gaps: gaps.into_iter().map(clip).collect(),
    }
}

/// Appends a stretch, joined to the run before it when it continues it.
fn push(runs: &mut Vec<Run>, range: Option<TimeRange>, segment: &SegmentRow) {
    let Some(range) = range.filter(|r| !r.is_empty()) else {
        return;
    };
    let (tier, thinned) = (segment.tier, segment.generation > 0);
    if let Some(last) = runs
        .last_mut()
        .filter(|l| l.range.to() == range.from() && (l.tier, l.thinned) == (tier, thinned))
    {
        last.range = TimeRange::new(last.range.from(), range.to()).unwrap_or(range);
    } else {
        runs.push(Run { range, tier, thinned });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::SegmentState;
    use archive::{Epoch, GapCause, SegmentId, StreamNo, WallTime};

    fn t(s: i64) -> WallTime {
        WallTime::from_micros(s * 1_000_000)
    }

    fn segment(seq: u64, from: i64, to: i64) -> SegmentRow {
        SegmentRow {
            id: SegmentId {
                stream: StreamNo(1),
                seq,
            },
            epoch: Epoch(1),
            wall_start: t(from),
            wall_end: t(to),
            bytes: 0,
            state: SegmentState::Sealed,
            tier: Tier::Hot,
            init: Default::default(),
            head: Default::default(),
            fragments: 1,
            generation: 0,
        }
    }

    fn gap(from: i64, to: Option<i64>) -> Gap {
        Gap {
            from: t(from),
            to: to.map(t),
            cause: GapCause::NoData,
        }
    }

    #[test]
    fn adjacent_segments_are_one_run_and_gaps_cut_them() {
        let segments = [segment(0, 0, 600), segment(1, 600, 1200), segment(2, 1300, 1900)];
        let gaps = vec![gap(700, Some(720)), gap(1200, Some(1300)), gap(1900, None)];
        let range = TimeRange::new(t(100), t(2000)).expect("forwards");
        let timeline = build(range, &segments, gaps);
        let runs: Vec<_> = timeline
            .runs
            .iter()
            .map(|r| (r.range.from(), r.range.to()))
            .collect();
        assert_eq!(runs, [(t(100), t(700)), (t(720), t(1200)), (t(1300), t(1900))]);
        assert_eq!(timeline.gaps.last().and_then(|g| g.to), None);
    }
}
