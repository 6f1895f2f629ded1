//! Moves when the clock jumps, the store is away, the disk is full, or the line is slow; and what is told of them.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use archive::time::SECOND_US;
use archive::{StreamNo, Tier, WallTime};
use indexer::{Batch, SegmentState, SessionState};
use tierline_tiering::{Mover, Reaper, RetentionRule, Rules, TieringConfig};

use crate::archive_of_segments::{Archive, DAY_US, MINUTE_US, ample, key, minute};
use crate::full_disk::SmallDisk;
use crate::tiers::{BELOW, Tiered, rule};

const MIB: u64 = 1 << 20;

pub(crate) fn reaper(t: &Tiered, rule: &RetentionRule, config: TieringConfig) -> Reaper {
    let rules = Rules::with_tiers(vec![rule.clone()], BELOW).expect("sound");
    let (index, disk) = (t.archive.index.clone(), t.archive.disk.clone());
    let reaper = Reaper::new(index, disk, rules, config, key()).expect("reaper");
    reaper.with_stores(t.stores.clone())
}

/// What the service does at one instant, until nothing is under way.
fn pass(t: &Tiered, reaper: &mut Reaper, mover: &mut Mover, wall: WallTime, monotonic_us: i64, short: u64) {
    let monotonic_us = monotonic_us.unsigned_abs();
    reaper.pass(wall, monotonic_us).expect("pass");
    let at = reaper.progress();
    let short = short.max(mover.short(&at, Duration::from_secs(60)));
    t.settle_at(mover, (at.archive_time, monotonic_us), !at.clock_doubted, short);
}

/// By how much a clock is put wrong.
pub(crate) const JUMPS: [i64; 4] = [60 * MINUTE_US, -60 * MINUTE_US, 30 * DAY_US, -30 * DAY_US];

/// Minutes past noon, and whether the clock is wrong then. Of segments that began at noon the second is 23.5 h old when it
/// jumps, and the first a day when it is still wrong.
pub(crate) const A_DAY_WITH_A_JUMP: [(i64, bool); 5] = [
    (1430, false),
    (1431, true),
    (1436, true),
    (1449, true),
    (1450, true),
];
/// Before which of these the service starts anew: never, or with the first wrong clock or a later one, and when it is
/// right. One that began with a wrong clock does not know how long it was away, and so not when the clock is right.
pub(crate) const STARTS: [&[i64]; 3] = [&[], &[1431, 1451], &[1436, 1451]];

#[test]
fn a_clock_that_jumps_ages_nothing_and_ends_no_grace() {
    for (jump, starts) in JUMPS
        .into_iter()
        .flat_map(|jump| STARTS.map(|starts| (jump, starts)))
    {
        let (t, stream) = Tiered::with_segments(3);
        let rule = RetentionRule {
            hot: Some(Duration::from_secs(24 * 3600)),
            warm: Some(Duration::from_secs(48 * 3600)),
            cold: Some(Duration::from_secs(20 * 86_400)),
            ..RetentionRule::default()
        };
        let (mut at_work, copied) = ((reaper(&t, &rule, ample()), t.mover(&rule)), 30 * MINUTE_US);
        let mut pass_at = |us: i64, off: i64, short: u64| {
            if starts.contains(&(us / MINUTE_US)) {
                at_work = (reaper(&t, &rule, ample()), t.mover(&rule));
            }
            let (reaper, mover) = &mut at_work;
            pass(&t, reaper, mover, minute(0).plus_micros(us + off), us, short);
            t.tiers(stream)
        };
        assert_eq!(pass_at(copied, 0, 0), ["hw", "hw", "hw"]);
        // The disk needs all there is, and may have it when the grace is over, by the clock that does not jump.
        for seconds in [10, 30, 50] {
            let tiers = pass_at(copied + seconds * SECOND_US, jump, u64::MAX);
            assert_eq!(tiers, ["hw", "hw", "hw"], "{jump} us, after {seconds} s");
        }
        for (n, is_wrong) in A_DAY_WITH_A_JUMP {
            let tiers = pass_at(n * MINUTE_US, if is_wrong { jump } else { 0 }, 0);
            assert_eq!(
                tiers,
                ["hw", "hw", "hw"],
                "{jump} us, {starts:?}, after {n} minutes"
            );
        }
        let tiers = [1451, 1459, 1460].map(|n| pass_at(n * MINUTE_US, 0, 0).join(" "));
        assert_eq!(
            tiers,
            ["w hw hw", "w hw hw", "w w hw"],
            "{jump} us, {starts:?}, a day old"
        );
        assert_eq!(t.findings(), []);
    }
}

#[test]
fn while_the_store_is_away_a_full_disk_sheds_cameras_before_anything_leaves_it_uncopied() {
    let dir = tempfile::tempdir().expect("folder");
    let media = dir.path().join("media");
    let Some(_disk) = SmallDisk::mount(&media, 96 * MIB) else {
        return;
    };
    let t = Tiered::of(Archive::on(dir, &media), None);
    let (yard, vault) = (t.archive.camera("yard", 2), t.archive.camera("vault", 8));
    let config = TieringConfig {
        reserve: Some(40 * MIB),
        low: Some(28 * MIB),
        floor: Some(18 * MIB),
        ..TieringConfig::default()
    };
    let keep = RetentionRule::default();
    let (mut reaper, mut mover) = (reaper(&t, &keep, config), t.mover(&keep));
    t.steps.stores_away.store(true, Ordering::Release);
    let mut shed = 0;
    let mut recorded = [0; 2];
    let mut now = 0;
    let mut step = |reaper: &mut Reaper, mover: &mut Mover, recorded: &mut [usize; 2]| {
        for (i, (stream, priority)) in [(yard, 2), (vault, 8)].into_iter().enumerate() {
            if priority >= t.archive.index.shed_below() {
                t.archive.record(stream, minute(now), 1, 2 * MIB as usize);
                recorded[i] += 1;
            }
        }
        now += 1;
        pass(&t, reaper, mover, minute(now), now * MINUTE_US, 0);
    };
    for _ in 0..30 {
        step(&mut reaper, &mut mover, &mut recorded);
        shed = shed.max(t.archive.index.shed_below());
        for (i, stream) in [yard, vault].into_iter().enumerate() {
            let tiers = t.tiers(stream);
            assert_eq!(tiers, vec!["h"; recorded[i]], "nothing leaves the disk");
        }
        let (free, _) = t.archive.disk.space().expect("space");
        assert!(free >= 14 * MIB, "{free} bytes free");
    }
    assert!(shed > 8, "in the end nobody is recorded");
    let behind = mover.moved().unreplicated_s;
    assert!(behind > 20 * 60, "{behind} s are not copied");

    t.steps.stores_away.store(false, Ordering::Release);
    let before = recorded;
    for _ in 0..12 {
        step(&mut reaper, &mut mover, &mut recorded);
    }
    assert_eq!(t.archive.index.shed_below(), 0, "all are recorded again");
    assert!(
        recorded[0] > before[0] + 4 && recorded[1] > before[1] + 6,
        "{before:?} {recorded:?}"
    );
    assert!(mover.moved().unreplicated_s < 120);
    assert_eq!(reaper.progress().space.segments, 0, "and nothing was deleted");
    for (i, stream) in [yard, vault].into_iter().enumerate() {
        assert_eq!(t.archive.rows(stream).len(), recorded[i]);
    }
    assert_eq!(t.findings(), []);
}

/// Segments of ten minutes that piled up while the store was away, and the time that it takes to copy them.
fn pile_up(segments: i64, bytes: usize, rate: Option<u64>) -> (Tiered, StreamNo, Duration) {
    let t = Tiered::of(Archive::new(), rate);
    let stream = t.archive.camera("lobby", 5);
    t.steps.stores_away.store(true, Ordering::Release);
    let mut mover = t.mover(&RetentionRule::default());
    for i in 0..segments {
        t.archive.record(stream, minute(10 * i), 10, bytes);
        t.settle(&mut mover, minute(10 * i + 10));
    }
    assert_eq!(mover.moved().copies, 0);
    let behind = mover.moved().unreplicated_s;
    assert_eq!(
        behind,
        (segments as u64 - 1) * 600,
        "from the end of the first on"
    );
    t.steps.stores_away.store(false, Ordering::Release);
    let begun = Instant::now();
    t.settle(&mut mover, minute(10 * segments + 1));
    let took = begun.elapsed();
    assert_eq!(mover.moved().copies, segments as u64);
    assert_eq!(t.findings(), []);
    (t, stream, took)
}

#[test]
fn after_an_outage_copies_catch_up_much_faster_than_cameras_record() {
    let (t, stream, took) = pile_up(16, 8 << 20, None);
    let bytes: u64 = t.archive.rows(stream).iter().map(|row| row.bytes).sum();
    let rate = bytes as f64 / took.as_secs_f64();
    // 16 cameras at 4 Mbit/s.
    let ingest = 16.0 * 500_000.0;
    println!(
        "{:.0} MB/s to a folder: {:.0} times 16 cameras",
        rate / 1e6,
        rate / ingest
    );
    assert!(rate >= 2.0 * ingest, "{rate:.0} bytes/s");
}

#[test]
fn no_more_is_copied_at_once_than_the_tier_allows() {
    // Half of what there is goes in a second.
    let t = Tiered::of(Archive::new(), Some(400_000));
    let stream = t.archive.camera("lobby", 5);
    t.archive.record_many(stream, 0..12);
    let allowed = t.stores.warm.as_ref().expect("a store").store.limits().copies;
    let mut mover = t.mover(&RetentionRule::default());
    mover.pass(minute(120), true, 0, 0).expect("pass");
    let mut most = 0;
    while mover.moved().under_way > 0 {
        most = most.max(mover.moved().under_way);
        std::thread::sleep(Duration::from_millis(2));
        mover.go_on(minute(120), true, 0).expect("pass");
        if mover.moved().under_way == 0 {
            mover.pass(minute(120), true, 0, 0).expect("pass");
        }
    }
    assert_eq!(mover.moved().copies, 12);
    assert_eq!(most as usize, allowed);
}

#[test]
fn no_more_is_copied_in_a_second_than_the_rate_allows() {
    let (t, stream, took) = pile_up(6, 4 << 20, Some(8 << 20));
    let bytes: u64 = t.archive.rows(stream).iter().map(|row| row.bytes).sum();
    // A second's worth goes at once, and the last one begins before it is paid for.
    let at_least = bytes as f64 / (8 << 20) as f64 - 1.0 - 0.6;
    assert!(took.as_secs_f64() >= at_least, "{took:?} for {bytes} bytes");
}

#[test]
fn what_is_behind_and_what_could_leave_the_disk_is_told() {
    let t = Tiered::of(Archive::new(), None);
    let (lobby, yard) = (t.archive.camera("lobby", 5), t.archive.camera("yard", 5));
    let pulse = t.archive.index.pulse();
    t.archive.record_many(lobby, 0..3);
    let mut mover = t.mover(&rule());
    t.settle(&mut mover, minute(30));
    t.steps.stores_away.store(true, Ordering::Release);
    t.archive.record_many(yard, 0..2);
    t.settle(&mut mover, minute(30).plus_micros(30 * SECOND_US));
    assert_eq!(pulse.unreplicated(lobby), None);
    assert_eq!(pulse.unreplicated(yard), Some(minute(10)));
    assert_eq!(mover.moved().unreplicated_s, 20 * 60 + 30);

    let bytes = |stream| t.archive.rows(stream).iter().map(|row| row.bytes).sum::<u64>();
    mover.look_ahead(1000);
    assert_eq!(
        mover.moved().evictable_bytes,
        Some(bytes(lobby)),
        "what is copied could leave"
    );
    assert_eq!(mover.moved().hot_left_s, None, "nobody records");
    t.archive.index.set_status(lobby, |s| {
        (s.state, s.bitrate_bps) = (SessionState::Recording, 800)
    });
    t.archive.index.set_status(yard, |s| {
        (s.state, s.bitrate_bps) = (SessionState::Backoff, 80_000)
    });
    mover.look_ahead(1000);
    assert_eq!(mover.moved().hot_left_s, Some((1000 + bytes(lobby)) / 100));

    // They leave for their age; the others cannot.
    t.settle(&mut mover, minute(32));
    t.settle(&mut mover, minute(42));
    mover.look_ahead(0);
    assert_eq!(
        mover.moved().evictable_bytes,
        Some(bytes(lobby)),
        "a store that is away confirms no copy"
    );
    t.steps.stores_away.store(false, Ordering::Release);
    t.settle(&mut mover, minute(44));
    t.settle(&mut mover, minute(46));
    t.settle(&mut mover, minute(48));
    mover.look_ahead(0);
    assert_eq!(mover.moved().evictable_bytes, Some(0));
    assert_eq!(pulse.unreplicated(yard), None);
}

#[test]
fn a_start_goes_on_where_the_last_one_was_but_not_behind_what_is_not_sealed() {
    let (t, stream) = Tiered::with_segments(6);
    let set = |seq: usize, state: SegmentState| {
        let row = indexer::SegmentRow {
            state,
            ..t.archive.rows(stream)[seq].clone()
        };
        let mut batch = Batch::default();
        batch.segment(&row);
        t.archive.index.commit(batch).expect("commit");
    };
    let mark = |goal: &str| {
        t.archive
            .index
            .mark(&format!("reached.{}.{goal}", stream.0))
            .expect("mark")
    };
    set(4, SegmentState::Poisoned);
    let mut mover = t.mover(&rule());
    t.settle(&mut mover, minute(60));
    assert_eq!(mark("copied"), None);
    t.settle(&mut mover, minute(71));
    t.settle(&mut mover, minute(82));
    assert_eq!(
        mark("copied"),
        Some(minute(40)),
        "what a start may seal is not passed for ever"
    );
    assert_eq!(mark("off_hot"), Some(minute(40)));
    drop(mover);
    // A start has sealed it.
    set(4, SegmentState::Sealed);
    let mut mover = t.mover(&rule());
    t.settle(&mut mover, minute(83));
    let copies = t
        .archive
        .index
        .copies(&t.archive.rows(stream)[4])
        .expect("copies");
    assert!(copies.authority > Tier::Hot, "{copies:?}");
    t.settle(&mut mover, minute(100));
    assert!(mark("copied") > Some(minute(50)));
    assert_eq!(t.findings(), []);
}
