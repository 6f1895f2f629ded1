//! Keeps a session to every stream that is to be recorded, for ever.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use archive::buffer::Pool;
use archive::{CameraId, Clock, GapCause, StreamId, StreamNo};
use futures::FutureExt as _;
use indexer::{CameraRow, Index, SessionState, StreamConfig};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backoff::{self, Backoff};
use crate::beat::Beat;
use crate::committer::Submit;
use crate::config::IngestConfig;
use crate::error::IngestError;
use crate::event::Event;
use crate::lateness::Told;
use crate::overload::{Overload, Rank, Signals};
use crate::recording::Recording;
use crate::rtsp::{Reach, Session, SessionConfig, SessionError, Transport};

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

/// Samples and bytes that a session may read at a stretch: what most send in a poll interval. The runtime looks at its
/// clock once in 61 turns, and we at how all are doing.
const TURN: u32 = 32;
const TURN_BYTES: usize = 256 << 10;
/// How often is looked whether recording keeps up.
const LOOK: Duration = Duration::from_millis(500);

/// A stream that is to be recorded.
#[derive(Clone, PartialEq)]
struct Wanted {
    config: StreamConfig,
    priority: u8,
    reach: Reach,
}

struct Running {
    wanted: Wanted,
    stop: watch::Sender<Option<GapCause>>,
    /// How late its samples are read.
    late: Arc<Told>,
    task: JoinHandle<Recording>,
}

/// The streams that are to be recorded, and those that were.
#[derive(Default)]
struct Streams {
    running: HashMap<StreamId, Running>,
    /// Where streams that are not recorded now ended: they go on from there, since the index is a commit behind.
    ended: HashMap<StreamId, Recording>,
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
                if floor != before {
                    streams.tell(&signals, floor, before);
                }
                // A task that ended by itself is begun anew.
                follow = floor != before || streams.running.values().any(|r| r.task.is_finished());
            }
        }
    }
    streams.stop(&shared).await;
    Ok(())
}

/// Goes on with a stream; none when it is new and the disk is full.
fn resume(shared: &Shared, id: &StreamId) -> Result<Option<Recording>, IngestError> {
    let (index, submit, pool) = (shared.index.clone(), shared.submit.clone(), shared.pool.clone());
    match Recording::resume(index, submit, pool, id, shared.clock.wall()) {
        Err(IngestError::Index(e)) if e.is_disk_full() => {
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
                from_config,
                ..
            } = camera;
            let reach = match from_config {
                true => Reach::Anywhere,
                false if shared.config.loopback_allowed => Reach::Loopback,
                false => Reach::Network,
            };
            let rank = Rank::of(priority, &id);
            self.ranks.push(rank);
            for config in streams.into_iter().filter(|s| s.enabled) {
                let id = stream_id(&id, &config);
                if rank < floor {
                    shed.push(id);
                } else {
                    let wish = Wanted {
                        config,
                        priority,
                        reach,
                    };
                    wanted.insert(id, wish);
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
            if let Ok(recording) = running.task.await {
                self.ended.insert(id, recording);
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
                self.tell_gap(shared, &id, GapCause::Disabled);
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
            let no = match self.ended.get(&id) {
                Some(recording) => recording.no(),
                None => {
                    let Some(recording) = resume(shared, &id)? else {
                        all_known = false;
                        continue;
                    };
                    let no = recording.no();
                    self.ended.insert(id.clone(), recording);
                    no
                }
            };
            self.tell_gap(shared, &id, GapCause::Overload);
            shared
                .index
                .set_status(no, |s| (s.state, s.since) = (SessionState::Shed, now));
            self.shed.insert(id, no);
        }
        Ok(all_known)
    }

    /// A stream that is not recorded is missing for another reason from now on.
    fn tell_gap(&mut self, shared: &Shared, id: &StreamId, cause: GapCause) {
        if let Some(recording) = self.ended.get_mut(id) {
            recording.begin_gap(shared.clock.wall(), cause);
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
        let known = match self.ended.remove(&id) {
            None => resume(shared, &id)?,
            known => known,
        };
        let Some(mut recording) = known else {
            return Ok(false);
        };
        recording.set_priority(wanted.priority);
        let (stop, stopped) = watch::channel(None);
        let late = Arc::<Told>::default();
        let recorder = Recorder {
            shared: shared.clone(),
            id: id.clone(),
            wanted: wanted.clone(),
            recording,
            stop: stopped,
            sessions,
            late: late.clone(),
            logged: None,
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
        for (id, _) in std::mem::take(&mut self.shed) {
            self.tell_gap(shared, &id, GapCause::ServiceStopped);
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

/// Keeps a session to one stream.
struct Recorder {
    shared: Shared,
    id: StreamId,
    wanted: Wanted,
    recording: Recording,
    stop: watch::Receiver<Option<GapCause>>,
    sessions: Arc<retina::client::SessionGroup>,
    late: Arc<Told>,
    /// Why nothing is recorded, as far as the log has it: a camera that is away is news once.
    logged: Option<GapCause>,
}

enum Ended {
    Stopped(GapCause),
    Failed(SessionError),
}

impl Recorder {
    /// Records until it is told to stop. Returns where the stream ended.
    async fn run(mut self) -> Recording {
        self.recording.begin(self.shared.clock.wall());
        let mut backoff = Backoff::default();
        let mut first = true;
        loop {
            self.set_state(SessionState::Connecting);
            let began = self.shared.clock.monotonic_us();
            // What a camera sends may meet a defect: that ends its session, not its recording.
            let session = AssertUnwindSafe(self.session(&mut first)).catch_unwind();
            let error = match session.await {
                Ok(Ended::Stopped(cause)) => return self.stopped(cause),
                Ok(Ended::Failed(error)) => error,
                Err(_) => {
                    SessionError::new(GapCause::SessionLost, "a defect in reading what the camera sends")
                }
            };
            let (cause, text) = (error.cause(), error.to_string());
            self.recording.end_session(self.shared.clock.wall(), cause);
            self.late.forget();
            self.log_end(cause, &text);
            self.shared.index.set_status(self.recording.no(), |s| {
                (s.last_cause, s.last_error) = (Some(cause), Some(text))
            });
            self.set_state(SessionState::Backoff);
            let lasted = Duration::from_micros(self.shared.clock.monotonic_us().saturating_sub(began));
            backoff.recorded_for(lasted);
            let random = random(began ^ u64::from(self.recording.no().0) << 40);
            let longest = match error.refused_credentials() {
                true => backoff::LONGEST_LOCKED,
                false => backoff::LONGEST,
            };
            let wait = tokio::time::sleep(backoff.next_wait(random, longest));
            tokio::select! {
                () = wait => {}
                cause = stopped(&mut self.stop) => return self.stopped(cause),
            }
        }
    }

    fn log_end(&mut self, cause: GapCause, error: &str) {
        let again = self.logged.replace(cause) == Some(cause);
        let cause = cause.as_str();
        if again {
            tracing::debug!(stream = %self.id, cause, error, "another session ended");
        } else {
            tracing::warn!(stream = %self.id, cause, error, "the session ended");
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
            Err(e) => return Ended::Failed(e),
        };
        let settings = &self.shared.config;
        config.reach = self.wanted.reach;
        config.limits.answer = settings.answer;
        config.limits.no_data = settings.no_data;
        config.limits.no_keyframe = settings.no_keyframe;
        config.limits.access_unit_bytes = settings.access_unit_bytes_max;
        config.group = self.sessions.clone();
        let connected = tokio::select! {
            connected = Session::connect(&config, self.shared.clock.clone()) => connected,
            cause = stopped(&mut self.stop) => return Ended::Stopped(cause),
        };
        let mut session = match connected {
            Ok(session) => session,
            Err(e) => return Ended::Failed(e),
        };
        if !std::mem::take(first) {
            self.shared
                .index
                .set_status(self.recording.no(), |s| s.reconnects += 1);
        }
        self.recording.begin_session();
        let (mut beat, mut events, mut bytes) = (0, 0, 0);
        loop {
            // A session with much to read lets the others have their turn, and us look at how all are doing.
            let rested = self.shared.beat.rested_us();
            if rested != std::mem::replace(&mut beat, rested) {
                (events, bytes) = (0, 0);
            }
            events += 1;
            if events >= TURN || bytes >= TURN_BYTES {
                (events, bytes) = (0, 0);
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
                    let arrived = match &event {
                        Event::Sample(sample) => {
                            bytes += sample.data.len();
                            Some(sample.arrival_mono_us)
                        }
                        _ => None,
                    };
                    let (now, monotonic_us) = (self.shared.clock.wall(), self.shared.clock.monotonic_us());
                    let finished = self.recording.push(event, now, monotonic_us);
                    if finished && self.logged.take().is_some() {
                        tracing::info!(stream = %self.id, "recorded again");
                    }
                    if let Some(at) = arrived {
                        self.late.tell(self.recording.late_us(), at);
                    }
                    // A camera that never pauses must not keep us from stopping.
                    if finished && let Some(cause) = *self.stop.borrow() {
                        return Ended::Stopped(cause);
                    }
                }
                Err(e) => return Ended::Failed(e),
            }
        }
    }

    fn stopped(mut self, cause: GapCause) -> Recording {
        self.late.forget();
        self.recording.stop(self.shared.clock.wall(), cause);
        self.recording
    }

    fn set_state(&self, state: SessionState) {
        self.recording.set_state(self.shared.clock.wall(), state);
    }
}

/// Ready as soon as the task is to stop, even if its session has used up what one task may do at a time: a
/// camera that never pauses must not keep us from stopping.
async fn stopped(stop: &mut watch::Receiver<Option<GapCause>>) -> GapCause {
    match tokio::task::unconstrained(stop.wait_for(Option::is_some)).await {
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
