//! Deleting real segments: by rule, on a disk that fills, over crashes and clock jumps.

#![expect(
    clippy::print_stdout,
    reason = "what was measured is half of what a test has to tell"
)]

mod a_fault_at_every_step_of_a_move_loses_nothing;
mod archive_class;
mod archive_of_segments;
mod certificates;
mod checkpoint;
mod clock_jumps;
mod footers;
mod forecast;
mod full_disk;
mod held_in_the_store;
mod held_up;
mod holds;
mod interrupted;
mod killed;
mod locks;
mod lost_machine;
mod moves;
mod real_servers;
mod removed_cameras;
mod retention;
mod scrub;
mod silent_stores;
mod stale_lists;
mod steps;
mod thinned_originals;
mod thinned_while_leaving;
mod thinning;
mod tiers;

#[path = "../../../archive/tests/rig/servers.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod servers;

#[path = "../../../archive/tests/rig/proxy.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod proxy;
