//! Keeps a session to every stream that is to be recorded, for ever.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use archive::buffer::Pool;
use archive::{CameraId, Clock, GapCause, StreamId};
use futures::FutureExt as _;
use indexer::{CameraRow, Index, SessionState, StreamConfig};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backoff::Backoff;
use crate::committer::Submit;
use crate::config::IngestConfig;
use crate::error::IngestError;
use crate::recording::Recording;
use crate::rtsp::{Session, SessionConfig, Transport};

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
}

struct Running {
    wanted: Wanted,
    stop: watch::Sender<Option<GapCause>>,
    task: JoinHandle<Recording>,
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
    ended: &mut HashMap<StreamId, Recording>,
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
            ..
        } = camera;
        for config in streams.into_iter().filter(|s| s.enabled) {
            wanted.insert(stream_id(&id, &config), Wanted { config, priority });
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
        if let Ok(recording) = r.task.await {
            ended.insert(id, recording);
        }
    }
    let mut group: HashMap<CameraId, Arc<retina::client::SessionGroup>> = HashMap::new();
    for (id, wanted) in wanted {
        if running.contains_key(&id) {
            continue;
        }
        let mut recording = match ended.remove(&id) {
            Some(recording) => recording,
            None => {
                let (index, submit) = (shared.index.clone(), shared.submit.clone());
                Recording::resume(index, submit, shared.pool.clone(), &id, shared.clock.wall())?
            }
        };
        recording.set_priority(wanted.priority);
        let (tx, rx) = watch::channel(None);
        let sessions: &Arc<_> = group.entry(id.camera.clone()).or_default();
        let recorder = Recorder {
            shared: shared.clone(),
            id: id.clone(),
            wanted: wanted.clone(),
            recording,
            stop: rx,
            sessions: sessions.clone(),
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

/// Keeps a session to one stream.
struct Recorder {
    shared: Shared,
    id: StreamId,
    wanted: Wanted,
    recording: Recording,
    stop: watch::Receiver<Option<GapCause>>,
    sessions: Arc<retina::client::SessionGroup>,
}

enum Ended {
    Stopped(GapCause),
    Failed(GapCause, String),
}

impl Recorder {
    /// Records until it is told to stop. Returns where the stream ended.
    async fn run(mut self) -> Recording {
        self.recording
            .begin_gap(self.shared.clock.wall(), GapCause::Connecting);
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
            self.recording.end_session(self.shared.clock.wall(), cause);
            tracing::warn!(stream = %self.id, cause = cause.as_str(), error = %text, "the session ended");
            self.shared
                .index
                .set_status(self.recording.no(), |s| s.last_error = Some(text));
            self.set_state(SessionState::Backoff);
            let lasted = Duration::from_micros(self.shared.clock.monotonic_us().saturating_sub(began));
            backoff.recorded_for(lasted);
            let random = random(began ^ u64::from(self.recording.no().0) << 40);
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
            self.shared
                .index
                .set_status(self.recording.no(), |s| s.reconnects += 1);
        }
        self.recording.begin_session();
        loop {
            let event = tokio::select! {
                biased;
                event = session.next() => event,
                cause = stopped(&mut self.stop) => return Ended::Stopped(cause),
            };
            match event {
                Ok(event) => {
                    // A camera that never pauses must not keep us from stopping.
                    if self.recording.push(event, self.shared.clock.wall())
                        && let Some(cause) = *self.stop.borrow()
                    {
                        return Ended::Stopped(cause);
                    }
                }
                Err(e) => return Ended::Failed(e.cause(), e.to_string()),
            }
        }
    }

    fn stopped(mut self, cause: GapCause) -> Recording {
        self.recording.stop(self.shared.clock.wall(), cause);
        self.recording
    }

    fn set_state(&self, state: SessionState) {
        self.recording.set_state(self.shared.clock.wall(), state);
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
