//! Looks at every copy again and again, and puts right what is wrong from another copy.
//!
//! A light sweep sees that each copy is there with its length; a deep one reads every byte of a tier. Each goes over
//! one stream at a time, and the index keeps how far it is and when the last one began, which is the age that is
//! published. What is found wrong is kept in the index until it was put right.

mod config;
mod known;
mod light;
mod look;
pub mod plan;
mod repair;
mod thread;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use archive::disk::Disk;
use archive::segment::{Pace, forget_half_restored};
use archive::store::Stores;
use archive::time::SECOND_US;
use archive::{ArchiveError, SegmentId, StreamNo, Tier, WallTime};
use indexer::{
    Batch, CopyState, Fault, FaultKind, Index, IndexError, Scrubbed, SegmentRow, SegmentState, Sweep,
    SweepState,
};

pub use self::config::ScrubConfig;
use self::known::Round;
use self::look::{Look, Places, Subject};
use self::plan::Standing;
use self::repair::Repair;
pub use self::thread::Scrubbing;
use crate::hands::Hands;

/// Rows read at a time.
const PAGE_ROWS: usize = 64;
/// How far a sweep is, is kept so often: every time costs a sync.
const KEEP_EVERY_US: u64 = 10 * SECOND_US.unsigned_abs();
/// Faults and damage that are known are looked through so often.
const KNOWN_EVERY_US: u64 = 60 * SECOND_US.unsigned_abs();
/// What is the most overdue is asked so often: other footage has become due meanwhile.
const SURVEY_EVERY_US: u64 = 60 * SECOND_US.unsigned_abs();
/// A copy on which its store has not answered so often, and on others it has, is passed over.
const UNANSWERED_MAX: u32 = 3;
/// A store that does not answer is left alone for so long.
const REST_US: u64 = 30 * SECOND_US.unsigned_abs();

/// Looks at copies, one after the other. All its methods block.
pub struct Scrubber {
    index: Arc<Index>,
    places: Places,
    config: ScrubConfig,
    hands: Hands,
    states: HashMap<(Sweep, StreamNo), SweepState>,
    current: Option<(Sweep, StreamNo)>,
    /// When is asked again what is the most overdue.
    survey_us: u64,
    /// Stores that did not answer, and until when they are left alone.
    resting: HashMap<Tier, u64>,
    kept_us: u64,
    /// The copy at which a store stopped answering last, and how often it did.
    unanswered: (Option<(SegmentId, Tier)>, u32),
    /// When known faults are looked through next.
    known_us: u64,
    waiting: VecDeque<Fault>,
    round: Round,
    /// Repairs that failed: how often, and when they are tried again.
    retries: HashMap<(SegmentId, Tier), (u32, u64)>,
    told: Scrubbed,
}

impl Scrubber {
    /// Takes up where the last process ended. `pace` is told of every byte that is read, and may wait; retention has
    /// the same `hands`.
    pub fn new(
        index: Arc<Index>,
        disk: Disk,
        stores: Stores,
        config: ScrubConfig,
        hands: Hands,
        pace: Pace,
    ) -> Self {
        if let Err(error) = forget_half_restored(&disk) {
            tracing::warn!(%error, "what was left half repaired stays");
        }
        Self {
            index,
            places: Places::new(disk, stores, pace),
            config,
            hands,
            states: HashMap::new(),
            current: None,
            survey_us: 0,
            resting: HashMap::new(),
            kept_us: 0,
            unanswered: (None, 0),
            known_us: 0,
            waiting: VecDeque::new(),
            round: Round::default(),
            retries: HashMap::new(),
            told: Scrubbed::default(),
        }
    }

    /// What was done so far.
    pub fn scrubbed(&self) -> Scrubbed {
        self.told
    }

    /// Looks at one thing; false when nothing is due. An error means that the index failed.
    pub fn step(&mut self, now: WallTime, monotonic_us: u64) -> Result<bool, IndexError> {
        let pulse = self.index.pulse();
        self.told.paused = plan::is_loaded(&pulse.keeping(), pulse.waited());
        if self.told.paused {
            self.index.pulse().set_scrubbed(self.told);
            return Ok(false);
        }
        let more = self.look_at_something(now, monotonic_us)?;
        self.index.pulse().set_scrubbed(self.told);
        Ok(more)
    }

    fn look_at_something(&mut self, now: WallTime, monotonic_us: u64) -> Result<bool, IndexError> {
        self.resting.retain(|_, until_us| *until_us > monotonic_us);
        if let Some((segment, tier)) = self.index.suspects().take() {
            self.look_again(segment, tier, now, monotonic_us)?;
            return Ok(true);
        }
        if monotonic_us >= self.known_us {
            self.known_us = monotonic_us.saturating_add(KNOWN_EVERY_US);
            self.look_through_known(now, monotonic_us)?;
        }
        let can_be_asked = |fault: &Fault| !self.resting.contains_key(&fault.tier);
        let next = self.waiting.iter().position(can_be_asked);
        if let Some(fault) = next.and_then(|next| self.waiting.remove(next)) {
            self.mend(&fault, now, monotonic_us)?;
            return Ok(true);
        }
        let Some((sweep, stream)) = self.due(now, monotonic_us)? else {
            return Ok(false);
        };
        match sweep {
            Sweep::Light => self.glance(stream, now, monotonic_us)?,
            Sweep::Deep(tier) => self.go_on(tier, stream, now, monotonic_us)?,
        }
        Ok(true)
    }

    /// The sweep in progress, or the one that is the most overdue.
    fn due(&mut self, now: WallTime, monotonic_us: u64) -> Result<Option<(Sweep, StreamNo)>, IndexError> {
        if self.current.is_some() && monotonic_us < self.survey_us {
            return Ok(self.current);
        }
        self.survey_us = monotonic_us.saturating_add(SURVEY_EVERY_US);
        let mut standings = Vec::new();
        let mut oldest: HashMap<Sweep, Duration> = HashMap::new();
        for (stream, _) in self.index.streams() {
            let Some(first) = self.index.segments_from(stream, WallTime::MIN, 1)?.pop() else {
                continue;
            };
            for sweep in Sweep::ALL {
                if self.config.period(sweep).is_none() || !self.has_place(sweep) {
                    continue;
                }
                let state = self.state(sweep, stream)?;
                let age = plan::age(&state, first.wall_end, now);
                let begun = state.begun.is_some();
                if !self.rests(sweep) {
                    standings.push(Standing {
                        sweep,
                        stream,
                        begun,
                        age,
                    });
                }
                let of_all = oldest.entry(sweep).or_default();
                *of_all = age.max(*of_all);
            }
        }
        let seconds = |sweep| oldest.get(&sweep).map(Duration::as_secs);
        self.told.oldest_s = Tier::ALL.map(|tier| seconds(Sweep::Deep(tier)));
        self.told.looked_s = seconds(Sweep::Light);
        let next = plan::next(&self.config, standings);
        self.current = next.map(|next| (next.sweep, next.stream));
        Ok(self.current)
    }

    /// Whether a sweep needs a store that does not answer.
    fn rests(&self, sweep: Sweep) -> bool {
        match sweep {
            Sweep::Light => !self.resting.is_empty(),
            Sweep::Deep(tier) => self.resting.contains_key(&tier),
        }
    }

    /// Leaves a store alone for a moment.
    fn rest(&mut self, tier: Tier, monotonic_us: u64) {
        self.resting.insert(tier, monotonic_us.saturating_add(REST_US));
        self.current = None;
    }

    fn has_place(&self, sweep: Sweep) -> bool {
        match sweep {
            Sweep::Light | Sweep::Deep(Tier::Hot) => true,
            // What would have to be restored is not read for this.
            Sweep::Deep(tier) => {
                let objects = self.places.stores.of(tier);
                objects.is_some_and(|objects| objects.store.restoring().is_none())
            }
        }
    }

    fn state(&mut self, sweep: Sweep, stream: StreamNo) -> Result<SweepState, IndexError> {
        if let Some(state) = self.states.get(&(sweep, stream)) {
            return Ok(*state);
        }
        let state = self.index.sweep(sweep, stream)?;
        self.states.insert((sweep, stream), state);
        Ok(state)
    }

    /// Reads the next copy of a stream on a tier.
    fn go_on(
        &mut self,
        tier: Tier,
        stream: StreamNo,
        now: WallTime,
        monotonic_us: u64,
    ) -> Result<(), IndexError> {
        let sweep = Sweep::Deep(tier);
        let mut state = self.state(sweep, stream)?;
        let begun = *state.begun.get_or_insert(now);
        let rows = self.index.segments_from(stream, state.through, PAGE_ROWS)?;
        let is_last = rows.len() < PAGE_ROWS;
        let mut read = false;
        let mut written = false;
        for row in rows {
            // It is being written.
            if row.state == SegmentState::Open && row.epoch == self.index.epoch() {
                written = true;
                break;
            }
            let next = row.wall_start.plus_micros(1);
            if row.state != SegmentState::Deleting {
                let copies = self.index.copies(&row)?;
                if copies.state(tier) == CopyState::Whole {
                    read = true;
                    if !self.read(row, tier, copies.crc64, now)? {
                        self.rest(tier, monotonic_us);
                        break;
                    }
                }
            }
            state.through = next;
            if read {
                break;
            }
        }
        let is_over = written || (is_last && !read);
        if is_over {
            state = SweepState {
                last: Some(begun),
                ..SweepState::default()
            };
            self.current = None;
        }
        self.states.insert((sweep, stream), state);
        if is_over || monotonic_us >= self.kept_us {
            self.index.set_sweep(sweep, stream, &state)?;
            self.kept_us = monotonic_us.saturating_add(KEEP_EVERY_US);
        }
        Ok(())
    }

    /// Reads a copy; false when its store does not answer.
    fn read(&mut self, row: SegmentRow, tier: Tier, crc64: u64, now: WallTime) -> Result<bool, IndexError> {
        let Some(what) = self.subject(row)? else {
            return Ok(true);
        };
        let of = (what.row.id, tier);
        if self.unanswered.0 == Some(of) && self.unanswered.1 >= UNANSWERED_MAX {
            // Right behind a read that failed nobody may ask its store for anything: so this comes before the next one.
            if !self.places.is_there(tier) {
                return Ok(false);
            }
            // It must not keep all that follow it from being looked at.
            self.unanswered = (None, 0);
            self.pass_over(&what, tier, "its store answers, and does not give it out", now)?;
            return Ok(true);
        }
        match self.places.read(&what, tier, crc64) {
            Look::Sound => {
                self.told.bytes += what.row.bytes;
                let repair = self.repair(now);
                repair.mended(&what)?;
            }
            Look::Wrong(kind, why) => self.found(&what, tier, kind, &why, now)?,
            Look::Unknown(error) => {
                tracing::warn!(segment = %what.name, %tier, %error, "a copy cannot be looked at now");
                let times = match self.unanswered {
                    (Some(last), times) if last == of => times + 1,
                    _ => 1,
                };
                self.unanswered = (Some(of), times);
                if is_passing(&error) {
                    return Ok(false);
                }
                self.told.passed_over += 1;
            }
        }
        Ok(true)
    }

    fn subject(&self, row: SegmentRow) -> Result<Option<Subject>, IndexError> {
        let Some(stream) = self.index.stream_id(row.id.stream) else {
            return Ok(None);
        };
        let fragments = match self.index.table(&row) {
            // A copy is right or wrong as a whole; only who repairs one has to know more.
            Err(IndexError::Elsewhere(_)) => Vec::new(),
            fragments => fragments?,
        };
        Ok(Some(Subject::new(&stream, row, fragments)))
    }

    fn repair(&self, now: WallTime) -> Repair<'_> {
        Repair {
            index: &self.index,
            places: &self.places,
            now,
        }
    }

    /// Goes on behind a copy that cannot be read. In a store it is put anew from another one, if there is one.
    fn pass_over(&mut self, what: &Subject, tier: Tier, why: &str, now: WallTime) -> Result<(), IndexError> {
        self.told.passed_over += 1;
        if tier == Tier::Hot {
            tracing::error!(segment = %what.name, %tier, why, "a copy cannot be read: it is passed over");
            return Ok(());
        }
        self.found(what, tier, FaultKind::Unreadable, why, now)
    }

    /// Keeps what is wrong, and has it mended next. A copy that has moved or is going meanwhile is none.
    fn found(
        &mut self,
        what: &Subject,
        tier: Tier,
        kind: FaultKind,
        why: &str,
        now: WallTime,
    ) -> Result<(), IndexError> {
        let Some(row) = self.index.segment(what.row.id)? else {
            return Ok(());
        };
        let is_there = self.index.copies(&row)?.state(tier) == CopyState::Whole;
        let is_other = row.generation != what.row.generation;
        if row.state == SegmentState::Deleting
            || is_other
            || !is_there
            || self.index.fault(row.id, tier)?.is_some()
        {
            return Ok(());
        }
        tracing::error!(segment = %what.name, %tier, why, "a copy is wrong");
        let fault = Fault {
            segment: row.id,
            tier,
            kind,
            found: now,
            lost: false,
        };
        let mut batch = Batch::default();
        batch.fault(fault);
        self.index.commit(batch)?;
        self.told.found += 1;
        self.waiting.push_back(fault);
        Ok(())
    }

    /// A reader says that a copy is wrong, or that a segment has damage.
    fn look_again(
        &mut self,
        segment: SegmentId,
        tier: Tier,
        now: WallTime,
        monotonic_us: u64,
    ) -> Result<(), IndexError> {
        let Some(row) = self.index.segment(segment)? else {
            return Ok(());
        };
        let copies = self.index.copies(&row)?;
        let is_there = row.state != SegmentState::Deleting && copies.state(tier) == CopyState::Whole;
        if is_there && !self.read(row, tier, copies.crc64, now)? {
            self.rest(tier, monotonic_us);
        }
        Ok(())
    }
}

/// Whether it may go away by itself.
fn is_passing(error: &ArchiveError) -> bool {
    matches!(error, ArchiveError::Store(error) if error.is_passing())
}
