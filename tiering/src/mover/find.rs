//! Finds the segments that are due, without reading all rows each time: one place a stream and goal, up to which all
//! segments have reached it.

use std::collections::{HashMap, HashSet};

use archive::{StreamNo, WallTime};
use indexer::{Copies, Index, IndexError, SegmentRow, SegmentState};

use crate::plan::{Goal, Moment, Progress, progress};
use crate::rules::{RetentionRule, Rules};

/// Rows read at a time.
const PAGE_ROWS: usize = 64;
/// Segments of one stream that are due at a time: those behind one that fails need not wait for it.
const DUE_MAX: usize = 16;

/// A segment that is due.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) row: SegmentRow,
    pub(super) copies: Copies,
    pub(super) progress: Progress,
}

/// Where each stream stands: segments that begin before have reached the goal, for ever.
#[derive(Default)]
pub(super) struct Cursors(HashMap<(StreamNo, Goal), WallTime>);

impl Cursors {
    /// Copies that are to be removed, at most `count`.
    pub(super) fn evictions(
        &mut self,
        index: &Index,
        rules: &Rules,
        at: &Moment,
        count: usize,
    ) -> Result<Vec<Due>, IndexError> {
        let mut found = self.due(index, rules, at, [Goal::OffHot, Goal::OffWarm])?;
        found.truncate(count);
        Ok(found)
    }

    /// Copies that are to be made, those of the oldest footage first.
    pub(super) fn copies(
        &mut self,
        index: &Index,
        rules: &Rules,
        at: &Moment,
    ) -> Result<Vec<Due>, IndexError> {
        let mut found = self.due(index, rules, at, [Goal::Copied, Goal::Cooled])?;
        found.sort_unstable_by_key(|due| due.row.wall_end);
        Ok(found)
    }

    fn due(
        &mut self,
        index: &Index,
        rules: &Rules,
        at: &Moment,
        goals: [Goal; 2],
    ) -> Result<Vec<Due>, IndexError> {
        let below = rules.below();
        let mut found = Vec::new();
        for (no, id) in index.streams() {
            let Some(rule) = rules.rule_for(&id) else { continue };
            let moves = rule.first_below(below).is_some();
            for goal in goals {
                let wanted = match goal {
                    Goal::Copied => moves,
                    // What was copied under another rule is still taken care of.
                    Goal::OffHot | Goal::OffWarm => below.warm || below.cold,
                    Goal::Cooled => rule.cold_from(below).is_some(),
                };
                if wanted {
                    let from = self.0.entry((no, goal)).or_insert(WallTime::MIN);
                    Self::of_stream(index, (no, goal), from, (rule, rules), at, &mut found)?;
                }
            }
        }
        // One step at a time: the next one is decided on what this one leaves.
        let mut seen = HashSet::new();
        found.retain(|due| seen.insert(due.row.id));
        Ok(found)
    }

    fn of_stream(
        index: &Index,
        (stream, goal): (StreamNo, Goal),
        reached: &mut WallTime,
        (rule, rules): (&RetentionRule, &Rules),
        at: &Moment,
        found: &mut Vec<Due>,
    ) -> Result<(), IndexError> {
        let mut from = *reached;
        let mut all_reached = true;
        let mut due = 0;
        loop {
            let rows = index.segments_from(stream, from, PAGE_ROWS)?;
            let more = rows.len() == PAGE_ROWS;
            for row in rows {
                from = row.wall_start.plus_micros(1);
                let (copies, progress) = match row.state {
                    SegmentState::Sealed => {
                        let copies = index.copies(&row)?.unwrap_or_else(Copies::hot_only);
                        let progress = progress(goal, rule, rules.below(), row.wall_end, &copies, at);
                        (copies, progress)
                    }
                    SegmentState::Open if row.epoch == index.epoch() => return Ok(()),
                    // It never leaves the disk on which it was recorded.
                    SegmentState::Open | SegmentState::Poisoned | SegmentState::Deleting => continue,
                };
                match progress {
                    Progress::Reached => {
                        if all_reached {
                            *reached = from;
                        }
                    }
                    Progress::Waits => return Ok(()),
                    Progress::Copy(_) | Progress::Evict(_) => {
                        all_reached = false;
                        due += 1;
                        found.push(Due {
                            row,
                            copies,
                            progress,
                        });
                        if due == DUE_MAX {
                            return Ok(());
                        }
                    }
                }
            }
            if !more {
                return Ok(());
            }
        }
    }
}
