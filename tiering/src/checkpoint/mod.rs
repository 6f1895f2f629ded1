//! Copies of the index in the first store below the hot tier, so that a machine that is lost is back in minutes.
//!
//! A checkpoint is a folder of objects, `.checkpoints/<epoch>-<time>/…`, of which `manifest` is put last: it names the
//! others, their lengths and their SHA-256. One without is none.

mod config;
mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod make;
mod manifest;
mod thread;

pub use self::config::CheckpointConfig;
pub use self::fetch::fetch;
pub use self::make::make;
pub use self::thread::Checkpointing;

/// Where checkpoints stand in a store.
const FOLDER: &str = ".checkpoints";
/// The object that says what belongs to one.
const MANIFEST: &str = "manifest";
