//! Who asks, whether they may, and the only way to footage.

mod access;
mod archived;
mod certificates;
mod footage_file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod glob;
mod guard;
mod holds;
mod next;
mod principal;
mod redirect;

pub use glob::Glob;

pub(crate) use access::{CameraHandle, Footage, StreamHandle};
pub(crate) use archived::{Ahead, split};
pub(crate) use footage_file::FootageFile;
pub(crate) use guard::{HostRule, check_origin};
pub(crate) use principal::{Keys, Principal};
pub(crate) use redirect::may_be_sent;
