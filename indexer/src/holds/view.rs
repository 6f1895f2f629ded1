//! The holds in memory, by camera: the question whether footage is held is asked for every segment of every pass.

use std::collections::HashMap;

use archive::{CameraId, StreamId, TimeRange, WallTime};

use super::Hold;

/// The holds that have not been released.
#[derive(Debug, Default)]
pub(crate) struct HoldView {
    epoch: u64,
    by_camera: HashMap<CameraId, Vec<Hold>>,
}

impl HoldView {
    pub(super) fn new(all: Vec<Hold>, epoch: u64) -> Self {
        let mut view = Self::default();
        for hold in all {
            view.put(hold, epoch);
        }
        view.epoch = epoch;
        view
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_camera.is_empty()
    }

    /// Takes in a hold as it is from now on.
    pub(super) fn put(&mut self, hold: Hold, epoch: u64) {
        self.epoch = epoch;
        let camera = hold.camera.clone();
        let of_camera = self.by_camera.entry(camera.clone()).or_default();
        of_camera.retain(|known| known.id != hold.id);
        if hold.released.is_none() {
            of_camera.push(hold);
        }
        if of_camera.is_empty() {
            self.by_camera.remove(&camera);
        }
    }

    /// The holds that keep footage of a stream at `now`.
    pub(super) fn active(&self, stream: &StreamId, now: WallTime) -> impl Iterator<Item = &Hold> {
        let of_camera = self.by_camera.get(&stream.camera).into_iter().flatten();
        of_camera.filter(move |hold| hold.is_active(now) && hold.covers(stream))
    }

    /// What of a stream is held at `now`.
    pub(super) fn ranges(&self, stream: &StreamId, now: WallTime) -> Vec<TimeRange> {
        merged(self.active(stream, now).map(Hold::range).collect())
    }
}

/// Ranges in order, those that overlap or meet as one.
pub(super) fn merged(mut ranges: Vec<TimeRange>) -> Vec<TimeRange> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| (range.from(), range.to()));
    let mut out: Vec<TimeRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.from() <= last.to() => {
                *last = TimeRange::new(last.from(), last.to().max(range.to())).unwrap_or(*last);
            }
            _ => out.push(range),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holds::{HoldKind, Release};

    fn t(s: i64) -> WallTime {
        WallTime::from_micros(s * 1_000_000)
    }

    fn hold(id: &str, camera: &str, streams: &[&str], from: i64, to: i64) -> Hold {
        Hold {
            id: id.parse().expect("id"),
            version: 1,
            kind: HoldKind::Legal,
            camera: camera.parse().expect("id"),
            streams: streams.iter().map(|s| s.parse().expect("id")).collect(),
            from: t(from),
            to: t(to),
            reason: "a test".into(),
            author: "tests".into(),
            created: t(0),
            until: None,
            released: None,
        }
    }

    fn stream(camera: &str, stream: &str) -> StreamId {
        StreamId {
            tenant: Default::default(),
            camera: camera.parse().expect("id"),
            stream: stream.parse().expect("id"),
        }
    }

    fn seconds(view: &HoldView, of: &StreamId, now: i64) -> Vec<(i64, i64)> {
        let ranges = view.ranges(of, t(now)).into_iter();
        let s = |at: WallTime| at.micros() / 1_000_000;
        ranges.map(|r| (s(r.from()), s(r.to()))).collect()
    }

    #[test]
    fn holds_of_a_camera_are_one_where_they_meet_and_others_are_not_asked() {
        let (lobby, yard) = (stream("lobby", "main"), stream("yard", "main"));
        let all = vec![
            hold("b", "lobby", &[], 20, 30),
            hold("a", "lobby", &[], 10, 20),
            hold("c", "lobby", &["sub"], 50, 60),
            hold("d", "lobby", &[], 70, 80),
        ];
        let view = HoldView::new(all, 4);
        assert_eq!(seconds(&view, &lobby, 0), [(10, 30), (70, 80)]);
        let sub = stream("lobby", "sub");
        assert_eq!(seconds(&view, &sub, 0), [(10, 30), (50, 60), (70, 80)]);
        assert_eq!(seconds(&view, &yard, 0), []);
    }

    #[test]
    fn a_hold_ends_when_it_is_released_or_its_time_has_come() {
        let lobby = stream("lobby", "main");
        let first = Hold {
            until: Some(t(100)),
            ..hold("a", "lobby", &[], 10, 20)
        };
        let mut view = HoldView::new(vec![first, hold("b", "lobby", &[], 40, 50)], 2);
        assert_eq!(seconds(&view, &lobby, 99), [(10, 20), (40, 50)]);
        assert_eq!(seconds(&view, &lobby, 100), [(40, 50)]);
        let release = Release {
            at: t(60),
            by: "tests".into(),
            reason: "over".into(),
        };
        let released = Hold {
            version: 2,
            released: Some(release),
            ..hold("b", "lobby", &[], 40, 50)
        };
        view.put(released, 3);
        assert_eq!((seconds(&view, &lobby, 0), view.epoch()), (vec![(10, 20)], 3));
    }
}
