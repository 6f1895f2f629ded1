//! A machine that is lost with its disks: its footage and the index come back from the stores.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::{Site, assert_exit, farm, files, site};

/// How many of `files` there are, once there are as many as `wanted`.
fn wait_for(site: &Site, folder: &str, extension: &str, wanted: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while files(&site.path(folder), extension).len() < wanted {
        assert!(Instant::now() < deadline, "{folder} has too few");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_lost_machine_comes_back_from_its_stores_with_the_index_that_it_had() {
    let farm = farm(1);
    let site = site(Some(&farm), 1);
    let url = site.path("warm").display().to_string();
    let config = fs::read_to_string(&site.config).expect("configuration");
    let with_secret = config.replace("rtsp://", "rtsp://admin:hunter2@");
    let more = format!("[retention]\ninterval = \"100ms\"\n[tiers.warm]\nurl = \"file://{url}\"\n");
    fs::write(&site.config, format!("{with_secret}{more}")).expect("written");
    let service = site.serve();
    wait_for(&site, "warm/default", "mp4", 2);
    assert_eq!(service.stop(Signal::TERM), Some(0));
    // The one of the first start knows nothing yet; this one knows what was recorded.
    fs::remove_dir_all(site.path("warm/.checkpoints")).expect("removed");
    let (before, data) = (
        fs::read(site.path("data/archive-id")).expect("id"),
        site.path("data"),
    );
    let view = indexer::Index::open_read_only(&data.join("index")).expect("index");
    let (no, _) = view.streams().remove(0);
    let span = view.span(no).expect("read").expect("footage");
    drop(view);
    {
        let index = indexer::Index::open(&data.join("index"), &Default::default()).expect("index");
        index
            .set_mark("checkpoint", archive::WallTime::MIN)
            .expect("mark");
    }
    let service = site.serve();
    wait_for(&site, "warm/.checkpoints", "sst", 1);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(service.stop(Signal::TERM), Some(0));
    for file in files(&site.path("warm/.checkpoints"), "") {
        let bytes = fs::read(&file).expect("file");
        let found = bytes.windows(7).any(|part| part == b"hunter2");
        assert!(!found, "a password in {}", file.display());
    }

    fs::remove_dir_all(&data).expect("lost");
    fs::create_dir_all(data.join("hot")).expect("a new machine");
    let index = data.join("index");
    let args = ["--from-checkpoint", "--into", index.to_str().expect("text")];
    let rebuilt = site.run("rebuild", &args);
    assert_exit(&rebuilt, 0, "as the checkpoint knew them");
    let told = String::from_utf8_lossy(&rebuilt.stdout).into_owned();
    assert!(
        !told.contains("\n0 of them") && !told.contains("left out"),
        "{told}"
    );
    assert_exit(&site.run("check", &["--deep"]), 0, "clean");
    let view = indexer::Index::open_read_only(&index).expect("index");
    let (no, _) = view.streams().remove(0);
    assert_eq!(view.span(no).expect("read").expect("footage").from(), span.from());
    drop(view);
    let service = site.serve();
    service.wait_until_durable("cam-0");
    assert_eq!(service.stop(Signal::TERM), Some(0));
    assert_eq!(fs::read(site.path("data/archive-id")).expect("id"), before);
}
