//! How recording is done.

use std::time::Duration;

/// Settings of recording. All have defaults that fit most sites.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IngestConfig {
    /// A segment ends after this time on the wall, at a phase of its stream's own.
    pub segment_duration: Duration,
    /// A segment ends before it grows beyond this many bytes.
    pub segment_bytes_max: u64,
    /// Complete fragments of all streams become durable together at this interval.
    pub commit_interval: Duration,
    /// Sockets are drained at this interval: one wake-up for all sessions.
    pub poll_interval: Duration,
    /// Complete fragments of one stream that may wait for the disk, in bytes; beyond it new ones are given
    /// up, with a gap that says so.
    pub backlog_bytes_max: usize,
    /// Complete fragments of all streams together that may wait for the disk, in bytes.
    pub backlog_bytes_max_all: usize,
    /// A camera that sends no picture for this long is connected to anew.
    pub no_data: Duration,
    /// A camera that sends no keyframe for this long after it began to play is connected to anew.
    pub no_keyframe: Duration,
    /// A camera must answer each request within this time.
    pub answer: Duration,
    /// A longer access unit ends its session, in bytes.
    pub access_unit_bytes_max: u64,
    /// Whether cameras that do not stand in the configuration file may be on this machine.
    pub loopback_allowed: bool,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            segment_duration: Duration::from_secs(600),
            segment_bytes_max: 128 << 20,
            commit_interval: Duration::from_millis(500),
            poll_interval: Duration::from_millis(200),
            backlog_bytes_max: 96 << 20,
            backlog_bytes_max_all: 1 << 30,
            no_data: Duration::from_secs(10),
            no_keyframe: Duration::from_secs(120),
            answer: Duration::from_secs(10),
            access_unit_bytes_max: 16 << 20,
            loopback_allowed: true,
        }
    }
}
