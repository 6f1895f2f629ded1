//! Where decoding has to begin.

use archive::time::SECOND_US;
use archive::{TimeRange, WallTime};
use indexer::SegmentFragments;

use crate::auth::StreamHandle;
use crate::problem::Problem;

/// How far back a keyframe is looked for, step by step. A longer GOP plays from its next keyframe on.
const LOOK_BACK_US: [i64; 3] = [20 * SECOND_US, 120 * SECOND_US, 1200 * SECOND_US];

/// When the fragment begins with whose keyframe a player can show `at`, or the first footage after it; `None`
/// when there is none.
pub(crate) fn begin(stream: &StreamHandle, at: WallTime) -> Result<Option<WallTime>, Problem> {
    let Some(found) = stream.seek(at)? else {
        return Ok(None);
    };
    let range = found.entry.range();
    if found.entry.keyframe {
        return Ok(Some(range.from()));
    }
    let look = |from: WallTime, to: WallTime| -> Result<Option<WallTime>, Problem> {
        let Some(around) = TimeRange::new(from, to) else {
            return Ok(None);
        };
        let mut rows = stream.fragments(around)?;
        from_keyframe(&mut rows, range.from());
        Ok(rows
            .first()
            .and_then(|row| row.fragments.first())
            .map(|entry| entry.wall_start))
    };
    for back in LOOK_BACK_US {
        let before = look(range.from().plus_micros(-back), range.to())?;
        if before.is_some() {
            return Ok(before);
        }
    }
    look(range.from(), range.to().plus_micros(LOOK_BACK_US[2]))
}

/// Cuts away what stands before the keyframe that a player needs to show `from`, or the first time after it
/// with footage. `rows` must reach back to that keyframe; leaves nothing when all of `rows` lies before `from`.
pub(crate) fn from_keyframe(rows: &mut Vec<SegmentFragments>, from: WallTime) {
    let mut keyframe = None;
    let mut found = false;
    let all = rows
        .iter()
        .enumerate()
        .flat_map(|(r, row)| row.fragments.iter().enumerate().map(move |(f, e)| (r, f, e)));
    for (r, f, entry) in all {
        if entry.keyframe {
            keyframe = Some((r, f));
        } else if entry.run_start {
            // Without its keyframe it cannot be decoded: it is passed over.
            keyframe = None;
        }
        if entry.wall_end() > from && keyframe.is_some() {
            found = true;
            break;
        }
    }
    let Some((r, f)) = keyframe.filter(|_| found) else {
        rows.clear();
        return;
    };
    rows.drain(..r);
    if let Some(row) = rows.first_mut() {
        row.fragments.drain(..f);
    }
    rows.retain(|row| !row.fragments.is_empty());
}

#[cfg(test)]
mod tests {
    use archive::{Epoch, FragmentEntry, SegmentId, Sha256, StreamNo, Tier};
    use indexer::{SegmentRow, SegmentState};

    use super::*;

    fn at(n: i64) -> WallTime {
        WallTime::from_micros(n * SECOND_US)
    }

    /// Fragments of two seconds: `K` begins with a keyframe, `.` continues a GOP, `r` begins a run without one,
    /// a space is a gap.
    fn rows(pattern: &str) -> Vec<SegmentFragments> {
        let entry = |(n, kind): (usize, char)| FragmentEntry {
            offset: 4096 * (n as u64 + 1),
            len: 1,
            wall_start: at(n as i64 * 2),
            wall_duration_us: 2_000_000,
            media_start: 0,
            media_duration: 1,
            keyframe: kind == 'K',
            run_start: kind == 'r',
            activity: 0,
            notes: Vec::new(),
        };
        let fragments = pattern
            .chars()
            .enumerate()
            .filter(|(_, kind)| *kind != ' ')
            .map(entry)
            .collect();
        let segment = SegmentRow {
            id: SegmentId {
                stream: StreamNo(1),
                seq: 0,
            },
            epoch: Epoch(1),
            wall_start: at(0),
            wall_end: at(100),
            bytes: 0,
            state: SegmentState::Sealed,
            tier: Tier::Hot,
            init: Sha256::default(),
            head: Sha256::default(),
            fragments: 0,
            generation: 0,
        };
        vec![SegmentFragments { segment, fragments }]
    }

    #[test]
    fn playing_begins_at_the_keyframe_before_or_else_at_the_next() {
        for (pattern, from, expected) in [
            ("KKKK", 3, Some(2)),
            ("KKKK", 2, Some(2)),
            ("K..K", 5, Some(0)),
            ("K.  K", 6, Some(8)),
            ("K.  ..K", 9, Some(0)),
            ("K.r.K", 5, Some(8)),
            ("..KK", 1, Some(4)),
            ("KK", 4, None),
            ("....", 1, None),
        ] {
            let mut rows = rows(pattern);
            from_keyframe(&mut rows, at(from));
            let first = rows
                .first()
                .and_then(|row| row.fragments.first())
                .map(|e| e.wall_start);
            assert_eq!(first, expected.map(at), "{pattern} from {from}");
        }
    }
}
