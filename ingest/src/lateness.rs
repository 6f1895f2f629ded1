//! How late the samples of a session are read, by their own clock.

use std::sync::atomic::{AtomicU64, Ordering};

use archive::{Timescale, TrackKind};

use crate::event::{Event, TrackParams};

/// The earliest arrival seen moves by one part in so many, so that a camera's clock that runs slow is not
/// taken for lateness that grows: 500 parts in a million is more than any clock is off.
const LEAK: u64 = 2000;

/// What a session tells whoever looks at all of them. A session that reads little but all at once is late at the
/// beginning and on time at the end: the worst counts.
#[derive(Debug, Default)]
pub(crate) struct Told {
    worst_us: AtomicU64,
    /// When the last picture was read, on the host's monotonic clock; 0 while none was.
    read_us: AtomicU64,
    /// How long there is usually nothing to read between two pictures.
    silent_us: AtomicU64,
}

impl Told {
    pub(crate) fn tell(&self, late_us: u64, now_us: u64) {
        self.worst_us.fetch_max(late_us, Ordering::Relaxed);
        let before = self.read_us.swap(now_us, Ordering::Relaxed);
        if before > 0 {
            let usual = self.silent_us.load(Ordering::Relaxed);
            let silent = now_us.saturating_sub(before).max(usual - usual / 8);
            self.silent_us.store(silent, Ordering::Relaxed);
        }
    }

    /// There is no session any more.
    pub(crate) fn forget(&self) {
        self.worst_us.store(0, Ordering::Relaxed);
        self.read_us.store(0, Ordering::Relaxed);
        self.silent_us.store(0, Ordering::Relaxed);
    }

    /// How late pictures were read since the last look, which was at `seen_us`; `None` without a session. Silence
    /// counts when it lasts longer than usual: a camera may send a picture in five seconds.
    pub(crate) fn look(&self, seen_us: u64, now_us: u64) -> Option<u64> {
        let worst = self.worst_us.swap(0, Ordering::Relaxed);
        let read = Some(self.read_us.load(Ordering::Relaxed)).filter(|at| *at > 0)?;
        Some(if read < seen_us {
            let usual = self.silent_us.load(Ordering::Relaxed);
            worst.max(now_us.saturating_sub(read).saturating_sub(usual))
        } else {
            worst
        })
    }
}

/// Compares when pictures arrive with when they were taken. The one that came soonest counts as on time.
#[derive(Debug, Default)]
pub(crate) struct Lateness {
    scale: Option<Timescale>,
    /// Arrival minus media time of the soonest picture, and when that was last looked at.
    soonest: Option<(i64, u64)>,
    late_us: u64,
}

impl Lateness {
    /// Takes in what a session tells.
    pub(crate) fn observe(&mut self, event: &Event) {
        match event {
            Event::Start { tracks, new_run } => {
                let video = |t: &&TrackParams| t.kind == TrackKind::Video;
                self.scale = tracks.iter().find(video).map(|t| t.timescale);
                if *new_run {
                    self.soonest = None;
                }
            }
            Event::Sample(sample) if sample.track == TrackKind::Video => {
                if let Some(scale) = self.scale {
                    self.picture(scale.to_micros(sample.pts), sample.arrival_mono_us);
                }
            }
            Event::Sample(_) | Event::SenderReport(_) => {}
        }
    }

    fn picture(&mut self, pts_us: i64, arrival_us: u64) {
        let offset = i64::try_from(arrival_us)
            .unwrap_or(i64::MAX)
            .saturating_sub(pts_us);
        let soonest = match self.soonest {
            None => offset,
            Some((soonest, at)) => {
                let leak = i64::try_from(arrival_us.saturating_sub(at) / LEAK).unwrap_or(0);
                // Less than one step has passed: look again later.
                if leak == 0 && offset >= soonest {
                    self.late_us = offset.abs_diff(soonest);
                    return;
                }
                offset.min(soonest.saturating_add(leak))
            }
        };
        self.soonest = Some((soonest, arrival_us));
        self.late_us = u64::try_from(offset.saturating_sub(soonest)).unwrap_or(0);
    }

    /// How late the last picture was.
    pub(crate) fn late_us(&self) -> u64 {
        self.late_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_since_the_last_look_is_told_and_silence_grows() {
        let told = Told::default();
        assert_eq!(told.look(0, 100), None);
        for (late, now) in [(900, 1000), (20, 1001)] {
            told.tell(late, now);
        }
        assert_eq!(told.look(100, 1100), Some(900));
        assert_eq!(told.look(1100, 1600), Some(598));
        told.forget();
        assert_eq!(told.look(1600, 2000), None);
    }

    #[test]
    fn a_camera_that_seldom_sends_a_picture_is_not_late_until_one_is_missing() {
        let told = Told::default();
        for second in (5..60).step_by(5) {
            told.tell(0, second * 1_000_000);
        }
        let look = |at: u64| told.look((at - 500_000).max(55_000_001), at);
        assert_eq!(look(59_900_000), Some(0));
        assert_eq!(look(63_000_000), Some(3_000_000));
    }

    #[test]
    fn what_comes_later_than_the_soonest_is_late_and_a_slow_clock_is_not() {
        let mut lateness = Lateness::default();
        for (pts, arrival, late) in [
            (0, 1_000_300, 0),
            (33_000, 1_033_000, 0),
            (66_000, 1_266_000, 199_884),
            (99_000, 3_099_000, 1_998_968),
        ] {
            lateness.picture(pts, arrival);
            assert_eq!(lateness.late_us(), late, "{pts}");
        }
        // 300 parts in a million for a day.
        let mut lateness = Lateness::default();
        for n in 0..86_400 * 30 {
            lateness.picture(n * 33_333, (n * 33_343) as u64);
        }
        assert!(lateness.late_us() < 1000, "{}", lateness.late_us());
    }
}
