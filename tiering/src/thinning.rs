//! When footage is thinned and how: the keys of a rule, and a pure decision about one segment.

use std::fmt;
use std::time::Duration;

use archive::segment::Keep;
use archive::{FragmentEntry, TimeRange, WallTime};
use indexer::{Index, IndexError, SegmentRow, SegmentState};
use serde::{Deserialize, Serialize};

use crate::rules::RetentionRule;

/// GOPs of which one stays, at most: more would be a picture a minute.
const NTH_MAX: u8 = 60;

/// `thin_keep` of a rule: `"keyframes"`, or `"every-4th-gop"` for any number.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ThinKeep(pub Keep);

impl Default for ThinKeep {
    fn default() -> Self {
        Self(Keep::Keyframes)
    }
}

impl TryFrom<String> for ThinKeep {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let nth = || {
            let number = text.strip_prefix("every-")?.strip_suffix("-gop")?;
            let digits = number.trim_end_matches(|c: char| c.is_ascii_lowercase());
            let n = digits.parse().ok().filter(|n| (2..=NTH_MAX).contains(n))?;
            (number == ordinal(n)).then_some(Keep::EveryNthGop(n))
        };
        match text.as_str() {
            "keyframes" => Ok(Self(Keep::Keyframes)),
            _ => nth().map(Self).ok_or_else(|| {
                format!("\"{text}\": use \"keyframes\", or \"every-2nd-gop\" to \"every-{NTH_MAX}th-gop\"")
            }),
        }
    }
}

impl From<ThinKeep> for String {
    fn from(keep: ThinKeep) -> Self {
        match keep.0 {
            Keep::Keyframes => "keyframes".to_owned(),
            Keep::EveryNthGop(n) => format!("every-{}-gop", ordinal(n)),
        }
    }
}

impl fmt::Display for ThinKeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(*self))
    }
}

fn ordinal(n: u8) -> String {
    let ending = match (n % 10, n % 100) {
        (1, 1) | (1, 21..) => "st",
        (2, 2) | (2, 22..) => "nd",
        (3, 3) | (3, 23..) => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

/// What becomes of a segment as far as thinning goes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// It is to be thinned.
    Now,
    /// It never will be: it was, or cannot be.
    Never,
    /// Its time has not come, nor that of those behind it.
    Later,
}

/// Whether a segment is to be thinned; `is_written` says that it still grows. Ages count from its last instant.
pub(crate) fn due(rule: &RetentionRule, row: &SegmentRow, is_written: bool, now: WallTime) -> Due {
    let Some(after) = rule.thin_after else {
        return Due::Later;
    };
    if is_written || i128::from(now.micros_since(row.wall_end)) < after.as_micros() as i128 {
        return Due::Later;
    }
    match row.state {
        SegmentState::Sealed if row.generation == 0 => Due::Now,
        _ => Due::Never,
    }
}

/// Whether a segment that is due may be thinned now.
pub(crate) fn may_thin(index: &Index, row: &SegmentRow, now: WallTime) -> Result<bool, IndexError> {
    let (stream, range) = (row.id.stream, row.range());
    // What is damaged is kept as it is, for whoever can repair it.
    Ok(!index.held(stream, range, now)? && index.damage(stream, range)?.is_empty())
}

/// The wall time in which something moves at least as much as the rule says, and as much around it as it says.
pub(crate) fn spared(entries: &[FragmentEntry], level: u8, around: Duration) -> Vec<TimeRange> {
    let around = i64::try_from(around.as_micros()).unwrap_or(i64::MAX);
    let mut spared: Vec<TimeRange> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.activity >= level) {
        let (from, to) = (
            entry.wall_start.plus_micros(-around),
            entry.wall_end().plus_micros(around),
        );
        let Some(range) = TimeRange::new(from, to) else {
            continue;
        };
        match spared.last_mut().filter(|last| last.to() >= range.from()) {
            Some(last) => *last = TimeRange::new(last.from(), range.to().max(last.to())).unwrap_or(*last),
            None => spared.push(range),
        }
    }
    spared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_reads_back_from_what_it_is_written_as_and_nonsense_is_refused() {
        let every = |n| ThinKeep(Keep::EveryNthGop(n));
        for (text, keep) in [
            ("keyframes", ThinKeep(Keep::Keyframes)),
            ("every-2nd-gop", every(2)),
            ("every-3rd-gop", every(3)),
            ("every-4th-gop", every(4)),
            ("every-11th-gop", every(11)),
            ("every-21st-gop", every(21)),
            ("every-60th-gop", every(60)),
        ] {
            assert_eq!(ThinKeep::try_from(text.to_owned()), Ok(keep), "{text}");
            assert_eq!(keep.to_string(), text);
        }
        for bad in [
            "",
            "keyframe",
            "every-1st-gop",
            "every-4-gop",
            "every-4nd-gop",
            "every-61st-gop",
            "every-th-gop",
        ] {
            assert!(ThinKeep::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_around_what_moves_are_joined() {
        let second = |s: i64| WallTime::from_micros(1_800_000_000_000_000 + s * 1_000_000);
        let entry = |(i, activity): (i64, u8)| FragmentEntry {
            offset: 0,
            len: 0,
            wall_start: second(10 * i),
            wall_duration_us: 10_000_000,
            media_start: 0,
            media_duration: 0,
            keyframe: true,
            run_start: false,
            activity,
            notes: vec![],
        };
        let entries: Vec<_> = [0, 70, 0, 90, 0, 0, 80]
            .into_iter()
            .enumerate()
            .map(|(i, a)| entry((i as i64, a)))
            .collect();
        let found = |level, around| -> Vec<(i64, i64)> {
            let seconds = |at: WallTime| at.micros_since(second(0)) / 1_000_000;
            spared(&entries, level, Duration::from_secs(around))
                .iter()
                .map(|r| (seconds(r.from()), seconds(r.to())))
                .collect()
        };
        assert_eq!(found(70, 0), [(10, 20), (30, 40), (60, 70)]);
        assert_eq!(found(70, 5), [(5, 45), (55, 75)]);
        assert_eq!(found(85, 1), [(29, 41)]);
    }
}
