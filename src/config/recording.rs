//! `[recording]`: the file's names for the settings of recording.

use std::time::Duration;

use ingest::IngestConfig;
use serde::Deserialize;

/// How media is written.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RecordingConfig {
    /// A segment ends after this time.
    #[serde(with = "archive::units::duration")]
    pub(crate) segment_duration: Duration,
    /// A segment ends before it grows beyond this.
    #[serde(with = "archive::units::size")]
    pub(crate) segment_size: u64,
    /// Media of all streams becomes durable together at this interval.
    #[serde(with = "archive::units::duration")]
    pub(crate) commit_interval: Duration,
    /// Sockets are drained at this interval.
    #[serde(with = "archive::units::duration")]
    pub(crate) poll_interval: Duration,
    /// Media of one stream that may wait for the disk.
    #[serde(with = "archive::units::size")]
    pub(crate) backlog_size: u64,
    /// Media of all streams together that may wait for the disk.
    #[serde(with = "archive::units::size")]
    pub(crate) backlog_size_all: u64,
    /// A camera that sends no picture for this long is connected to anew.
    #[serde(with = "archive::units::duration")]
    pub(crate) no_data: Duration,
    /// A camera that sends no keyframe for this long after it began to play is connected to anew.
    #[serde(with = "archive::units::duration")]
    pub(crate) no_keyframe: Duration,
    /// A larger coded picture ends its session.
    #[serde(with = "archive::units::size")]
    pub(crate) access_unit_size: u64,
}

impl Default for RecordingConfig {
    fn default() -> Self {
        let defaults = IngestConfig::default();
        Self {
            segment_duration: defaults.segment_duration,
            segment_size: defaults.segment_bytes_max,
            commit_interval: defaults.commit_interval,
            poll_interval: defaults.poll_interval,
            backlog_size: defaults.backlog_bytes_max as u64,
            backlog_size_all: defaults.backlog_bytes_max_all as u64,
            no_data: defaults.no_data,
            no_keyframe: defaults.no_keyframe,
            access_unit_size: defaults.access_unit_bytes_max,
        }
    }
}

impl RecordingConfig {
    /// As recording takes it.
    pub(crate) fn ingest(&self) -> IngestConfig {
        let memory = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        IngestConfig {
            segment_duration: self.segment_duration,
            segment_bytes_max: self.segment_size,
            commit_interval: self.commit_interval,
            poll_interval: self.poll_interval,
            backlog_bytes_max: memory(self.backlog_size),
            backlog_bytes_max_all: memory(self.backlog_size_all),
            no_data: self.no_data,
            no_keyframe: self.no_keyframe,
            access_unit_bytes_max: self.access_unit_size,
            ..IngestConfig::default()
        }
    }
}
