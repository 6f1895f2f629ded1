//! Memory that many readers needed at once goes back to the system when they are gone.

use std::net::SocketAddr;
use std::time::Duration;

use crate::rig::{Attack, Metrics, Site, beside_others, client, heavy_farm, now, wait_for};

const CAMERAS: usize = 2;
const MBIT: u32 = 16;
const READERS: usize = 60;
const MIB: f64 = 1024.0 * 1024.0;
/// What they hold at least while they are there, and what would stay of it.
const HELD_MIN: f64 = 48.0 * MIB;
const STAYS_MIN: f64 = 24.0 * MIB;
/// The service looks every minute for what nobody needed since its last look.
const BACK_MAX: Duration = Duration::from_secs(180);

#[test]
fn what_many_readers_needed_goes_back_to_the_system() {
    let turn = beside_others();
    let folder = tempfile::tempdir().expect("a folder");
    let farm = heavy_farm(CAMERAS, MBIT, folder.path());
    let mut site = Site::new(&farm, CAMERAS);
    let service = site.start();
    let cameras = site.cameras();
    service.wait_until_durable(&cameras, Duration::from_secs(30));
    std::thread::sleep(Duration::from_secs(8));
    let api = service.api();
    let resident = || {
        Metrics::read(&api)
            .expect("metrics")
            .get("process_resident_memory_bytes")
    };
    let to: SocketAddr = api
        .base()
        .trim_start_matches("http://")
        .parse()
        .expect("an address");
    let before = resident();
    let (camera, from, until) = (&cameras[0], now().minus(Duration::from_secs(60)), now());
    let export = format!(
        "GET /api/v1/cameras/{camera}/export.mp4?from={from}&to={until} HTTP/1.1\r\nHost: {to}\r\n\r\n"
    );
    let mut attack = Attack::default();
    attack.hold("unread exports", (to, client(2)), READERS, export, "");
    wait_for("memory of readers", Duration::from_secs(30), || {
        (resident() > before + HELD_MIN).then_some(())
    });
    attack.end();
    std::thread::sleep(Duration::from_secs(1));
    let stays = resident();
    // What follows is waiting, beside whatever the machine does.
    drop((farm, turn));
    assert!(
        stays > before + STAYS_MIN,
        "{:.1} MiB before, {:.1} MiB after",
        before / MIB,
        stays / MIB
    );
    wait_for("memory that goes back", BACK_MAX, || {
        (resident() < before + STAYS_MIN / 2.0).then_some(())
    });
    println!(
        "{:.1} MiB before, {:.1} MiB at once after, {:.1} MiB in the end",
        before / MIB,
        stays / MIB,
        resident() / MIB
    );
    service.stop();
}
