//! Presence and activity by minute, one small row a stream-hour: what a timeline over months reads.

use std::collections::BTreeMap;

use archive::codec::{Decoder, Encoder};
use archive::time::SECOND_US;
use archive::{FragmentEntry, Malformed, WallTime};

const MINUTE_US: i64 = 60 * SECOND_US;
const MINUTE_MS: u16 = 60_000;

/// An hour of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HourCoverage {
    /// When the hour begins, in UTC.
    pub hour: WallTime,
    /// Recorded milliseconds of each minute, 0 to 60,000.
    pub recorded_ms: [u16; 60],
    /// The most activity in each minute, 0 to 255.
    pub activity: [u8; 60],
}

impl HourCoverage {
    pub(crate) fn empty(hour: WallTime) -> Self {
        Self {
            hour,
            recorded_ms: [0; 60],
            activity: [0; 60],
        }
    }

    /// Adds what another segment recorded in this hour.
    pub(crate) fn add(&mut self, other: &Self) {
        for (a, b) in self.recorded_ms.iter_mut().zip(other.recorded_ms) {
            *a = a.saturating_add(b).min(MINUTE_MS);
        }
        for (a, b) in self.activity.iter_mut().zip(other.activity) {
            *a = (*a).max(b);
        }
    }

    /// Minutes that are whole or empty take a byte each.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::default();
        self.recorded_ms
            .iter()
            .for_each(|ms| e.varint(u64::from(MINUTE_MS.saturating_sub(*ms))));
        e.bytes(&self.activity);
        e.0
    }

    pub(crate) fn decode(hour: WallTime, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut d = Decoder(bytes);
        let mut row = Self::empty(hour);
        for ms in &mut row.recorded_ms {
            *ms = MINUTE_MS
                .saturating_sub(u16::try_from(d.varint()?).map_err(|_| Malformed("minute too long"))?);
        }
        row.activity.copy_from_slice(d.bytes(60)?);
        d.end()?;
        Ok(row)
    }
}

/// What `entries` of one segment contribute to each hour they touch. The same entries always give the
/// same rows, so that sums over segments do not depend on who adds them up.
pub(crate) fn contribution(entries: &[FragmentEntry]) -> BTreeMap<WallTime, HourCoverage> {
    let mut minutes: BTreeMap<i64, (i64, u8)> = BTreeMap::new();
    for f in entries {
        let (mut from, to) = (f.wall_start.micros(), f.wall_end().micros());
        while from < to {
            let minute = from.div_euclid(MINUTE_US);
            let end = to.min((minute + 1) * MINUTE_US);
            let slot = minutes.entry(minute).or_default();
            slot.0 += end - from;
            slot.1 = slot.1.max(f.activity);
            from = end;
        }
    }
    let mut hours = BTreeMap::new();
    for (minute, (us, activity)) in minutes {
        let hour = WallTime::from_micros(minute * MINUTE_US).hour();
        let row = hours.entry(hour).or_insert_with(|| HourCoverage::empty(hour));
        let i = minute.rem_euclid(60) as usize;
        if let (Some(ms), Some(level)) = (row.recorded_ms.get_mut(i), row.activity.get_mut(i)) {
            *ms = (us / 1000).clamp(0, MINUTE_MS.into()) as u16;
            *level = activity;
        }
    }
    hours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_over_the_hour_counts_in_both_hours() {
        let start: WallTime = "2026-11-20T08:59:58.5Z".parse().expect("time");
        let f = FragmentEntry {
            offset: 0,
            len: 1,
            wall_start: start,
            wall_duration_us: 4_000_000,
            media_start: 0,
            media_duration: 1,
            keyframe: true,
            run_start: false,
            activity: 9,
            notes: vec![],
        };
        let hours: Vec<_> = contribution(&[f]).into_values().collect();
        assert_eq!(hours.len(), 2);
        assert_eq!((hours[0].recorded_ms[59], hours[1].recorded_ms[0]), (1500, 2500));
        assert_eq!(hours[1].activity[0], 9);
        assert_eq!(
            HourCoverage::decode(hours[1].hour, &hours[1].encode()),
            Ok(hours[1].clone())
        );
    }
}
