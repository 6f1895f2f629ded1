//! A disk that is not mounted, and an archive that is in use, are told and not recorded over.

use std::fs;
use std::time::Duration;

use crate::rig::{Site, beside_others, farm};

/// Longer than the first fragment takes.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_missing_disk_is_refused_with_the_remedy() {
    let _turn = beside_others();
    let farm = farm(1);
    let mut site = Site::new(&farm, 1);
    let service = site.start();
    service.wait_until_durable(&site.cameras(), SOON);
    service.stop();

    // The folder of a disk that is not mounted is there, and empty.
    let away = site.path("away");
    fs::rename(site.hot(), &away).expect("moved");
    for with_folder in [true, false] {
        if with_folder {
            fs::create_dir(site.hot()).expect("a folder");
        }
        let refused = site.start_with(|_| ()).err().expect("it must not start");
        println!("{}", refused.log);
        assert!(!refused.status.success());
        for part in [site.hot().to_str().expect("a path"), "ount the disk"] {
            assert!(refused.log.contains(part), "no {part:?} in: {}", refused.log);
        }
        let left: Vec<_> = fs::read_dir(site.hot()).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        let _ = fs::remove_dir(site.hot());
    }

    fs::rename(&away, site.hot()).expect("moved back");
    let service = site.start();
    service.wait_until_durable(&site.cameras(), SOON);
    service.stop();
    site.assert_whole();
}

#[test]
fn a_second_service_on_one_archive_is_refused() {
    let _turn = beside_others();
    let farm = farm(1);
    let mut site = Site::new(&farm, 1);
    let service = site.start();
    let refused = site
        .start_with(|_| ())
        .err()
        .expect("a second one must not start");
    println!("{}", refused.log);
    assert!(!refused.status.success());
    for part in ["in use", &format!("process {}", service.pid())] {
        assert!(refused.log.contains(part), "no {part:?} in: {}", refused.log);
    }
    service.wait_until_durable(&site.cameras(), SOON);
    service.stop();
    site.assert_whole();
}
