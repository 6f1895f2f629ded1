//! Which cameras are not recorded because there is more than this machine can do: a pure decision.

use std::collections::VecDeque;
use std::time::Duration;

use archive::CameraId;

/// How far behind must reading be before anyone gives way. Less is a hiccup.
const BEHIND: Duration = Duration::from_millis(1500);
/// How far it may be while something else catches up at its cost: cameras do not keep what is not read for longer.
const BEHIND_MAX: Duration = Duration::from_secs(5);
/// Over how long is looked whether it gets better. Also what a step is given to show its effect.
const WINDOW: Duration = Duration::from_secs(4);
/// Nobody looked for so long, and nothing was read meanwhile: the whole machine stood still.
const PAUSE: Duration = Duration::from_millis(1500);
/// When cameras that came back have gone again, the others kept up without them before: whether they do is looked at after
/// so long, when what was left behind is done, files to end and footage that waits.
const SETTLES: Duration = Duration::from_secs(6);
/// Reading that is behind has to catch up by this share of the time that passes.
const CATCH_UP: f32 = 0.03;
/// The sessions' thread works at least this much of its time when it is the reason for being behind.
const BUSY: f32 = 0.9;
/// How long complete footage must wait for the disk before anyone gives way.
const WAITS: Duration = Duration::from_secs(6);
/// Over how long is looked whether the disk keeps up: over some commits, which may take seconds each.
const DISK_WINDOW: Duration = Duration::from_secs(10);
/// Commits within it that tell a disk that is slow from one that hangs, for which memory is there.
const COMMITS: u64 = 2;
/// Memory for what waits for the disk is filled to this share when someone gives way even so.
const FILLED: f32 = 0.5;
/// More than the measured excess gives way, so that what is left catches up.
const MARGIN: f32 = 0.1;
/// The least and the most of those recorded that give way at a time. Half and the margin are enough at twice the capacity,
/// and what waits gets no longer.
const STEP: (f32, f32) = (0.125, 0.6);
/// How long must all be calm before one camera comes back, at first.
const PATIENCE: Duration = Duration::from_secs(10);
/// And at most, after it proved too much again and again.
const PATIENCE_MAX: Duration = Duration::from_secs(600);
/// Trouble that begins so soon after cameras came back was brought by them.
const TRIAL: Duration = Duration::from_secs(60);

/// Who gives way first: the lower. Cameras of one priority are in an order of their own that never changes.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Rank(u64);

impl Rank {
    /// Nobody is below it.
    pub const LOWEST: Self = Self(0);

    /// The rank of a camera.
    pub fn of(priority: u8, camera: &CameraId) -> Self {
        // FNV-1a: the same in every version of this program.
        let hash = camera
            .as_str()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        // Its high bits are mixed best. 0 is kept for nobody.
        Self(u64::from(priority) << 56 | (hash >> 8).max(1))
    }
}

/// What was measured.
#[derive(Copy, Clone, Debug, Default)]
pub struct Signals {
    /// The share of its time that the sessions' thread works, 0 to 1.
    pub busy: f32,
    /// How late samples are read: the median of all cameras.
    pub behind: Duration,
    /// How long the oldest complete fragment has waited for the disk.
    pub waits: Duration,
    /// How full the memory for complete fragments that wait is, 0 to 1.
    pub filled: f32,
    /// Commits so far.
    pub commits: u64,
}

#[derive(Copy, Clone, PartialEq, Debug)]
enum Load {
    /// Cameras may come back.
    Calm,
    /// All is well, but there is no room.
    Steady,
    /// This share of what comes in is too much.
    Excess(f32),
}

/// Decides who gives way.
///
/// Two things run out: time to read what cameras send, and the disk. Both are measured by how much faster
/// footage comes in than it goes on, which says how many have to give way. They come back one after the
/// other, then more at a time, while there is room; a return that proves too much is taken back, and the next
/// one waits twice as long.
#[derive(Debug, Default)]
pub struct Overload {
    floor: Rank,
    /// What was measured when, as far back as it matters.
    past: VecDeque<(u64, Signals)>,
    /// Whether the last look came after a pause.
    paused: bool,
    calm_since: Option<u64>,
    patience: Option<Duration>,
    /// How many come back next.
    returning: usize,
    /// When cameras last came back, and the floor before.
    trial: Option<(u64, Rank)>,
    /// From when on lateness is measured.
    settled_us: u64,
}

impl Overload {
    /// Cameras of a lower rank are not recorded.
    pub fn floor(&self) -> Rank {
        self.floor
    }

    /// Looks at what was measured, every half second or so. `ranks` are those of all cameras that are to be
    /// recorded, each once and in order.
    pub fn observe(&mut self, signals: &Signals, ranks: &[Rank], now_us: u64) -> Rank {
        self.forget_a_pause(signals.behind, now_us);
        self.past.push_back((now_us, *signals));
        while self
            .past
            .get(1)
            .is_some_and(|(at, _)| since(*at, now_us) >= DISK_WINDOW)
        {
            self.past.pop_front();
        }
        match self.judge(signals, now_us) {
            Load::Excess(share) => {
                self.calm_since = None;
                self.shed(share, ranks, now_us);
            }
            Load::Steady => self.calm_since = None,
            Load::Calm => self.admit(ranks, now_us),
        }
        self.floor
    }

    /// After a pause everything is late at once, and what counts is how it goes on. Two in a row are none: then
    /// it is this thread that cannot do more.
    fn forget_a_pause(&mut self, behind: Duration, now_us: u64) {
        let paused = self.past.back().is_some_and(|(at, before)| {
            let passed = since(*at, now_us);
            passed >= PAUSE && behind.saturating_sub(before.behind) >= passed * 4 / 5
        });
        if paused && !self.paused {
            self.past.clear();
        }
        self.paused = paused;
    }

    fn judge(&self, s: &Signals, now_us: u64) -> Load {
        let mut excess: Option<f32> = None;
        if let Some((passed, then)) = self.before(WINDOW, now_us) {
            let mut growth = grew(then.behind, s.behind, passed);
            // Who reads and who makes durable share the processors: what waits for the second shrinks at the cost of the
            // first, for a while after enough have given way.
            if self.floor > Rank::LOWEST && s.behind < BEHIND_MAX {
                growth += self.drained(s.waits, now_us);
            }
            let settled = since(self.settled_us, now_us) >= WINDOW;
            if settled && s.busy >= BUSY && s.behind >= BEHIND && growth > -CATCH_UP {
                excess = Some(growth);
            }
        }
        if let Some((passed, then)) = self.before(DISK_WINDOW, now_us) {
            let growth = grew(then.waits, s.waits, passed);
            let goes_on = s.commits >= then.commits + COMMITS;
            // What waits longest tells how much too much came in when it came, and goes on ageing for a while after
            // enough have given way. Whether there still is too much, and how much, tells the memory that is filled.
            if s.waits >= WAITS && goes_on && growth > -CATCH_UP && s.filled > then.filled {
                excess = Some(excess.unwrap_or(0.0).max(growth.min(filling(then, s, passed))));
            }
            if s.filled >= FILLED && s.filled >= then.filled {
                // Memory may be small for what comes in. Of a disk that hangs nothing says how much is too much.
                let share = if goes_on { filling(then, s, passed) } else { 0.0 };
                excess = Some(excess.unwrap_or(0.0).max(share));
            }
        }
        match excess {
            Some(excess) => Load::Excess((excess + MARGIN).clamp(STEP.0, STEP.1)),
            None if s.busy < 0.75
                && s.behind < BEHIND / 2
                && s.filled < FILLED / 4.0
                && s.waits < WAITS / 3 =>
            {
                Load::Calm
            }
            None => Load::Steady,
        }
    }

    /// By how much less comes in than goes to the disk, as a share of what comes in and not above 0: what waits has come in
    /// within `waits`. Memory comes back a commit at a time, so that the halves of the window are compared, and not its ends.
    fn drained(&self, waits: Duration, now_us: u64) -> f32 {
        let mean = |from: Duration, to: Duration| {
            let within = self.past.iter().filter(|(at, _)| {
                let ago = since(*at, now_us);
                ago <= from && ago >= to
            });
            let (n, sum) = within.fold((0.0, 0.0), |(n, sum), (_, s)| (n + 1.0, sum + s.filled));
            if n > 0.0 { sum / n } else { 0.0 }
        };
        let half = WINDOW / 2;
        let (older, newer) = (mean(WINDOW, half), mean(half, Duration::ZERO));
        if newer >= older {
            return 0.0;
        }
        (newer - older) / older * waits.as_secs_f32() / half.as_secs_f32()
    }

    /// What was measured at least `window` ago, and how long ago that was.
    fn before(&self, window: Duration, now_us: u64) -> Option<(Duration, &Signals)> {
        let mut past = self.past.iter().rev();
        let (at, then) = past.find(|(at, _)| since(*at, now_us) >= window)?;
        Some((since(*at, now_us), then))
    }

    fn shed(&mut self, share: f32, ranks: &[Rank], now_us: u64) {
        let below = ranks.partition_point(|rank| *rank < self.floor);
        let recorded = ranks.len() - below;
        let returned = self.trial.take().filter(|(at, _)| since(*at, now_us) < TRIAL);
        let floor = match returned {
            Some((_, before)) => {
                self.patience = Some((self.patience() * 2).min(PATIENCE_MAX));
                self.settled_us = now_us + SETTLES.as_micros() as u64;
                before
            }
            // Someone is always recorded: a camera alone can only be too much for the disk.
            None => {
                let most = recorded.saturating_sub(1);
                let n = ((recorded as f32 * share).ceil() as usize).min(most);
                ranks.get(below + n).copied().unwrap_or(self.floor)
            }
        };
        self.floor = floor.max(self.floor);
        self.returning = 1;
        self.past.clear();
    }

    fn admit(&mut self, ranks: &[Rank], now_us: u64) {
        let calm_since = *self.calm_since.get_or_insert(now_us);
        if self.floor == Rank::LOWEST {
            if since(calm_since, now_us) >= PATIENCE_MAX {
                self.patience = None;
            }
            return;
        }
        if since(calm_since, now_us) < self.patience() {
            return;
        }
        let below = ranks.partition_point(|rank| *rank < self.floor);
        let still = below.saturating_sub(self.returning.max(1));
        self.trial = Some((now_us, self.floor));
        self.floor = match ranks.get(still) {
            Some(rank) if still > 0 => *rank,
            _ => Rank::LOWEST,
        };
        self.returning = self.returning.max(1) * 2;
        self.calm_since = Some(now_us);
    }

    fn patience(&self) -> Duration {
        self.patience.unwrap_or(PATIENCE)
    }
}

/// By how much more comes in than goes to the disk, as a share of what comes in: what waits has come in within
/// `waits`, and grew by so much within `passed`. Something has to wait.
fn filling(then: &Signals, now: &Signals, passed: Duration) -> f32 {
    let grown = (now.filled - then.filled) / now.filled;
    grown * now.waits.as_secs_f32() / passed.as_secs_f32()
}

/// By how much a time grew, as a share of the time that passed.
fn grew(then: Duration, now: Duration, passed: Duration) -> f32 {
    (now.as_secs_f32() - then.as_secs_f32()) / passed.as_secs_f32()
}

fn since(at_us: u64, now_us: u64) -> Duration {
    Duration::from_micros(now_us.saturating_sub(at_us))
}

#[cfg(test)]
mod tests;
