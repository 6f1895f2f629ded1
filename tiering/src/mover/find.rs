//! Finds the segments that are due, without reading all rows each time: one place a stream and goal, up to which all
//! segments have reached it.

use std::collections::{HashMap, HashSet};

use archive::{StreamNo, Tier, WallTime};
use indexer::{Copies, Index, IndexError, SegmentRow, SegmentState};

use crate::plan::{Goal, Moment, Progress, progress};
use crate::rules::{RetentionRule, Rules};

/// Rows read at a time.
const PAGE_ROWS: usize = 64;
/// Segments of one stream that are due at a time.
const DUE_MAX: usize = 16;
/// Segments of one stream that may fail without holding up those behind them.
const PASSED_OVER_MAX: usize = 1024;

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

/// What to look for.
pub(super) struct Search<'a> {
    pub(super) index: &'a Index,
    pub(super) rules: &'a Rules,
    pub(super) at: &'a Moment,
    /// Segments that are left alone for now; they hold up nobody.
    pub(super) skip: &'a dyn Fn(&SegmentRow, Progress) -> bool,
}

impl Cursors {
    /// Segments of `stream` from `from` on have not reached any goal, as far as is known.
    pub(super) fn back_to(&mut self, stream: StreamNo, from: WallTime) {
        for goal in Goal::ALL {
            if let Some(reached) = self.0.get_mut(&(stream, goal)) {
                *reached = from.min(*reached);
            }
        }
    }

    /// What is due for `goals`, the oldest footage first. A segment takes one step at a time: the next one is decided
    /// on what this one leaves.
    pub(super) fn due(&mut self, search: &Search<'_>, goals: &[Goal]) -> Result<Vec<Due>, IndexError> {
        let below = search.rules.below();
        let mut found = Vec::new();
        for (no, id) in search.index.streams() {
            let Some(rule) = search.rules.rule_for(&id) else {
                continue;
            };
            for goal in goals {
                let wanted = match goal {
                    Goal::Copied => rule.first_below(below).is_some(),
                    // What was copied under another rule is still taken care of.
                    Goal::OffHot | Goal::OffWarm => below.warm || below.cold,
                    Goal::Cooled => rule.cold_from(below).is_some(),
                };
                if wanted {
                    let reached = self.0.entry((no, *goal)).or_insert(WallTime::MIN);
                    search.of_stream((no, *goal), rule, reached, &mut found)?;
                }
            }
        }
        let mut seen = HashSet::new();
        found.retain(|due| seen.insert(due.row.id));
        found.sort_by_key(|due| due.row.wall_end);
        Ok(found)
    }
}

impl Search<'_> {
    fn of_stream(
        &self,
        (stream, goal): (StreamNo, Goal),
        rule: &RetentionRule,
        reached: &mut WallTime,
        found: &mut Vec<Due>,
    ) -> Result<(), IndexError> {
        let (index, below) = (self.index, self.rules.below());
        let mut from = *reached;
        let mut all_reached = true;
        let (mut due, mut passed_over) = (0, 0);
        loop {
            let rows = index.segments_from(stream, from, PAGE_ROWS)?;
            let more = rows.len() == PAGE_ROWS;
            for row in rows {
                from = row.wall_start.plus_micros(1);
                let copies = match row.state {
                    SegmentState::Sealed => index.copies(&row)?,
                    SegmentState::Open if row.epoch == index.epoch() => return Ok(()),
                    // It never leaves the disk on which it was recorded.
                    SegmentState::Open | SegmentState::Poisoned | SegmentState::Deleting => continue,
                };
                let progress = progress(goal, rule, below, row.wall_end, &copies, self.at);
                match progress {
                    Progress::Reached if all_reached => *reached = from,
                    Progress::Reached => {}
                    // One that cannot be copied must not keep on the disk what comes after it.
                    Progress::Waits
                        if goal == Goal::OffHot && copies.authority == Tier::Hot && passed_over < DUE_MAX =>
                    {
                        all_reached = false;
                        passed_over += 1;
                    }
                    Progress::Waits => return Ok(()),
                    Progress::Copy(_) | Progress::Evict(_) => {
                        all_reached = false;
                        if (self.skip)(&row, progress) {
                            passed_over += 1;
                        } else {
                            due += 1;
                            found.push(Due {
                                row,
                                copies,
                                progress,
                            });
                        }
                        if due == DUE_MAX || passed_over == PASSED_OVER_MAX {
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
