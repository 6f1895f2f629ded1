use super::*;
use proptest::prelude::*;

const HALF_SECOND: u64 = 500_000;

fn ranks(n: usize) -> Vec<Rank> {
    let camera = |i: usize| Rank::of((i % 10) as u8, &format!("cam-{i}").parse().expect("id"));
    let mut ranks: Vec<_> = (0..n).map(camera).collect();
    ranks.sort_unstable();
    ranks
}

/// A machine that reads so many cameras in real time and writes so many, with `cameras` on it.
struct Machine {
    cameras: usize,
    reads: f32,
    writes: f32,
    /// How much may wait for the disk, in seconds of all cameras.
    memory: f32,
    behind: f32,
    /// Footage that waits for the disk, in camera-seconds, by the time when it came.
    queue: VecDeque<(u64, f32)>,
    now_us: u64,
}

impl Machine {
    fn new(cameras: usize, reads: f32, writes: f32) -> Self {
        Self {
            cameras,
            reads,
            writes,
            memory: 28.0,
            behind: 0.0,
            queue: VecDeque::new(),
            now_us: 1_000_000,
        }
    }

    fn waiting(&self) -> f32 {
        self.queue.iter().map(|(_, amount)| amount).sum()
    }

    /// The oldest goes to the disk first.
    fn write(&mut self, mut room: f32) {
        while let Some((_, amount)) = self.queue.front_mut() {
            *amount -= room;
            if *amount > 0.0 {
                return;
            }
            room = -*amount;
            self.queue.pop_front();
        }
    }

    /// Half a second; how many were recorded in it.
    fn step(&mut self, overload: &mut Overload) -> usize {
        let ranks = ranks(self.cameras);
        let recorded = ranks.iter().filter(|r| **r >= overload.floor()).count();
        let load = recorded as f32;
        // What is late is read faster than it comes in when there is time.
        let gain = (1.0 - self.reads / load.max(0.1)) * 0.5;
        self.behind = (self.behind + gain).max(0.0);
        self.queue.push_back((self.now_us, load.min(self.reads) * 0.5));
        self.write(self.writes * 0.5);
        let oldest = self.queue.front().map_or(self.now_us, |(at, _)| *at);
        let signals = Signals {
            busy: if self.behind > 0.0 { 1.0 } else { load / self.reads },
            behind: Duration::from_secs_f32(self.behind),
            filled: self.waiting() / (self.cameras as f32 * self.memory),
            waits: since(oldest, self.now_us),
            commits: self.now_us / HALF_SECOND,
        };
        self.now_us += HALF_SECOND;
        overload.observe(&signals, &ranks, self.now_us);
        recorded
    }
}

#[test]
fn at_twice_the_capacity_half_of_the_cameras_give_way_within_seconds_and_the_rest_catch_up() {
    let (mut machine, mut overload) = (Machine::new(80, 40.0, 1000.0), Overload::default());
    let recorded: Vec<_> = (0..240).map(|_| machine.step(&mut overload)).collect();
    let settled = recorded.iter().position(|n| *n <= 40).expect("fewer");
    assert!(settled <= 30, "{recorded:?}");
    let last = *recorded.last().expect("steps");
    assert!((24..=40).contains(&last) && machine.behind == 0.0, "{recorded:?}");
}

#[test]
fn a_disk_that_is_too_slow_makes_cameras_give_way_until_it_keeps_up() {
    let (mut machine, mut overload) = (Machine::new(80, 1000.0, 40.0), Overload::default());
    let recorded: Vec<_> = (0..1200).map(|_| machine.step(&mut overload)).collect();
    assert!(
        recorded.iter().any(|n| *n <= 40) && machine.waiting() < 2000.0,
        "{recorded:?}"
    );
}

#[test]
fn what_waits_is_old_for_a_while_after_enough_have_given_way_and_takes_nobody_else() {
    let (mut machine, mut overload) = (Machine::new(24, 1000.0, 12.4), Overload::default());
    let recorded: Vec<_> = (0..400).map(|_| machine.step(&mut overload)).collect();
    let least = *recorded.iter().min().expect("steps");
    assert!((10..=12).contains(&least), "{recorded:?}");
}

#[test]
fn where_memory_is_full_before_the_wait_is_long_as_many_give_way_at_once() {
    let (mut machine, mut overload) = (Machine::new(24, 1000.0, 12.4), Overload::default());
    machine.memory = 10.0;
    let mut most: f32 = 0.0;
    let mut step = |_| {
        let recorded = machine.step(&mut overload);
        most = most.max(machine.waiting() / 240.0);
        recorded
    };
    let recorded: Vec<_> = (0..400).map(&mut step).collect();
    let least = *recorded.iter().min().expect("steps");
    assert!((9..=12).contains(&least), "{recorded:?}");
    assert!(most < 0.75, "{most} of the memory was filled: {recorded:?}");
}

/// What was measured where reading and making durable share a processor, every half second after enough had given way: how
/// late is read, how long the oldest waits, in seconds, and how full memory is, of which each commit gives some back.
const SHARED: [(f32, f32, f32); 9] = [
    (2.20, 3.4, 0.150),
    (2.18, 3.9, 0.174),
    (2.00, 2.9, 0.127),
    (2.10, 3.5, 0.139),
    (2.26, 4.0, 0.162),
    (2.45, 3.2, 0.106),
    (2.47, 3.7, 0.130),
    (2.39, 4.3, 0.137),
    (2.72, 4.8, 0.153),
];

#[test]
fn reading_that_is_late_takes_nobody_else_while_what_waits_is_made_durable_at_its_cost() {
    let gives_way = |late: f32, filled: &dyn Fn(f32) -> f32| {
        let (mut overload, ranks, mut now) = (Overload::default(), ranks(24), 0);
        let mut look = |behind, waits, filled| {
            let signals = Signals {
                busy: 1.0,
                behind: Duration::from_secs_f32(behind),
                waits: Duration::from_secs_f32(waits),
                filled,
                commits: now / HALF_SECOND,
            };
            now += HALF_SECOND;
            overload.observe(&signals, &ranks, now)
        };
        let fewer = (0..9).map(|n| look(n as f32 / 4.0, 3.0, 0.1)).max();
        assert!(fewer > Some(Rank::LOWEST));
        let after = SHARED.iter();
        let after = after.map(|(behind, waits, full)| look(*behind * late, *waits, filled(*full)));
        after.max() > fewer
    };
    assert!(!gives_way(1.0, &|filled| filled));
    assert!(gives_way(1.0, &|_| 0.15), "nothing is made durable at its cost");
    assert!(gives_way(2.0, &|filled| filled), "no camera waits for so long");
}

#[test]
fn a_disk_that_hangs_makes_nobody_give_way_while_there_is_memory() {
    let mut overload = Overload::default();
    let ranks = ranks(20);
    for tick in 0..200_u64 {
        let waits = Duration::from_millis(tick * 500);
        let filled = tick as f32 / 200.0;
        let signals = Signals {
            waits,
            filled,
            commits: 7,
            ..Signals::default()
        };
        let floor = overload.observe(&signals, &ranks, tick * HALF_SECOND);
        assert_eq!(floor > Rank::LOWEST, filled >= FILLED, "{signals:?}");
    }
}

#[test]
fn all_come_back_when_the_load_falls_and_one_that_is_too_much_goes_again_for_longer() {
    let (mut machine, mut overload) = (Machine::new(80, 40.0, 1000.0), Overload::default());
    for _ in 0..240 {
        machine.step(&mut overload);
    }
    machine.reads = 200.0;
    let recorded: Vec<_> = (0..240).map(|_| machine.step(&mut overload)).collect();
    assert_eq!(recorded.last(), Some(&80), "{recorded:?}");

    let mut overload = Overload::default();
    let ranks = ranks(10);
    let calm = Signals::default();
    let trouble = Signals {
        filled: 0.6,
        ..Signals::default()
    };
    let mut now = 0;
    let mut until = |overload: &mut Overload, signals: &Signals, want: &dyn Fn(Rank, Rank) -> bool| {
        let (before, began) = (overload.floor(), now);
        while !want(before, overload.observe(signals, &ranks, now)) {
            now += HALF_SECOND;
            assert!(now - began < 2_000_000_000, "never");
        }
        Duration::from_micros(now - began)
    };
    until(&mut overload, &trouble, &|before, after| after > before);
    let first = until(&mut overload, &calm, &|before, after| after < before);
    until(&mut overload, &trouble, &|before, after| after > before);
    let second = until(&mut overload, &calm, &|before, after| after < before);
    assert!(
        second >= first * 2 - Duration::from_secs(1),
        "{first:?} {second:?}"
    );
}

/// Two cameras have come back and are too much. What happens to the floor before the trial while reading is `behind`, second
/// for second after they went again.
fn after_a_trial(behind: &[f32]) -> Vec<bool> {
    let (mut overload, ranks, mut now) = (Overload::default(), ranks(24), 0);
    let mut look = |busy, behind| {
        let signals = Signals {
            busy,
            behind: Duration::from_secs_f32(behind),
            ..Signals::default()
        };
        now += HALF_SECOND;
        overload.observe(&signals, &ranks, now)
    };
    let fewer = (0..12).map(|n| look(1.0, n as f32 / 4.0)).max().expect("a floor");
    let tried = (0..24).map(|_| look(0.3, 0.2)).min().expect("a floor");
    assert!(fewer > tried);
    let taken_back = (0..3).map(|n| look(1.0, 1.0 + n as f32 / 4.0)).max();
    assert_eq!(taken_back, Some(fewer));
    let kept = |behind: &f32| [look(1.0, *behind), look(1.0, *behind)] == [fewer; 2];
    behind.iter().map(kept).collect()
}

#[test]
fn cameras_that_go_again_take_nobody_with_them_while_what_they_left_behind_is_done() {
    let sinks = [1.7, 1.9, 2.1, 2.4, 2.7, 2.7, 2.6, 2.4, 2.2, 2.0, 1.8, 1.6, 1.4];
    assert_eq!(after_a_trial(&sinks), [true; 13]);
    let grows: Vec<f32> = (0..13).map(|n| 1.6 + n as f32 / 4.0).collect();
    let kept = after_a_trial(&grows);
    assert!(kept[..9].iter().all(|kept| *kept) && !kept[12], "{kept:?}");
}

#[test]
fn when_those_who_gave_way_were_too_few_more_do_within_seconds() {
    let (mut overload, ranks) = (Overload::default(), ranks(24));
    let floors = (0..30).map(|tick: u16| {
        let signals = Signals {
            busy: 1.0,
            behind: Duration::from_secs_f32(f32::from(tick) / 10.0),
            ..Signals::default()
        };
        overload.observe(&signals, &ranks, u64::from(tick) * HALF_SECOND)
    });
    let floors: Vec<_> = floors.collect();
    let steps: Vec<_> = (1..30).filter(|tick| floors[*tick] > floors[tick - 1]).collect();
    assert!(steps.len() >= 2 && steps[1] - steps[0] <= 10, "{steps:?}");
}

#[test]
fn a_pause_of_the_machine_makes_nobody_give_way() {
    let mut overload = Overload::default();
    let ranks = ranks(20);
    for tick in 0..40 {
        // Ten seconds passed in one tick; what waited is read within three.
        let (busy, behind) = match tick {
            10 => (1.0, 10.0),
            11..=16 => (1.0, 10.0 - f64::from(tick - 10) * 1.6),
            _ => (0.3, 0.1),
        };
        let signals = Signals {
            busy,
            behind: Duration::from_secs_f64(behind),
            ..Signals::default()
        };
        let pause = if tick >= 10 { 10_000_000 } else { 0 };
        let floor = overload.observe(&signals, &ranks, pause + tick as u64 * HALF_SECOND);
        assert_eq!(floor, Rank::LOWEST, "tick {tick}");
    }
}

#[test]
fn a_higher_priority_never_gives_way_before_a_lower_one_and_ranks_never_change() {
    let a = "cam-1".parse().expect("id");
    let b = "cam-2".parse().expect("id");
    assert!(Rank::of(4, &a) < Rank::of(5, &b) && Rank::of(4, &b) < Rank::of(5, &a));
    assert_ne!(Rank::of(5, &a), Rank::of(5, &b));
    assert_eq!(Rank::of(5, &a), Rank(5 << 56 | 0x00e8_30a7_3a98_735c));
}

proptest! {
    #[test]
    fn someone_is_recorded_whoever_gives_way_is_lowest_and_only_trouble_takes_cameras(
        steps in proptest::collection::vec((0.0f32..1.0, 0.0f64..20.0, 0.0f32..1.0, 0.0f64..20.0), 1..300),
        n in 1usize..60,
    ) {
        let mut overload = Overload::default();
        let ranks = ranks(n);
        for (i, (busy, behind, filled, waits)) in steps.into_iter().enumerate() {
            let before = overload.floor();
            let signals = Signals {
                busy,
                behind: Duration::from_secs_f64(behind),
                filled,
                waits: Duration::from_secs_f64(waits),
                commits: i as u64,
            };
            let after = overload.observe(&signals, &ranks, i as u64 * HALF_SECOND);
            prop_assert!(ranks.iter().any(|r| *r >= after), "nobody is recorded");
            if after > before {
                let reading = busy >= BUSY && signals.behind >= BEHIND;
                prop_assert!(reading || filled >= FILLED || signals.waits >= WAITS, "{signals:?}");
            }
            if after < before {
                prop_assert!(filled < FILLED && signals.waits < WAITS);
            }
        }
    }
}
