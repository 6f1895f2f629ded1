//! Many cameras that change their misbehaviour at random, beside four honest ones.

use std::time::{Duration, Instant};

use crate::camera::Camera;
use crate::misbehaviour::Misbehaviour as M;
use crate::run::farm;
use crate::site::{Site, config};
use crate::{cases, memory, oracle};

const HONEST: usize = 4;
const HOSTILE: usize = 24;
/// Each hostile camera may cost what a session costs, and one access unit at a time.
const GROWTH_MIB: u64 = 64;

/// A small generator: the same seed does the same.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

fn from_env(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

pub(crate) fn run() {
    let (seconds, seed) = (
        from_env("TIERLINE_SOAK_SECONDS", 60),
        from_env("TIERLINE_SOAK_SEED", 1),
    );
    eprintln!("TIERLINE_SOAK_SEED={seed} TIERLINE_SOAK_SECONDS={seconds}");
    let mut chance = Chance(seed);
    let all: Vec<_> = (cases::all().into_iter())
        .filter(|case| case.does != M::BecomesH265 && case.access_unit_bytes < 16 << 20)
        .collect();
    let farm = farm(HONEST + HOSTILE, Vec::new());
    let mut site = Site::start(config(2 << 20, true));
    let honest: Vec<String> = (0..HONEST).map(|n| format!("honest-{n}")).collect();
    for (number, id) in honest.iter().enumerate() {
        farm.set_logging(number, true);
        site.add(id, &farm.url(number), Default::default());
    }
    site.wait_for(&honest.iter().map(String::as_str).collect::<Vec<_>>());
    let watch = memory::Watch::begin();
    let cameras: Vec<Camera> = (0..HOSTILE)
        .map(|n| {
            let case = &all[chance.below(all.len())];
            let camera = Camera::start(case.does, vec![farm.url(HONEST + n)]);
            site.add(&format!("hostile-{n}"), &camera.url(), case.transport);
            camera
        })
        .collect();
    let begin = Instant::now();
    let mut changes = 0;
    while begin.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_millis(250));
        let (camera, case) = (chance.below(HOSTILE), chance.below(all.len()));
        cameras[camera].set(all[case].does);
        changes += 1;
        if changes % 120 == 0 {
            println!("{:?}: {} KiB resident", begin.elapsed(), memory::resident_kib());
        }
    }
    let growth_kib = watch.growth_kib();
    drop(watch);
    site.stop();
    let kept: Vec<usize> = (0..HONEST)
        .map(|n| oracle::assert_nothing_lost(&site, &farm, n, &honest[n]))
        .collect();
    site.assert_whole();
    let connections: usize = cameras.iter().map(Camera::connections).sum();
    println!(
        "hostile: soak of {seconds} s, seed {seed}: {changes} changes, {connections} connections to {HOSTILE} cameras, \
         {growth_kib} KiB more at most, honest pictures {kept:?}"
    );
    assert!(growth_kib <= GROWTH_MIB << 10, "{growth_kib} KiB more");
}
