//! Which fragments cover this stream and this time, where they are now, what is missing and why.
//!
//! Invariants of this crate:
//! 1. A row is committed only after the bytes that it points at are durable; callers see to it, and
//!    [`check`] proves it afterwards.
//! 2. Spans of a stream's segments never overlap and never run backwards.
//! 3. Wall time between a stream's first and last instant is recorded or has a gap with a cause.
//! 4. Everything but cameras and deletions can be made again from the media files alone ([`rebuild`]).

mod batch;
mod bulk;
pub mod check;
mod checkpoint;
mod compare;
mod copies;
mod coverage;
mod damage;
mod db;
mod error;
mod faults;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod keys;
mod live;
mod memory;
mod pulse;
mod query;
mod rebuild;
mod registry;
mod rows;
mod status;
mod suspects;
mod sweeps;
mod timeline;

pub use batch::Batch;
pub use compare::{Difference, compare};
pub use copies::{Copies, CopyState, Event, Forbidden};
pub use coverage::HourCoverage;
pub use damage::Damage;
pub use error::{IndexError, is_damaged};
pub use faults::{Fault, FaultKind};
pub use index::{Index, IndexOptions};
pub use live::Live;
pub use memory::IndexMemory;
pub use pulse::{Keeping, Lags, Moved, Pulse, Scrubbed};
pub use query::Nearest;
pub use rebuild::{Rebuilt, SegmentFiles, adopt, list_segments, rebuild, rebuild_from};
pub use registry::{CameraRow, PRIORITY_DEFAULT, PRIORITY_MAX, SecretUrl, StreamConfig, Transport};
pub use rows::{Ended, Incident, IncidentKind, SegmentFragments, SegmentRow, SegmentState};
pub use status::{SessionState, StreamStatus};
pub use suspects::{SUSPECTS_MAX, Suspect};
pub use sweeps::{Sweep, SweepState};
pub use timeline::{Run, Timeline};
