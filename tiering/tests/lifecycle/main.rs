//! Deleting real segments: by rule, on a disk that fills, over crashes and clock jumps.

mod archive_of_segments;
mod certificates;
mod clock_jumps;
mod full_disk;
mod holds;
mod interrupted;
mod retention;
mod tiers;
