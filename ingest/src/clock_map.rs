//! Places a stream's media on the wall clock.
//!
//! The host's clock decides. Of all samples the least delayed one tells best when media time 0 was, so the
//! smallest `arrival − media time` wins, on the monotonic clock, which does not step. That minimum may rise
//! slowly, so that a camera whose clock runs slow is followed too. What the host's wall clock does is seen
//! apart from it, as `wall − monotonic`.
//!
//! Whatever happens, the fragments of a stream never overlap and never run backwards:
//! - within a run each begins where the last ended;
//! - small errors are corrected by making fragments up to 500 ppm longer or shorter than their media, larger
//!   ones (a clock set back, above all) by up to 2 %;
//! - media time that runs much too fast is not believed: it may take the stream 5 s ahead of the host, no more;
//! - when the stream is a second or more behind the host (a clock set forward, or media time that stood
//!   still), a new run begins at the right time, and the hole before it is a gap with its cause.

use archive::time::SECOND_US;
use archive::{GapCause, Note, WallTime};

#[cfg(test)]
mod tests;

/// The host's wall clock moved this far against its monotonic clock between two samples: that is a step.
const STEP_US: i64 = SECOND_US / 2;
/// Further behind the host than this, a new run begins.
const LAG_US: i64 = SECOND_US;
/// A shorter hole before a new run is no gap: the run begins where the last ended.
const HOLE_US: i64 = SECOND_US / 2;
/// Errors beyond this are no clock drift and are corrected faster.
const DRIFT_US: i64 = SECOND_US / 4;
/// Drift is corrected by one part in this many: 500 ppm.
const DRIFT_PARTS: i64 = 2000;
/// Larger errors are corrected by one part in this many: 2 %.
const SLEW_PARTS: i64 = 50;
/// Media time may run this far ahead of the host's clock.
const AHEAD_US: i64 = 5 * SECOND_US;
/// Media time counts as having stood still when every sample of at least this time came too late.
const PATIENCE_US: i64 = 30 * SECOND_US;
/// A fragment cannot last longer; one that claims to has a broken clock.
const MEDIA_MAX_US: i64 = 60 * SECOND_US;
/// What a fragment without a usable media duration lasts at least.
const DURATION_MIN_US: i64 = 1000;
/// Clock steps noted with one fragment; further ones are added to the last.
const STEPS_MAX: usize = 3;

/// Where a fragment stands on the wall clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    /// Its beginning: the end of the fragment before it, or later.
    pub wall_start: WallTime,
    /// How long it lasts on the wall; never 0.
    pub wall_duration_us: u32,
    /// The gap before it if there is one, then the clock steps seen during it.
    pub notes: Vec<Note>,
    /// Whether a run begins with it: true for the first one, after [`ClockMap::restart`], and where the map
    /// itself had to break the run.
    pub run_start: bool,
}

impl Placement {
    /// The first instant after the fragment.
    pub fn wall_end(&self) -> WallTime {
        self.wall_start.plus_micros(self.wall_duration_us.into())
    }
}

/// Maps the media time of one session to wall time.
#[derive(Debug, Clone)]
pub struct ClockMap {
    not_before: WallTime,
    /// The end of the last fragment, on both clocks.
    end: Option<(WallTime, i64)>,
    /// Why the next fragment begins a run, if it does.
    begin: Option<GapCause>,
    /// The host's wall clock minus its monotonic clock.
    host_us: i64,
    delay: Option<Delay>,
    /// How far the stream is ahead of the host because the host's clock went back.
    owed_us: i64,
    /// Steps since the last fragment was closed.
    steps: Vec<Note>,
    /// First and last arrival since the last fragment was closed, on the monotonic clock.
    arrivals: Option<(i64, i64)>,
    camera: Camera,
}

/// How far samples arrive behind their media time, on the monotonic clock.
#[derive(Debug, Clone)]
struct Delay {
    /// That of a sample without delay, as far as is known.
    least_us: i64,
    /// When `least_us` was last raised.
    raised_at_us: i64,
    /// That of the last sample.
    last_us: i64,
    /// The smallest in the period of [`PATIENCE_US`] in progress, its beginning, and the smallest in the
    /// period before.
    period: i64,
    period_from_us: i64,
    period_before: Option<i64>,
}

/// What the camera's own clock says, in microseconds.
#[derive(Debug, Clone, Default)]
struct Camera {
    /// Its clock minus the stream's wall time.
    offset_us: Option<i64>,
    /// Its clock minus media time, while samples came in time and now.
    base_us: Option<i64>,
    latest_us: Option<(i64, i64)>,
}

impl Delay {
    fn new(delay_us: i64, now_us: i64) -> Self {
        Self {
            least_us: delay_us,
            raised_at_us: now_us,
            last_us: delay_us,
            period: delay_us,
            period_from_us: now_us,
            period_before: None,
        }
    }

    fn observe(&mut self, delay_us: i64, now_us: i64) {
        let rise = now_us.saturating_sub(self.raised_at_us).max(0) / DRIFT_PARTS;
        self.raised_at_us = self.raised_at_us.saturating_add(rise.saturating_mul(DRIFT_PARTS));
        self.least_us = self.least_us.saturating_add(rise).min(delay_us);
        self.last_us = delay_us;
        if now_us.saturating_sub(self.period_from_us) >= PATIENCE_US {
            self.period_before = Some(self.period);
            (self.period, self.period_from_us) = (delay_us, now_us);
        }
        self.period = self.period.min(delay_us);
    }

    /// By how much even the quickest sample of the last period or two came too late.
    fn lag_us(&self) -> i64 {
        self.period_before
            .map_or(0, |before| before.min(self.period).saturating_sub(self.least_us))
    }
}

impl ClockMap {
    /// A map whose first fragment begins at `not_before`, the end of the stream's last one, or later.
    pub fn new(not_before: WallTime) -> Self {
        Self {
            not_before,
            end: None,
            begin: None,
            host_us: 0,
            delay: None,
            owed_us: 0,
            steps: Vec::new(),
            arrivals: None,
            camera: Camera::default(),
        }
    }

    /// Takes in a sample: its media time and the host's clocks when it arrived. Call it for the video samples
    /// of a fragment before that fragment is closed.
    pub fn observe(&mut self, media_us: i64, arrival_wall: WallTime, arrival_mono_us: u64) {
        let now_us = i64::try_from(arrival_mono_us).unwrap_or(i64::MAX);
        let host_us = arrival_wall.micros().saturating_sub(now_us);
        if self.delay.is_none() && self.end.is_none() {
            self.host_us = host_us;
        }
        let by_us = host_us.saturating_sub(self.host_us);
        if by_us.unsigned_abs() >= STEP_US.unsigned_abs() {
            self.note_step(self.estimate(media_us).unwrap_or(arrival_wall), by_us);
        }
        self.owed_us = self.owed_us.saturating_sub(by_us).max(0);
        self.host_us = host_us;
        let delay_us = now_us.saturating_sub(media_us);
        match &mut self.delay {
            Some(delay) => delay.observe(delay_us, now_us),
            None => self.delay = Some(Delay::new(delay_us, now_us)),
        }
        self.arrivals = Some((self.arrivals.map_or(now_us, |(first, _)| first), now_us));
    }

    /// Takes in a sender report: at `media_us` the camera's own clock said `camera_wall`. It only serves to
    /// know the camera's clock: the host's decides where footage stands.
    pub fn observe_sr(&mut self, media_us: i64, camera_wall: WallTime, arrival_mono_us: u64) {
        let (Some(delay), Some(wall_us)) = (&self.delay, self.target_us(media_us)) else {
            return;
        };
        let base_us = camera_wall.micros().saturating_sub(media_us);
        self.camera.offset_us = Some(camera_wall.micros().saturating_sub(wall_us));
        self.camera.latest_us = Some((base_us, i64::try_from(arrival_mono_us).unwrap_or(i64::MAX)));
        if delay.lag_us() < LAG_US {
            self.camera.base_us = Some(base_us);
        }
    }

    /// The camera's own clock minus the stream's wall time in milliseconds, as of the last sender report.
    pub fn offset_ms(&self) -> Option<i64> {
        self.camera.offset_us.map(|us| us.div_euclid(1000))
    }

    /// Where `media_us` would stand if its fragment were closed now; `None` before the first sample.
    pub fn estimate(&self, media_us: i64) -> Option<WallTime> {
        match (self.end, self.begin) {
            (Some((wall, end_us)), None) => Some(wall.plus_micros(media_us.saturating_sub(end_us).max(0))),
            (end, _) => {
                let earliest = end.map_or(self.not_before, |(wall, _)| wall);
                self.target_us(media_us)
                    .map(|us| WallTime::from_micros(us).max(earliest))
            }
        }
    }

    /// Media time counts anew from the next sample on: the next fragment begins a run.
    pub fn restart(&mut self) {
        self.begin = Some(GapCause::SessionLost);
        self.delay = None;
        self.arrivals = None;
        self.camera.base_us = None;
        self.camera.latest_us = None;
    }

    /// Places the fragment of `media_start_us..media_end_us`, which must follow all earlier ones.
    pub fn close_fragment(&mut self, media_start_us: i64, media_end_us: i64) -> Placement {
        let (nominal_us, is_media) = self.nominal_duration_us(media_start_us, media_end_us);
        let (wall_start, gap, run_start) = self.begin_at(media_start_us);
        let error_us = self.target_us(media_end_us).map_or(0, |target| {
            target
                .saturating_sub(wall_start.micros())
                .saturating_sub(nominal_us)
        });
        let correction_us = self.correction_us(nominal_us, error_us);
        let duration_us = (nominal_us + correction_us).max(1);
        self.owed_us = self.owed_us.min(correction_us.saturating_sub(error_us).max(0));
        let wall_end = wall_start.plus_micros(duration_us);

        self.end = Some((wall_end, media_end_us));
        self.arrivals = None;
        self.begin = None;
        if self
            .target_us(media_end_us)
            .is_some_and(|t| t.saturating_sub(wall_end.micros()) >= LAG_US)
        {
            let stepped = |note: &Note| matches!(note, Note::ClockStep { by_us, .. } if *by_us > 0);
            let is_clock = is_media || self.steps.iter().any(stepped);
            self.begin = Some(if is_clock {
                GapCause::ClockStep
            } else {
                GapCause::NoData
            });
        } else if self.media_stood_still() {
            self.begin = Some(GapCause::NoData);
        }
        let notes = gap.into_iter().chain(self.steps.drain(..)).collect();
        let wall_duration_us = u32::try_from(duration_us).unwrap_or(u32::MAX);
        Placement {
            wall_start,
            wall_duration_us,
            notes,
            run_start,
        }
    }

    /// By how much a fragment of `nominal_us` is made longer or shorter when it would end `error_us` before
    /// the host's clock says it should.
    fn correction_us(&self, nominal_us: i64, error_us: i64) -> i64 {
        let too_fast_us = error_us
            .saturating_neg()
            .saturating_sub(self.owed_us)
            .saturating_sub(AHEAD_US);
        if too_fast_us > 0 {
            return -too_fast_us.min(nominal_us - 1);
        }
        if error_us >= LAG_US {
            return 0;
        }
        let parts = if error_us.unsigned_abs() <= DRIFT_US.unsigned_abs() {
            DRIFT_PARTS
        } else {
            SLEW_PARTS
        };
        error_us.clamp(-nominal_us / parts, nominal_us / parts)
    }

    /// The wall time of `media_us` by the host's clock alone, in microseconds.
    fn target_us(&self, media_us: i64) -> Option<i64> {
        let delay = self.delay.as_ref()?;
        Some(
            media_us
                .saturating_add(delay.least_us)
                .saturating_add(self.host_us),
        )
    }

    /// Where the next fragment begins, the gap before it, and whether a run begins with it.
    fn begin_at(&mut self, media_start_us: i64) -> (WallTime, Option<Note>, bool) {
        let target = self
            .target_us(media_start_us)
            .map_or(WallTime::MIN, WallTime::from_micros);
        let Some((end, end_media_us)) = self.end else {
            self.owed_us = self.not_before.micros_since(target).max(0);
            return (self.not_before.max(target), None, true);
        };
        let cause = match self.begin {
            Some(cause) => cause,
            None if media_start_us.saturating_sub(end_media_us) >= HOLE_US => GapCause::PacketsLost,
            None => return (end, None, false),
        };
        if target.micros_since(end) >= HOLE_US {
            (
                target,
                Some(Note::Gap {
                    from: end,
                    to: target,
                    cause,
                }),
                true,
            )
        } else {
            (end, None, cause == GapCause::SessionLost)
        }
    }

    /// The fragment's media duration and true, or if that makes no sense how long its samples took to arrive. In
    /// the latter case what is known about the delay is void.
    fn nominal_duration_us(&mut self, media_start_us: i64, media_end_us: i64) -> (i64, bool) {
        let media_us = media_end_us.saturating_sub(media_start_us);
        let went_back = self.end.is_some_and(|(_, end_us)| {
            self.begin.is_none() && media_start_us.saturating_sub(end_us) <= -HOLE_US
        });
        let sane = (1..=MEDIA_MAX_US).contains(&media_us);
        if (went_back || !sane)
            && let Some(delay) = &mut self.delay
        {
            *delay = Delay::new(delay.last_us, delay.raised_at_us);
        }
        if sane {
            return (media_us, true);
        }
        let took_us = self
            .arrivals
            .map_or(0, |(first, last)| last.saturating_sub(first));
        (took_us.clamp(DURATION_MIN_US, MEDIA_MAX_US), false)
    }

    /// Whether all samples have been late for so long that media time must have stood still; then the delay
    /// is taken anew. When the camera's clock advanced as media time did, the network is slow: no reason.
    fn media_stood_still(&mut self) -> bool {
        let Some(delay) = &mut self.delay else {
            return false;
        };
        if delay.lag_us() < LAG_US {
            return false;
        }
        if let (Some(base), Some((latest, at_us))) = (self.camera.base_us, self.camera.latest_us)
            && delay.raised_at_us.saturating_sub(at_us) < PATIENCE_US
            && latest.saturating_sub(base).unsigned_abs() < STEP_US.unsigned_abs()
        {
            return false;
        }
        delay.least_us = delay.least_us.saturating_add(delay.lag_us());
        true
    }

    fn note_step(&mut self, at: WallTime, by_us: i64) {
        let full = self.steps.len() >= STEPS_MAX;
        match self.steps.last_mut() {
            Some(Note::ClockStep { by_us: sum, .. }) if full => *sum = sum.saturating_add(by_us),
            _ => self.steps.push(Note::ClockStep { at, by_us }),
        }
    }
}
