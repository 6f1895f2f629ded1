//! How long the disk lasts while nothing can leave it that is not elsewhere already.

use std::time::Duration;

/// What the hot tier has, and what comes in.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hot {
    /// Bytes that may be written before cameras give way.
    pub(crate) room: u64,
    /// Bytes that may leave the disk because a copy elsewhere counts.
    pub(crate) evictable: u64,
    /// Bytes that are recorded in a second at present.
    pub(crate) rate: u64,
}

impl Hot {
    /// How long all cameras are recorded if no copy can be made from now on; `None` when nothing comes in.
    pub(crate) fn lasts(&self) -> Option<Duration> {
        let seconds = self.room.saturating_add(self.evictable).checked_div(self.rate)?;
        Some(Duration::from_secs(seconds))
    }
}

/// Bytes that are to leave a disk with `free` bytes, of which `reserve` are to stay free, when `comes` bytes are recorded
/// between two looks at it. More than what is missing: cameras that gave way come back only when the reserve stays free,
/// and not if each look finds less than it by what came since the last.
pub(crate) fn missing(free: u64, reserve: u64, comes: u64) -> u64 {
    let beyond = (reserve / 8).max(comes.saturating_mul(4)).min(reserve);
    if free >= reserve.saturating_add(beyond / 2) {
        return 0;
    }
    reserve.saturating_add(beyond).saturating_sub(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(room: u64, evictable: u64, rate: u64) -> Option<f64> {
        let lasts = Hot {
            room,
            evictable,
            rate,
        }
        .lasts()?;
        Some(lasts.as_secs_f64() / 3600.0)
    }

    #[test]
    fn the_disk_lasts_for_what_is_free_and_what_can_be_freed() {
        // 100 cameras at 4 Mbit/s write 180 GB an hour.
        let rate = 100 * 500_000;
        assert_eq!(hours(180_000_000_000, 0, rate), Some(1.0));
        assert_eq!(hours(180_000_000_000, 540_000_000_000, rate), Some(4.0));
        assert_eq!(hours(0, 0, rate), Some(0.0));
    }

    #[test]
    fn without_anything_recorded_there_is_no_end() {
        assert_eq!(hours(1, 1, 0), None);
    }

    #[test]
    fn the_reserve_stays_free_between_two_looks() {
        let (reserve, comes) = (10_000, 700);
        let mut free: u64 = 0;
        for look in 0..50 {
            free = free.saturating_sub(comes);
            assert!(look == 0 || free >= reserve, "look {look}: {free}");
            free += missing(free, reserve, comes);
        }
        assert_eq!(missing(20_000, reserve, comes), 0);
        assert_eq!(missing(0, 0, comes), 0, "who keeps nothing free needs nothing");
    }

    #[test]
    fn numbers_at_their_ends_do_not_fail() {
        assert!(hours(u64::MAX, u64::MAX, 1).is_some());
        missing(0, u64::MAX, u64::MAX);
    }
}
