//! Cameras and the host's clocks. Time passes only when it is told to.

use archive::WallTime;
use archive::time::SECOND_US;

/// Pictures are numbered on RTP's clock.
const TICKS: i64 = 90_000;
/// A session takes what differs by more from the time that passed for a jump.
const JUMP_US: i64 = 2 * SECOND_US;
/// And going back by more than this.
const REORDER_US: i64 = SECOND_US;

/// The host: what passes, what its wall clock says, and since when its process runs.
#[derive(Debug)]
pub(crate) struct Host {
    /// Time as it really passes, since the story began.
    pub(crate) true_us: i64,
    wall_us: i64,
    frozen: bool,
    started_us: i64,
    /// Left to gain or lose by smearing.
    smear_us: i64,
}

impl Host {
    pub(crate) fn new(wall_us: i64) -> Self {
        Self {
            true_us: 0,
            wall_us,
            frozen: false,
            started_us: 0,
            smear_us: 0,
        }
    }

    pub(crate) fn pass(&mut self, us: i64) {
        self.true_us += us;
        if !self.frozen {
            // A second takes a day to be smeared: 11.6 ppm.
            let part = (us / 86_400).min(self.smear_us.abs()) * self.smear_us.signum();
            self.smear_us -= part;
            self.wall_us = (self.wall_us + us + part).clamp(0, WallTime::MAX.micros() / 8);
        }
    }

    /// Returns by how much it moved.
    pub(crate) fn step(&mut self, by_us: i64) -> i64 {
        let before = self.wall_us;
        // The clock of a host does not go below 1970, and this one not beyond the year 2970.
        self.wall_us = (self.wall_us + by_us).clamp(0, WallTime::MAX.micros() / 8);
        self.wall_us - before
    }

    pub(crate) fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen
    }

    pub(crate) fn smear(&mut self, us: i64) {
        self.smear_us = us;
    }

    /// A new process: its monotonic clock begins anew.
    pub(crate) fn process(&mut self) {
        self.started_us = self.true_us;
    }

    pub(crate) fn wall(&self) -> WallTime {
        WallTime::from_micros(self.wall_us)
    }

    pub(crate) fn mono_us(&self) -> u64 {
        (self.true_us - self.started_us).unsigned_abs()
    }
}

/// One camera: RTP timestamps of 32 bits, and what a session makes of them.
#[derive(Clone, Debug)]
pub(crate) struct Camera {
    pub(crate) connected: bool,
    /// The camera's media time, in microseconds since it was switched on.
    media_us: i64,
    seen_us: i64,
    pub(crate) ppm: i64,
    last_rtp: u32,
    /// Ticks since the session began, without wraps.
    elapsed: i64,
    latest: i64,
    /// The first picture of the run, in `elapsed`.
    origin: Option<i64>,
    last_picture_us: i64,
    pub(crate) parameters: u16,
    pub(crate) pictures: u64,
}

/// A picture as the session tells it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Picture {
    /// Since the beginning of its run, in ticks.
    pub(crate) pts: i64,
    /// Whether the run begins here because time jumped.
    pub(crate) jumped: bool,
}

impl Camera {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            connected: false,
            // One wraps soon.
            media_us: if number == 0 {
                47_721 * SECOND_US
            } else {
                5 * SECOND_US
            },
            seen_us: 0,
            ppm: 0,
            last_rtp: 0,
            elapsed: 0,
            latest: 0,
            origin: None,
            last_picture_us: 0,
            parameters: 0,
            pictures: 0,
        }
    }

    pub(crate) fn jump(&mut self, by_us: i64) {
        self.media_us =
            (self.media_us + by_us).clamp(-200 * super::operation::YEAR_US, 400 * super::operation::YEAR_US);
    }

    fn rtp(&mut self, host: &Host) -> u32 {
        let passed = host.true_us - self.seen_us;
        self.seen_us = host.true_us;
        self.media_us += passed + (i128::from(passed) * i128::from(self.ppm) / 1_000_000) as i64;
        (i128::from(self.media_us) * i128::from(TICKS) / i128::from(SECOND_US)) as u32
    }

    pub(crate) fn connect(&mut self, host: &Host) {
        self.last_rtp = self.rtp(host);
        (self.connected, self.elapsed, self.latest, self.origin) = (true, 0, 0, None);
        self.last_picture_us = host.true_us;
    }

    /// The next picture. `untold`: the session does not look for jumps.
    pub(crate) fn picture(&mut self, host: &Host, untold: bool) -> Picture {
        let rtp = self.rtp(host);
        self.elapsed += i64::from(rtp.wrapping_sub(self.last_rtp).cast_signed());
        self.last_rtp = rtp;
        let passed_us = host.true_us - self.last_picture_us;
        self.last_picture_us = host.true_us;
        let step_us = (self.elapsed - self.latest) * 100 / 9;
        let jumped =
            !untold && self.origin.is_some() && (step_us > passed_us + JUMP_US || step_us < -REORDER_US);
        if jumped {
            self.origin = None;
        }
        if self.origin.is_none() {
            self.latest = self.elapsed;
        }
        self.latest = self.latest.max(self.elapsed);
        let origin = *self.origin.get_or_insert(self.elapsed);
        Picture {
            pts: self.elapsed - origin,
            jumped,
        }
    }

    /// Where the run stands, in ticks.
    pub(crate) fn now(&self) -> i64 {
        self.elapsed - self.origin.unwrap_or(self.elapsed)
    }
}
