//! What the file says about itself, for whoever finds it without us.

use std::fmt::Write;

use super::cut::RunCut;
use super::{ExportFragment, ExportInput};
use crate::fragment::{GapCause, Note};
use crate::time::{TimeRange, WallTime};

/// More gaps than this are only counted.
const GAPS_MAX: usize = 1000;

/// A comment in JSON: camera, stream, the wall time of what is shown, and where it has gaps. Nothing in it
/// needs escaping: ids and times are plain ASCII.
pub(super) fn comment(input: &ExportInput<'_>, runs: &[RunCut]) -> String {
    let mut text = String::new();
    let from = runs.first().map_or(input.range.from(), |r| r.wall_from);
    let to = runs.last().map_or(input.range.to(), |r| r.wall_to);
    let _ = write!(
        text,
        r#"{{"camera":"{}","stream":"{}","from":"{from}","to":"{to}","gaps":["#,
        input.stream.camera, input.stream.stream,
    );
    let mut gaps = 0;
    for (before, after) in runs.iter().zip(runs.iter().skip(1)) {
        let Some(gap) = TimeRange::new(before.wall_to, after.wall_from).filter(|g| !g.is_empty()) else {
            continue;
        };
        gaps += 1;
        if gaps > GAPS_MAX {
            continue;
        }
        let comma = if gaps > 1 { "," } else { "" };
        let _ = write!(text, r#"{comma}{{"from":"{}","to":"{}""#, gap.from(), gap.to());
        let fragments = input.fragments.get(after.fragments.start..=after.begin.fragment);
        if let Some(cause) = cause(fragments.unwrap_or_default(), gap) {
            let _ = write!(text, r#","cause":"{}""#, cause.as_str());
        }
        text.push('}');
    }
    text.push(']');
    if gaps > GAPS_MAX {
        let _ = write!(text, r#","gaps_left_out":{}"#, gaps - GAPS_MAX);
    }
    text.push('}');
    text
}

/// The cause of the longest gap that is noted with the fragments behind `gap` and lies in it.
fn cause(fragments: &[ExportFragment], gap: TimeRange) -> Option<GapCause> {
    let noted = fragments
        .iter()
        .flat_map(|f| &f.entry.notes)
        .filter_map(|note| match *note {
            Note::Gap { from, to, cause } => Some((overlap_us(from, to, gap)?, cause)),
            _ => None,
        });
    noted.max_by_key(|(us, _)| *us).map(|(_, cause)| cause)
}

fn overlap_us(from: WallTime, to: WallTime, gap: TimeRange) -> Option<u64> {
    Some(TimeRange::new(from, to)?.intersect(gap)?.micros())
}
