//! While the store is away nothing leaves the disk that is not copied: when it is full cameras give way, by priority, and
//! their gap says why. When the store is back they are all recorded again, and everything is there.

use std::time::Duration;

use crate::rig::{Chance, Metrics, Oracle, Site, SmallDisk, beside_others, camera_id, heavy_farm, wait_for};
use crate::servers::{Kind, Server};
use crate::stores;

const CAMERAS: usize = 3;
/// What each sends, in megabits a second: the disk is full within a minute, and a segment is little beside the reserve.
const MBIT: u32 = 8;
/// Size of the disk in MiB.
const DISK: u32 = 128;
const SPACE: &str = "[retention]\nreserve = \"72MiB\"\nlow = \"44MiB\"\nfloor = \"32MiB\"\ninterval = \"300ms\"\ngrace = \"1s\"\n\
                     [[rules]]\nhot = \"1h\"\n";
const FULL_MAX: Duration = Duration::from_secs(120);
/// A store that failed is asked again after half a minute at the latest.
const BACK_MAX: Duration = Duration::from_secs(90);

#[test]
fn a_full_disk_while_the_store_is_away_loses_nothing_and_all_are_recorded_when_it_is_back() {
    let _turn = beside_others();
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(Kind::Minio, folder.path());
    let farm = heavy_farm(CAMERAS, MBIT, folder.path());
    let mut site = Site::new(&farm, CAMERAS);
    let Some(disk) = SmallDisk::mount(site.path("small"), DISK) else {
        return;
    };
    site.hot = Some(disk.folder().join("hot"));
    site.segment_duration = "1s";
    site.priorities = (0..CAMERAS).map(|n| (camera_id(n), n as u8 * 2)).collect();
    site.more = stores::section("warm", &server.endpoint(), folder.path()) + SPACE;
    let cameras = site.cameras();
    let (oracle, mut chance) = (Oracle::new(cameras.clone()), Chance::new());
    let service = site.start();
    oracle.watch(&service);
    service.wait_until_durable(&cameras, FULL_MAX);
    let figure = |name: &str| Metrics::read(&service.api()).map_or(0.0, |metrics| metrics.get(name));
    wait_for("a copy", FULL_MAX, || {
        (figure("tierline_tier_copies_total") > 0.0).then_some(())
    });

    server.kill();
    let api = service.api();
    let is_shed = |camera: &String| api.status(camera).is_ok_and(|status| status.state == "shed");
    let mut gave_way = Vec::new();
    wait_for("all cameras to give way", FULL_MAX, || {
        let newly = cameras.iter().filter(|camera| is_shed(camera));
        let newly: Vec<_> = newly.filter(|camera| !gave_way.contains(camera)).collect();
        gave_way.extend(newly);
        (gave_way.len() == CAMERAS).then_some(())
    });
    assert_eq!(gave_way, cameras.iter().collect::<Vec<_>>(), "not by priority");
    let behind = figure("tierline_unreplicated_seconds");
    assert!(behind > 10.0, "only {behind} s lay on the disk alone");

    server.restart();
    service.wait_until_durable(&cameras, BACK_MAX);
    println!("{behind:.0} s lay on the disk alone when all had given way");
    for camera in &cameras {
        let gaps = api.timeline(camera).expect("a timeline").gaps;
        assert!(
            gaps.iter().any(|gap| gap.cause == "disk_full"),
            "{camera}: {gaps:?}"
        );
    }
    oracle.assert_kept(&service, &mut chance);
    oracle.rest();
    service.stop();
    site.assert_whole();
}
