//! One RTSP session: from a URL to tracks and samples, bit-exact.
//!
//! What is kept of a camera's stream: every NAL unit of every access unit in the order in which the camera
//! sent them, access unit delimiters, SEI (and with it a camera's signatures), filler and unknown types
//! included, each behind a four-byte length; AAC frames as they are. What is not: parameter sets (SPS, PPS,
//! VPS). They stand once in the sample entry and are taken out of the samples, as `avc1` and `hvc1` demand.
//! retina always takes them out; it could put them back, but at the front of each keyframe whether or not the
//! camera sent them there, even before the access unit delimiter, and that would be an invention. It knows
//! one parameter set of each kind: a camera that uses several SPS or PPS side by side is not supported. An
//! access unit that lost a packet is discarded as a whole, and the loss is counted with the next sample.

mod align;
mod config;
mod describe;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod reach;
mod recovery_point;
mod session;
mod tracks;

pub use config::{SessionConfig, SessionLimits, Transport};
pub use error::SessionError;
pub use reach::Reach;
pub use session::Session;
