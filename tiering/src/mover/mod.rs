//! Moves sealed segments down the tiers: finds what is due, carries it out, and tells the index of each step before
//! and after it is taken.
//!
//! Invariant: rows are changed by the thread that calls [`Mover::pass`] alone, which deletes segments too. What waits
//! for a store or a disk is done elsewhere and tells here what came of it; meanwhile nobody else touches its segment.

mod copy;
mod evictable;
mod find;
mod job;
mod leave;
pub(crate) mod outline;
mod pace;
mod pause;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use archive::disk::Disk;
use archive::store::{Limits, StoreError, Stores};
use archive::time::SECOND_US;
use archive::{SegmentId, StreamId, StreamNo, Tier, WallTime};
use indexer::{Batch, Copies, CopyState, Event, Index, IndexError, Moved, SegmentRow, SessionState};
use tokio::runtime::Handle;

use self::evictable::Evictable;
use self::find::{Cursors, Due, Search};
use self::job::{Doing, Ended, Job};
use self::pace::Way;
use self::pause::Pause;
use crate::plan::{Goal, Moment, Progress};
use crate::room::Hot;
use crate::rules::Rules;

/// A segment that failed again and again is tried as often at least.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// A store that was away is asked again after so long at the latest.
const STORE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Moves segments. All its methods block, but not for stores.
pub struct Mover {
    index: Arc<Index>,
    disk: Disk,
    stores: Stores,
    rules: Rules,
    grace: Duration,
    runtime: Handle,
    cursors: Cursors,
    under_way: HashMap<SegmentId, Job>,
    /// Segments that somebody else has in hand.
    spared: HashSet<SegmentId>,
    ended: (Sender<Ended>, Receiver<Ended>),
    /// Copies that are to be removed when there is room, as the last pass found them.
    leaving: VecDeque<Due>,
    /// Segments that have failed.
    pauses: HashMap<SegmentId, Pause>,
    /// Stores that have not answered.
    resting: HashMap<Tier, Pause>,
    /// When copies were made, by a clock that never jumps, as long as their grace may last.
    fresh: HashMap<SegmentId, u64>,
    ways: HashMap<Tier, Arc<Way>>,
    evictable: Evictable,
    moved: Moved,
}

impl Mover {
    /// Begins with nothing under way: passes find in the index what the last process left half done. What it replaced and
    /// did not tell is taken up by [`resume`](Self::resume).
    pub fn new(
        index: Arc<Index>,
        disk: Disk,
        stores: Stores,
        rules: Rules,
        grace: Duration,
        runtime: Handle,
    ) -> Self {
        let way = |tier| Some((tier, Arc::new(Way::new(limits(&stores, tier)?.rate))));
        Self {
            ways: [Tier::Warm, Tier::Cold].into_iter().filter_map(way).collect(),
            index,
            disk,
            stores,
            rules,
            grace,
            runtime,
            cursors: Cursors::default(),
            under_way: HashMap::new(),
            spared: HashSet::new(),
            ended: mpsc::channel(),
            leaving: VecDeque::new(),
            pauses: HashMap::new(),
            resting: HashMap::new(),
            fresh: HashMap::new(),
            evictable: Evictable::default(),
            moved: Moved::default(),
        }
    }

    /// What was done so far.
    pub fn moved(&self) -> Moved {
        let copies = self.under_way.values().filter(|job| job.is_copy()).count();
        Moved {
            under_way: copies as u64,
            leaving: (self.under_way.len() - copies + self.leaving.len()) as u64,
            ..self.moved
        }
    }

    /// Looks again at what the last process replaced by thinner segments: a kill may have come before that was told here.
    /// Call it before the first pass.
    pub fn resume(&mut self) -> Result<(), IndexError> {
        for thinning in self.index.thinnings()? {
            if thinning.left().is_some() {
                self.look_again(thinning.before.id.stream, thinning.before.wall_start)?;
            }
        }
        Ok(())
    }

    /// Looks once more at the segments of a stream from `from` on: the one that begins there was replaced, and begins
    /// its way anew. What was decided about it is void.
    pub fn look_again(&mut self, stream: StreamNo, from: WallTime) -> Result<(), IndexError> {
        self.leaving
            .retain(|due| due.row.id.stream != stream || due.row.wall_start != from);
        self.cursors.back_to(&self.index, stream, from)
    }

    /// Segments that something is being done to: they must not be deleted meanwhile.
    pub fn busy(&self) -> HashSet<SegmentId> {
        self.under_way.keys().copied().collect()
    }

    /// Segments about which something was decided: nobody else must change them before that is done.
    pub(crate) fn in_hand(&self) -> HashSet<SegmentId> {
        let leaving = self.leaving.iter().map(|due| due.row.id);
        self.under_way.keys().copied().chain(leaving).collect()
    }

    /// Leaves these segments alone until told otherwise.
    pub fn spare(&mut self, segments: HashSet<SegmentId>) {
        self.spared = segments;
    }

    /// Begins to remove what is not needed any more and to copy what is to be. `short` bytes are missing on the disk of
    /// the hot tier. Failures are logged and tried again; an error means that the index failed.
    pub fn pass(
        &mut self,
        now: WallTime,
        clock_trusted: bool,
        short: u64,
        monotonic_us: u64,
    ) -> Result<(), IndexError> {
        self.take_in(now, monotonic_us)?;
        let at = self.moment(now, clock_trusted);
        self.leaving = self.find_leaving(&at, short, monotonic_us)?;
        self.begin_leaving(monotonic_us)?;
        self.note_unreplicated(&at)?;
        self.begin_copies(&at, monotonic_us)?;
        self.cursors.keep(&self.index, monotonic_us)?;
        self.evictable
            .count(&self.index, |stream| self.cursors.off_hot(stream))
    }

    /// Takes in what came of what was begun, and begins something else in its place.
    pub fn go_on(&mut self, now: WallTime, clock_trusted: bool, monotonic_us: u64) -> Result<(), IndexError> {
        if !self.take_in(now, monotonic_us)? {
            return Ok(());
        }
        self.begin_leaving(monotonic_us)?;
        self.begin_copies(&self.moment(now, clock_trusted), monotonic_us)
    }

    /// Looks ahead: `room` bytes may be written to the disk before cameras give way.
    pub fn look_ahead(&mut self, room: u64) {
        let rate = self.rate();
        self.moved.evictable_bytes = self.evictable.bytes();
        let lasts = |evictable| {
            Hot {
                room,
                evictable,
                rate,
            }
            .lasts()
        };
        self.moved.hot_left_s = self.moved.evictable_bytes.and_then(lasts).map(|d| d.as_secs());
    }

    /// Bytes that are recorded in a second at present.
    fn rate(&self) -> u64 {
        let streams = self.index.streams();
        let recorded = streams.iter().map(|(no, _)| self.index.status(*no));
        let recorded = recorded.filter(|status| status.state == SessionState::Recording);
        recorded.map(|status| status.bitrate_bps).sum::<u64>() / 8
    }

    fn moment(&self, now: WallTime, clock_trusted: bool) -> Moment {
        Moment {
            now,
            clock_trusted,
            grace: self.grace,
            pressed: false,
        }
    }

    /// What is due and not under way, resting, or on a store that rests.
    fn due(&mut self, at: &Moment, goals: &[Goal], monotonic_us: u64) -> Result<Vec<Due>, IndexError> {
        let grace_us = u64::try_from(self.grace.as_micros()).unwrap_or(u64::MAX);
        self.fresh
            .retain(|_, since| monotonic_us.saturating_sub(*since) < grace_us);
        let (under_way, spared) = (&self.under_way, &self.spared);
        let (pauses, resting, fresh) = (&self.pauses, &self.resting, &self.fresh);
        let rests = |pause: Option<&Pause>| pause.is_some_and(|pause| pause.lasts(monotonic_us));
        let skip = |row: &SegmentRow, copies: &Copies, progress: Progress| {
            let needed = match progress {
                Progress::Copy(tier) => [tier; 2],
                // A wall clock that was set ends no grace.
                Progress::Evict(_) if fresh.contains_key(&row.id) => return true,
                Progress::Evict(tier) => needed(copies, tier),
                Progress::Reached | Progress::Young | Progress::Waits => return false,
            };
            under_way.contains_key(&row.id)
                || spared.contains(&row.id)
                || rests(pauses.get(&row.id))
                || needed.iter().any(|tier| rests(resting.get(tier)))
        };
        let search = Search {
            index: &self.index,
            rules: &self.rules,
            at,
            skip: &skip,
        };
        self.cursors.due(&search, goals)
    }

    /// Whether a segment and its copies are still what something was decided on.
    fn is_as_it_was(&self, row: &SegmentRow, copies: &Copies) -> Result<bool, IndexError> {
        let Some(now) = self.index.segment(row.id)? else {
            return Ok(false);
        };
        let is_same = (now.state, now.generation) == (row.state, row.generation);
        Ok(is_same && self.index.copies(&now)?.is_like(copies))
    }

    /// Whether there was something to take in.
    fn take_in(&mut self, now: WallTime, monotonic_us: u64) -> Result<bool, IndexError> {
        let mut batch = Batch::default();
        let mut confirmed = Vec::new();
        let mut any = false;
        while let Ok(ended) = self.ended.1.try_recv() {
            let Some(job) = self.under_way.remove(&ended.segment) else {
                continue;
            };
            any = true;
            let crc64 = match ended.outcome {
                Ok(crc64) => crc64,
                Err(error) => {
                    let (what, tier) = job.of();
                    self.failed(ended.segment, what, tier, &error, monotonic_us);
                    continue;
                }
            };
            // What is told of a row that is another one by now would bring the old one back.
            if !self.is_as_it_was(&job.row, &job.copies)? {
                tracing::error!(
                    segment = ended.segment.seq,
                    stream = ended.segment.stream.0,
                    "a segment was changed while a copy of it was made or removed: it is looked at again"
                );
                continue;
            }
            let mut copies = job.copies;
            let event = match job.doing {
                Doing::Copying(tier) => {
                    copies.crc64 = crc64;
                    self.fresh.insert(ended.segment, monotonic_us);
                    self.resting.remove(&tier);
                    self.moved.copies += 1;
                    self.moved.bytes += job.row.bytes;
                    Event::Copied(tier)
                }
                Doing::Confirming(tier) => {
                    self.resting.remove(&copies.authority);
                    Event::DeletionBegun(tier)
                }
                Doing::Removing(tier) => {
                    self.resting.remove(&tier);
                    self.moved.evictions += 1;
                    Event::Deleted(tier)
                }
            };
            match copies.after(event, now) {
                Ok(copies) => {
                    batch.copies(&job.row, copies);
                    if let Doing::Confirming(tier) = job.doing {
                        confirmed.push(Job {
                            copies,
                            doing: Doing::Removing(tier),
                            ..job
                        });
                    } else {
                        self.pauses.remove(&ended.segment);
                    }
                }
                Err(error) => tracing::error!(%error, "something was done to a copy that is not wanted"),
            }
        }
        self.commit(batch)?;
        for job in confirmed {
            self.start(job, monotonic_us);
        }
        Ok(any)
    }

    fn commit(&self, batch: Batch) -> Result<(), IndexError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.index.commit(batch)
    }

    fn failed(&mut self, segment: SegmentId, what: &str, tier: Tier, error: &StoreError, monotonic_us: u64) {
        self.moved.failures += 1;
        let stream = self.name(segment).map_or_else(String::new, |s| s.to_string());
        // What is wrong with the store is no segment's fault, and said once.
        if error.is_passing() {
            let pause = self.resting.entry(tier).or_default();
            if !pause.lasts(monotonic_us) {
                let wait = pause.longer(STORE_PAUSE_MAX, monotonic_us);
                tracing::warn!(
                    %stream, segment = segment.seq, %tier, %error, again_in_s = wait.as_secs(),
                    "cannot {what} segments: footage stays where it is"
                );
            }
            return;
        }
        let wait = self
            .pauses
            .entry(segment)
            .or_default()
            .longer(PAUSE_MAX, monotonic_us);
        tracing::error!(
            %stream, segment = segment.seq, %tier, %error, again_in_s = wait.as_secs(),
            "cannot {what} a segment: footage stays where it is"
        );
    }

    fn name(&self, segment: SegmentId) -> Option<StreamId> {
        self.index.stream_id(segment.stream)
    }

    /// Begins copies while there is room for more.
    fn begin_copies(&mut self, at: &Moment, monotonic_us: u64) -> Result<(), IndexError> {
        let found = self.due(at, &[Goal::Copied, Goal::Cooled], monotonic_us)?;
        let (left, found): (Vec<_>, Vec<_>) =
            (found.into_iter()).partition(|due| matches!(due.progress, Progress::Evict(_)));
        self.leaving.extend(left);
        self.begin_leaving(monotonic_us)?;
        let mut room: HashMap<Tier, usize> = HashMap::new();
        for tier in [Tier::Warm, Tier::Cold] {
            let copies = limits(&self.stores, tier).map_or(0, |limits| limits.copies);
            let busy = self
                .under_way
                .values()
                .filter(|job| job.doing == Doing::Copying(tier));
            room.insert(tier, copies.saturating_sub(busy.count()));
        }
        let mut batch = Batch::default();
        let mut begun = Vec::new();
        for due in found {
            let Progress::Copy(to) = due.progress else {
                continue;
            };
            let Some(left) = room.get_mut(&to).filter(|left| **left > 0) else {
                continue;
            };
            let Ok(copies) = due.copies.after(Event::CopyBegun(to), at.now) else {
                continue;
            };
            *left -= 1;
            batch.copies(&due.row, copies);
            begun.push(Job {
                row: due.row,
                copies,
                doing: Doing::Copying(to),
            });
        }
        self.commit(batch)?;
        for job in begun {
            self.start(job, monotonic_us);
        }
        Ok(())
    }

    /// How old the oldest sealed footage is that lies on the disk alone, whether or not it can be copied just now.
    fn note_unreplicated(&mut self, at: &Moment) -> Result<(), IndexError> {
        let search = Search {
            index: &self.index,
            rules: &self.rules,
            at,
            skip: &|_, _, _| false,
        };
        let found = self.cursors.due(&search, &[Goal::Copied])?;
        let age_us = found
            .first()
            .map_or(0, |due| at.now.micros_since(due.row.wall_end).max(0));
        self.moved.unreplicated_s = (age_us / SECOND_US).unsigned_abs();
        let mut since = HashMap::new();
        for due in &found {
            since.entry(due.row.id.stream).or_insert(due.row.wall_end);
        }
        self.index.pulse().set_unreplicated(since);
        Ok(())
    }
}

/// The tiers that have to answer before the copy on `tier` can go: the one that is asked for the copy that counts comes
/// first, unless that was done.
fn needed(copies: &Copies, tier: Tier) -> [Tier; 2] {
    match copies.state(tier) {
        CopyState::Deleting => [tier; 2],
        _ => [copies.authority, tier],
    }
}

fn limits(stores: &Stores, tier: Tier) -> Option<Limits> {
    stores.of(tier).map(|objects| objects.store.limits())
}
