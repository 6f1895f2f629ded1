//! From a camera's RTP to durable, indexed fragments.
//!
//! RTSP session → fragmenter (one fragment a GOP, placed on the wall clock) → committer (append, sync,
//! index) for all streams together. What goes wrong with a camera becomes a gap with a cause.

pub mod activity;
pub mod backoff;
mod beat;
pub mod camsim;
pub mod clock_map;
mod committer;
mod config;
mod error;
pub mod event;
pub mod fragmenter;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gap_tracker;
pub mod import;
mod lateness;
mod nal;
pub mod overload;
mod recording;
mod recovery;
pub mod rtsp;
mod service;
mod supervisor;

pub use committer::{Committer, Steps, Submit};
pub use config::IngestConfig;
pub use error::IngestError;
pub use recording::{Recording, resume};
pub use recovery::{Recovered, recover, seal_left_open};
pub use service::Ingest;
