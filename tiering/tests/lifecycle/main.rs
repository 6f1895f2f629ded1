//! Deleting real segments: by rule, on a disk that fills, over crashes and clock jumps.

mod archive_of_segments;
mod clock_jumps;
mod full_disk;
mod interrupted;
mod retention;
mod thinning;
mod tiers;
