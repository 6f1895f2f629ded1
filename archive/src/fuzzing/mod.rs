//! What is fuzzed: every parser of bytes that others wrote, with what must hold whatever the bytes are.
//!
//! Compiled for tests and for `fuzz/` only. A target panics when something does not hold. The same functions
//! run under libFuzzer (`make fuzz`) and, with the inputs that are kept and some mutations of them, in the
//! ordinary tests.

mod blank;
mod boxes;
mod input;
mod replay;
mod texts;

pub use blank::{h264_entry, h264_entry_with, video_track};
pub use input::Input;
pub use replay::replay;

/// A parser under test.
#[derive(Copy, Clone, Debug)]
pub struct Target {
    /// Its name, which is also that of its folder of inputs.
    pub name: &'static str,
    /// Feeds it and checks what must hold.
    pub run: fn(&[u8]),
}

impl Target {
    /// A target.
    pub const fn new(name: &'static str, run: fn(&[u8])) -> Self {
        Self { name, run }
    }
}

pub use crate::export::fuzzing::{export, parameter_sets};
pub use crate::segment::fuzzing::{carried, footer, frame, header, origin, outline, segment, thinned};
pub use crate::store::fuzzing::answers;
pub use boxes::{boxes, init, moof};
pub use texts::{layout, numbers, texts};

/// The parsers of this crate.
pub const TARGETS: &[Target] = &[
    Target::new("answers", answers),
    Target::new("boxes", boxes),
    Target::new("carried", carried),
    Target::new("export", export),
    Target::new("footer", footer),
    Target::new("frame", frame),
    Target::new("header", header),
    Target::new("init", init),
    Target::new("layout", layout),
    Target::new("moof", moof),
    Target::new("numbers", numbers),
    Target::new("origin", origin),
    Target::new("outline", outline),
    Target::new("parameter_sets", parameter_sets),
    Target::new("segment", segment),
    Target::new("texts", texts),
    Target::new("thinned", thinned),
];

#[cfg(test)]
#[test]
fn the_inputs_that_are_kept_and_mutations_of_them_break_nothing() {
    replay(TARGETS);
}
