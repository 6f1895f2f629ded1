//! Memory that many readers needed at once goes back to the system when they are gone.

use std::time::Duration;

use crate::rig::{Attack, Service, Site, beside_others, client, heavy_farm, now, wait_for};

const CAMERAS: usize = 2;
const MBIT: u32 = 16;
/// Footage to read, and what it takes until nothing of recording it is under way.
const FOOTAGE: Duration = Duration::from_secs(8);
const QUIET: Duration = Duration::from_secs(3);
const READERS: usize = 60;
const MIB: u64 = 1 << 20;
/// What they hold at least while they are there, and what would stay of it.
const HELD_MIN: u64 = 48 * MIB;
const STAYS_MIN: u64 = 24 * MIB;
/// The service looks every minute for what nobody needed since its last look.
const BACK_MAX: Duration = Duration::from_secs(180);

#[test]
fn a_burst_of_readers_leaves_no_memory_behind() {
    let turn = beside_others();
    let folder = tempfile::tempdir().expect("a folder");
    let farm = heavy_farm(CAMERAS, MBIT, folder.path());
    let mut site = Site::new(&farm, CAMERAS);
    let service = site.start();
    let cameras = site.cameras();
    service.wait_until_durable(&cameras, Duration::from_secs(30));
    std::thread::sleep(FOOTAGE);
    // From here on nothing but readers moves memory.
    drop(farm);
    std::thread::sleep(QUIET);
    let before = resident(&service);
    let to = service.api().address();
    let (camera, from, until) = (&cameras[0], now().minus(Duration::from_secs(60)), now());
    let export = format!(
        "GET /api/v1/cameras/{camera}/export.mp4?from={from}&to={until} HTTP/1.1\r\nHost: {to}\r\n\r\n"
    );
    let mut attack = Attack::default();
    attack.hold("unread exports", (to, client(2)), READERS, export, "");
    wait_for("memory of readers", Duration::from_secs(30), || {
        (resident(&service) > before + HELD_MIN).then_some(())
    });
    attack.end();
    std::thread::sleep(Duration::from_secs(1));
    let stays = resident(&service);
    // What follows is waiting, beside whatever the machine does.
    drop(turn);
    println!("{} MiB before, {} MiB at once after", before / MIB, stays / MIB);
    assert!(stays > before + STAYS_MIN);
    wait_for("memory that goes back", BACK_MAX, || {
        (resident(&service) < before + STAYS_MIN / 2).then_some(())
    });
    println!("{} MiB in the end", resident(&service) / MIB);
    service.stop();
}

/// Memory of the service, asked of the system: it costs the service nothing.
fn resident(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("VmRSS") << 10
}
