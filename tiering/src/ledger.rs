//! How many bytes a stream has from when to when, in little memory: by the hour for some days, by the day before.

use archive::WallTime;
use archive::time::HOUR_US;

/// Stretches that are kept as they come; those before them are joined to days.
const FINE: usize = 72;
const DAY_US: i64 = 24 * HOUR_US;

/// A stretch over which bytes are spread evenly.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Stretch {
    from: WallTime,
    to: WallTime,
    bytes: u64,
}

/// The segments of one stream, added in order.
#[derive(Clone, Default, Debug)]
pub(crate) struct Ledger(Vec<Stretch>);

impl Ledger {
    /// Adds a segment, which begins after all that were added before.
    pub(crate) fn add(&mut self, from: WallTime, to: WallTime, bytes: u64) {
        if let Some(last) = self.0.last_mut()
            && last.from.hour() == from.hour()
        {
            last.to = last.to.max(to);
            last.bytes = last.bytes.saturating_add(bytes);
            return;
        }
        self.0.push(Stretch { from, to, bytes });
        self.join();
    }

    /// Joins the stretch that is no longer kept as it came with the day that it continues.
    fn join(&mut self) {
        let Some(place) = self.0.len().checked_sub(FINE + 1).filter(|place| *place > 0) else {
            return;
        };
        let day = |at: WallTime| at.micros().div_euclid(DAY_US);
        if let Some([before, this]) = self
            .0
            .get(place - 1..=place)
            .and_then(|two| <[_; 2]>::try_from(two).ok())
            && day(before.from) == day(this.from)
        {
            self.0.remove(place);
            if let Some(joined) = self.0.get_mut(place - 1) {
                joined.to = this.to;
                joined.bytes = before.bytes.saturating_add(this.bytes);
            }
        }
    }

    /// Forgets what ends before `at`.
    pub(crate) fn forget_before(&mut self, at: WallTime) {
        let gone = self.0.partition_point(|stretch| stretch.to <= at);
        self.0.drain(..gone);
    }

    /// The bytes from `from` on; of a stretch that begins before, its share.
    pub(crate) fn bytes_from(&self, from: WallTime) -> u64 {
        let first = self.0.partition_point(|stretch| stretch.to <= from);
        let of = |stretch: &Stretch| {
            let length = stretch.to.micros_since(stretch.from).max(1) as u128;
            let inside = stretch.to.micros_since(stretch.from.max(from)).max(0) as u128;
            (u128::from(stretch.bytes) * inside.min(length) / length) as u64
        };
        self.0.iter().skip(first).map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_US: i64 = HOUR_US / 60;

    fn at(minute: i64) -> WallTime {
        WallTime::from_micros(20_000 * DAY_US + minute * MINUTE_US)
    }

    /// Ten minutes each, `count` of them, of 600 bytes.
    fn ledger(count: i64) -> Ledger {
        let mut ledger = Ledger::default();
        (0..count).for_each(|i| ledger.add(at(10 * i), at(10 * i + 10), 600));
        ledger
    }

    #[test]
    fn bytes_are_those_from_a_time_on_to_the_minute() {
        let ledger = ledger(12);
        assert_eq!(ledger.bytes_from(WallTime::MIN), 12 * 600);
        assert_eq!(ledger.bytes_from(at(60)), 6 * 600);
        assert_eq!(ledger.bytes_from(at(90)), 3 * 600);
        assert_eq!(ledger.bytes_from(at(119)), 60);
        assert_eq!(ledger.bytes_from(at(120)), 0);
    }

    #[test]
    fn a_year_takes_a_row_a_day_and_the_last_days_a_row_an_hour() {
        let year = ledger(365 * 24 * 6);
        assert_eq!(year.0.len(), 362 + FINE);
        assert_eq!(year.bytes_from(WallTime::MIN), 365 * 24 * 6 * 600);
        assert_eq!(year.bytes_from(at(364 * 24 * 60 + 30)), (24 * 6 - 3) * 600);
        assert_eq!(
            year.bytes_from(at(100 * 24 * 60 + 12 * 60)),
            (264 * 24 * 6 + 72) * 600
        );
    }

    #[test]
    fn what_was_deleted_is_forgotten() {
        let mut ledger = ledger(365 * 24 * 6);
        ledger.forget_before(at(100 * 24 * 60));
        assert_eq!(ledger.bytes_from(WallTime::MIN), 265 * 24 * 6 * 600);
    }
}
