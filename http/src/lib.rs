//! The API and the web page: cameras, status, timelines, HLS, stills, exports, metrics.
//!
//! What it promises, in short:
//! 1. Footage is reached only through a handle that `auth::Footage::authorize` gave out.
//! 2. Only what is durable is shown.
//! 3. Every wait has a bound: for headers, for bodies, for readers that do not read, for decoders.
//! 4. Everything that is asked for at once has a bound: connections, answers being computed, bodies under way.
//!    Beyond it whoever waits for nothing gives way, or the request is answered 503.
//! 5. A read that fails ends the one response that needed it.

mod auth;
mod byte_range;
mod camera_url;
mod config;
mod connection;
mod decoder;
mod desk;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod hls;
mod json;
mod keyframe;
mod media;
mod metrics;
mod page;
mod places;
mod problem;
mod process;
mod query;
mod routes;
mod server;
mod state;
mod turns;

pub use archive::destination::{Destination, destination};
pub use auth::Glob;
pub use config::{Action, ApiKeyConfig, CONNECTIONS_MAX, ConfigError, HttpConfig, Timeouts};
pub use routes::{Access, Route, all_routes};
pub use server::{Server, StartError, start};
pub use state::{CameraUrlRule, HttpState, IncidentAge};
