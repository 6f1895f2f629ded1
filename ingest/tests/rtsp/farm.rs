//! Sessions against the camera farm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::GapCause;
use tierline_ingest::camsim::{self, Camsim};

use crate::recording::{Recording, config, pictures, record, runtime};

fn farm(cameras: usize) -> Camsim {
    camsim::start(camsim::Config {
        cameras,
        ..camsim::Config::default()
    })
    .expect("a farm")
}

#[test]
fn many_sessions_on_one_sleepy_thread_lose_nothing() {
    let farm = farm(12);
    (0..12).for_each(|n| farm.set_logging(n, true));
    let recordings: Vec<Recording> = runtime().block_on(async {
        let sessions = (0..12).map(|n| {
            let config = config(&farm.url(n));
            async move { record(&config, pictures(100)).await }
        });
        futures::future::join_all(sessions).await
    });
    for (n, recording) in recordings.iter().enumerate() {
        assert_eq!(recording.end, None, "camera {n}");
        assert_eq!(recording.starts.len(), 1);
        let hashes = recording.picture_hashes();
        let sent: Vec<String> = farm
            .logged_frames(n)
            .iter()
            .map(|f| f.sha256.iter().map(|b| format!("{b:02x}")).collect())
            .collect();
        assert!(sent.windows(hashes.len()).any(|w| w == hashes), "camera {n}");
        assert!(recording.video.iter().all(|s| s.packets_lost == 0));
        assert_eq!(recording.video[0].pts, 0);
        assert!(
            recording.video.windows(2).all(|w| w[1].pts > w[0].pts),
            "the clip has no B-frames"
        );
        let arrivals: Vec<_> = recording.video.iter().map(|s| s.arrival_mono_us).collect();
        assert!(arrivals.is_sorted());
    }
}

#[test]
fn lost_packets_are_counted_with_the_next_picture() {
    let farm = farm(1);
    let mut lost = false;
    let recording = runtime().block_on(record(&config(&farm.url(0)), |r| {
        if r.video.len() > 20 && !lost {
            farm.lose_frames(0, 3);
            lost = true;
        }
        r.video.len() >= 80
    }));
    assert_eq!(recording.end, None);
    let losses: Vec<_> = recording.video.iter().filter(|s| s.packets_lost > 0).collect();
    assert_eq!(losses.len(), 1);
    assert!(losses[0].packets_lost >= 3);
}

#[test]
fn a_camera_that_stalls_has_no_data_and_one_that_goes_down_is_lost_then_unreachable() {
    let farm = farm(1);
    let mut config = config(&farm.url(0));
    config.limits.no_data = Duration::from_secs(2);
    let mut stalled_at = None;
    let recording = runtime().block_on(record(&config, |r| {
        if r.video.len() > 10 && stalled_at.is_none() {
            farm.set_stalled(0, true);
            stalled_at = Some(Instant::now());
        }
        false
    }));
    let took = stalled_at.expect("stalled").elapsed();
    assert_eq!(recording.end.expect("an end").cause(), GapCause::NoData);
    assert!((2.0..4.5).contains(&took.as_secs_f32()), "{took:?}");

    farm.set_stalled(0, false);
    let recording = runtime().block_on(record(&config, |r| {
        farm.set_down(0, r.video.len() > 10);
        false
    }));
    assert_eq!(recording.end.expect("an end").cause(), GapCause::SessionLost);
    let recording = runtime().block_on(record(&config, |_| false));
    assert_eq!(recording.end.expect("an end").cause(), GapCause::Unreachable);
}

#[test]
fn sender_reports_tell_the_cameras_own_clock() {
    let farm = farm(1);
    farm.set_wall_offset_us(0, 7_000_000);
    let recording = runtime().block_on(record(&config(&farm.url(0)), |r| {
        r.video.len() >= 30 && !r.reports.is_empty()
    }));
    let report = recording.reports[0];
    let ahead_us = report.camera_wall.micros_since(report.arrival_wall);
    assert!((6_500_000..=7_100_000).contains(&ahead_us), "{ahead_us}");
}

#[test]
fn sessions_end_with_their_runtime() {
    let farm = farm(1);
    let runtime = runtime();
    let config = config(&farm.url(0));
    let got = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = got.clone();
    runtime.spawn(async move {
        record(&config, |r| {
            seen.store(!r.video.is_empty(), std::sync::atomic::Ordering::Relaxed);
            false
        })
        .await
    });
    runtime.block_on(async {
        while !got.load(std::sync::atomic::Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    drop(runtime);
}
