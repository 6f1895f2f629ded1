//! The service against software that nobody here wrote: GStreamer as the camera, ffmpeg as the reader, and
//! Chromium with hls.js as the viewer.
//!
//! Each test is one promise of the product. Those that watch pictures play run alone: a decoder takes all there is.

#![expect(
    clippy::print_stdout,
    reason = "what was measured is half of what a test has to tell"
)]

mod peers;
#[allow(
    dead_code,
    unused_imports,
    reason = "the tests of the service alone use the rest"
)]
mod rig;

#[path = "../../../archive/tests/rig/servers.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod servers;

#[allow(dead_code, reason = "other tests use the rest")]
mod stores;

mod against_a_browser;
mod against_a_browser_that_plays_every_tier;
mod against_a_browser_that_shows_where_footage_is;
mod against_a_camera_that_dies_and_changes;
mod against_a_gstreamer_camera;
