//! Which fragments cover this stream and this time, where they are now, what is missing and why.
//!
//! Invariants of this crate:
//! 1. A row is committed only after the bytes that it points at are durable; callers see to it, and
//!    [`check`] proves it afterwards.
//! 2. Spans of a stream's segments never overlap and never run backwards.
//! 3. Wall time between a stream's first and last instant is recorded or has a gap with a cause.
//! 4. Everything but cameras can be made again from the media files, and from the holds and certificates beside them
//!    ([`rebuild`]).

mod archived;
mod batch;
mod beside;
mod bulk;
mod certificates;
pub mod check;
mod checkpoint;
mod compare;
mod copies;
mod coverage;
mod damage;
mod db;
mod deletions;
mod error;
mod faults;
mod footers;
mod forecast;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod holds;
mod index;
mod keys;
mod lent;
mod live;
mod marks;
mod memory;
mod orphans;
mod pool;
mod pulse;
mod query;
mod rebuild;
mod registry;
mod restores;
mod rows;
mod status;
mod suspects;
mod sweeps;
mod thinning;
mod timeline;

pub use archived::unreadable;
pub use batch::Batch;
pub use certificates::{
    CERTIFICATES_FOLDER, Certificate, DeletedSegment, GapBefore, HoldCheck, Ledger, Place, Witness,
    parse as parse_certificate, store_path as certificates_path,
};
pub use compare::{Difference, compare};
pub use copies::{Copies, CopyState, Event, Forbidden};
pub use coverage::HourCoverage;
pub use damage::Damage;
pub use deletions::{Cause, Deletion};
pub use error::{IndexError, is_damaged};
pub use faults::{Fault, FaultKind};
pub use footers::{fetch_tables, with_tables};
pub use forecast::{
    DiskForecast, Ends, Forecast, Going, Risk, RiskCause, RuleForecast, StreamForecast, TierBytes,
    TierForecast, days,
};
pub use holds::{Gone, HOLDS_FOLDER, Hold, HoldKind, Release, StoredHolds, hold_path, stored_holds};
pub use index::{Index, IndexOptions};
pub use lent::Loan;
pub use live::Live;
pub use marks::{ARCHIVE_TIME, CLOCK_DOUBT};
pub use memory::IndexMemory;
pub use orphans::{ORPHANS_MAX, Orphan, Orphans};
pub use pulse::{Keeping, Lags, Moved, Pulse, Scrubbed};
pub use query::Nearest;
pub use rebuild::{Rebuilt, SegmentFiles, adopt, list_segments, rebuild, rebuild_from};
pub use registry::{CameraRow, PRIORITY_DEFAULT, PRIORITY_MAX, SecretUrl, StreamConfig, Transport};
pub use restores::{RESTORES_MAX, Restore, RestoreState};
pub use rows::{Ended, Incident, IncidentKind, SegmentFragments, SegmentRow, SegmentState};
pub use status::{SessionState, StreamStatus};
pub use suspects::{SUSPECTS_MAX, Suspect};
pub use sweeps::{Sweep, SweepState};
pub use thinning::{Replacement, Thinning, ThinningStep};
pub use timeline::{Run, Timeline};
