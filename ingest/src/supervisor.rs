//! Keeps a session to every stream that is to be recorded, for ever.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use archive::buffer::Pool;
use archive::{CameraId, Clock, GapCause, StreamId, StreamNo, TimeRange, WallTime};
use futures::FutureExt as _;
use indexer::{CameraRow, Index, SessionState, StreamConfig};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backoff::Backoff;
use crate::beat::Beat;
use crate::committer::Submit;
use crate::config::IngestConfig;
use crate::error::IngestError;
use crate::event::Event;
use crate::fragmenter::{Finished, Fragmenter};
use crate::gap_tracker::GapTracker;
use crate::lateness::{Lateness, Told};
use crate::overload::{Overload, Rank, Signals};
use crate::rtsp::{Session, SessionConfig, Transport};

/// A stream that is new is tried again after this when the index cannot take its name.
const FULL_WAIT: Duration = Duration::from_secs(5);

/// What every stream's task shares.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) config: IngestConfig,
    pub(crate) index: Arc<Index>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) pool: Pool,
    pub(crate) submit: Submit,
    pub(crate) beat: Arc<Beat>,
}

/// Samples that a session may read at a stretch: more than come in one poll interval.
const TURN: u32 = 32;
/// How often is looked whether recording keeps up.
const LOOK: Duration = Duration::from_millis(500);

/// A stream that is to be recorded.
#[derive(Clone, PartialEq)]
struct Wanted {
    config: StreamConfig,
    priority: u8,
}

struct Running {
    wanted: Wanted,
    stop: watch::Sender<Option<GapCause>>,
    /// How late its samples are read.
    late: Arc<Told>,
    task: JoinHandle<Fragmenter>,
}

/// The streams that are to be recorded, and those that were.
#[derive(Default)]
struct Streams {
    running: HashMap<StreamId, Running>,
    /// Where streams that are not recorded now ended: they go on from there, since the index is a commit behind.
    ended: HashMap<StreamId, Fragmenter>,
    /// Those of them that have to give way.
    shed: HashMap<StreamId, StreamNo>,
    /// The ranks of all cameras that are to be recorded, in order.
    ranks: Vec<Rank>,
}

/// Runs until `stop` is set; then every session has ended and its last fragment was handed in.
pub(crate) async fn supervise(shared: Shared, mut stop: watch::Receiver<bool>) -> Result<(), IngestError> {
    let mut changed = shared.index.registry_changed();
    let mut streams = Streams::default();
    let mut overload = Overload::default();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = (shared.clock.monotonic_us(), shared.beat.rested_us());
    let mut follow = true;
    let mut again = None;
    while !*stop.borrow_and_update() {
        if std::mem::take(&mut follow) {
            changed.borrow_and_update();
            let all_run = streams.follow(&shared, overload.floor()).await?;
            again = (!all_run).then(|| tokio::time::Instant::now() + FULL_WAIT);
        }
        tokio::select! {
            _ = changed.changed() => follow = true,
            _ = stop.changed() => {}
            () = tokio::time::sleep_until(again.unwrap_or_else(tokio::time::Instant::now)), if again.is_some() => {
                follow = true;
            }
            _ = look.tick() => {
                let now_us = shared.clock.monotonic_us();
                let signals = streams.signals(&shared, &mut seen, now_us);
                let before = overload.floor();
                let floor = overload.observe(&signals, &streams.ranks, now_us);
                follow = floor != before;
                if follow {
                    streams.tell(&signals, floor, before);
                }
            }
        }
    }
    streams.stop(&shared).await;
    Ok(())
}

/// The number of a stream; none when it is new and the disk is full.
fn number(shared: &Shared, id: &StreamId) -> Result<Option<StreamNo>, IngestError> {
    match shared.index.ensure_stream(id) {
        Err(e) if e.is_disk_full() => {
            tracing::error!(stream = %id, error = %e, "a new stream has to wait: the disk is full");
            Ok(None)
        }
        other => Ok(Some(other?)),
    }
}

impl Streams {
    /// Starts and ends sessions so that they are those that the registry asks for, but for cameras that rank
    /// below `floor`. False when streams have to wait because the disk is full.
    async fn follow(&mut self, shared: &Shared, floor: Rank) -> Result<bool, IngestError> {
        // By name, so that what happens depends on no order but that.
        let mut wanted: BTreeMap<StreamId, Wanted> = BTreeMap::new();
        let mut shed: Vec<StreamId> = Vec::new();
        self.ranks.clear();
        for camera in shared.index.cameras()? {
            if camera.removed.is_some() || !camera.streams.iter().any(|s| s.enabled) {
                continue;
            }
            let CameraRow {
                id,
                streams,
                priority,
                ..
            } = camera;
            let rank = Rank::of(priority, &id);
            self.ranks.push(rank);
            for config in streams.into_iter().filter(|s| s.enabled) {
                let id = stream_id(&id, &config);
                if rank < floor {
                    shed.push(id);
                } else {
                    wanted.insert(id, Wanted { config, priority });
                }
            }
        }
        self.ranks.sort_unstable();
        self.ranks.dedup();
        match shared.index.ensure_streams(wanted.keys().chain(&shed)) {
            // Those that are known go on.
            Err(e) if e.is_disk_full() => {}
            other => other?,
        }
        self.end(&wanted, &shed).await;
        let mut all_run = self.set_aside(shared, &wanted, shed)?;
        let mut groups: HashMap<CameraId, Arc<retina::client::SessionGroup>> = HashMap::new();
        for (id, wanted) in wanted {
            if !self.running.contains_key(&id) {
                let sessions = groups.entry(id.camera.clone()).or_default().clone();
                all_run &= self.start(shared, id, wanted, sessions)?;
            }
        }
        shared.index.pulse().update(|k| k.shed = self.shed.len());
        Ok(all_run)
    }

    /// Ends the sessions that are not wanted, or not as they are.
    async fn end(&mut self, wanted: &BTreeMap<StreamId, Wanted>, shed: &[StreamId]) {
        let ending = self
            .running
            .extract_if(|id, r| wanted.get(id) != Some(&r.wanted) || r.task.is_finished());
        let ending: Vec<_> = ending.collect();
        // All are told before any is waited for.
        for (id, running) in &ending {
            let cause = if wanted.contains_key(id) {
                GapCause::Connecting
            } else if shed.contains(id) {
                GapCause::Overload
            } else {
                GapCause::Disabled
            };
            let _ = running.stop.send(Some(cause));
        }
        for (id, running) in ending {
            if let Ok(fragmenter) = running.task.await {
                self.ended.insert(id, fragmenter);
            }
        }
    }

    /// Keeps account of the streams that have to give way: their gap begins, changes its cause or is left to
    /// the session that comes. False when some have to wait because the disk is full.
    fn set_aside(
        &mut self,
        shared: &Shared,
        wanted: &BTreeMap<StreamId, Wanted>,
        shed: Vec<StreamId>,
    ) -> Result<bool, IngestError> {
        let mut all_known = true;
        let now = shared.clock.wall();
        for (id, no) in std::mem::take(&mut self.shed) {
            if !wanted.contains_key(&id) && !shed.contains(&id) {
                self.tell_gap(shared, &id, no, GapCause::Disabled);
                shared
                    .index
                    .set_status(no, |s| (s.state, s.since) = (SessionState::Stopped, now));
            } else {
                self.shed.insert(id, no);
            }
        }
        self.shed.retain(|id, _| shed.contains(id));
        for id in shed {
            if self.shed.contains_key(&id) {
                continue;
            }
            let Some(no) = number(shared, &id)? else {
                all_known = false;
                continue;
            };
            if !self.ended.contains_key(&id) {
                let fragmenter = resume(&shared.index, &shared.pool, no, now)?;
                self.ended.insert(id.clone(), fragmenter);
            }
            self.tell_gap(shared, &id, no, GapCause::Overload);
            shared
                .index
                .set_status(no, |s| (s.state, s.since) = (SessionState::Shed, now));
            self.shed.insert(id, no);
        }
        Ok(all_known)
    }

    /// A stream that is not recorded is missing for another reason from now on.
    fn tell_gap(&mut self, shared: &Shared, id: &StreamId, no: StreamNo, cause: GapCause) {
        if let Some(fragmenter) = self.ended.get_mut(id) {
            fragmenter.begin_gap(shared.clock.wall(), cause);
            shared.submit.gaps(no, fragmenter.gap().pieces().collect());
        }
    }

    /// Starts a session. False when the stream is new and the disk is full.
    fn start(
        &mut self,
        shared: &Shared,
        id: StreamId,
        wanted: Wanted,
        sessions: Arc<retina::client::SessionGroup>,
    ) -> Result<bool, IngestError> {
        let Some(no) = number(shared, &id)? else {
            return Ok(false);
        };
        let fragmenter = match self.ended.remove(&id) {
            Some(fragmenter) => fragmenter,
            None => resume(&shared.index, &shared.pool, no, shared.clock.wall())?,
        };
        let (stop, stopped) = watch::channel(None);
        let late = Arc::<Told>::default();
        let recorder = Recorder {
            shared: shared.clone(),
            no,
            id: id.clone(),
            wanted: wanted.clone(),
            fragmenter,
            stop: stopped,
            sessions,
            dropping: false,
            lateness: Lateness::default(),
            late: late.clone(),
        };
        let task = tokio::spawn(recorder.run());
        let running = Running {
            wanted,
            stop,
            late,
            task,
        };
        self.running.insert(id, running);
        Ok(true)
    }

    /// What was measured since the last look, which was at `seen`.
    fn signals(&self, shared: &Shared, seen: &mut (u64, u64), now_us: u64) -> Signals {
        let rested_us = shared.beat.rested_us();
        let (passed, rested) = (now_us.saturating_sub(seen.0), rested_us.saturating_sub(seen.1));
        let mut late: Vec<u64> = (self.running.values())
            .filter_map(|r| r.late.look(seen.0, now_us))
            .collect();
        *seen = (now_us, rested_us);
        let middle = late.len() / 2;
        let behind = match late.get_mut(middle) {
            Some(_) => *late.select_nth_unstable(middle).1,
            None => 0,
        };
        let (filled, commits) = shared.submit.load();
        let signals = Signals {
            busy: (1.0 - rested as f32 / passed.max(1) as f32).clamp(0.0, 1.0),
            behind: Duration::from_micros(behind),
            waits: shared.index.pulse().waited(),
            filled,
            commits,
        };
        shared.index.pulse().update(|k| {
            (k.busy, k.behind) = (signals.busy, signals.behind);
            k.waiting_bytes = shared.submit.waiting() as u64;
        });
        signals
    }

    /// Logs that cameras have to give way, or come back.
    fn tell(&self, signals: &Signals, floor: Rank, before: Rank) {
        let shed = self.ranks.partition_point(|rank| *rank < floor);
        let (of, busy, filled) = (self.ranks.len(), signals.busy, signals.filled);
        let waits_ms = signals.waits.as_millis() as u64;
        let behind_ms = signals.behind.as_millis() as u64;
        if floor > before {
            tracing::error!(
                shed,
                of,
                busy,
                behind_ms,
                waits_ms,
                filled,
                "there is more to record than this machine can do: the cameras of the lowest rank are not recorded"
            );
        } else {
            tracing::warn!(
                shed,
                of,
                busy,
                behind_ms,
                "there is room again: more cameras are recorded"
            );
        }
    }

    /// Ends everything.
    async fn stop(mut self, shared: &Shared) {
        for r in self.running.values() {
            let _ = r.stop.send(Some(GapCause::ServiceStopped));
        }
        for (id, no) in std::mem::take(&mut self.shed) {
            self.tell_gap(shared, &id, no, GapCause::ServiceStopped);
        }
        for r in self.running.into_values() {
            let _ = r.task.await;
        }
    }
}

fn stream_id(camera: &CameraId, config: &StreamConfig) -> StreamId {
    StreamId {
        tenant: Default::default(),
        camera: camera.clone(),
        stream: config.name.clone(),
    }
}

/// Goes on with a stream after a start: from where it ended, with the gap since then as the index knows it.
pub fn resume(index: &Index, pool: &Pool, no: StreamNo, now: WallTime) -> Result<Fragmenter, IngestError> {
    let span = index.span(no)?;
    let ended = index.ended(no)?.map(|e| e.wall_end);
    let begin = span.map(|s| s.to()).or(ended);
    let since = TimeRange::new(begin.unwrap_or(WallTime::MIN), WallTime::MAX).unwrap_or(TimeRange::ALL);
    let known: Vec<_> = (index.gaps(no, since)?.into_iter())
        .filter(|g| g.cause != GapCause::Retention && begin.is_none_or(|b| g.from >= b))
        .collect();
    let mut gap = GapTracker::default();
    let mut end = begin;
    for g in &known {
        gap.start(g.from, g.cause);
        end = Some(g.to.unwrap_or(g.from));
    }
    let explained = known.last().is_some_and(|g| g.to.is_none());
    match end {
        // Media, or a gap that was not left open, ended without a word: the service was killed.
        Some(end) if !explained => gap.start(end, GapCause::ServiceKilled),
        Some(_) | None => {}
    }
    let from = begin.or_else(|| known.first().map(|g| g.from)).unwrap_or(now);
    Ok(Fragmenter::new(pool.clone(), from, gap))
}

/// Records one stream.
struct Recorder {
    shared: Shared,
    no: StreamNo,
    id: StreamId,
    wanted: Wanted,
    fragmenter: Fragmenter,
    stop: watch::Receiver<Option<GapCause>>,
    sessions: Arc<retina::client::SessionGroup>,
    /// Fragments are being given up; said once, not for each.
    dropping: bool,
    lateness: Lateness,
    late: Arc<Told>,
}

enum Ended {
    Stopped(GapCause),
    Failed(GapCause, String),
}

impl Recorder {
    /// Records until it is told to stop. Returns where the stream ended.
    async fn run(mut self) -> Fragmenter {
        let now = self.shared.clock.wall();
        // Who had to give way is missing for that reason until media comes, or does not.
        let gave_way = |gap: archive::Gap| gap.cause == GapCause::Overload;
        if !self.fragmenter.gap().current().is_some_and(gave_way) {
            self.begin_gap(now, GapCause::Connecting);
        }
        let mut backoff = Backoff::default();
        let mut first = true;
        loop {
            self.set_state(SessionState::Connecting);
            let began = self.shared.clock.monotonic_us();
            // What a camera sends may meet a defect: that ends its session, not its recording.
            let session = AssertUnwindSafe(self.session(&mut first)).catch_unwind();
            let (cause, text) = match session.await {
                Ok(Ended::Stopped(cause)) => return self.stopped(cause),
                Ok(Ended::Failed(cause, text)) => (cause, text),
                Err(_) => (
                    GapCause::SessionLost,
                    "a defect in reading what the camera sends".into(),
                ),
            };
            self.ended(cause);
            tracing::warn!(stream = %self.id, cause = cause.as_str(), error = %text, "the session ended");
            self.shared
                .index
                .set_status(self.no, |s| s.last_error = Some(text));
            self.set_state(SessionState::Backoff);
            let lasted = Duration::from_micros(self.shared.clock.monotonic_us().saturating_sub(began));
            backoff.recorded_for(lasted);
            let random = random(began ^ u64::from(self.no.0) << 40);
            let wait = tokio::time::sleep(backoff.next_wait(random));
            tokio::select! {
                () = wait => {}
                cause = stopped(&mut self.stop) => return self.stopped(cause),
            }
        }
    }

    /// One session, from connecting to its end.
    async fn session(&mut self, first: &mut bool) -> Ended {
        let transport = match self.wanted.config.transport {
            indexer::Transport::Tcp => Transport::Tcp,
            indexer::Transport::Udp => Transport::Udp,
        };
        let config = SessionConfig::new(self.wanted.config.url.expose().as_str(), transport);
        let mut config = match config {
            Ok(config) => config,
            Err(e) => return Ended::Failed(e.cause(), e.to_string()),
        };
        config.limits.no_data = self.shared.config.no_data;
        config.group = self.sessions.clone();
        let connected = tokio::select! {
            connected = Session::connect(&config, self.shared.clock.clone()) => connected,
            cause = stopped(&mut self.stop) => return Ended::Stopped(cause),
        };
        let mut session = match connected {
            Ok(session) => session,
            Err(e) => return Ended::Failed(e.cause(), e.to_string()),
        };
        if !std::mem::take(first) {
            self.shared.index.set_status(self.no, |s| s.reconnects += 1);
        }
        self.fragmenter.begin_session();
        let (mut beat, mut events) = (0, 0_u32);
        loop {
            // A session with much to read lets the others have their turn, and us look at how all are doing.
            let rested = self.shared.beat.rested_us();
            if rested != std::mem::replace(&mut beat, rested) {
                events = 0;
            }
            events += 1;
            if events.is_multiple_of(TURN) {
                tokio::task::yield_now().await;
            }
            // Who gives way does so at once, whatever has arrived.
            if self.stop.has_changed().unwrap_or(true) && *self.stop.borrow() == Some(GapCause::Overload) {
                return Ended::Stopped(GapCause::Overload);
            }
            let event = tokio::select! {
                biased;
                event = session.next() => event,
                cause = stopped(&mut self.stop) => return Ended::Stopped(cause),
            };
            match event {
                Ok(event) => {
                    self.lateness.observe(&event);
                    if let Event::Sample(sample) = &event {
                        self.late.tell(self.lateness.late_us(), sample.arrival_mono_us);
                    }
                    if let Some(finished) = self.fragmenter.push(event) {
                        self.hand_in(finished);
                        // A camera that never pauses must not keep us from stopping.
                        if let Some(cause) = *self.stop.borrow() {
                            return Ended::Stopped(cause);
                        }
                    }
                }
                Err(e) => return Ended::Failed(e.cause(), e.to_string()),
            }
        }
    }

    /// Gives a complete fragment to the committer, unless the disk cannot take it.
    fn hand_in(&mut self, finished: Finished) {
        let entry = finished.fragment.entry();
        let (from, end, us) = (
            entry.wall_start,
            entry.wall_end(),
            u64::from(entry.wall_duration_us).max(1),
        );
        let shed = self.wanted.priority < self.shared.index.shed_below();
        let (bits, rate) = (
            finished.bytes as u64 * 8,
            finished.pictures as f32 * 1e6 / us as f32,
        );
        let (lost, offset) = (finished.packets_lost, finished.clock_offset_ms);
        let state = if shed {
            SessionState::Shed
        } else {
            SessionState::Recording
        };
        let now = self.shared.clock.wall();
        self.shared.index.set_status(self.no, |s| {
            if s.state != state {
                (s.state, s.since) = (state, now);
            }
            s.bitrate_bps = bits.saturating_mul(1_000_000) / us;
            s.fps = rate;
            s.clock_offset_ms = offset;
            s.packets_lost += u64::from(lost);
            s.provisional_until = Some(end);
            s.last_error = None;
        });
        let pictures = finished.pictures as u64;
        let refused = if shed {
            Some((GapCause::DiskFull, Box::new(finished)))
        } else {
            let read_us = self
                .shared
                .clock
                .monotonic_us()
                .saturating_sub(finished.arrived_us);
            let age = Duration::from_micros(read_us.saturating_add(self.lateness.late_us()));
            self.shared
                .submit
                .fragment(self.no, finished, age)
                .err()
                .map(|f| (GapCause::Overload, f))
        };
        match refused {
            Some((cause, finished)) => self.give_up(cause, from, &finished),
            None => {
                self.dropping = false;
                self.shared.index.set_status(self.no, |s| s.pictures += pictures);
            }
        }
    }

    /// A fragment is not kept: its time, and the gap before it, go to the next that is.
    fn give_up(&mut self, cause: GapCause, from: WallTime, finished: &Finished) {
        let gap = self.fragmenter.gap();
        for note in &finished.fragment.entry().notes {
            if let archive::Note::Gap { from, cause, .. } = *note {
                gap.start(from, cause);
            }
        }
        gap.start(from, cause);
        if !std::mem::replace(&mut self.dropping, true) {
            tracing::warn!(stream = %self.id, cause = cause.as_str(), "footage is given up");
        }
        self.shared
            .submit
            .gaps(self.no, self.fragmenter.gap().pieces().collect());
    }

    /// The session is over: hands in what is complete, and tells the gap that begins.
    fn ended(&mut self, cause: GapCause) {
        let now = self.shared.clock.wall();
        if let Some(finished) = self.fragmenter.end_session() {
            self.hand_in(finished);
        }
        self.lateness = Lateness::default();
        self.late.forget();
        self.begin_gap(now, cause);
    }

    fn begin_gap(&mut self, now: WallTime, cause: GapCause) {
        self.fragmenter.begin_gap(now, cause);
        self.shared
            .submit
            .gaps(self.no, self.fragmenter.gap().pieces().collect());
    }

    fn stopped(mut self, cause: GapCause) -> Fragmenter {
        self.ended(cause);
        self.shared.submit.close(self.no);
        self.set_state(if cause == GapCause::Overload {
            SessionState::Shed
        } else {
            SessionState::Stopped
        });
        self.fragmenter
    }

    fn set_state(&self, state: SessionState) {
        let now = self.shared.clock.wall();
        self.shared.index.set_status(self.no, |s| {
            (s.state, s.since) = (state, now);
            (s.bitrate_bps, s.fps) = (0, 0.0);
        });
    }
}

async fn stopped(stop: &mut watch::Receiver<Option<GapCause>>) -> GapCause {
    match stop.wait_for(Option::is_some).await {
        Ok(cause) => cause.unwrap_or(GapCause::ServiceStopped),
        Err(_) => GapCause::ServiceStopped,
    }
}

/// Spreads `seed` over all of `u64`; enough to keep cameras apart.
fn random(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
