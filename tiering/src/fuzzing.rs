//! What is fuzzed of this crate, the manifests of checkpoints: see `archive::fuzzing`.

use archive::fuzzing::Target;

pub use crate::checkpoint::fuzzing::manifest;

/// The parsers of this crate.
pub const TARGETS: &[Target] = &[Target::new("manifest", manifest)];

#[cfg(test)]
#[test]
fn the_inputs_that_are_kept_and_mutations_of_them_break_nothing() {
    archive::fuzzing::replay(TARGETS);
}
