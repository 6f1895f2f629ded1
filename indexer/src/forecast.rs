//! What becomes of the footage at the present rate, as tiering reckons it and the API shows it. In memory only.

use archive::{CameraId, StreamName, Tier, WallTime};
use serde::Serialize;

/// Seconds in a day.
const DAY_S: f64 = 86_400.0;

/// Seconds as days, to the thousandth.
pub fn days(seconds: f64) -> f64 {
    (seconds / DAY_S * 1000.0).round() / 1000.0
}

/// A look ahead: nothing but arithmetic on what is there and what comes in.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Forecast {
    /// When it was made.
    pub at: WallTime,
    /// Whether all footage has been counted; after a start that takes a while where there is much.
    pub complete: bool,
    /// The disk of the hot tier.
    pub disk: DiskForecast,
    /// The tiers below it, where there are some.
    pub tiers: Vec<TierForecast>,
    /// Every rule, in order; last, without a number, what holds for streams that none matches, if there are any.
    pub rules: Vec<RuleForecast>,
    /// Every stream that has footage or is recorded, by name.
    pub streams: Vec<StreamForecast>,
    /// What is deleted next, in order.
    pub next: Vec<Going>,
}

/// The disk of the hot tier.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct DiskForecast {
    /// Its size.
    pub total_bytes: u64,
    /// What may still be written.
    pub free_bytes: u64,
    /// What is to be free.
    pub reserve_bytes: u64,
    /// Footage on it.
    pub footage_bytes: u64,
    /// What else is on it.
    pub other_bytes: u64,
    /// Bits a second that are recorded, over the last day.
    pub bitrate_bps: u64,
    /// When the reserve is reached, from which on the oldest makes room; `None` when that never happens.
    pub full_at: Option<WallTime>,
    /// Days until then.
    pub days_to_full: Option<f64>,
    /// How old footage gets on it once it is full, whatever rules would keep; `None` when it never fills.
    pub days_in_balance: Option<f64>,
}

/// A tier below the disk.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TierForecast {
    /// Which.
    pub tier: Tier,
    /// Footage on it.
    pub bytes: u64,
    /// What it may hold, where the configuration says so.
    pub capacity_bytes: Option<u64>,
    /// What it comes to hold in balance; `None` when it grows without end.
    pub balance_bytes: Option<u64>,
    /// When its capacity is reached.
    pub full_at: Option<WallTime>,
    /// Days until then.
    pub days_to_full: Option<f64>,
}

/// What ends the life of footage.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    /// The age that its rule says.
    Age,
    /// The quota of its camera.
    Quota,
    /// The disk.
    Space,
}

/// Why the minimum of a rule cannot be kept.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RiskCause {
    /// The disk fills with footage that may not go: new footage is not recorded.
    Disk,
    /// A tier below fills, and after it the disk.
    Tier,
    /// The quota is used up by footage that may not go: it is exceeded. Nothing is lost.
    Quota,
}

/// What a rule will run into.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Risk {
    /// What.
    pub cause: RiskCause,
    /// When.
    pub at: WallTime,
    /// Days until then.
    pub days: f64,
    /// In words, with the numbers and what helps.
    pub why: String,
}

/// A rule.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RuleForecast {
    /// Its number in the configuration, from 1; `None` for the streams that no rule matches.
    pub rule: Option<usize>,
    /// Which cameras it matches.
    pub cameras: Vec<String>,
    /// Which of their streams.
    pub streams: Vec<String>,
    /// Days that it promises.
    pub min_days: Option<f64>,
    /// Days after which its footage ends.
    pub max_days: Option<f64>,
    /// How many streams it governs.
    pub governs: usize,
    /// Their footage, each segment counted once.
    pub bytes: u64,
    /// Bits a second that they record.
    pub bitrate_bps: u64,
    /// The least that one of the recorded ones will hold in balance; `None` without end.
    pub days_will_hold: Option<f64>,
    /// Whether its minimum breaks within the time of `warn_before`.
    pub at_risk: bool,
    /// What it will run into, the soonest first; empty when its minimum can be kept.
    pub risks: Vec<Risk>,
}

impl RuleForecast {
    /// What breaks its minimum first. A quota that is exceeded breaks none.
    pub fn breaks(&self) -> Option<&Risk> {
        self.risks.iter().find(|risk| risk.cause != RiskCause::Quota)
    }
}

/// Bytes by tier. A segment that is on two counts on both.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct TierBytes {
    /// On the disk.
    pub hot: u64,
    /// On the warm tier.
    pub warm: u64,
    /// On the cold tier.
    pub cold: u64,
}

/// A stream.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct StreamForecast {
    /// Its camera.
    pub camera: CameraId,
    /// Its name.
    pub stream: StreamName,
    /// The number of its rule, from 1.
    pub rule: Option<usize>,
    /// Whether it is to be recorded.
    pub recorded: bool,
    /// Bits a second that were recorded, over the last day.
    pub bitrate_bps: u64,
    /// Its footage by tier.
    pub bytes: TierBytes,
    /// The beginning of its oldest footage.
    pub oldest: Option<WallTime>,
    /// Days since then.
    pub days_held: Option<f64>,
    /// Days that it will hold in balance; `None` without end, or when it is not recorded.
    pub days_will_hold: Option<f64>,
    /// What ends its footage then.
    pub ends: Option<Ends>,
}

/// A segment that is deleted next.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Going {
    /// Its camera.
    pub camera: CameraId,
    /// Its stream.
    pub stream: StreamName,
    /// When its last fragment ends.
    pub until: WallTime,
    /// Its bytes.
    pub bytes: u64,
    /// When it goes.
    pub at: WallTime,
    /// Why.
    pub reason: Ends,
}
