//! Immutable segments of fragments in tiered stores: ids, time, names, format, write, read, verify,
//! export assembly. This crate decides nothing.
//!
//! What it promises, in short (the whole list is in `docs/lifecycle.md`):
//! 1. A fragment begins on a block boundary; a block that was once synced is never written again.
//! 2. Every fragment carries its own SHA-256 and the hash of what stands before it, over segments too.
//! 3. A segment holds all that is needed to index it again: no other file is asked.
//! 4. After a failed write or sync a file is never written again.

pub mod buffer;
pub mod codec;
pub mod destination;
pub mod disk;
pub mod error;
pub mod export;

pub mod fragment;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod id;
pub mod layout;
pub mod mp4;
pub mod random;
pub mod seam;
pub mod segment;
mod sha256;
pub mod site_key;
mod small_file;
pub mod store;
pub mod tier;
pub mod time;
pub mod units;

pub use error::{ArchiveError, Malformed};
pub use fragment::{FragmentEntry, FragmentRef, Gap, GapCause, Note};
pub use id::{CameraId, Epoch, HoldId, SegmentId, Sha256, StreamId, StreamName, StreamNo, TenantId};
pub use mp4::{InitSegment, SampleEntry, Track, TrackKind, TrackSamples};
pub use tier::Tier;
pub use time::{Clock, MediaTime, SystemClock, TimeRange, Timescale, WallTime};
