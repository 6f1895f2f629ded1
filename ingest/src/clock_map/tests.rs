//! A simulated camera and host, hours to months of it.

use super::*;
use proptest::prelude::*;

const HOUR_US: i64 = 3600 * SECOND_US;
const DAY_US: i64 = 24 * HOUR_US;
/// 2026-01-01.
const EPOCH_US: i64 = 1_767_225_600 * SECOND_US;

/// Fragments of 2 s with a sample each 400 ms.
struct World {
    map: ClockMap,
    /// Time as it really passes.
    now_us: i64,
    /// The host's wall clock minus the truth.
    host_us: i64,
    media_us: i64,
    media_ppm: i64,
    jitter_us: i64,
    random: u64,
    placed: Vec<Placement>,
    /// The truth at the beginning of each fragment.
    truth: Vec<WallTime>,
}

impl World {
    fn new(media_ppm: i64, jitter_us: i64) -> Self {
        Self {
            map: ClockMap::new(WallTime::MIN),
            now_us: 0,
            host_us: 0,
            media_us: 0,
            media_ppm,
            jitter_us,
            random: 1,
            placed: Vec::new(),
            truth: Vec::new(),
        }
    }

    fn jitter(&mut self) -> i64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.random >> 33).expect("31 bits") % (self.jitter_us + 1)
    }

    fn host_wall(&self, at_us: i64) -> WallTime {
        WallTime::from_micros(EPOCH_US + at_us + self.host_us)
    }

    fn fragment(&mut self) -> &Placement {
        let start = self.media_us;
        self.truth.push(WallTime::from_micros(EPOCH_US + self.now_us));
        for _ in 0..5 {
            let arrival = self.now_us + self.jitter();
            self.map
                .observe(self.media_us, self.host_wall(arrival), mono(arrival));
            self.now_us += 400_000;
            self.media_us += 400_000 + 400_000 * self.media_ppm / 1_000_000;
        }
        let placement = self.map.close_fragment(start, self.media_us);
        self.placed.push(placement);
        self.placed.last().expect("just pushed")
    }

    fn run_us(&mut self, how_long: i64) {
        for _ in 0..how_long / (2 * SECOND_US) {
            self.fragment();
        }
    }

    /// The stream's time minus the truth at the last fragment.
    fn error_us(&self) -> i64 {
        let (placed, truth) = (
            self.placed.last().expect("some"),
            self.truth.last().expect("some"),
        );
        placed.wall_start.micros_since(*truth)
    }

    fn steps(&self) -> Vec<i64> {
        let notes = self.placed.iter().flat_map(|p| &p.notes);
        notes
            .filter_map(|n| {
                if let Note::ClockStep { by_us, .. } = n {
                    Some(*by_us)
                } else {
                    None
                }
            })
            .collect()
    }

    fn gaps(&self) -> Vec<(GapCause, i64)> {
        let notes = self.placed.iter().flat_map(|p| &p.notes);
        notes
            .filter_map(|n| {
                if let Note::Gap { from, to, cause } = n {
                    Some((*cause, to.micros_since(*from)))
                } else {
                    None
                }
            })
            .collect()
    }
}

fn mono(at_us: i64) -> u64 {
    u64::try_from(at_us + 5_000_000).expect("after boot")
}

/// Recorded and missing time tile the wall: no overlap, nothing unaccounted for, nothing backwards.
fn assert_tiled(placed: &[Placement]) {
    for pair in placed.windows(2) {
        let [before, after] = pair else { unreachable!() };
        assert!(before.wall_duration_us > 0);
        let gap = after.notes.iter().find_map(|n| match n {
            Note::Gap { from, to, .. } => Some((*from, *to)),
            _ => None,
        });
        match gap {
            None => assert_eq!(before.wall_end(), after.wall_start),
            Some(gap) => {
                assert_eq!(gap, (before.wall_end(), after.wall_start));
                assert!(gap.0 < gap.1 && after.run_start);
            }
        }
        assert!(after.notes.len() <= 1 + STEPS_MAX);
    }
}

#[test]
fn two_days_with_a_drifting_camera_stay_true_to_the_host() {
    for ppm in [-200, -50, 0, 50, 200] {
        let mut world = World::new(ppm, 100_000);
        for hour in 0..48 {
            world.run_us(HOUR_US);
            assert!(
                world.error_us().abs() <= 100_000,
                "{ppm} ppm, hour {hour}: {} us",
                world.error_us()
            );
        }
        assert_tiled(&world.placed);
        assert_eq!((world.steps(), world.gaps()), (vec![], vec![]));
        assert!(
            world
                .placed
                .iter()
                .skip(1)
                .all(|p| (1_998_600..=2_001_401).contains(&p.wall_duration_us))
        );
    }
}

#[test]
fn a_delayed_first_fragment_is_put_right_by_later_ones() {
    let mut world = World::new(0, 0);
    world.now_us = 200_000;
    world.fragment();
    world.now_us -= 200_000;
    world.run_us(HOUR_US);
    assert!(world.placed[0].wall_start.micros_since(world.truth[0]) <= 0);
    assert!(world.error_us().abs() < 2_000, "{}", world.error_us());
    assert_tiled(&world.placed);
}

#[test]
fn a_clock_set_forward_leaves_a_gap_of_that_length() {
    for by in [2 * SECOND_US, HOUR_US, 30 * DAY_US] {
        let mut world = World::new(20, 30_000);
        world.run_us(600 * SECOND_US);
        world.host_us += by;
        world.run_us(600 * SECOND_US);
        assert_eq!(world.steps().len(), 1);
        assert!((world.steps()[0] - by).abs() < 1000);
        let gaps = world.gaps();
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[0].0, GapCause::ClockStep);
        assert!((gaps[0].1 - by).abs() < 100_000, "{gaps:?}");
        assert!((world.error_us() - by).abs() < 100_000);
        assert_eq!(world.placed.iter().filter(|p| p.run_start).count(), 2);
        assert_tiled(&world.placed);
    }
}

#[test]
fn a_clock_set_back_is_met_again_at_two_percent() {
    let mut world = World::new(0, 10_000);
    world.run_us(600 * SECOND_US);
    world.host_us -= 60 * SECOND_US;
    world.run_us(1500 * SECOND_US);
    assert!(
        (world.error_us() + 30 * SECOND_US).abs() < SECOND_US,
        "half way: {}",
        world.error_us()
    );
    world.run_us(HOUR_US);
    assert!(
        (world.error_us() + 60 * SECOND_US).abs() < 50_000,
        "met: {}",
        world.error_us()
    );
    assert_eq!((world.steps().len(), world.gaps().len()), (1, 0));
    assert!(world.placed.iter().all(|p| p.wall_duration_us >= 1_959_000));
    assert_tiled(&world.placed);
}

#[test]
fn a_step_forth_and_back_within_a_fragment_leaves_no_gap() {
    let mut world = World::new(0, 0);
    world.run_us(60 * SECOND_US);
    world.host_us += HOUR_US;
    world
        .map
        .observe(world.media_us, world.host_wall(world.now_us), mono(world.now_us));
    world.host_us -= HOUR_US;
    world.run_us(60 * SECOND_US);
    assert_eq!(world.steps(), [HOUR_US, -HOUR_US]);
    assert_eq!(world.gaps(), []);
    assert_tiled(&world.placed);
}

#[test]
fn a_step_below_a_second_is_slewed_away() {
    let mut world = World::new(0, 0);
    world.run_us(60 * SECOND_US);
    world.host_us += 800_000;
    world.run_us(1800 * SECOND_US);
    assert_eq!((world.steps(), world.gaps()), (vec![800_000], vec![]));
    assert!((world.error_us() - 800_000).abs() < 2_000);
}

#[test]
fn a_new_session_never_begins_before_the_last_one_ended() {
    let mut world = World::new(0, 0);
    let end = WallTime::from_micros(EPOCH_US + 100 * SECOND_US);
    world.map = ClockMap::new(end);
    assert_eq!(world.fragment().wall_start, end);
    world.run_us(3 * HOUR_US);
    assert!(world.error_us().abs() < 2_000, "{}", world.error_us());
    assert_tiled(&world.placed);
}

#[test]
fn a_slow_network_is_no_reason_to_move() {
    let mut world = World::new(0, 0);
    world.run_us(60 * SECOND_US);
    // Everything comes 3 s late for five minutes, but the camera's clock says that nothing is wrong.
    for _ in 0..150 {
        world.now_us += 3 * SECOND_US;
        let camera = WallTime::from_micros(77 * SECOND_US + world.media_us);
        world.map.observe_sr(world.media_us, camera, mono(world.now_us));
        world.fragment();
        world.now_us -= 3 * SECOND_US;
    }
    world.run_us(60 * SECOND_US);
    assert_eq!(world.gaps(), []);
    assert!(world.error_us().abs() < 200_000, "{}", world.error_us());
}

#[test]
fn media_time_that_stood_still_leaves_a_gap() {
    let mut world = World::new(0, 20_000);
    world.run_us(60 * SECOND_US);
    world.now_us += 8 * SECOND_US;
    world.run_us(120 * SECOND_US);
    let gaps = world.gaps();
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].0, GapCause::NoData);
    assert!((gaps[0].1 - 8 * SECOND_US).abs() < 100_000, "{gaps:?}");
    assert!(world.error_us().abs() < 100_000);
    assert_tiled(&world.placed);
}

#[test]
fn packets_missing_between_fragments_leave_a_gap() {
    let mut world = World::new(0, 0);
    world.run_us(60 * SECOND_US);
    world.now_us += 5 * SECOND_US;
    world.media_us += 5 * SECOND_US;
    world.run_us(60 * SECOND_US);
    assert_eq!(world.gaps(), [(GapCause::PacketsLost, 5 * SECOND_US)]);
    assert_tiled(&world.placed);
}

#[test]
fn a_camera_whose_media_time_runs_twice_as_fast_does_not_run_into_the_future() {
    let mut world = World::new(1_000_000, 0);
    world.run_us(HOUR_US);
    assert!(
        world.error_us().abs() <= AHEAD_US + 4 * SECOND_US,
        "{}",
        world.error_us()
    );
    assert_tiled(&world.placed);
}

#[test]
fn the_camera_clock_is_told_but_not_believed() {
    for camera in [EPOCH_US - 3 * SECOND_US, 0, EPOCH_US + 400 * DAY_US] {
        let mut world = World::new(0, 0);
        assert_eq!(world.map.offset_ms(), None);
        world.run_us(10 * SECOND_US);
        let said = WallTime::from_micros(camera + world.media_us);
        world.map.observe_sr(world.media_us, said, mono(world.now_us));
        assert_eq!(world.map.offset_ms(), Some((camera - EPOCH_US) / 1000));
        world.run_us(10 * SECOND_US);
        assert_eq!(world.error_us(), 0);
    }
}

#[test]
fn after_a_restart_media_time_counts_anew() {
    let mut world = World::new(0, 0);
    world.run_us(60 * SECOND_US);
    world.map.restart();
    world.media_us = -7_000_000_000;
    world.now_us += 3 * SECOND_US;
    world.run_us(60 * SECOND_US);
    assert_eq!(world.gaps(), [(GapCause::SessionLost, 3 * SECOND_US)]);
    world.map.restart();
    world.media_us = 0;
    world.run_us(60 * SECOND_US);
    assert_eq!(world.gaps().len(), 1);
    assert_eq!(world.placed.iter().filter(|p| p.run_start).count(), 3);
    assert!(world.error_us().abs() < 2_000);
    assert_tiled(&world.placed);
}

#[derive(Debug, Clone)]
enum Upset {
    Host(i64),
    Media(i64),
    Stall(i64),
    Nonsense(i64, i64),
    Restart,
}

fn upset() -> impl Strategy<Value = Upset> {
    let far = || {
        prop_oneof![
            Just(SECOND_US),
            Just(HOUR_US),
            Just(30 * DAY_US),
            Just(60 * 365 * DAY_US),
            (0..4 * SECOND_US),
            Just(i64::MAX / 2),
        ]
        .prop_flat_map(|by| prop_oneof![Just(by), Just(-by)])
    };
    prop_oneof![
        far().prop_map(Upset::Host),
        far().prop_map(Upset::Media),
        (0..100 * SECOND_US).prop_map(Upset::Stall),
        (any::<i64>(), any::<i64>()).prop_map(|(a, b)| Upset::Nonsense(a, b)),
        Just(Upset::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn hours_of_drift_jitter_and_steps_tile_the_wall(
        ppm in -200..=200i64,
        jitter in 0..150_000i64,
        steps in proptest::collection::vec(
            (1..3600i64, prop_oneof![Just(SECOND_US), Just(HOUR_US), Just(30 * DAY_US)], any::<bool>()),
            0..5,
        ),
    ) {
        let mut world = World::new(ppm, jitter);
        for (seconds, by, forward) in &steps {
            world.run_us(seconds * SECOND_US);
            world.host_us += if *forward { *by } else { -by };
        }
        world.run_us(3 * HOUR_US);
        assert_tiled(&world.placed);
        prop_assert!(world.steps().len() <= steps.len());
        // The stream is never behind the host by more than what makes a new run.
        prop_assert!(world.error_us() - world.host_us > -LAG_US - jitter, "{}", world.error_us() - world.host_us);
        if steps.iter().all(|(_, _, forward)| *forward) {
            let off = world.error_us() - world.host_us;
            prop_assert!(off.abs() <= 150_000 + jitter, "{off}");
        }
    }

    #[test]
    fn nothing_that_a_clock_does_breaks_the_order(
        upsets in proptest::collection::vec((1..20usize, upset()), 0..30),
        not_before in prop_oneof![Just(0i64), Just(EPOCH_US), Just(EPOCH_US + 400 * DAY_US)],
    ) {
        let mut world = World::new(0, 1000);
        world.map = ClockMap::new(WallTime::from_micros(not_before));
        let mut broken = 0i64;
        for (fragments, upset) in upsets {
            for _ in 0..fragments {
                world.fragment();
            }
            match upset {
                Upset::Host(by) => world.host_us = world.host_us.saturating_add(by).clamp(-2 * EPOCH_US, 4 * EPOCH_US),
                Upset::Media(by) => world.media_us = world.media_us.saturating_add(by).clamp(i64::MIN / 4, i64::MAX / 4),
                Upset::Stall(by) => world.now_us += by,
                Upset::Nonsense(start, end) => {
                    world.map.observe(start, world.host_wall(world.now_us), mono(world.now_us));
                    world.map.observe_sr(end, WallTime::MAX, 0);
                    let placement = world.map.close_fragment(start, end);
                    world.placed.push(placement);
                    world.truth.push(WallTime::MIN);
                    broken += 1;
                }
                Upset::Restart => world.map.restart(),
            }
        }
        assert_tiled(&world.placed);
        prop_assert!(world.placed.first().is_none_or(|p| p.wall_start.micros() >= not_before || broken > 0));
    }
}

/// Years: a fragment every ten minutes stands for those between, as a camera at one picture a minute would send.
#[test]
fn ten_years_with_leap_seconds_wraps_and_the_ends_of_eras_stay_tiled() {
    let wraps_us = (1_i64 << 32) * 100 / 9;
    for begin_s in [1_483_228_700_i64, 1_795_163_400, 2_085_978_400, 2_147_483_600] {
        let mut world = World::new(40, 0);
        world.host_us = begin_s * SECOND_US - EPOCH_US;
        let mut rtp = 0_u32;
        let (mut elapsed, mut sent) = (0_i64, 0_i64);
        for day in 0..3650_i64 {
            // A leap second is stepped or smeared twice a year.
            if day % 183 == 91 {
                world.host_us -= SECOND_US;
            }
            for _ in 0..24 {
                let (media_us, now_us) = (world.media_us, world.now_us);
                world.fragment();
                // The camera counts 32 bits of 90 kHz; a session counts the differences.
                let ticks = (i128::from(world.media_us) * 9 / 100) as u32;
                elapsed += i64::from(ticks.wrapping_sub(rtp).cast_signed());
                rtp = ticks;
                sent += world.media_us - media_us;
                assert!((elapsed * 100 / 9 - sent).abs() < 100, "day {day}");
                // The rest of the hour is not sent.
                let rest = HOUR_US - (world.now_us - now_us);
                world.now_us += rest;
                world.media_us += rest + rest * 40 / 1_000_000;
                sent += rest + rest * 40 / 1_000_000;
            }
        }
        assert!(sent > 100 * wraps_us);
        assert_tiled(&world.placed);
        let off = world.error_us() - world.host_us;
        assert!(off.abs() < SECOND_US, "{off} us off after ten years");
        assert_eq!(world.steps().len(), 20);
        assert!(
            world
                .gaps()
                .iter()
                .all(|(cause, _)| *cause == GapCause::PacketsLost)
        );
    }
}

#[test]
fn a_frozen_host_clock_moves_nothing_backwards() {
    let mut world = World::new(0, 0);
    world.run_us(60 * SECOND_US);
    for _ in 0..300 {
        // The wall clock stands while two seconds pass.
        world.host_us -= 2 * SECOND_US;
        world.fragment();
    }
    assert_tiled(&world.placed);
    world.run_us(HOUR_US);
    world.host_us += 600 * SECOND_US;
    world.run_us(HOUR_US);
    assert_tiled(&world.placed);
    assert!(world.error_us().abs() <= AHEAD_US, "{}", world.error_us());
}

proptest! {
    /// What a camera says of its own clock moves nothing: the same fragments with and without sender reports.
    #[test]
    fn no_sender_report_moves_a_fragment(
        says in proptest::collection::vec(
            prop_oneof![
                Just(0_i64),
                Just(-2_208_988_800 * SECOND_US),
                Just(2_085_978_496 * SECOND_US),
                any::<i64>(),
            ],
            1..40,
        ),
        ppm in -300..300_i64,
    ) {
        let mut told = World::new(ppm, 50_000);
        let mut untold = World::new(ppm, 50_000);
        for says_us in says {
            let at = WallTime::from_micros(says_us);
            told.map.observe_sr(told.media_us, at, mono(told.now_us));
            told.fragment();
            untold.fragment();
        }
        prop_assert_eq!(told.placed, untold.placed);
    }
}
