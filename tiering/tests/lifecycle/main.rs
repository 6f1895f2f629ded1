//! Deleting real segments: by rule, on a disk that fills, over crashes and clock jumps.

mod archive_class;
mod archive_of_segments;
mod certificates;
mod checkpoint;
mod clock_jumps;
mod full_disk;
mod holds;
mod interrupted;
mod retention;
mod scrub;
mod tiers;

#[path = "../../../archive/tests/rig/servers.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod servers;
