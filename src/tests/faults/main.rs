//! What faults leave of an archive: a step on the disk that fails, a kill at any step, a power cut.
//!
//! A child process records, imports, deletes and recovers with the code that the service runs, and says what
//! it was told is durable. The parent keeps that account outside the archive, starts the archive again
//! without faults, and compares. Everything follows from seeds, which a failure prints.

#![expect(
    clippy::print_stdout,
    reason = "what was measured is half of what a test has to tell"
)]

mod account;
mod camera;
mod child;
mod dice;
mod faults;
mod judge;
mod power;
mod site;
mod template;
mod workload;

mod a_crash_inside_recovery_is_recovered;
mod a_fault_at_every_step_loses_nothing;
