//! Wall time and media time, which are different things and never mix.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Microseconds in a second.
pub const SECOND_US: i64 = 1_000_000;
/// Microseconds in an hour.
pub const HOUR_US: i64 = 3600 * SECOND_US;
/// The last representable wall time, 9999-12-30T22:00:00Z, where the calendar library ends.
const MICROS_MAX: i64 = 253_402_207_200_000_000;

/// Wall time: UTC, in microseconds since 1970-01-01. As text RFC 3339 with six decimals and `Z`.
///
/// Always between the years 1970 and 9999, so that arithmetic on it cannot overflow.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(i64);

/// Why a text is no wall time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time: use RFC 3339 with a zone (2026-11-20T08:30:00Z) or Unix microseconds")]
pub struct InvalidTime(String);

impl WallTime {
    /// 1970-01-01T00:00:00Z.
    pub const MIN: Self = Self(0);
    /// 9999-12-30T22:00:00Z.
    pub const MAX: Self = Self(MICROS_MAX);

    /// The time `micros` microseconds after 1970, moved into the supported years.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.clamp(0, MICROS_MAX))
    }

    /// Microseconds since 1970.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// This time moved by `micros`, which may be negative; stays within the supported years.
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Self {
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// This time moved by `duration`.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        self.plus_micros(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
    }

    /// This time moved back by `duration`.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        self.plus_micros(i64::try_from(duration.as_micros()).map_or(i64::MIN, |us| -us))
    }

    /// Microseconds from `earlier` to `self`, negative when `earlier` is later.
    pub fn micros_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// The beginning of the UTC hour of this time.
    pub fn hour(self) -> Self {
        Self(self.0 - self.0 % HOUR_US)
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(t) => write!(f, "{t:.6}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for WallTime {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let invalid = || InvalidTime(text.chars().take(40).flat_map(char::escape_default).collect());
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let micros: i64 = text.parse().map_err(|_| invalid())?;
            return if micros <= MICROS_MAX {
                Ok(Self(micros))
            } else {
                Err(invalid())
            };
        }
        let stamp: jiff::Timestamp = text.parse().map_err(|_| invalid())?;
        let micros = stamp.as_microsecond();
        if (0..=MICROS_MAX).contains(&micros) {
            Ok(Self(micros))
        } else {
            Err(invalid())
        }
    }
}

impl Serialize for WallTime {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A half-open stretch of wall time, `from..to`, never backwards.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct TimeRange {
    from: WallTime,
    to: WallTime,
}

impl TimeRange {
    /// All representable time.
    pub const ALL: Self = Self {
        from: WallTime::MIN,
        to: WallTime::MAX,
    };

    /// The range `from..to`; `None` when `to` lies before `from`.
    pub fn new(from: WallTime, to: WallTime) -> Option<Self> {
        (from <= to).then_some(Self { from, to })
    }

    /// The range of `duration_us` microseconds that begins at `from`.
    pub fn starting(from: WallTime, duration_us: u64) -> Self {
        let to = from.plus_micros(i64::try_from(duration_us).unwrap_or(i64::MAX));
        Self { from, to }
    }

    /// The first instant inside.
    pub fn from(self) -> WallTime {
        self.from
    }

    /// The first instant after.
    pub fn to(self) -> WallTime {
        self.to
    }

    /// The length in microseconds.
    pub fn micros(self) -> u64 {
        self.to.micros_since(self.from).unsigned_abs()
    }

    /// Whether nothing is inside.
    pub fn is_empty(self) -> bool {
        self.from == self.to
    }

    /// Whether `at` is inside.
    pub fn contains(self, at: WallTime) -> bool {
        self.from <= at && at < self.to
    }

    /// What both ranges share; `None` when that is nothing.
    pub fn intersect(self, other: Self) -> Option<Self> {
        let from = self.from.max(other.from);
        let to = self.to.min(other.to);
        (from < to).then_some(Self { from, to })
    }
}

/// Ticks of a media clock in a second, such as 90,000 for RTP video.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Timescale(std::num::NonZeroU32);

impl Timescale {
    /// A timescale; `None` for 0.
    pub fn new(ticks_per_second: u32) -> Option<Self> {
        std::num::NonZeroU32::new(ticks_per_second).map(Self)
    }

    /// Ticks in a second.
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// `ticks` of this clock in microseconds, rounded towards the past.
    pub fn to_micros(self, ticks: i64) -> i64 {
        let us = (i128::from(ticks) * i128::from(SECOND_US)).div_euclid(i128::from(self.get()));
        i64::try_from(us).unwrap_or(if us < 0 { i64::MIN } else { i64::MAX })
    }

    /// `micros` in ticks of this clock, rounded towards the past.
    pub fn from_micros(self, micros: i64) -> i64 {
        let ticks = (i128::from(micros) * i128::from(self.get())).div_euclid(i128::from(SECOND_US));
        i64::try_from(ticks).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
    }
}

/// A stream's own clock: ticks since the beginning of its run.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MediaTime(pub i64);

/// Where loops read the time. Everything else takes time as an argument.
pub trait Clock: Send + Sync {
    /// The host's wall clock, which may jump.
    fn wall(&self) -> WallTime;
    /// Microseconds on a clock that never jumps, since an arbitrary instant.
    fn monotonic_us(&self) -> u64;
}

/// The host's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: std::time::Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            origin: std::time::Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    fn wall(&self) -> WallTime {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        WallTime::MIN.plus(since.unwrap_or_default())
    }

    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_from_its_text() {
        for text in [
            "2026-11-20T08:30:00.000001Z",
            "1970-01-01T00:00:00.000000Z",
            "9999-12-30T21:59:59.999999Z",
        ] {
            assert_eq!(
                text.parse::<WallTime>().map(|t| t.to_string()).as_deref(),
                Ok(text)
            );
        }
        assert_eq!(
            "2026-11-20T10:30:00+02:00".parse::<WallTime>(),
            "2026-11-20T08:30:00Z".parse()
        );
        assert_eq!("1500000".parse::<WallTime>().map(WallTime::micros), Ok(1_500_000));
        assert_eq!(
            "2016-12-31T23:59:60Z".parse::<WallTime>(),
            "2016-12-31T23:59:59Z".parse()
        );
    }

    #[test]
    fn a_text_without_zone_or_outside_the_supported_years_is_refused() {
        for bad in [
            "",
            "2026-11-20T08:30:00",
            "NaN",
            "1e30",
            "-5",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
        ] {
            assert!(bad.parse::<WallTime>().is_err(), "{bad}");
        }
        assert!("999999999999999999999".parse::<WallTime>().is_err());
    }

    #[test]
    fn ranges_are_half_open() {
        let at = WallTime::from_micros;
        let range = TimeRange::new(at(10), at(20)).expect("forwards");
        assert!(range.contains(at(10)) && !range.contains(at(20)));
        assert_eq!(range.intersect(TimeRange::starting(at(20), 5)), None);
        assert_eq!(TimeRange::new(at(2), at(1)), None);
    }

    #[test]
    fn media_ticks_convert_without_drift() {
        let rtp = Timescale::new(90_000).expect("not zero");
        assert_eq!(rtp.to_micros(90_000 * 86_400 * 400), 400 * 86_400 * SECOND_US);
        assert_eq!(rtp.to_micros(-1), -12);
        assert_eq!(rtp.from_micros(rtp.to_micros(123_456_789) + 1), 123_456_789);
    }
}
