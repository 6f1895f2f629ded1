//! Keeps a session to every stream that is to be recorded, for ever.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use archive::buffer::Pool;
use archive::{CameraId, Clock, GapCause, StreamId, StreamNo, TimeRange, WallTime};
use futures::FutureExt as _;
use indexer::{CameraRow, Index, SessionState, StreamConfig};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backoff::{self, Backoff};
use crate::committer::Submit;
use crate::config::IngestConfig;
use crate::error::IngestError;
use crate::fragmenter::{Finished, Fragmenter};
use crate::gap_tracker::GapTracker;
use crate::rtsp::{Reach, Session, SessionConfig, SessionError, Transport};

/// What every stream's task shares.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) config: IngestConfig,
    pub(crate) index: Arc<Index>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) pool: Pool,
    pub(crate) submit: Submit,
}

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
    task: JoinHandle<Fragmenter>,
}

/// Runs until `stop` is set; then every session has ended and its last fragment was handed in.
pub(crate) async fn supervise(shared: Shared, mut stop: watch::Receiver<bool>) -> Result<(), IngestError> {
    let mut changed = shared.index.registry_changed();
    let mut running: HashMap<StreamId, Running> = HashMap::new();
    let mut ended = HashMap::new();
    while !*stop.borrow_and_update() {
        changed.borrow_and_update();
        follow(&shared, &mut running, &mut ended).await?;
        tokio::select! {
            _ = changed.changed() => {}
            _ = stop.changed() => {}
        }
    }
    for r in running.values() {
        let _ = r.stop.send(Some(GapCause::ServiceStopped));
    }
    for r in running.into_values() {
        let _ = r.task.await;
    }
    Ok(())
}

/// Starts and ends sessions so that they are those that the registry asks for. A stream that was recorded
/// before goes on from what is in `ended`: the index is a commit behind.
async fn follow(
    shared: &Shared,
    running: &mut HashMap<StreamId, Running>,
    ended: &mut HashMap<StreamId, Fragmenter>,
) -> Result<(), IngestError> {
    let mut wanted: HashMap<StreamId, Wanted> = HashMap::new();
    for camera in shared.index.cameras()? {
        if camera.removed.is_some() {
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
        for config in streams.into_iter().filter(|s| s.enabled) {
            wanted.insert(
                stream_id(&id, &config),
                Wanted {
                    config,
                    priority,
                    reach,
                },
            );
        }
    }
    let gone: Vec<StreamId> = running
        .iter()
        .filter(|(id, r)| wanted.get(*id) != Some(&r.wanted) || r.task.is_finished())
        .map(|(id, _)| id.clone())
        .collect();
    for id in gone {
        let cause = if wanted.contains_key(&id) {
            GapCause::Connecting
        } else {
            GapCause::Disabled
        };
        let Some(r) = running.remove(&id) else {
            continue;
        };
        let _ = r.stop.send(Some(cause));
        if let Ok(fragmenter) = r.task.await {
            ended.insert(id, fragmenter);
        }
    }
    let mut group: HashMap<CameraId, Arc<retina::client::SessionGroup>> = HashMap::new();
    for (id, wanted) in wanted {
        if running.contains_key(&id) {
            continue;
        }
        let no = shared.index.ensure_stream(&id)?;
        let fragmenter = match ended.remove(&id) {
            Some(fragmenter) => fragmenter,
            None => resume(shared, no)?,
        };
        let (tx, rx) = watch::channel(None);
        let sessions: &Arc<_> = group.entry(id.camera.clone()).or_default();
        let recorder = Recorder {
            shared: shared.clone(),
            no,
            id: id.clone(),
            wanted: wanted.clone(),
            fragmenter,
            stop: rx,
            sessions: sessions.clone(),
            dropping: false,
        };
        let task = tokio::spawn(recorder.run());
        running.insert(
            id,
            Running {
                wanted,
                stop: tx,
                task,
            },
        );
    }
    Ok(())
}

fn stream_id(camera: &CameraId, config: &StreamConfig) -> StreamId {
    StreamId {
        tenant: Default::default(),
        camera: camera.clone(),
        stream: config.name.clone(),
    }
}

/// Where the stream ended, and the gap since then as the index knows it.
fn resume(shared: &Shared, no: StreamNo) -> Result<Fragmenter, IngestError> {
    let now = shared.clock.wall();
    let span = shared.index.span(no)?;
    let ended = shared.index.ended(no)?.map(|e| e.wall_end);
    let begin = span.map(|s| s.to()).or(ended);
    let since = TimeRange::new(begin.unwrap_or(WallTime::MIN), WallTime::MAX).unwrap_or(TimeRange::ALL);
    let known: Vec<_> = (shared.index.gaps(no, since)?.into_iter())
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
    Ok(Fragmenter::new(shared.pool.clone(), from, gap))
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
}

enum Ended {
    Stopped(GapCause),
    Failed(SessionError),
}

impl Recorder {
    /// Records until it is told to stop. Returns where the stream ended.
    async fn run(mut self) -> Fragmenter {
        let now = self.shared.clock.wall();
        self.begin_gap(now, GapCause::Connecting);
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
            self.ended(cause);
            tracing::warn!(stream = %self.id, cause = cause.as_str(), error = %text, "the session ended");
            self.shared.index.set_status(self.no, |s| {
                (s.last_cause, s.last_error) = (Some(cause), Some(text))
            });
            self.set_state(SessionState::Backoff);
            let lasted = Duration::from_micros(self.shared.clock.monotonic_us().saturating_sub(began));
            backoff.recorded_for(lasted);
            let random = random(began ^ u64::from(self.no.0) << 40);
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
            self.shared.index.set_status(self.no, |s| s.reconnects += 1);
        }
        self.fragmenter.begin_session();
        loop {
            let event = tokio::select! {
                biased;
                event = session.next() => event,
                cause = stopped(&mut self.stop) => return Ended::Stopped(cause),
            };
            match event {
                Ok(event) => {
                    if let Some(finished) = self.fragmenter.push(event) {
                        self.hand_in(finished);
                        // A camera that never pauses must not keep us from stopping.
                        if let Some(cause) = *self.stop.borrow() {
                            return Ended::Stopped(cause);
                        }
                    }
                }
                Err(e) => return Ended::Failed(e),
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
        let (bits, pictures) = (finished.bytes as u64 * 8, finished.pictures as f32);
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
            s.fps = pictures * 1e6 / us as f32;
            s.clock_offset_ms = offset;
            s.packets_lost += u64::from(lost);
            s.provisional_until = Some(end);
            (s.last_cause, s.last_error) = (None, None);
        });
        let refused = if shed {
            Some((GapCause::DiskFull, Box::new(finished)))
        } else {
            self.shared
                .submit
                .fragment(self.no, finished)
                .err()
                .map(|f| (GapCause::Overload, f))
        };
        match refused {
            Some((cause, finished)) => self.give_up(cause, from, &finished),
            None => self.dropping = false,
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
        self.set_state(SessionState::Stopped);
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
