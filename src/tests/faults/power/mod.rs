//! Power cuts: an archive on real file systems whose disks lose what they had not been told to keep.

mod cuts;
mod rig;
mod sick_disks;
