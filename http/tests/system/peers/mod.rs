//! Other people's software, as these tests use it.

mod browser;
mod ffmpeg;
mod gst_camera;

pub(crate) use browser::{Looked, Played, look, play};
pub(crate) use ffmpeg::{Packet, assert_decodes, packets, picture_hashes};
pub(crate) use gst_camera::{GstCamera, SentPicture, SentSound};
