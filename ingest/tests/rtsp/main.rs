//! RTSP sessions against servers: one that misbehaves on purpose, the camera farm, and GStreamer's.

mod camera;
mod farm;
mod gstreamer;
mod recording;
mod refusals;
