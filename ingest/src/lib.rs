//! From a camera's RTP to durable, indexed fragments.

pub mod backoff;
pub mod camsim;
pub mod clock_map;
pub mod event;
pub mod gap_tracker;
//pub mod import;
pub mod rtsp;
