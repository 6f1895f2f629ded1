//! The ordinary tests' part of fuzzing: the inputs that are kept, and some mutations of them.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use super::Target;

/// Mutations of each target's inputs, unless `TIERLINE_FUZZ_MUTATIONS` says otherwise.
const MUTATIONS: u64 = 2000;
/// No mutation makes an input longer.
const BYTES_MAX: usize = 64 << 10;
/// Where code branches off.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

/// Runs `targets` with everything in `fuzz/corpus` and `fuzz/regressions`, and with seeded mutations of it.
///
/// `TIERLINE_FUZZ_SEED` gives other mutations.
///
/// # Panics
/// When a target does, or when a target has no inputs.
pub fn replay(targets: &[Target]) {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seed = number("TIERLINE_FUZZ_SEED").unwrap_or(1);
    let mutations = number("TIERLINE_FUZZ_MUTATIONS").unwrap_or(MUTATIONS);
    for target in targets {
        let inputs = kept(target.name);
        assert!(!inputs.is_empty(), "no inputs for the target {}", target.name);
        for (path, bytes) in &inputs {
            run(target, bytes, &path.display().to_string());
        }
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for n in 0..mutations {
            let bytes = mutated(&inputs, &mut chance);
            run(
                target,
                &bytes,
                &format!("mutation {n} of TIERLINE_FUZZ_SEED={seed}"),
            );
        }
    }
}

fn run(target: &Target, bytes: &[u8], what: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))) {
        eprintln!("target {}, {what}: {}", target.name, bytes.escape_ascii());
        resume_unwind(panic);
    }
}

/// The inputs of a target, in the order of their names.
fn kept(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let mut inputs = Vec::new();
    for kind in ["corpus", "regressions"] {
        let Ok(files) = fs::read_dir(root.join(kind).join(name)) else {
            continue;
        };
        for path in files.filter_map(|f| Some(f.ok()?.path())) {
            let bytes = fs::read(&path).expect("an input can be read");
            inputs.push((path, bytes));
        }
    }
    inputs.sort_unstable();
    inputs
}

fn mutated(inputs: &[(PathBuf, Vec<u8>)], chance: &mut Chance) -> Vec<u8> {
    let pick = |chance: &mut Chance| inputs.get(chance.below(inputs.len())).map(|(_, bytes)| bytes);
    let mut bytes = pick(chance).cloned().unwrap_or_default();
    for _ in 0..1 + chance.below(4) {
        let at = chance.below(bytes.len() + 1);
        let until = at + chance.below(bytes.len() - at + 1).min(64);
        match chance.below(7) {
            0 => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|b| *b ^= 1 << chance.below(8)),
            1 => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|b| *b = chance.next() as u8),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..until)),
            4 => {
                let piece = bytes.get(at..until).unwrap_or_default().to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let edge = EDGES.get(chance.below(EDGES.len())).copied().unwrap_or_default();
                let width = 1 << chance.below(4);
                let edge = edge.to_be_bytes();
                let edge = edge.get(8 - width..).unwrap_or_default();
                bytes
                    .iter_mut()
                    .skip(at)
                    .zip(edge)
                    .for_each(|(to, from)| *to = *from);
            }
            _ => {
                let other = pick(chance).cloned().unwrap_or_default();
                let from = chance.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(other.get(from..).unwrap_or_default());
            }
        }
        bytes.truncate(BYTES_MAX);
    }
    bytes
}

/// Xorshift: all that this needs.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}
