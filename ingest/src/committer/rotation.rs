//! When a segment ends: a pure decision.

use std::time::Duration;

use archive::{StreamNo, WallTime};

/// What is known when the next fragment is to be written.
#[derive(Copy, Clone, Debug)]
pub(super) struct Question {
    pub(super) stream: StreamNo,
    pub(super) segment_start: WallTime,
    pub(super) segment_bytes: u64,
    pub(super) fragment_start: WallTime,
    pub(super) fragment_bytes: u64,
    pub(super) duration: Duration,
    pub(super) bytes_max: u64,
}

/// Whether the fragment begins a new segment: the segment would grow too large, or a border of the
/// stream's own time grid lies between them. The grid is shifted for each stream, so that cameras do not
/// all seal at the same second.
pub(super) fn is_due(q: &Question) -> bool {
    let period = i64::try_from(q.duration.as_micros()).unwrap_or(i64::MAX).max(1);
    // Weyl sequence of the golden ratio: neighbours in number lie far apart in phase.
    let turn = u64::from(q.stream.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let phase = ((u128::from(turn) * period.unsigned_abs() as u128) >> 64) as i64;
    let cell = |at: WallTime| (at.micros() - phase).div_euclid(period);
    q.segment_bytes + q.fragment_bytes > q.bytes_max || cell(q.fragment_start) != cell(q.segment_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(stream: u32, from: i64, at: i64) -> Question {
        Question {
            stream: StreamNo(stream),
            segment_start: WallTime::from_micros(from * 1_000_000),
            segment_bytes: 50 << 20,
            fragment_start: WallTime::from_micros(at * 1_000_000),
            fragment_bytes: 1 << 20,
            duration: Duration::from_secs(600),
            bytes_max: 128 << 20,
        }
    }

    #[test]
    fn a_segment_ends_once_in_every_period_and_not_with_its_neighbours() {
        let border = |stream| (1..=600).find(|at| is_due(&question(stream, 1_200_000, 1_200_000 + at)));
        let mut borders: Vec<_> = (0..100).filter_map(border).collect();
        assert_eq!(borders.len(), 100);
        borders.sort_unstable();
        borders.dedup();
        assert!(borders.len() > 95, "{borders:?}");
    }

    #[test]
    fn a_segment_ends_before_it_grows_too_large() {
        let q = Question {
            segment_bytes: 128 << 20,
            ..question(1, 100, 100)
        };
        assert!(is_due(&q));
    }
}
