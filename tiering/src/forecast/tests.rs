use archive::time::SECOND_US;
use archive::{SegmentId, StreamNo};
use indexer::{Ends, Going, RiskCause};
use proptest::prelude::*;

use super::*;
use crate::policy::{self, StreamView, decide};
use crate::rules::{Below, RetentionRule};

const DAY_S: u64 = 86_400;
/// Bytes of a day at 1,000 bytes a second.
const DAY_BYTES: u64 = 86_400_000;

fn now() -> WallTime {
    WallTime::from_micros(1_800_000_000 * SECOND_US)
}

fn ago(seconds: u64) -> WallTime {
    now().minus(Duration::from_secs(seconds))
}

fn for_days(n: u64) -> Option<Duration> {
    Some(Duration::from_secs(n * DAY_S))
}

/// A camera that brings 1,000 bytes a second, has done so for `days` days, and has all of it on the disk, in segments of
/// an hour.
fn stream(camera: &str, days: u64) -> StreamNow {
    let held = Held {
        bytes: days * DAY_BYTES,
        since: (days > 0).then(|| ago(days * DAY_S)),
    };
    let segment = |i: u64| Candidate {
        id: SegmentId {
            stream: StreamNo(1),
            seq: i,
        },
        wall_end: ago(days * DAY_S - (i + 1) * 3600),
        bytes: 3_600_000,
    };
    StreamNow {
        id: StreamId {
            tenant: Default::default(),
            camera: camera.parse().expect("id"),
            stream: "main".parse().expect("id"),
        },
        rule: 0,
        priority: 5,
        recorded: true,
        removed: None,
        rate: 1000.0,
        all: held,
        held_fast: 0,
        on: [held, Held::default(), Held::default()],
        oldest: (0..4.min(days * 24)).map(segment).collect(),
    }
}

/// With `room` bytes free above what is to stay free.
fn look(rules: &Rules, streams: &[StreamNow], room: u64) -> Forecast {
    forecast(&input(rules, streams, room))
}

fn input<'a>(rules: &'a Rules, streams: &'a [StreamNow], room: u64) -> Input<'a> {
    let footage: u64 = streams.iter().map(|s| s.on(Tier::Hot).bytes).sum();
    Input {
        now: now(),
        rules,
        streams,
        complete: true,
        disk: DiskNow {
            total: footage + room + 5000,
            free: room + 2000,
            reserve: 2000,
            low: 2000,
        },
        capacity: Capacity::default(),
        warn_before: Duration::from_secs(7 * DAY_S),
        next_max: 3,
    }
}

fn one(rule: RetentionRule) -> Rules {
    Rules::new(vec![rule]).expect("sound")
}

fn told(next: &[Going]) -> Vec<(u64, Ends)> {
    let seconds = |g: &Going| g.at.micros_since(now()).unsigned_abs() / 1_000_000;
    next.iter().map(|g| (seconds(g), g.reason)).collect()
}

#[test]
fn without_a_rule_the_disk_fills_and_the_oldest_makes_room() {
    // A day is there, and room for four more.
    let rules = Rules::default();
    let streams = [stream("lobby", 1)];
    let found = look(&rules, &streams, 4 * DAY_BYTES);
    assert_eq!(found.disk.days_to_full, Some(4.0));
    assert_eq!(
        found.disk.full_at,
        Some(now().plus(Duration::from_secs(4 * DAY_S)))
    );
    assert_eq!(
        (found.disk.days_in_balance, found.disk.other_bytes),
        (Some(5.0), 3000)
    );
    let lobby = &found.streams[0];
    assert_eq!(
        (lobby.days_held, lobby.days_will_hold, lobby.ends),
        (Some(1.0), Some(5.0), Some(Ends::Space))
    );
    assert_eq!((lobby.bitrate_bps, lobby.rule), (8000, None));
    // The first goes when the disk is full; each makes room for an hour.
    assert_eq!(
        told(&found.next),
        [0, 1, 2].map(|i| (4 * DAY_S + i * 3600, Ends::Space))
    );
}

#[test]
fn footage_that_ends_at_an_age_never_fills_a_disk_that_has_room_for_it() {
    let rules = one(RetentionRule {
        hot: for_days(3),
        ..RetentionRule::default()
    });
    let found = look(&rules, &[stream("lobby", 1)], 4 * DAY_BYTES);
    assert_eq!(
        (found.disk.days_to_full, found.disk.days_in_balance),
        (None, None)
    );
    let lobby = &found.streams[0];
    assert_eq!((lobby.days_will_hold, lobby.ends), (Some(3.0), Some(Ends::Age)));
    // The first hour ended 23 hours ago.
    assert_eq!(told(&found.next)[0], (2 * DAY_S + 3600, Ends::Age));
    assert_eq!(found.rules[0].days_will_hold, Some(3.0));
    // With room for one day more it fills in one, two days before the first would go by age.
    let tight = look(&rules, &[stream("lobby", 1)], DAY_BYTES);
    assert_eq!(tight.disk.days_to_full, Some(1.0));
    assert_eq!(
        (tight.streams[0].days_will_hold, tight.streams[0].ends),
        (Some(2.0), Some(Ends::Space))
    );
}

#[test]
fn a_quota_is_an_age_that_follows_from_the_rate() {
    let rules = one(RetentionRule {
        quota: Some(4 * DAY_BYTES),
        ..RetentionRule::default()
    });
    // Two streams of one camera share it: two days each.
    let mut sub = stream("lobby", 1);
    sub.id.stream = "sub".parse().expect("id");
    let found = look(&rules, &[stream("lobby", 1), sub], 100 * DAY_BYTES);
    assert_eq!(found.disk.days_to_full, None);
    let held: Vec<_> = found.streams.iter().map(|s| (s.days_will_hold, s.ends)).collect();
    assert_eq!(held, [(Some(2.0), Some(Ends::Quota)); 2]);
    // Half of it is used; what is left is filled in a day.
    assert_eq!(told(&found.next)[0], (DAY_S, Ends::Quota));
}

#[test]
fn a_minimum_that_the_disk_cannot_hold_breaks_for_the_lowest_priority_first() {
    let rule = |cameras: &str| RetentionRule {
        cameras: vec![cameras.into()],
        min: for_days(5),
        ..RetentionRule::default()
    };
    let rules = Rules::new(vec![rule("gate"), rule("vault")]).expect("sound");
    let with = |camera: &str, rule, priority| StreamNow {
        rule,
        priority,
        ..stream(camera, 0)
    };
    let streams = [with("gate", 0, 3), with("vault", 1, 8)];
    // Together they would need ten days of bytes, and there are seven: after three and a half, at two days a day.
    let found = look(&rules, &streams, 7 * DAY_BYTES);
    let breaks: Vec<_> = found
        .rules
        .iter()
        .map(|r| (r.at_risk, r.breaks().map(|risk| risk.days)))
        .collect();
    assert_eq!(breaks, [(true, Some(3.5)), (false, None)]);
    let why = &found.rules[0].risks[0].why;
    assert!(why.contains("864.00 MB") && why.contains("604.80 MB"), "{why}");
    // What is not in danger within `warn_before` is not at risk.
    let patient = Input {
        warn_before: Duration::from_secs(3 * DAY_S),
        ..input(&rules, &streams, 7 * DAY_BYTES)
    };
    let rule = &forecast(&patient).rules[0];
    assert_eq!((rule.at_risk, rule.risks.len()), (false, 1));
    assert!(
        look(&rules, &streams, 10 * DAY_BYTES + 1)
            .rules
            .iter()
            .all(|r| r.risks.is_empty())
    );
}

#[test]
fn what_is_there_under_its_minimum_counts_until_it_is_older() {
    let rules = one(RetentionRule {
        min: for_days(5),
        ..RetentionRule::default()
    });
    // Four days are there, and room for two: five are kept at most, and nothing breaks.
    assert_eq!(
        look(&rules, &[stream("lobby", 4)], 2 * DAY_BYTES).rules[0].risks,
        []
    );
    // Twice the rate now: after a day four days of old and one of new are six; after that two come and one goes.
    let faster = StreamNow {
        rate: 2000.0,
        ..stream("lobby", 4)
    };
    let found = look(&rules, &[faster], 3 * DAY_BYTES);
    assert_eq!(found.rules[0].breaks().map(|risk| risk.days), Some(2.0));
}

#[test]
fn a_quota_under_the_minimum_is_told_and_breaks_nothing() {
    let rules = one(RetentionRule {
        min: for_days(5),
        quota: Some(4 * DAY_BYTES),
        ..RetentionRule::default()
    });
    let found = look(&rules, &[stream("lobby", 1)], 100 * DAY_BYTES);
    let rule = &found.rules[0];
    assert_eq!((rule.risks.len(), rule.at_risk), (1, false));
    assert_eq!((rule.risks[0].cause, rule.risks[0].days), (RiskCause::Quota, 3.0));
    assert_eq!(found.streams[0].days_will_hold, Some(5.0));
}

#[test]
fn a_tier_that_fills_breaks_the_minimum_when_the_disk_is_full_too() {
    let below = Below {
        warm: true,
        cold: false,
    };
    let rule = RetentionRule {
        min: for_days(30),
        hot: for_days(2),
        ..RetentionRule::default()
    };
    let rules = Rules::with_tiers(vec![rule], below).expect("sound");
    let mut lobby = stream("lobby", 1);
    lobby.on[1] = lobby.on[0];
    let streams = [lobby];
    let with = |warm| Input {
        capacity: Capacity { warm, cold: None },
        ..input(&rules, &streams, 4 * DAY_BYTES)
    };
    // Ten days fit, of which one is there. By then two are on the disk, which has room for five.
    let found = forecast(&with(Some(10 * DAY_BYTES)));
    assert_eq!(
        (found.tiers[0].days_to_full, found.tiers[0].balance_bytes),
        (Some(9.0), None)
    );
    let risk = &found.rules[0].risks[0];
    assert_eq!((risk.cause, risk.days), (RiskCause::Tier, 12.0));
    assert!(!found.rules[0].at_risk);
    assert_eq!(found.disk.days_to_full, None);
    assert_eq!(forecast(&with(None)).rules[0].risks, []);
}

#[test]
fn the_cold_tier_fills_with_what_the_warm_one_gives_it() {
    let below = Below {
        warm: true,
        cold: true,
    };
    let rule = RetentionRule {
        hot: for_days(1),
        warm: for_days(3),
        max: for_days(10),
        ..RetentionRule::default()
    };
    let rules = Rules::with_tiers(vec![rule], below).expect("sound");
    let mut lobby = stream("lobby", 1);
    lobby.on[1] = lobby.on[0];
    let streams = [lobby];
    let mut input = input(&rules, &streams, 100 * DAY_BYTES);
    input.capacity.cold = Some(4 * DAY_BYTES);
    let found = forecast(&input);
    let balance: Vec<_> = found
        .tiers
        .iter()
        .map(|t| t.balance_bytes.map(|b| b / DAY_BYTES))
        .collect();
    assert_eq!(balance, [Some(3), Some(7)]);
    // The first comes in two days, and four days of it are there after six.
    assert_eq!(found.tiers[1].days_to_full, Some(6.0));
}

#[test]
fn a_camera_that_was_removed_brings_nothing_and_goes_when_its_grace_is_over() {
    let rules = Rules::default().with_removed_grace(Duration::from_secs(90 * DAY_S));
    let removed = StreamNow {
        removed: Some(ago(80 * DAY_S)),
        recorded: false,
        rate: 0.0,
        ..stream("lobby", 90)
    };
    let found = look(&rules, &[removed], DAY_BYTES);
    assert_eq!(found.disk.days_to_full, None);
    assert_eq!(told(&found.next)[0], (10 * DAY_S, Ends::Age));
    assert_eq!(found.streams[0].days_will_hold, None);
}

#[test]
fn sizes_are_for_people() {
    let sizes = [0.0, 999.0, 1500.0, 604_800_000.0, 2.5e12, 3e15].map(size);
    assert_eq!(
        sizes,
        ["0 B", "999 B", "1.50 kB", "604.80 MB", "2.50 TB", "3.00 PB"]
    );
}

/// What a pass would delete at `at`, if the disk and the streams went on as they do until then.
fn passes(input: &Input<'_>, at: WallTime) -> Vec<(SegmentId, &'static str)> {
    let after_s = at.micros_since(input.now) as f64 / 1e6;
    let view = |s: &StreamNow| StreamView {
        camera: s.id.camera.clone(),
        priority: s.priority,
        removed: s.removed,
        rule: s.rule,
        bytes: s.all.bytes + (s.rate * after_s) as u64,
        oldest: s.oldest.clone(),
        more: false,
        evicts: false,
    };
    let streams: Vec<_> = input.streams.iter().map(view).collect();
    let grown: f64 = input.streams.iter().map(|s| s.rate * after_s).sum();
    let decision = decide(&policy::Input {
        now: at,
        clock_trusted: true,
        rules: input.rules,
        streams: &streams,
        free: input.disk.free.saturating_sub(grown as u64),
        reserve: input.disk.reserve,
        deletions_max: 100,
    });
    decision
        .delete
        .iter()
        .map(|v| (v.segment.id, v.reason.as_str()))
        .collect()
}

prop_compose! {
    fn any_stream()(
        camera in 0u32..3, days in 1u64..20, priority in 0u8..=9, rate in 100u32..5000,
    )(no in Just(camera), days in Just(days), priority in Just(priority), rate in Just(rate)) -> StreamNow {
        let mut stream = stream(&format!("c{no}"), days);
        (stream.priority, stream.rate) = (priority, f64::from(rate));
        stream
    }
}

/// Streams with names and segments of their own.
fn any_streams() -> impl Strategy<Value = Vec<StreamNow>> {
    prop::collection::vec(any_stream(), 1..5).prop_map(|mut streams| {
        for (no, stream) in (1..).zip(&mut streams) {
            stream.id.stream = format!("s{no}").parse().expect("id");
            stream.oldest.iter_mut().for_each(|c| c.id.stream = StreamNo(no));
        }
        streams
    })
}

fn soonest(found: &Forecast, rule: usize) -> f64 {
    found.rules[rule].breaks().map_or(f64::INFINITY, |risk| risk.days)
}

proptest! {
    /// What is told to go first is what a pass deletes then, for the same reason, and a pass before deletes nothing.
    #[test]
    fn what_goes_next_is_what_a_pass_deletes(
        streams in any_streams(), kind in 0..3, min in 0u64..10, age in 10u64..30, room in 0u64..200,
    ) {
        let mut rule = RetentionRule { min: for_days(min), ..RetentionRule::default() };
        let mut space = 1_000_000 * DAY_BYTES;
        match kind {
            0 => rule.max = for_days(age),
            1 => rule.quota = Some(age * DAY_BYTES),
            _ => space = room * DAY_BYTES / 4,
        }
        let rules = one(rule);
        let input = input(&rules, &streams, space);
        let found = forecast(&input);
        let first = found.next.first().expect("something goes");
        let moment = Duration::from_secs(2);
        let then = passes(&input, first.at.plus(moment));
        let told = (input.streams.iter())
            .find(|s| s.id.camera == first.camera && s.id.stream == first.stream)
            .and_then(|s| s.oldest.first())
            .expect("told of")
            .id;
        let reason = match first.reason { Ends::Age => "age", Ends::Quota => "quota", Ends::Space => "space" };
        prop_assert!(then.contains(&(told, reason)), "{told:?} {reason} is not among {then:?}");
        if first.at > now().plus(moment) {
            prop_assert_eq!(passes(&input, first.at.minus(moment)), []);
        }
    }

    #[test]
    fn more_disk_never_breaks_or_fills_earlier(
        streams in any_streams(), min in 1u64..20, room in 0u64..400, more in 0u64..400,
    ) {
        let rules = one(RetentionRule { min: for_days(min), ..RetentionRule::default() });
        let (small, large) = (room * DAY_BYTES / 8, (room + more) * DAY_BYTES / 8);
        let (small, large) = (look(&rules, &streams, small), look(&rules, &streams, large));
        prop_assert!(soonest(&large, 0) >= soonest(&small, 0));
        let full = |f: &Forecast| f.disk.days_to_full.unwrap_or(f64::INFINITY);
        prop_assert!(full(&large) >= full(&small));
        for (a, b) in small.streams.iter().zip(&large.streams) {
            prop_assert!(b.days_will_hold.unwrap_or(f64::INFINITY) >= a.days_will_hold.unwrap_or(f64::INFINITY));
        }
    }

    #[test]
    fn a_longer_minimum_never_breaks_later_and_is_what_is_held_at_least(
        streams in any_streams(), min in 1u64..20, more in 0u64..20, room in 0u64..400,
    ) {
        let with = |min| one(RetentionRule { min: for_days(min), ..RetentionRule::default() });
        let room = room * DAY_BYTES / 8;
        let (short, long) = (look(&with(min), &streams, room), look(&with(min + more), &streams, room));
        prop_assert!(soonest(&long, 0) <= soonest(&short, 0));
        for stream in &short.streams {
            prop_assert!(stream.days_will_hold.unwrap_or(f64::INFINITY) >= min as f64);
        }
    }

    #[test]
    fn a_camera_more_never_makes_it_better(
        streams in any_streams(), added in any_stream(), min in 1u64..20, room in 0u64..400,
    ) {
        let rules = one(RetentionRule { min: for_days(min), ..RetentionRule::default() });
        let room = room * DAY_BYTES / 8;
        let before = look(&rules, &streams, room);
        let mut streams = streams;
        // It is new: nothing of it is there yet.
        streams.push(StreamNow { all: Held::default(), on: Default::default(), oldest: Vec::new(), ..added });
        let after = look(&rules, &streams, room);
        let full = |f: &Forecast| f.disk.days_to_full.unwrap_or(f64::INFINITY);
        prop_assert!(full(&after) <= full(&before));
        let least = |f: &Forecast| f.rules[0].days_will_hold.unwrap_or(f64::INFINITY);
        prop_assert!(least(&after) <= least(&before));
    }
}
