//! Cameras that misbehave on purpose, each beside two honest ones, each in a process of its own.
//!
//! Every misbehaviour must end in a named state with its cause in the index, or be recorded in spite of it;
//! memory must stay bounded, the camera must not be hammered, and the honest cameras must lose nothing. The
//! soak form (`--ignored soak`) lets many cameras change their misbehaviour at random for
//! `TIERLINE_SOAK_SECONDS`, from the seed in `TIERLINE_SOAK_SEED`.

#![expect(
    clippy::print_stdout,
    reason = "the numbers of each case are part of its result"
)]

mod answers;
mod camera;
mod case;
mod cases;
mod control;
mod forge;
mod media;
mod memory;
mod misbehaviour;
mod oracle;
mod run;
mod site;
mod soak;
mod udp;
mod upstream;

use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};

/// Names the case that a process of its own is to run.
const CASE: &str = "TIERLINE_HOSTILE_CASE";
/// Processes at a time: they mostly wait for timers.
const PROCESSES: usize = 20;

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(CASE) {
        run::one(&name);
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(PROCESSES));
    let mut trials: Vec<_> = cases::all()
        .into_iter()
        .map(|case| Trial::test(case.name, move || alone(case.name)))
        .collect();
    trials.extend(
        control::ALL
            .iter()
            .map(|control| Trial::test(control.name, || control::must_fail(control)).with_ignored_flag(true)),
    );
    trials.push(Trial::test("soak", || alone("soak")).with_ignored_flag(true));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs a case in a process of its own, so that its memory is its own.
fn alone(name: &str) -> Result<(), Failed> {
    let (passed, output) = spawn(name, None);
    let mark = output.lines().find(|line| line.starts_with("hostile:"));
    println!("{}", mark.unwrap_or_default());
    if passed { Ok(()) } else { Err(output.into()) }
}

/// Whether a case passes, and what it said.
fn spawn(name: &str, without: Option<&str>) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    // A backtrace reads debug symbols into memory, which is measured.
    command
        .env(CASE, name)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    if let Some(without) = without {
        command.env(site::WITHOUT, without);
    }
    let output = command.output().expect("a process of its own");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}
