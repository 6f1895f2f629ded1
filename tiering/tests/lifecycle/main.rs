//! Deleting real segments: by rule, on a disk that fills, over crashes and clock jumps.

mod archive_of_segments;
mod checkpoint;
mod clock_jumps;
mod full_disk;
mod interrupted;
mod retention;
mod scrub;
mod tiers;
