//! Deleting real segments: by rule, on a disk that fills, over crashes and clock jumps.

mod archive_of_segments;
mod clock_jumps;
mod forecast;
mod full_disk;
mod interrupted;
mod removed_cameras;
mod retention;
mod tiers;
