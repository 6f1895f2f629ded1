//! Deletes sealed segments as they age and as the disk fills: pure decisions and a worker that carries
//! them out.
//!
//! Invariants of this crate:
//! 1. Nothing is deleted before the minimum of its rule, and nothing by age on the word of a clock that
//!    has just jumped ([`ArchiveTime`]).
//! 2. Segments of a stream go oldest first, less those under a hold. What is missing between two is told by a gap.
//! 3. A segment's row says that it is being deleted before its file goes, and goes after it.
//! 4. Thinning puts a new object in the place of a segment, and removes the old one when the new one is as safe
//!    ([`Thinner`]).
//! 5. When the disk fills and nothing may be deleted, new footage of the lowest priority gives way
//!    ([`Shedding`]), never old footage under its minimum.

mod archive_time;
mod aside;
pub mod checkpoint;
mod clearing;
mod config;
mod error;
mod filing;
pub mod forecast;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gather;
mod glob;
mod hands;
mod ledger;
mod locking;
mod locks;
mod mover;
mod outlook;
pub mod plan;
pub mod policy;
mod progress;
mod rates;
mod reaper;
mod removal;
mod restorer;
mod room;
mod rules;
pub mod scrub;
mod shed;
mod thinner;
mod thinning;
mod totals;
mod worker;

pub use archive_time::{ArchiveTime, ClockEvent, Reading};
pub use config::{ConfigError, Thresholds, TieringConfig};
pub use error::TieringError;
pub use glob::Glob;
pub use hands::Hands;
pub use mover::Mover;
pub use outlook::Outlook;
pub use progress::{Deleted, Progress};
pub use rates::rates;
pub use reaper::Reaper;
pub use restorer::Restorer;
pub use rules::{Below, Problem, RetentionRule, RuleError, Rules};
pub use shed::Shedding;
pub use thinner::{Replaced, Thinner, ThinnerMoment, ThinnerParts};
pub use thinning::ThinKeep;
pub use worker::{Worker, tell_replaced};
