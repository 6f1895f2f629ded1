//! How many bytes footage takes after some time when streams go on as they do: straight lines between a few turns.

/// Nothing is foretold beyond a hundred years; there, what never happens would be told for a rounding error.
const HORIZON_S: f64 = 100.0 * 365.25 * 86_400.0;

/// One stream's footage in one place: what comes in, and what is there, spread evenly over its ages.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub(super) struct Flow {
    /// Bytes a second that come in.
    pub(super) rate: f64,
    /// Seconds until they begin to.
    pub(super) delay_s: f64,
    /// Bytes that are there.
    pub(super) held: f64,
    /// How many seconds of footage they are.
    pub(super) span_s: f64,
    /// The age from which footage counts no more; infinite where it always does.
    pub(super) until_s: f64,
}

impl Flow {
    fn density(&self) -> f64 {
        self.held / self.span_s.max(1.0)
    }

    /// What it takes after `t` seconds.
    pub(super) fn after(&self, t: f64) -> f64 {
        let old_s = (self.until_s - t).clamp(0.0, self.span_s.max(1.0));
        self.rate * (t - self.delay_s).clamp(0.0, self.until_s) + self.density() * old_s
    }

    /// When the bytes that it takes begin to grow faster or slower, and by how much.
    fn turns(&self) -> [(f64, f64); 4] {
        let (density, oldest_goes) = (self.density(), self.until_s - self.span_s.max(1.0));
        [
            (self.delay_s, self.rate),
            (self.delay_s + self.until_s, -self.rate),
            (oldest_goes.max(0.0), -density),
            (self.until_s, density),
        ]
    }
}

/// In how many seconds `flows` take `limit` bytes together; `None` when they never do.
pub(super) fn crossing(flows: &[Flow], limit: f64) -> Option<f64> {
    let level = flows.iter().map(|flow| flow.after(0.0)).sum();
    first_reaching(level, flows.iter().flat_map(Flow::turns).collect(), limit)
}

/// What a stream takes when space is what ends its footage.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) struct Share {
    /// Bytes a second.
    pub(super) rate: f64,
    /// The age before which nothing goes.
    pub(super) least_s: f64,
    /// The age at which it goes in any case; infinite where there is none.
    pub(super) most_s: f64,
}

/// The age up to which all can be kept in `limit` bytes, each at least and at most as long as it says; `None` when
/// there is room for the most of all, 0 when there is none for the least.
pub(super) fn common_age(shares: &[Share], limit: f64) -> Option<f64> {
    let level = shares.iter().map(|s| s.rate * s.least_s).sum();
    let turns = shares
        .iter()
        .flat_map(|s| [(s.least_s, s.rate), (s.most_s.max(s.least_s), -s.rate)]);
    first_reaching(level, turns.collect(), limit)
}

/// Where a line that begins at `level`, level, and at each turn changes its slope, first reaches `limit`.
fn first_reaching(mut level: f64, mut turns: Vec<(f64, f64)>, limit: f64) -> Option<f64> {
    if level >= limit {
        return Some(0.0);
    }
    turns.retain(|(at, by)| at.is_finite() && *by != 0.0);
    turns.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    turns.push((HORIZON_S, 0.0));
    let (mut now, mut slope) = (0.0, 0.0);
    for (at, by) in turns {
        let at = at.min(HORIZON_S);
        let next = level + slope * (at - now);
        if slope > 0.0 && next >= limit {
            return Some(now + (limit - level) / slope).filter(|t| *t < HORIZON_S);
        }
        (level, now) = (next, at);
        slope += by;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FOR_EVER: f64 = f64::INFINITY;

    fn flow(rate: f64, held: f64, span_s: f64, until_s: f64) -> Flow {
        Flow {
            rate,
            held,
            span_s,
            until_s,
            delay_s: 0.0,
        }
    }

    #[test]
    fn what_only_grows_reaches_a_limit_when_the_rate_says() {
        // 100 bytes are there, 10 a second come: 500 are reached in 40 s.
        assert_eq!(crossing(&[flow(10.0, 100.0, 50.0, FOR_EVER)], 500.0), Some(40.0));
        let both = [flow(10.0, 0.0, 0.0, FOR_EVER), flow(30.0, 100.0, 10.0, FOR_EVER)];
        assert_eq!(crossing(&both, 500.0), Some(10.0));
        assert_eq!(crossing(&[flow(0.0, 100.0, 50.0, FOR_EVER)], 500.0), None);
        assert_eq!(crossing(&[], 0.0), Some(0.0));
    }

    #[test]
    fn what_goes_at_an_age_ends_in_balance() {
        // 100 s at 10 bytes are 1,000 bytes, whatever was there before.
        let steady = flow(10.0, 1000.0, 100.0, 100.0);
        assert_eq!(crossing(&[steady], 1001.0), None);
        // Half full: it grows for 50 s more, and reaches 800 after 30.
        let young = flow(10.0, 500.0, 50.0, 100.0);
        assert_eq!(crossing(&[young], 800.0), Some(30.0));
        assert_eq!(crossing(&[young], 1001.0), None);
        // Twice the rate of before: 2,000 in the end, 1,500 half way through.
        let faster = flow(20.0, 1000.0, 100.0, 100.0);
        assert_eq!(crossing(&[faster], 1500.0), Some(50.0));
    }

    #[test]
    fn what_comes_later_counts_later() {
        let later = Flow {
            delay_s: 100.0,
            ..flow(10.0, 0.0, 0.0, FOR_EVER)
        };
        assert_eq!(crossing(&[later], 500.0), Some(150.0));
    }

    #[test]
    fn the_common_age_is_where_all_fit() {
        let share = |rate, least_s, most_s| Share {
            rate,
            least_s,
            most_s,
        };
        // 10 bytes a second in 1,000 bytes: 100 s.
        assert_eq!(common_age(&[share(10.0, 0.0, FOR_EVER)], 1000.0), Some(100.0));
        // One keeps 60 s at least: 600 bytes. The other has the 400 that are left, 40 s.
        let two = [share(10.0, 60.0, FOR_EVER), share(10.0, 0.0, FOR_EVER)];
        assert_eq!(common_age(&two, 1000.0), Some(40.0));
        // One goes at 20 s: 200 bytes. The other has 800.
        let two = [share(10.0, 0.0, 20.0), share(10.0, 0.0, FOR_EVER)];
        assert_eq!(common_age(&two, 1000.0), Some(80.0));
        assert_eq!(common_age(&two[..1], 1000.0), None);
        assert_eq!(common_age(&[share(10.0, 200.0, FOR_EVER)], 1000.0), Some(0.0));
    }

    fn any_flow() -> impl Strategy<Value = Flow> {
        (
            0.0..50.0f64,
            0.0..1e4f64,
            1.0..500.0f64,
            0.0..800.0f64,
            any::<bool>(),
            0.0..100.0f64,
        )
            .prop_map(|(rate, held, span_s, until_s, ends, delay_s)| Flow {
                rate,
                held,
                span_s,
                delay_s,
                until_s: if ends { until_s } else { FOR_EVER },
            })
    }

    proptest! {
        /// The turns say what `after` says: the limit is met where it is foretold, and not before.
        #[test]
        fn the_limit_is_met_then_and_not_before(
            flows in prop::collection::vec(any_flow(), 0..6), limit in 1.0..1e5f64,
        ) {
            let level = |t: f64| flows.iter().map(|f| f.after(t)).sum::<f64>();
            let told = crossing(&flows, limit);
            if let Some(t) = told {
                prop_assert!(level(t) >= limit * 0.999_999, "{} of {limit} at {t}", level(t));
            }
            let end = told.unwrap_or(3000.0).min(3000.0);
            for i in (0..200).take_while(|_| end > 0.0) {
                let t = end * f64::from(i) / 200.0 * 0.999_999;
                prop_assert!(level(t) < limit * 1.000_001, "{} of {limit} at {t} before {told:?}", level(t));
            }
        }

        #[test]
        fn more_room_is_never_reached_earlier(
            flows in prop::collection::vec(any_flow(), 0..6), limit in 1.0..1e5f64, more in 0.0..1e5f64,
        ) {
            let (small, large) = (crossing(&flows, limit), crossing(&flows, limit + more));
            prop_assert!(large.unwrap_or(FOR_EVER) >= small.unwrap_or(FOR_EVER));
        }
    }
}
