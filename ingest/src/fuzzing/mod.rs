//! What is fuzzed of this crate: see `archive::fuzzing`.

mod clocks;
mod files;

use archive::fuzzing::Target;

pub use crate::camsim::fuzzing::{clip, requests};
pub use crate::rtsp::fuzzing::{align, depacketize, messages, session};
pub use clocks::{clock_map, fragmenter};
pub use files::import;

/// The parsers of this crate, and what is driven by what they read.
pub const TARGETS: &[Target] = &[
    Target::new("align", align),
    Target::new("clip", clip),
    Target::new("clock_map", clock_map),
    Target::new("depacketize", depacketize),
    Target::new("fragmenter", fragmenter),
    Target::new("import", import),
    Target::new("requests", requests),
    Target::new("rtsp_messages", messages),
    Target::new("rtsp_session", session),
];

#[cfg(test)]
#[test]
fn the_inputs_that_are_kept_and_mutations_of_them_break_nothing() {
    archive::fuzzing::replay(TARGETS);
}
