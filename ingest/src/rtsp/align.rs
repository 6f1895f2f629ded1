//! Brings the sound of a session to the time of its pictures.
//!
//! Each track's RTP timestamps count on their own, from a random origin. Where sound belongs is decided once
//! for each run, before its first fragment closes:
//! 1. by the sender reports of both tracks, which name the same camera clock;
//! 2. else by the `RTP-Info` header of the answer to PLAY, if the camera gave both origins there;
//! 3. else by arrival: the least delayed picture and the least delayed sound are taken as simultaneous.
//!
//! The first two must agree with the third within two seconds, since cameras get them wrong. Afterwards the
//! sound only moves by up to 500 ppm towards what later sender reports say, because the oscillators of sound
//! and pictures drift apart over days.

/// How far a camera's word may lie from what arrival says.
const PLAUSIBLE_US: i64 = 2_000_000;
/// Later sender reports that differ by less are noise.
const NOISE_US: i64 = 20_000;
/// The sound is moved by one part in this many: 500 ppm.
const DRIFT_PARTS: i64 = 2000;

/// One track's clock as seen from here. `elapsed` is the media time since the track's own origin.
#[derive(Debug, Clone, Default)]
pub(super) struct TrackClock {
    /// Smallest arrival time minus elapsed.
    least_delay_us: Option<i64>,
    /// Whether the origin was given by the camera: then the first packet lies behind it.
    origin_given: bool,
    /// The camera's clock minus elapsed, by the last sender report.
    camera_us: Option<i64>,
}

impl TrackClock {
    pub(super) fn observe(&mut self, elapsed_us: i64, arrival_us: i64) {
        self.origin_given |= self.least_delay_us.is_none() && elapsed_us != 0;
        let delay_us = arrival_us.saturating_sub(elapsed_us);
        self.least_delay_us = Some(self.least_delay_us.map_or(delay_us, |least| least.min(delay_us)));
    }

    pub(super) fn observe_sr(&mut self, elapsed_us: i64, camera_us: i64) {
        self.camera_us = Some(camera_us.saturating_sub(elapsed_us));
    }
}

/// Where sound lies against the pictures.
#[derive(Debug, Clone, Default)]
pub(super) struct Alignment {
    pub(super) video: TrackClock,
    pub(super) audio: TrackClock,
    /// A clock has jumped since the camera gave its origin.
    origins_void: bool,
    /// What has to be added to the sound's elapsed time to get the pictures', once decided.
    offset_us: Option<i64>,
    /// The sound's elapsed time when the offset was last moved.
    moved_at_us: i64,
}

impl Alignment {
    /// What to add to the sound's elapsed time, once decided.
    pub(super) fn offset_us(&self) -> Option<i64> {
        self.offset_us
    }

    /// Whether waiting longer cannot make the decision better.
    pub(super) fn is_certain(&self) -> bool {
        self.by_sender_reports().is_some()
    }

    /// The sound's clock jumped: its place has to be found again.
    pub(super) fn forget_sound(&mut self) {
        self.audio = TrackClock::default();
        self.origins_void = true;
        self.offset_us = None;
    }

    /// The pictures' clock jumped: everything has to be found again.
    pub(super) fn forget_all(&mut self) {
        *self = Self {
            origins_void: true,
            ..Self::default()
        };
    }

    /// Decides with what is known. Nothing happens before both tracks have been seen.
    pub(super) fn decide(&mut self, audio_elapsed_us: i64) {
        let Some(by_arrival) = self.by_arrival() else {
            return;
        };
        let origin_given = !self.origins_void && (self.video.origin_given || self.audio.origin_given);
        let by_origin = (origin_given && by_arrival.saturating_abs() <= PLAUSIBLE_US).then_some(0);
        self.offset_us = self.by_sender_reports().or(by_origin).or(Some(by_arrival));
        self.moved_at_us = audio_elapsed_us;
    }

    /// Moves the sound towards the sender reports by what its elapsed time allows.
    pub(super) fn follow(&mut self, audio_elapsed_us: i64) {
        let (Some(offset), Some(video), Some(audio)) =
            (self.offset_us, self.video.camera_us, self.audio.camera_us)
        else {
            return;
        };
        let room = audio_elapsed_us.saturating_sub(self.moved_at_us).max(0) / DRIFT_PARTS;
        if room > 0 {
            self.moved_at_us = audio_elapsed_us;
            let error = audio.saturating_sub(video).saturating_sub(offset);
            if (NOISE_US..=PLAUSIBLE_US).contains(&error.saturating_abs()) {
                self.offset_us = Some(offset.saturating_add(error.clamp(-room, room)));
            }
        }
    }

    fn by_arrival(&self) -> Option<i64> {
        Some(
            self.audio
                .least_delay_us?
                .saturating_sub(self.video.least_delay_us?),
        )
    }

    fn by_sender_reports(&self) -> Option<i64> {
        let offset = self.audio.camera_us?.saturating_sub(self.video.camera_us?);
        (offset.saturating_sub(self.by_arrival()?).saturating_abs() <= PLAUSIBLE_US).then_some(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sound whose clock began 700 ms after the pictures', all delayed by 40 ms and more.
    fn arrived() -> Alignment {
        let mut a = Alignment::default();
        for i in 0..50 {
            a.video
                .observe(i * 40_000, 1_000_000 + i * 40_000 + 40_000 + (i % 3) * 1000);
            a.audio
                .observe(i * 64_000, 1_700_000 + i * 64_000 + 40_000 + (i % 5) * 1000);
        }
        a
    }

    #[test]
    fn arrival_decides_when_the_camera_says_nothing() {
        let mut a = arrived();
        assert!(!a.is_certain());
        a.decide(0);
        assert_eq!(a.offset_us(), Some(700_000));
    }

    #[test]
    fn sender_reports_decide_unless_they_are_nonsense() {
        let mut a = arrived();
        a.video.observe_sr(400_000, 9_000_400_000);
        a.audio.observe_sr(640_000, 9_001_390_000);
        assert!(a.is_certain());
        a.decide(0);
        assert_eq!(a.offset_us(), Some(750_000));

        let mut a = arrived();
        a.video.observe_sr(400_000, 0);
        a.audio.observe_sr(640_000, 9_001_390_000);
        assert!(!a.is_certain());
        a.decide(0);
        assert_eq!(a.offset_us(), Some(700_000));
    }

    #[test]
    fn origins_that_the_camera_gave_are_believed_when_plausible() {
        for (first, decided) in [(100_000, 0), (10_000_000, 9_970_000)] {
            let mut a = Alignment::default();
            a.video.observe(first, first + 60_000);
            a.audio.observe(0, first + 30_000);
            a.decide(0);
            assert_eq!(
                a.offset_us(),
                Some(if decided == 0 { 0 } else { decided }),
                "{first}"
            );
        }
    }

    #[test]
    fn nothing_is_decided_before_both_tracks_came() {
        let mut a = Alignment::default();
        a.video.observe(0, 0);
        a.decide(0);
        assert_eq!(a.offset_us(), None);
    }

    #[test]
    fn sound_follows_a_drifting_oscillator() {
        let mut a = arrived();
        a.decide(0);
        let mut worst = 0;
        for frame in 0..1_000_000i64 {
            let elapsed = frame * 64_000;
            if frame % 80 == 0 {
                a.video.observe_sr(elapsed, 9_000_000_000 + elapsed);
                a.audio
                    .observe_sr(elapsed, 9_000_700_000 + elapsed + elapsed / 10_000);
            }
            a.follow(elapsed);
            worst = worst.max((a.offset_us().expect("decided") - 700_000 - elapsed / 10_000).abs());
        }
        assert!(worst <= 2 * NOISE_US, "{worst}");
    }
}
