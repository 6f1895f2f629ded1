//! Footage is copied to object stores as it ages and leaves the disk, and nobody who reads it notices: not when the
//! store goes down, not when the service is killed at any step of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::rig::{Chance, Oracle, Service, Site, alone, farm, lines, wait_for};
use crate::servers::{Kind, Server};
use crate::stores;

const CAMERAS: usize = 4;
/// From being recorded to lying on the last tier, and some.
const ALL_THE_WAY: Duration = Duration::from_secs(60);
/// Kills of the service while segments move.
const KILLS: u32 = 6;

/// A site whose warm tier is `server` and whose cold one is a folder.
fn site(server: &Server, folder: &Path, cameras: &ingest::camsim::Camsim) -> Site {
    let mut site = Site::new(cameras, CAMERAS);
    site.segment_duration = "3s";
    let store = stores::section("warm", &server.endpoint(), folder);
    site.more = format!(
        "{store}\
         [tiers.cold]\nurl = \"file://{}\"\n\
         [retention]\ninterval = \"300ms\"\ngrace = \"1s\"\n\
         [[rules]]\nhot = \"8s\"\nwarm = \"20s\"\n",
        folder.join("cold").display(),
    );
    site
}

/// The tiers on which footage of a camera lies.
fn tiers(service: &Service, camera: &str) -> BTreeSet<String> {
    let timeline = service.api().timeline(camera).expect("a timeline");
    timeline.runs.into_iter().map(|run| run.tier).collect()
}

fn wait_until_on(service: &Service, cameras: &[String], wanted: &[&str]) {
    for camera in cameras {
        wait_for("footage to reach the tiers", ALL_THE_WAY, || {
            let found = tiers(service, camera);
            wanted.iter().all(|tier| found.contains(*tier)).then_some(())
        });
    }
}

#[test]
fn footage_moves_down_the_tiers_and_stays_the_same() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("folder");
    let mut server = Server::start(Kind::Minio, folder.path());
    let farm = farm(CAMERAS);
    let mut site = site(&server, folder.path(), &farm);
    let cameras = site.cameras();
    let mut chance = Chance::new();
    let oracle = Oracle::new(cameras.clone());
    let mut service = site.start();
    oracle.watch(&service);
    wait_until_on(&service, &cameras, &["hot", "warm", "cold"]);
    oracle.assert_kept(&service, &mut chance);

    // The store is away: recording and what lies on the disk go on, and nothing leaves the disk uncopied.
    server.kill();
    std::thread::sleep(Duration::from_secs(12));
    for camera in &cameras {
        let status = service.api().status(camera).expect("a status");
        assert_eq!(status.state, "recording", "{camera}");
    }
    server.restart();
    wait_until_on(&service, &cameras, &["hot", "warm", "cold"]);
    oracle.assert_kept(&service, &mut chance);

    for _ in 0..KILLS {
        std::thread::sleep(chance.between(Duration::from_millis(500), Duration::from_secs(4)));
        service.kill();
        oracle.rest();
        site.assert_whole();
        service = site.start();
        oracle.assert_kept(&service, &mut chance);
        oracle.watch(&service);
    }
    // What the kills left half done is done.
    wait_until_on(&service, &cameras, &["hot", "warm", "cold"]);
    let claims = oracle.claims().fragments.len();
    oracle.assert_kept(&service, &mut chance);
    oracle.rest();
    service.stop();
    site.assert_whole();
    // What the objects and the files tell is what the index says.
    let anew = site.path("anew");
    site.rebuild(&anew);
    let compared = site.compare(&anew);
    assert!(compared.status.success(), "{}", lines(&compared));
    println!("{claims} fragments remembered, none lost");
    assert!(claims > 20, "the cameras were hardly recorded");
}
