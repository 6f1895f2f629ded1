use std::time::Duration;

use archive::StreamNo;
use archive::time::SECOND_US;
use proptest::prelude::*;

use super::*;

const MINUTE_US: i64 = 60 * SECOND_US;

fn at(minute: i64) -> WallTime {
    // On the hour, so that hours in the tests are easy to see.
    WallTime::from_micros(1_800_000_000 / 3600 * 3600 * SECOND_US + minute * MINUTE_US)
}

fn minutes(n: u64) -> Option<Duration> {
    Some(Duration::from_secs(n * 60))
}

fn rules(rule: RetentionRule) -> Rules {
    Rules::new(vec![rule]).expect("sound")
}

/// A stream with a segment of `bytes` that ends at each of `ends`, in minutes.
fn stream(no: u32, camera: &str, priority: u8, ends: &[i64], bytes: u64) -> StreamView {
    let candidate = |(seq, end): (u64, &i64)| Candidate {
        id: SegmentId {
            stream: StreamNo(no),
            seq,
        },
        wall_end: at(*end),
        bytes,
    };
    StreamView {
        camera: camera.parse().expect("id"),
        priority,
        removed: None,
        rule: 0,
        bytes: bytes * ends.len() as u64,
        oldest: (0..).zip(ends).map(candidate).collect(),
        more: false,
        evicts: false,
    }
}

fn input<'a>(rules: &'a Rules, streams: &'a [StreamView], now: i64) -> Input<'a> {
    Input {
        now: at(now),
        clock_trusted: true,
        rules,
        streams,
        free: 1000,
        reserve: 0,
        deletions_max: 100,
    }
}

/// `stream.sequence` and reason of every verdict.
fn told(input: &Input<'_>) -> Vec<String> {
    let decision = decide(input);
    let told = |v: &Verdict| format!("{}.{} {}", v.stream, v.segment.id.seq, v.reason.as_str());
    decision.delete.iter().map(told).collect()
}

#[test]
fn footage_goes_when_its_last_instant_is_older_than_its_rule_keeps_it() {
    let rules = rules(RetentionRule {
        hot: minutes(30),
        ..RetentionRule::default()
    });
    let streams = [stream(1, "lobby", 5, &[10, 20, 30], 1)];
    assert_eq!(told(&input(&rules, &streams, 39)), [""; 0]);
    assert_eq!(told(&input(&rules, &streams, 40)), ["0.0 age"]);
    assert_eq!(told(&input(&rules, &streams, 55)), ["0.0 age", "0.1 age"]);
}

#[test]
fn footage_of_a_removed_camera_that_no_rule_ends_stays_for_its_grace_and_its_minimum() {
    const DAY: i64 = 24 * 60;
    let with = |rule: RetentionRule| rules(rule).with_removed_grace(Duration::from_secs(90 * 86_400));
    // Recorded long before the camera was removed, and shortly before.
    let removed = StreamView {
        removed: Some(at(400 * DAY)),
        ..stream(1, "lobby", 5, &[0, 400 * DAY], 1)
    };
    let streams = [removed, stream(2, "gate", 5, &[0], 1)];
    let no_end = with(RetentionRule::default());
    assert_eq!(told(&input(&no_end, &streams, 490 * DAY - 1)), [""; 0]);
    assert_eq!(told(&input(&no_end, &streams, 490 * DAY)), ["0.0 age", "0.1 age"]);
    let doubted = Input {
        clock_trusted: false,
        ..input(&no_end, &streams, 900 * DAY)
    };
    assert_eq!(told(&doubted), [""; 0]);
    let protected = with(RetentionRule {
        min: minutes(100 * 24 * 60),
        ..RetentionRule::default()
    });
    assert_eq!(told(&input(&protected, &streams, 490 * DAY)), ["0.0 age"]);
    assert_eq!(
        told(&input(&protected, &streams, 500 * DAY)),
        ["0.0 age", "0.1 age"]
    );
    // A rule with an end means what it says.
    let ends = with(RetentionRule {
        max: minutes(600 * 24 * 60),
        ..RetentionRule::default()
    });
    assert_eq!(told(&input(&ends, &streams[..1], 599 * DAY)), [""; 0]);
    assert_eq!(told(&input(&ends, &streams[..1], 600 * DAY)), ["0.0 age"]);
}

#[test]
fn within_its_grace_a_removed_camera_does_not_give_way_before_others() {
    let rules = rules(RetentionRule::default());
    let removed = StreamView {
        removed: Some(at(100)),
        ..stream(1, "lobby", 8, &[10], 1)
    };
    let streams = [removed, stream(2, "gate", 5, &[20], 1)];
    let short = Input {
        free: 0,
        reserve: 1,
        ..input(&rules, &streams, 200)
    };
    assert_eq!(told(&short), ["1.0 space"]);
}

#[test]
fn the_shorter_of_hot_and_max_ends_footage_while_there_is_one_tier() {
    let both = RetentionRule {
        hot: minutes(10),
        max: minutes(60),
        ..RetentionRule::default()
    };
    let streams = [stream(1, "lobby", 5, &[10, 20], 1)];
    assert_eq!(told(&input(&rules(both), &streams, 20)), ["0.0 age"]);
    let max = RetentionRule {
        max: minutes(60),
        ..RetentionRule::default()
    };
    assert_eq!(told(&input(&rules(max), &streams, 70)), ["0.0 age"]);
}

#[test]
fn nothing_goes_for_its_age_while_the_clock_is_not_trusted_but_space_is_still_made() {
    let rules = rules(RetentionRule {
        hot: minutes(30),
        min: minutes(15),
        ..RetentionRule::default()
    });
    let streams = [stream(1, "lobby", 5, &[10, 20, 30], 5)];
    let doubted = Input {
        clock_trusted: false,
        ..input(&rules, &streams, 40)
    };
    assert_eq!(told(&doubted), [""; 0]);
    let full = Input {
        free: 0,
        reserve: 100,
        ..doubted
    };
    assert_eq!(told(&full), ["0.0 space", "0.1 space"]);
}

#[test]
fn a_camera_over_its_quota_loses_the_oldest_of_the_streams_that_share_it() {
    let quota = RetentionRule {
        quota: Some(30),
        min: minutes(20),
        ..RetentionRule::default()
    };
    let rules = rules(quota);
    let streams = [
        stream(1, "lobby", 5, &[10, 20, 50], 10),
        stream(2, "lobby", 5, &[15, 25, 55], 10),
        stream(3, "vault", 5, &[10, 20, 50], 10),
    ];
    assert_eq!(
        told(&input(&rules, &streams, 60)),
        ["0.0 quota", "1.0 quota", "0.1 quota"]
    );
    // Under the minimum the quota gives way.
    assert_eq!(told(&input(&rules, &streams, 36)), ["0.0 quota", "1.0 quota"]);
}

#[test]
fn what_age_takes_counts_towards_the_quota_and_both_towards_space() {
    let rule = RetentionRule {
        hot: minutes(50),
        quota: Some(20),
        ..RetentionRule::default()
    };
    let rules = rules(rule);
    let streams = [stream(1, "lobby", 5, &[10, 20, 30, 40], 10)];
    let needy = Input {
        free: 0,
        reserve: 30,
        ..input(&rules, &streams, 60)
    };
    assert_eq!(told(&needy), ["0.0 age", "0.1 quota", "0.2 space"]);
}

#[test]
fn space_takes_the_oldest_hour_of_all_streams_and_in_it_the_lowest_priority_first() {
    let rules = Rules::default();
    let streams = [
        stream(1, "lobby", 8, &[10, 50, 70], 10),
        stream(2, "yard", 2, &[30, 40, 65], 10),
    ];
    let needy = |reserve| Input {
        free: 0,
        reserve,
        ..input(&rules, &streams, 100)
    };
    assert_eq!(told(&needy(20)), ["1.0 space", "1.1 space"]);
    assert_eq!(
        told(&needy(50)),
        ["1.0 space", "1.1 space", "0.0 space", "0.1 space", "1.2 space"]
    );
    assert_eq!(told(&needy(1000)).len(), 6);
    assert_eq!(
        told(&Input {
            free: 20,
            ..needy(20)
        }),
        [""; 0]
    );
}

#[test]
fn space_spares_what_is_under_its_minimum_and_all_that_follows_it() {
    let rules = rules(RetentionRule {
        min: minutes(30),
        ..RetentionRule::default()
    });
    let streams = [
        stream(1, "lobby", 5, &[10, 20, 30], 10),
        stream(2, "yard", 1, &[31, 35], 10),
    ];
    let full = Input {
        free: 0,
        reserve: 1000,
        ..input(&rules, &streams, 60)
    };
    assert_eq!(told(&full), ["0.0 space", "0.1 space", "0.2 space"]);
}

#[test]
fn a_stream_of_which_too_little_was_seen_is_named_and_nothing_is_taken_out_of_order() {
    let rules = Rules::default();
    let mut streams = [stream(1, "lobby", 5, &[10], 10), stream(2, "yard", 5, &[50], 10)];
    streams[0].more = true;
    let needy = Input {
        free: 0,
        reserve: 20,
        ..input(&rules, &streams, 100)
    };
    let decision = decide(&needy);
    assert_eq!((decision.delete.len(), decision.starved), (1, vec![0]));
    let bounded = Input {
        deletions_max: 1,
        ..needy
    };
    assert!(decide(&bounded).starved.is_empty());
}

fn any_rule() -> impl Strategy<Value = RetentionRule> {
    let age = || proptest::option::of(0u64..200);
    (age(), age(), age(), proptest::option::of(1u64..200)).prop_map(|(a, b, c, quota)| {
        let mut ages = [a, b, c];
        ages.sort_unstable_by_key(|age| age.unwrap_or(0));
        let [min, hot, max] = ages.map(|age| age.filter(|age| *age > 0).and_then(minutes));
        RetentionRule {
            min,
            hot,
            max,
            quota,
            ..RetentionRule::default()
        }
    })
}

prop_compose! {
    fn any_stream()(
        camera in 0u8..3,
        priority in 0u8..=9,
        rule in 0usize..3,
        steps in proptest::collection::vec((1i64..40, 1u64..30), 0..12),
    ) -> StreamView {
        let mut end = -50;
        let mut s = stream(0, &format!("c{camera}"), priority, &[], 0);
        s.rule = rule;
        for (seq, (step, bytes)) in (0..).zip(steps) {
            end += step;
            s.bytes += bytes;
            s.oldest.push(Candidate { id: SegmentId { stream: StreamNo(0), seq }, wall_end: at(end), bytes });
        }
        s
    }
}

/// What one pass after the other deletes, when each sees only `window` segments a stream.
fn run(input: &Input<'_>, window: usize) -> Vec<(usize, u64)> {
    let mut window = window;
    loop {
        let cut = |s: &StreamView| StreamView {
            oldest: s.oldest.iter().take(window).copied().collect(),
            more: s.oldest.len() > window,
            evicts: false,
            ..s.clone()
        };
        let streams: Vec<_> = input.streams.iter().map(cut).collect();
        let decision = decide(&Input {
            streams: &streams,
            ..input.clone()
        });
        if decision.starved.is_empty() {
            return decision
                .delete
                .iter()
                .map(|v| (v.stream, v.segment.id.seq))
                .collect();
        }
        window *= 2;
    }
}

proptest! {
    #[test]
    fn no_verdict_reaches_below_a_minimum_or_leaves_a_hole(
        rule in proptest::collection::vec(any_rule(), 3),
        mut streams in proptest::collection::vec(any_stream(), 0..6),
        now in -100i64..400,
        trusted in any::<bool>(),
        free in 0u64..200,
        reserve in 0u64..400,
        deletions_max in 0usize..40,
    ) {
        let named = |(i, r): (usize, RetentionRule)| RetentionRule {
            cameras: vec![format!("r{i}").as_str().into()],
            ..r
        };
        let rules = Rules::new(rule.into_iter().enumerate().map(named).collect()).expect("sound");
        for (i, s) in streams.iter_mut().enumerate() {
            s.oldest.iter_mut().for_each(|c| c.id.stream = StreamNo(i as u32));
        }
        let input = Input {
            now: at(now), clock_trusted: trusted, rules: &rules, streams: &streams, free, reserve, deletions_max,
        };
        let decision = decide(&input);
        prop_assert!(decision.delete.len() <= deletions_max);
        let mut next = vec![0; streams.len()];
        let mut freed = 0;
        for v in &decision.delete {
            let rule = rules.at(streams[v.stream].rule).expect("rule");
            let age_us = at(now).micros_since(v.segment.wall_end);
            let min_us = rule.age_min().as_micros() as i64;
            prop_assert!(min_us == 0 || age_us >= min_us, "{v:?}");
            prop_assert_eq!(v.segment.id.seq, next[v.stream]);
            next[v.stream] += 1;
            match v.reason {
                Reason::Age => {
                    prop_assert!(trusted);
                    prop_assert!(age_us >= rule.age_max(rules.below()).expect("an age").as_micros() as i64);
                }
                Reason::Quota => prop_assert!(rule.quota.is_some()),
                Reason::Space => prop_assert!(free + freed < reserve, "not needed: {v:?}"),
            }
            freed += v.segment.bytes;
        }
        // What is still too much is protected by a minimum.
        if decision.delete.len() < deletions_max && free + freed < reserve {
            for (s, next) in streams.iter().zip(&next) {
                let rest = s.oldest.get(*next as usize);
                let min_us = rules.at(s.rule).expect("rule").age_min().as_micros() as i64;
                prop_assert!(rest.is_none_or(|c| min_us > 0 && at(now).micros_since(c.wall_end) < min_us));
            }
        }
    }

    #[test]
    fn a_decision_does_not_depend_on_how_many_segments_it_saw(
        rule in any_rule(),
        mut streams in proptest::collection::vec(any_stream(), 0..6),
        now in -100i64..400,
        free in 0u64..200,
        reserve in 0u64..400,
        window in 1usize..4,
    ) {
        let rules = rules(rule);
        streams.iter_mut().for_each(|s| s.rule = 0);
        let input = Input { free, reserve, ..input(&rules, &streams, now) };
        let mut whole = run(&input, 100);
        let mut cut = run(&input, window);
        // Quotas of several cameras may come in another order.
        whole.sort_unstable();
        cut.sort_unstable();
        prop_assert_eq!(whole, cut);
    }

    /// Against the plainest way to say it: sort all footage past its minimum, take until there is room.
    #[test]
    fn space_takes_what_a_sorted_list_of_everything_would(
        streams in proptest::collection::vec(any_stream(), 0..6),
        now in -100i64..400,
        min in 0u64..100,
        reserve in 0u64..400,
    ) {
        let rules = rules(RetentionRule { min: minutes(min), ..RetentionRule::default() });
        let streams: Vec<_> = streams.into_iter().map(|s| StreamView { rule: 0, ..s }).collect();
        let mut all: Vec<_> = streams.iter().enumerate().flat_map(|(i, s)| {
            s.oldest.iter().map(move |c| ((c.wall_end.hour(), s.priority, c.wall_end, i), c))
        }).collect();
        all.retain(|(_, c)| min == 0 || at(now).micros_since(c.wall_end) >= min as i64 * MINUTE_US);
        all.sort_unstable_by_key(|(order, _)| *order);
        let mut free = 0;
        let expected: Vec<_> = all.iter().take_while(|(_, c)| {
            let short = free < reserve;
            free += c.bytes;
            short
        }).map(|((.., i), c)| (*i, c.id.seq)).collect();
        let input = Input { free: 0, reserve, ..input(&rules, &streams, now) };
        prop_assert_eq!(run(&input, 2), expected);
    }
}
