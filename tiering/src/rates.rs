//! What streams bring, by the footage of their last day: what a configuration can be held against before it is in force.

use archive::WallTime;
use archive::time::{HOUR_US, SECOND_US};
use indexer::{CameraRow, Index, IndexError};

use crate::forecast::{Held, StreamNow};
use crate::rules::Rules;

/// The last of a stream's footage that is looked at.
const WINDOW_US: i64 = 24 * HOUR_US;
/// Less footage than this is no measurement.
const FOOTAGE_MIN_US: i64 = HOUR_US;
/// Rows read at once.
const PAGE_ROWS: usize = 1024;

/// The streams of `cameras` that are recorded, promised a minimum and known well enough, each at the rate of its last day.
pub fn rates(index: &Index, rules: &Rules, cameras: &[CameraRow]) -> Result<Vec<StreamNow>, IndexError> {
    let mut found = Vec::new();
    for (no, id) in index.streams() {
        let rule = rules.place_for(&id);
        let promised = rules.at(rule).is_some_and(|rule| !rule.age_min().is_zero());
        let camera = cameras
            .iter()
            .find(|row| row.id == id.camera && row.removed.is_none());
        let set_up = camera.filter(|row| row.streams.iter().any(|s| s.enabled && s.name == id.stream));
        let (Some(camera), true, Some(last)) = (set_up, promised, index.last_segment(no)?) else {
            continue;
        };
        let begin = last.wall_end.plus_micros(-WINDOW_US);
        let Some((bytes, since)) = footage(index, no, begin)? else {
            continue;
        };
        let window_us = last.wall_end.micros_since(since.max(begin));
        if window_us >= FOOTAGE_MIN_US {
            found.push(StreamNow {
                id,
                rule,
                priority: camera.priority,
                recorded: true,
                removed: None,
                rate: bytes as f64 / (window_us as f64 / SECOND_US as f64),
                all: Held::default(),
                held_fast: 0,
                on: Default::default(),
                oldest: Vec::new(),
            });
        }
    }
    Ok(found)
}

/// The bytes of the segments that begin at `from` or later, and when the first of them does.
fn footage(
    index: &Index,
    no: archive::StreamNo,
    from: WallTime,
) -> Result<Option<(u64, WallTime)>, IndexError> {
    let (mut bytes, mut since, mut at) = (0u64, None, from);
    loop {
        let rows = index.segments_from(no, at, PAGE_ROWS)?;
        for row in &rows {
            bytes = bytes.saturating_add(row.bytes);
            since.get_or_insert(row.wall_start);
            at = row.wall_start.plus_micros(1);
        }
        if rows.len() < PAGE_ROWS {
            return Ok(since.map(|since| (bytes, since)));
        }
    }
}
