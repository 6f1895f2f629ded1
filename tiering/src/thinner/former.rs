//! What segments were before they were thinned: goes when their new versions are as safe and a grace is over. Whatever waits
//! for a store or reads a file is done on a thread of its own, one segment at a time.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use archive::disk::Disk;
use archive::layout::segment_path;
use archive::segment::{SegmentReader, verify};
use archive::store::{Objects, StoreError, Stores};
use archive::{ArchiveError, SegmentId, StreamId, Tier, WallTime};
use indexer::{Batch, Copies, Index, IndexError, SegmentRow, SegmentState, Thinning, ThinningStep};

use super::{Thinner, ThinnerMoment, ThinnerParts};
use crate::aside::{Aside, Done, PATIENCE};
use crate::locks::{unlocked, was_ours};

/// Removing what was replaced takes so much of a pass at most: the disk has to be looked at too.
const REMOVING_MAX: Duration = Duration::from_secs(2);

/// What is being done about a segment as it was before it was thinned.
pub(super) struct Former {
    before: SegmentRow,
    copies: Copies,
    doing: Doing,
    work: Aside<Result<(), ArchiveError>>,
}

enum Doing {
    /// Its new version is looked at once more, as it is in the index and where it lies.
    Confirming(SegmentRow, Copies),
    /// Its copies are being removed.
    Removing,
}

impl Thinner {
    /// Removes what an earlier process left half done, and what was replaced a grace ago.
    pub(super) fn clear(&mut self, at: &ThinnerMoment<'_>) -> Result<(), IndexError> {
        let began = Instant::now();
        self.follow(Duration::ZERO, at)?;
        let all = self.parts.index.thinnings()?;
        // Segments that were deleted have taken it with them.
        let left: HashSet<SegmentId> = all.iter().map(|thinning| thinning.before.id).collect();
        self.fresh.retain(|id, _| left.contains(id));
        for thinning in all {
            if self.former.is_some() || began.elapsed() > REMOVING_MAX {
                break;
            }
            let id = thinning.before.id;
            let ours = self.job.as_ref().is_some_and(|job| job.row.id == id);
            if ours || self.rests(id, at) || at.busy.contains(&id) {
                continue;
            }
            match &thinning.step {
                ThinningStep::Begun => self.give_up(&thinning.before)?,
                ThinningStep::Replaced { copies, since } => {
                    if self.is_after_grace(id, *since, at) && at.clock_trusted {
                        self.begin_confirming(&thinning, copies, at)?;
                    }
                }
                // It was decided, and nobody reads them any more.
                ThinningStep::Removing { copies, .. } => self.begin_removing(&thinning.before, copies),
            }
            self.follow(PATIENCE, at)?;
        }
        Ok(())
    }

    /// Has the new version looked at once more where what it replaced may go.
    fn begin_confirming(
        &mut self,
        thinning: &Thinning,
        copies: &Copies,
        at: &ThinnerMoment<'_>,
    ) -> Result<(), IndexError> {
        let ThinnerParts {
            index,
            disk,
            stores,
            rules,
            ..
        } = self.parts.clone();
        let id = thinning.before.id;
        let (Some(row), Some((stream, rule))) = (index.segment(id)?, self.rule(&thinning.before)) else {
            return Ok(());
        };
        let now = index.copies(&row)?;
        // Who holds it now may want it as it was.
        if index.held(id.stream, row.range(), at.now)? {
            return Ok(());
        }
        // It must be as safe as what it replaces, as far as the rule still lets it.
        if row.state != SegmentState::Sealed || now.authority < copies.authority.min(rule.last(rules.below()))
        {
            return Ok(());
        }
        let of = row.clone();
        let look = move || confirm(&disk, &stores, &stream, &of, &now);
        self.former = Some(Former {
            before: thinning.before.clone(),
            copies: *copies,
            doing: Doing::Confirming(row, now),
            work: Aside::begin_thread("thinning", look),
        });
        Ok(())
    }

    /// Has the copies removed of which the index says that they go.
    fn begin_removing(&mut self, before: &SegmentRow, copies: &Copies) {
        let ThinnerParts {
            index, disk, stores, ..
        } = self.parts.clone();
        let Some(stream) = index.stream_id(before.id.stream) else {
            return;
        };
        let (row, left) = (before.clone(), *copies);
        let remove = move || remove_copies(&index, &disk, &stores, &stream, &row, &left);
        self.former = Some(Former {
            before: before.clone(),
            copies: left,
            doing: Doing::Removing,
            work: Aside::begin_thread("thinning", remove),
        });
    }

    /// Takes in what came of looking at a new version or of removing what it replaced, and goes on with that.
    fn follow(&mut self, patience: Duration, at: &ThinnerMoment<'_>) -> Result<(), IndexError> {
        while let Some(former) = self.former.take() {
            let outcome = match former.work.look_for(patience) {
                Done::With(outcome) => outcome,
                Done::NotYet => {
                    self.former = Some(former);
                    return Ok(());
                }
                Done::Lost => {
                    self.rest(former.before.id, at);
                    return Ok(());
                }
            };
            let index = self.parts.index.clone();
            if let Doing::Confirming(row, copies) = &former.doing {
                // It may have moved meanwhile, or be about to: what was seen of it says nothing then.
                let is_same =
                    index.segment(row.id)?.as_ref() == Some(row) && index.copies(row)?.is_like(copies);
                if !is_same || at.busy.contains(&row.id) || !at.clock_trusted {
                    return Ok(());
                }
            }
            let Former {
                before,
                copies,
                doing,
                ..
            } = former;
            match (outcome, doing) {
                (Err(error), _) => self.put_off(&before, &error, at),
                (Ok(()), Doing::Confirming(..)) => {
                    // A hold may have been answered meanwhile: this asks once more, in the write that says that they go.
                    if index.begin_removing(&before, at.now)?.is_some() {
                        self.begin_removing(&before, &copies);
                    }
                }
                (Ok(()), Doing::Removing) => {
                    self.fresh.remove(&before.id);
                    let mut batch = Batch::default();
                    batch.thinned(&before);
                    index.commit(batch)?;
                }
            }
        }
        Ok(())
    }

    fn put_off(&mut self, before: &SegmentRow, error: &ArchiveError, at: &ThinnerMoment<'_>) {
        tracing::error!(
            stream = self.name(before), segment = before.id.seq, %error,
            "what a segment was before it was thinned stays for now"
        );
        self.rest(before.id, at);
    }

    /// Whether readers of what was replaced have had their time, by the wall clock and by the one that never jumps.
    fn is_after_grace(&mut self, id: SegmentId, since: WallTime, at: &ThinnerMoment<'_>) -> bool {
        let since_us = at.now.micros_since(since);
        // What was replaced in the future was replaced by a clock that was wrong: its grace begins when it is found.
        if since_us < 0 {
            self.fresh.entry(id).or_insert(at.monotonic_us);
        }
        let is_over = |us: i128| us >= self.parts.grace.as_micros() as i128;
        let by_wall = since_us < 0 || is_over(since_us.into());
        let begun = self.fresh.get(&id);
        by_wall && begun.is_none_or(|us| is_over(at.monotonic_us.saturating_sub(*us).into()))
    }
}

/// The last look at a new version before what it replaces goes: every byte on the disk, or what the store says of it.
fn confirm(
    disk: &Disk,
    stores: &Stores,
    stream: &StreamId,
    row: &SegmentRow,
    copies: &Copies,
) -> Result<(), ArchiveError> {
    let name = segment_path(stream, &row.name());
    let reader = match copies.authority {
        Tier::Hot => SegmentReader::open(disk, &name)?,
        tier => {
            let Objects { store, runtime, .. } = stores.expected(tier)?;
            if copies.crc64 != 0 {
                runtime.block_on(store.confirm(&name, row.bytes, copies.crc64))?;
                return Ok(());
            }
            // A rebuild has found it, and nobody knows its checksum: it is read.
            SegmentReader::of_unknown_object(&Objects::once(store.clone(), runtime.clone()), &name)?
        }
    };
    reader.distrust_cache()?;
    let found = verify(&reader)?;
    let is_it = found.sealed && found.header.generation == row.generation && reader.len()? == row.bytes;
    if is_it { Ok(()) } else { Err(wrong(name)) }
}

fn wrong(name: String) -> ArchiveError {
    StoreError::Wrong {
        name,
        why: "it is not what was written".to_owned(),
    }
    .into()
}

fn remove_copies(
    index: &Index,
    disk: &Disk,
    stores: &Stores,
    stream: &StreamId,
    row: &SegmentRow,
    copies: &Copies,
) -> Result<(), ArchiveError> {
    let name = segment_path(stream, &row.name());
    for tier in copies.present() {
        if tier == Tier::Hot {
            disk.remove(&name)?;
            continue;
        }
        let Objects { store, runtime, .. } = stores.expected(tier)?;
        let is_ours = || was_ours(index, row);
        runtime.block_on(unlocked(store, &name, is_ours, || store.delete_segment(&name)))?;
    }
    Ok(())
}

/// Removes what is left of a segment as it was before it was thinned. For one that is deleted.
pub(crate) fn remove_former(
    index: &Index,
    disk: &Disk,
    stores: &Stores,
    stream: &StreamId,
    row: &SegmentRow,
) -> Result<Result<(), ArchiveError>, IndexError> {
    let thinning = index.thinning(row)?;
    let left = thinning.as_ref().and_then(|t| Some((&t.before, t.left()?)));
    Ok(left.map_or(Ok(()), |(before, copies)| {
        remove_copies(index, disk, stores, stream, before, copies)
    }))
}
