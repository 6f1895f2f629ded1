//! Finds the segments that are due, without reading all rows each time: one place a stream and goal, up to which all
//! segments have reached it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use archive::time::SECOND_US;
use archive::{StreamNo, WallTime};
use indexer::{Copies, Index, IndexError, SegmentRow, SegmentState};

use crate::plan::{Goal, Moment, Progress, progress};
use crate::rules::{RetentionRule, Rules};

/// Rows read at first, since mostly the first of them waits, and how many more each further time, up to the second.
const ROWS_FIRST: usize = 2;
const ROWS_GROWTH: usize = 4;
const ROWS_MAX: usize = 512;
/// Segments of one stream that are due at a time.
const DUE_MAX: usize = 16;
/// Segments of one stream that may fail or wait without holding up those behind them.
const PASSED_OVER_MAX: usize = 1024;
/// How often the places are kept: a start reads again what was passed since.
const KEEP_INTERVAL_US: u64 = 600 * SECOND_US as u64;

/// A segment that is due.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) row: SegmentRow,
    pub(super) copies: Copies,
    pub(super) progress: Progress,
}

/// Where a stream stands.
#[derive(Copy, Clone)]
struct Place {
    /// Segments that begin before have reached the goal, for ever, or never can in this process.
    reached: WallTime,
    /// The first of the latter: the next process may be able to.
    held: Option<WallTime>,
    /// What the index keeps.
    kept: WallTime,
}

impl Place {
    /// Segments that begin before have reached the goal for ever.
    fn for_ever(&self) -> WallTime {
        self.held.map_or(self.reached, |held| held.min(self.reached))
    }
}

/// Where all streams stand.
#[derive(Default)]
pub(super) struct Cursors {
    places: HashMap<(StreamNo, Goal), Place>,
    kept_us: Option<u64>,
}

/// What to look for.
pub(super) struct Search<'a> {
    pub(super) index: &'a Index,
    pub(super) rules: &'a Rules,
    pub(super) at: &'a Moment,
    /// Segments that are left alone for now; they hold up nobody.
    pub(super) skip: &'a dyn Fn(&SegmentRow, &Copies, Progress) -> bool,
}

impl Cursors {
    /// Segments of `stream` from `from` on have not reached any goal, as far as is known; the next process is told.
    pub(super) fn back_to(
        &mut self,
        index: &Index,
        stream: StreamNo,
        from: WallTime,
    ) -> Result<(), IndexError> {
        let mut marks = Vec::new();
        for goal in Goal::ALL {
            let of = (stream, goal);
            let place = self.place(index, of)?;
            place.reached = from.min(place.reached);
            if place.kept > from {
                place.kept = from;
                marks.push(key(of));
            }
        }
        if marks.is_empty() {
            return Ok(());
        }
        index.set_marks(marks.iter().map(|key| (key.as_str(), from)))
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
                    let place = self.place(search.index, (no, *goal))?;
                    search.of_stream((no, *goal), rule, place, &mut found)?;
                }
            }
        }
        let mut seen = HashSet::new();
        found.retain(|due| seen.insert(due.row.id));
        found.sort_by_key(|due| due.row.wall_end);
        Ok(found)
    }

    fn place(&mut self, index: &Index, of: (StreamNo, Goal)) -> Result<&mut Place, IndexError> {
        Ok(match self.places.entry(of) {
            Entry::Occupied(place) => place.into_mut(),
            Entry::Vacant(place) => {
                let kept = index.mark(&key(of))?.unwrap_or(WallTime::MIN);
                place.insert(Place {
                    reached: kept,
                    held: None,
                    kept,
                })
            }
        })
    }

    /// From where on segments of a stream may lie on the hot tier.
    pub(super) fn off_hot(&self, stream: StreamNo) -> WallTime {
        let place = self.places.get(&(stream, Goal::OffHot));
        place.map_or(WallTime::MIN, Place::for_ever)
    }

    /// Keeps the places for the next process, now and then.
    pub(super) fn keep(&mut self, index: &Index, monotonic_us: u64) -> Result<(), IndexError> {
        let kept_us = *self.kept_us.get_or_insert(monotonic_us);
        if monotonic_us.saturating_sub(kept_us) < KEEP_INTERVAL_US {
            return Ok(());
        }
        self.kept_us = Some(monotonic_us);
        let moved = |place: &Place| place.for_ever() > place.kept;
        let marks: Vec<(String, WallTime)> = (self.places.iter())
            .filter(|(_, place)| moved(place))
            .map(|(of, place)| (key(*of), place.for_ever()))
            .collect();
        if marks.is_empty() {
            return Ok(());
        }
        index.set_marks(marks.iter().map(|(key, at)| (key.as_str(), *at)))?;
        for place in self.places.values_mut() {
            place.kept = place.kept.max(place.for_ever());
        }
        Ok(())
    }
}

/// Under what the index keeps a place.
fn key((stream, goal): (StreamNo, Goal)) -> String {
    format!("reached.{}.{}", stream.0, goal.as_str())
}

impl Search<'_> {
    fn of_stream(
        &self,
        (stream, goal): (StreamNo, Goal),
        rule: &RetentionRule,
        place: &mut Place,
        found: &mut Vec<Due>,
    ) -> Result<(), IndexError> {
        let (index, below) = (self.index, self.rules.below());
        let mut from = place.reached;
        let mut all_reached = true;
        let (mut due, mut passed_over) = (0, 0);
        let mut page = ROWS_FIRST;
        loop {
            let rows = index.segments_from(stream, from, page)?;
            let more = rows.len() == page;
            page = (page * ROWS_GROWTH).min(ROWS_MAX);
            for row in rows {
                let begins = row.wall_start;
                from = begins.plus_micros(1);
                let copies = match row.state {
                    SegmentState::Sealed => index.copies(&row)?,
                    SegmentState::Open if row.epoch == index.epoch() => return Ok(()),
                    SegmentState::Deleting => continue,
                    // It may not leave the disk on which it was recorded before a start has sealed it.
                    SegmentState::Open | SegmentState::Poisoned => {
                        place.held.get_or_insert(begins);
                        continue;
                    }
                };
                let progress = progress(goal, rule, below, row.wall_end, &copies, self.at);
                match progress {
                    Progress::Reached if all_reached => place.reached = from,
                    Progress::Reached => {}
                    Progress::Young => return Ok(()),
                    // One that cannot be copied, or has a grace of its own, must not keep where it is what comes after it.
                    Progress::Waits => {
                        all_reached = false;
                        passed_over += 1;
                    }
                    Progress::Copy(_) | Progress::Evict(_) => {
                        all_reached = false;
                        if (self.skip)(&row, &copies, progress) {
                            passed_over += 1;
                        } else {
                            due += 1;
                            found.push(Due {
                                row,
                                copies,
                                progress,
                            });
                        }
                    }
                }
                if due == DUE_MAX || passed_over == PASSED_OVER_MAX {
                    return Ok(());
                }
            }
            if !more {
                return Ok(());
            }
        }
    }
}
