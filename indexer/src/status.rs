//! What ingest tells of its sessions and the API shows: in memory only.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use archive::{GapCause, StreamNo, WallTime};
use serde::Serialize;

/// What a stream's session is doing.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// Nobody asked for it.
    #[default]
    Stopped,
    /// A connection is being made.
    Connecting,
    /// Media comes in.
    Recording,
    /// The last connection failed; the next is due soon.
    Backoff,
    /// Media comes in but is not kept, because the disk is full.
    Shed,
}

impl SessionState {
    /// The word used in JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Connecting => "connecting",
            Self::Recording => "recording",
            Self::Backoff => "backoff",
            Self::Shed => "shed",
        }
    }
}

/// The state of a stream's session.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StreamStatus {
    /// What it is doing.
    pub state: SessionState,
    /// Since when.
    pub since: WallTime,
    /// Received media, in bits a second, over the last fragments.
    pub bitrate_bps: u64,
    /// Pictures a second over the last fragments.
    pub fps: f32,
    /// Sessions begun after the first.
    pub reconnects: u64,
    /// The camera's clock minus ours.
    pub clock_offset_ms: Option<i64>,
    /// The end of the last fragment that is complete, durable or not.
    pub provisional_until: Option<WallTime>,
    /// Why nothing has been recorded since the last session ended, as the gap says it too.
    pub last_cause: Option<GapCause>,
    /// Why the last session ended; never with credentials.
    pub last_error: Option<String>,
    /// RTP packets lost since the start.
    pub packets_lost: u64,
    /// Pictures of fragments that were handed to the disk since the start.
    pub pictures: u64,
}

#[derive(Default)]
pub(crate) struct StatusBoard(Mutex<HashMap<StreamNo, StreamStatus>>);

impl StatusBoard {
    pub(crate) fn get(&self, stream: StreamNo) -> StreamStatus {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&stream)
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) fn update(&self, stream: StreamNo, f: impl FnOnce(&mut StreamStatus)) {
        f(self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(stream)
            .or_default());
    }
}
