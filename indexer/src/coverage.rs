//! Presence and activity by minute, one small row a stream-hour: what a timeline over months reads.

use std::collections::BTreeMap;

use archive::codec::{Decoder, Encoder};
use archive::time::SECOND_US;
use archive::{FragmentEntry, Malformed, TimeRange, WallTime};

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

    /// A minute of this hour, counted from 1970: recorded milliseconds and activity.
    fn minute(&self, minute: i64) -> Option<(u16, u8)> {
        let i = minute.rem_euclid(60) as usize;
        Some((*self.recorded_ms.get(i)?, *self.activity.get(i)?))
    }

    fn set(&mut self, minute: i64, (ms, level): (u16, u8)) {
        let i = minute.rem_euclid(60) as usize;
        if let (Some(slot), Some(of)) = (self.recorded_ms.get_mut(i), self.activity.get_mut(i)) {
            (*slot, *of) = (ms, level);
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
            *ms = decode_ms(&mut d)?;
        }
        row.activity.copy_from_slice(d.bytes(60)?);
        d.end()?;
        Ok(row)
    }
}

/// What a segment adds to the first and to the last minute that it touches. Segments do not overlap, so that no other
/// one adds anything to the minutes between.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Borders {
    first: (u16, u8),
    last: (u16, u8),
}

impl Borders {
    /// Of the segment with these entries; `None` where there are none.
    pub(crate) fn of(entries: &[FragmentEntry]) -> Option<Self> {
        let parts = contribution(entries);
        let at = |minute: i64| {
            let hour = parts.get(&WallTime::from_micros(minute * MINUTE_US).hour())?;
            hour.minute(minute)
        };
        Some(Self {
            first: at(minute_of(entries.first()?.wall_start))?,
            last: at(last_minute(entries.last()?.wall_end()))?,
        })
    }

    /// What a segment adds to the hour that is now `hour`. Where its borders are not known, these minutes count as its own.
    pub(crate) fn part(borders: Option<Self>, segment: TimeRange, hour: &HourCoverage) -> HourCoverage {
        let mut part = HourCoverage::empty(hour.hour);
        let (first, last) = (minute_of(segment.from()), last_minute(segment.to()));
        let begin = minute_of(hour.hour);
        for minute in first.max(begin)..=last.min(begin + 59) {
            let at_border = match borders {
                Some(borders) if minute == first => Some(borders.first),
                Some(borders) if minute == last => Some(borders.last),
                _ => None,
            };
            part.set(
                minute,
                at_border.or_else(|| hour.minute(minute)).unwrap_or_default(),
            );
        }
        part
    }

    pub(crate) fn encode(&self, e: &mut Encoder) {
        for (ms, activity) in [self.first, self.last] {
            e.varint(u64::from(MINUTE_MS.saturating_sub(ms)));
            e.u8(activity);
        }
    }

    pub(crate) fn decode(d: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let mut minute = || Ok((decode_ms(d)?, d.u8()?));
        Ok(Self {
            first: minute()?,
            last: minute()?,
        })
    }
}

fn minute_of(at: WallTime) -> i64 {
    at.micros().div_euclid(MINUTE_US)
}

/// The minute in which the last instant before `end` lies.
fn last_minute(end: WallTime) -> i64 {
    minute_of(end.plus_micros(-1))
}

fn decode_ms(d: &mut Decoder<'_>) -> Result<u16, Malformed> {
    let missing = u16::try_from(d.varint()?).map_err(|_| Malformed("minute too long"))?;
    Ok(MINUTE_MS.saturating_sub(missing))
}

/// What a segment adds to each hour that it touches.
pub(crate) type Parts = BTreeMap<WallTime, HourCoverage>;

/// What `entries` of one segment contribute to each hour they touch. The same entries always give the
/// same rows, so that sums over segments do not depend on who adds them up.
pub(crate) fn contribution(entries: &[FragmentEntry]) -> Parts {
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
        row.set(minute, ((us / 1000).clamp(0, MINUTE_MS.into()) as u16, activity));
    }
    hours
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(start: &str, duration_us: u32, activity: u8) -> FragmentEntry {
        FragmentEntry {
            offset: 0,
            len: 1,
            wall_start: start.parse().expect("time"),
            wall_duration_us: duration_us,
            media_start: 0,
            media_duration: 1,
            keyframe: true,
            run_start: false,
            activity,
            notes: vec![],
        }
    }

    #[test]
    fn what_a_segment_adds_is_known_from_its_borders_and_the_sum_of_all() {
        let segments = [
            vec![fragment("2026-11-20T08:57:10.2Z", 21_000_000, 3)],
            vec![
                fragment("2026-11-20T08:57:40Z", 50_500_000, 7),
                fragment("2026-11-20T08:58:31.25Z", 95_000_000, 200),
            ],
            vec![fragment("2026-11-20T09:00:06.25Z", 1_000_000, 9)],
            vec![fragment("2026-11-20T09:00:07.25Z", 3_600_000_000, 1)],
        ];
        let mut sums: BTreeMap<WallTime, HourCoverage> = BTreeMap::new();
        for (hour, part) in segments.iter().flat_map(|entries| contribution(entries)) {
            sums.entry(hour)
                .or_insert_with(|| HourCoverage::empty(hour))
                .add(&part);
        }
        for entries in &segments {
            let mut borders = Encoder::default();
            Borders::of(entries).expect("borders").encode(&mut borders);
            assert!(borders.0.len() <= 8);
            let borders = Borders::decode(&mut Decoder(&borders.0)).expect("decoded");
            let range = TimeRange::new(entries[0].wall_start, entries[entries.len() - 1].wall_end());
            for (hour, part) in contribution(entries) {
                let told = Borders::part(Some(borders), range.expect("range"), &sums[&hour]);
                assert_eq!(told, part, "{hour}");
            }
        }
    }

    #[test]
    fn a_fragment_over_the_hour_counts_in_both_hours() {
        let f = fragment("2026-11-20T08:59:58.5Z", 4_000_000, 9);
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
