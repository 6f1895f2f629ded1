//! The service as its users run it: the binary, simulated cameras, and faults from outside.
//!
//! Each test is one promise of the product and stands in a file that is named after it. Those that measure what the
//! machine does, or how soon, run alone; most wait most of the time, and do so beside each other.

#![expect(
    clippy::print_stdout,
    reason = "what was measured is half of what a test has to tell"
)]

#[allow(
    dead_code,
    unused_imports,
    reason = "the tests against other software use the rest"
)]
mod rig;

#[path = "../../../archive/tests/rig/servers.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod servers;

#[path = "../../../archive/tests/rig/proxy.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod proxy;

mod damage;
mod stores;

mod a_burst_of_readers_leaves_no_memory_behind;
mod a_damaged_byte_never_reaches_a_reader;
mod a_failed_fdatasync_is_never_acknowledged;
mod a_full_disk_loses_nothing_and_recording_resumes;
mod a_full_disk_while_the_store_is_away_loses_nothing;
mod a_kill_loses_nothing_that_was_reported_durable;
mod a_store_that_never_answers_does_not_hold_up_the_end;
mod archived_footage_is_restored_when_somebody_asks_for_it;
mod cameras_that_are_too_many_give_way_and_the_rest_lose_nothing;
mod footage_moves_down_the_tiers_and_stays_the_same;
mod hostile_clients_do_not_move_recording;
mod missing_data_dir_is_refused;
mod stores_that_fail_cost_neither_footage_nor_recording;
mod the_index_can_be_made_again_from_the_media;
mod trusted_clients_are_sent_to_the_store;
