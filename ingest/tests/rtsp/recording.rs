//! Runs a session for a while and keeps what it said.

use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::{SystemClock, TrackKind};
use sha2::{Digest as _, Sha256};
use tierline_ingest::event::{Event, Sample, SenderReport, TrackParams};
use tierline_ingest::rtsp::{Session, SessionConfig, SessionError, Transport};

/// How long the runtime sleeps whenever it has nothing to do, as the service's does.
const PAUSE: Duration = Duration::from_millis(100);

/// All events of a session.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// Tracks, and whether a run began, and how many video samples came before.
    pub(crate) starts: Vec<(Vec<TrackParams>, bool, usize)>,
    pub(crate) video: Vec<Sample>,
    pub(crate) audio: Vec<Sample>,
    pub(crate) reports: Vec<SenderReport>,
    pub(crate) end: Option<SessionError>,
}

impl Recording {
    pub(crate) fn take(&mut self, event: Event) {
        match event {
            Event::Start { tracks, new_run } => self.starts.push((tracks, new_run, self.video.len())),
            Event::Sample(s) if s.track == TrackKind::Video => self.video.push(s),
            Event::Sample(s) => self.audio.push(s),
            Event::SenderReport(r) => self.reports.push(r),
        }
    }

    /// SHA-256 of each picture in hexadecimal digits.
    pub(crate) fn picture_hashes(&self) -> Vec<String> {
        self.video.iter().map(|s| hex(&s.data)).collect()
    }
}

pub(crate) fn hex(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn config(url: &str) -> SessionConfig {
    SessionConfig::new(url, Transport::Tcp).expect("a URL")
}

/// A runtime as the service has: one thread, which sleeps before it waits.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(|| std::thread::sleep(PAUSE))
        .build()
        .expect("a runtime")
}

/// Records until `enough` says so, the session ends, or a minute is over.
pub(crate) async fn record(config: &SessionConfig, mut enough: impl FnMut(&Recording) -> bool) -> Recording {
    let mut recording = Recording::default();
    let mut session = match Session::connect(config, Arc::new(SystemClock::default())).await {
        Ok(session) => session,
        Err(error) => {
            recording.end = Some(error);
            return recording;
        }
    };
    let begin = Instant::now();
    while !enough(&recording) && begin.elapsed() < Duration::from_secs(60) {
        match session.next().await {
            Ok(event) => recording.take(event),
            Err(error) => {
                recording.end = Some(error);
                break;
            }
        }
    }
    recording
}

pub(crate) fn pictures(count: usize) -> impl FnMut(&Recording) -> bool {
    move |r| r.video.len() >= count
}
