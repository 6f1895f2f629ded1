//! Whether the disk keeps up: how long commits take beside what is in them took to come in.

use std::time::{Duration, Instant};

/// A shorter commit is no trouble, whatever it holds.
const LONG: Duration = Duration::from_secs(4);

/// The last commits.
#[derive(Debug, Default)]
pub(super) struct Pace {
    began: Option<Instant>,
    load: f32,
}

impl Pace {
    /// A commit that began at `began` took so long. Returns how many times longer than its footage took to
    /// come in: of the last two commits the smaller number, since the footage of a single one may have waited
    /// for something else, and 0 while they are short.
    pub(super) fn commit(&mut self, began: Instant, took: Duration) -> f32 {
        let came_in = self
            .began
            .replace(began)
            .map(|before| began.duration_since(before));
        let load = match came_in {
            Some(came_in) if took >= LONG => took.as_secs_f32() / came_in.as_secs_f32().max(0.1),
            _ => 0.0,
        };
        std::mem::replace(&mut self.load, load).min(load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(took_s: &[f32]) -> Vec<f32> {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let took = took_s.iter().map(|s| Duration::from_secs_f32(*s));
        took.map(|took| {
            let load = pace.commit(now, took);
            now += took.max(Duration::from_millis(500));
            load
        })
        .collect()
    }

    #[test]
    fn a_disk_that_takes_twice_as_long_says_so_and_one_that_hung_once_does_not() {
        let slow = loads(&[0.1, 1.0, 2.0, 4.0, 8.0, 16.0]);
        assert_eq!(slow[..4], [0.0; 4]);
        assert!(
            (slow[4] - 2.0).abs() < 0.1 && (slow[5] - 2.0).abs() < 0.1,
            "{slow:?}"
        );
        let hung = loads(&[0.1, 60.0, 12.0, 3.0, 0.6]);
        assert!(hung.iter().all(|load| *load < 0.5), "{hung:?}");
    }
}
