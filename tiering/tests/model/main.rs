//! A model of the archive, a sorted map and a few lines a rule, against the real one on a real disk.
//!
//! `operation.rs` says what may happen, `world.rs` simulates cameras and the host's clocks, `real.rs` drives the
//! archive (samples → clock map → fragmenter → committer → index; the reaper; import; kills and starts), and
//! `model.rs` is what an auditor reads: what must be true after each operation.
//!
//! The long form is `the_archive_does_what_its_model_says_for_hours`, ignored; `TIERLINE_SOAK_CASES` and `TIERLINE_SOAK_SEED`
//! set its length and its seed. A failure prints the smallest sequence of operations that fails, and the seed.

mod clip;
mod kept;
mod model;
mod operation;
mod play;
mod real;
mod world;

use operation::Story;
use play::play;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// Cases of the ordinary run.
const CASES: u32 = 150;

fn run(cases: u32, seed: u64) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let started = std::time::Instant::now();
    let mut done = 0_u32;
    let done_ref = std::cell::RefCell::new(&mut done);
    let result = runner.run(&Story::any(), |story| {
        let mut done = done_ref.borrow_mut();
        **done += 1;
        if done.is_multiple_of(500) {
            eprintln!("model: {done} cases, seed {seed}, {:?}", started.elapsed());
        }
        play(&story).map_err(TestCaseError::fail)
    });
    match result {
        Err(TestError::Fail(why, story)) => {
            panic!(
                "seed {seed}, found after {done} cases with those of shrinking: {why}\nsmallest: {story:?}"
            )
        }
        Err(e) => panic!("seed {seed}: {e}"),
        Ok(()) => {}
    }
    eprintln!(
        "model: {cases} cases without a finding, seed {seed}, {:?}",
        started.elapsed()
    );
}

fn from_env(key: &str, default: u64) -> u64 {
    let text = std::env::var(key).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn the_archive_does_what_its_model_says() {
    run(CASES, from_env("TIERLINE_SOAK_SEED", 1));
}

#[test]
#[ignore = "soak: the same for hours"]
fn the_archive_does_what_its_model_says_for_hours() {
    let cases = from_env("TIERLINE_SOAK_CASES", 20_000);
    run(
        u32::try_from(cases).expect("fewer"),
        from_env("TIERLINE_SOAK_SEED", 1),
    );
}

proptest! {
    #![proptest_config(Config { cases: 1, ..Config::default() })]

    /// The model itself: playing a story twice ends the same.
    #[test]
    fn a_story_ends_the_same_each_time(story in Story::any()) {
        prop_assert_eq!(play(&story), play(&story));
    }
}
