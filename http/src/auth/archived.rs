//! Footage that has to be restored before it can be read: whether it is, and asking for that.

use archive::store::Restoring;
use archive::time::SECOND_US;
use archive::{ArchiveError, Tier, TimeRange, WallTime};
use indexer::{Restore, SegmentRow, SegmentState};

use super::access::StreamHandle;
use crate::problem::Problem;

/// So much footage is restored for one who plays: what follows is asked for when it comes to that.
const AHEAD_US: i64 = 30 * 60 * SECOND_US;

/// What is restored beside what a request needs.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ahead {
    /// Nothing.
    None,
    /// What follows within half an hour; and what is needed later than that is asked for later.
    Playing,
}

impl StreamHandle {
    /// How segments on a tier are restored, where they have to be.
    fn restoring(&self, tier: Tier) -> Option<&Restoring> {
        let objects = self.stores().of(tier).filter(|_| tier == Tier::Cold)?;
        objects.store.restoring()
    }

    /// Whether a segment has to be restored before it can be read, as far as the index knows.
    pub(crate) fn is_archived(&self, row: &SegmentRow) -> Result<bool, Problem> {
        if self.restoring(row.tier).is_none() || row.state != SegmentState::Sealed {
            return Ok(false);
        }
        let known = self.index().restore_of(row)?;
        Ok(!known.is_some_and(|known| known.is_readable(self.now())))
    }

    /// Fails when any of `rows`, which come in order, has to be restored before it can be read, and has that begun.
    /// Blocks.
    pub(crate) fn ensure_readable<'a>(
        &self,
        rows: impl IntoIterator<Item = &'a SegmentRow>,
        ahead: Ahead,
    ) -> Result<(), Problem> {
        let mut archived = Vec::new();
        for row in rows {
            if self.is_archived(row)? {
                archived.push(row.clone());
            }
        }
        let Some(first) = archived.first().cloned() else {
            return Ok(());
        };
        let Some(how) = self.restoring(first.tier).copied() else {
            return Ok(());
        };
        if ahead == Ahead::Playing {
            let end = first.wall_start.plus_micros(AHEAD_US);
            let next = TimeRange::new(first.wall_start, end).unwrap_or(first.range());
            archived.clear();
            for row in self.segments(next)? {
                if row.wall_start >= first.wall_start && self.is_archived(&row)? {
                    archived.push(row);
                }
            }
        }
        let now = self.now();
        let ready_at = self.index().want_restores(&archived, now, how.takes)?;
        Err(ready_at.map_or_else(Problem::too_many_restores, |ready_at| {
            Problem::restoring(now, ready_at)
        }))
    }

    /// The restores of footage in a range that can, or will be able to, be read.
    pub(crate) fn restores(&self, range: TimeRange) -> Result<Vec<Restore>, Problem> {
        Ok(self.index().restores(self.no(), range)?)
    }

    /// Whether footage on a tier is archived unless it was restored.
    pub(crate) fn archives(&self, tier: Tier) -> bool {
        self.restoring(tier).is_some()
    }

    /// Says that what the index takes as readable is not: the next who asks has it restored.
    pub(super) fn is_archived_after_all(&self, row: &SegmentRow, error: &ArchiveError) {
        if !error.is_archived() {
            return;
        }
        if let Err(error) = self.index().forget_restore(row.id.stream, row.wall_start) {
            tracing::error!(%error, "it could not be noted that a segment has to be restored");
        }
    }
}

/// The parts of `range` that can be read at `now`, of footage that is archived unless `restores`, which come in order,
/// say otherwise: each with whether it can.
pub(crate) fn split(range: TimeRange, restores: &[Restore], now: WallTime) -> Vec<(TimeRange, bool)> {
    let mut parts: Vec<(TimeRange, bool)> = Vec::new();
    let mut push = |from: WallTime, to: WallTime, archived: bool| {
        let Some(part) = TimeRange::new(from, to).filter(|part| !part.is_empty()) else {
            return;
        };
        match parts.last_mut() {
            Some((last, same)) if *same == archived && last.to() == from => {
                *last = TimeRange::new(last.from(), to).unwrap_or(part);
            }
            _ => parts.push((part, archived)),
        }
    };
    let mut at = range.from();
    for restore in restores.iter().filter(|restore| restore.is_readable(now)) {
        let Some(readable) = restore.range.intersect(range) else {
            continue;
        };
        push(at, readable.from(), true);
        push(readable.from().max(at), readable.to(), false);
        at = at.max(readable.to());
    }
    push(at, range.to(), true);
    parts
}

#[cfg(test)]
mod tests {
    use archive::{SegmentId, StreamNo};
    use indexer::RestoreState;

    use super::*;

    fn t(s: i64) -> WallTime {
        WallTime::from_micros(s * SECOND_US)
    }

    fn restore(from: i64, to: i64, state: RestoreState) -> Restore {
        Restore {
            segment: SegmentId {
                stream: StreamNo(1),
                seq: 1,
            },
            range: TimeRange::new(t(from), t(to)).expect("forwards"),
            state,
            requested: t(0),
            ready_at: t(0),
            until: t(10_000),
        }
    }

    #[test]
    fn a_run_is_archived_but_for_what_was_restored() {
        let range = TimeRange::new(t(100), t(200)).expect("forwards");
        let of = |restores: &[Restore], now: i64| {
            let parts = split(range, restores, t(now)).into_iter();
            parts
                .map(|(part, archived)| (part.from(), part.to(), archived))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&[], 5000), [(t(100), t(200), true)]);
        let ready = |from, to| restore(from, to, RestoreState::Ready);
        let some = [
            ready(90, 110),
            ready(110, 120),
            restore(120, 130, RestoreState::Asked),
            ready(150, 160),
        ];
        assert_eq!(
            of(&some, 5000),
            [
                (t(100), t(120), false),
                (t(120), t(150), true),
                (t(150), t(160), false),
                (t(160), t(200), true)
            ]
        );
        assert_eq!(of(&some, 10_000), [(t(100), t(200), true)], "it is over");
        assert_eq!(of(&[ready(0, 500)], 5000), [(t(100), t(200), false)]);
    }
}
