//! Sessions against GStreamer's RTSP server with its own encoders.

use std::time::Duration;

use archive::{GapCause, TrackKind};
use rustix::process::Signal;
use serde_json::Value;
use tierline_ingest::rtsp::Transport;

use crate::camera::Camera;
use crate::recording::{Recording, config, hex, pictures, record, runtime};

/// Asserts that `recording` is what `camera` sent, without a hole, and returns where it begins in the log.
fn assert_sent(camera: &Camera, recording: &Recording) -> (Vec<Value>, usize) {
    let sent = camera.sent("video");
    let hashes = recording.picture_hashes();
    let all: Vec<&str> = sent
        .iter()
        .map(|l| l["mp4_bare_sha256"].as_str().expect("a hash"))
        .collect();
    let first = all
        .windows(hashes.len())
        .position(|w| w == hashes)
        .unwrap_or_else(|| panic!("{} pictures are not among the {} sent", hashes.len(), all.len()));
    let ns = |i: usize| sent[first + i]["pts"].as_i64().expect("a time");
    for (i, sample) in recording.video.iter().enumerate() {
        assert_eq!(
            sample.keyframe,
            sent[first + i]["key"].as_bool().expect("a flag"),
            "picture {i}"
        );
        let ticks = (ns(i) - ns(0)) * 9 / 100_000;
        assert!(
            (sample.pts - ticks).abs() <= 2,
            "picture {i}: {} for {ticks}",
            sample.pts
        );
    }
    (sent, first)
}

#[test]
fn h264_with_b_frames_sei_and_sound_arrives_bit_exact_and_in_step() {
    let camera = Camera::start(&[
        "--bframes",
        "3",
        "--sei",
        "--aud",
        "--audio",
        "aac",
        "--gop",
        "15",
    ]);
    let recording = runtime().block_on(record(&config(&camera.url), |r| {
        let reported = |track| r.reports.iter().any(|report| report.track == track);
        r.video.len() >= 120 && reported(TrackKind::Video) && reported(TrackKind::Audio)
    }));
    assert_eq!(recording.end, None);
    let (sent, first) = assert_sent(&camera, &recording);
    assert!(
        recording.video.windows(2).any(|w| w[1].pts < w[0].pts),
        "B-frames are reordered"
    );
    assert!(
        sent[first]["nals"]
            .as_array()
            .is_some_and(|nals| nals.iter().any(|n| n[0] == 6)),
        "SEI is kept"
    );
    assert!(
        sent[first]["nals"]
            .as_array()
            .is_some_and(|nals| nals.iter().any(|n| n[0] == 9)),
        "AUD is kept"
    );

    let (tracks, new_run, before) = &recording.starts[0];
    assert_eq!(
        (recording.starts.len(), tracks.len(), *new_run, *before),
        (1, 2, true, 0)
    );
    assert_eq!((tracks[0].width, tracks[0].height), (640, 360));
    assert!(tracks[0].codec.starts_with("avc1.64"), "{}", tracks[0].codec);
    assert_eq!(tracks[0].sample_entry.get(4..8), Some(&b"avc1"[..]));
    assert_eq!(
        (&*tracks[1].codec, tracks[1].channels, tracks[1].sample_rate),
        ("mp4a.40.2", 2, 48_000)
    );
    assert_eq!(tracks[1].sample_entry.get(4..8), Some(&b"mp4a"[..]));

    let sound = camera.sent("audio");
    let hashes: Vec<String> = recording.audio.iter().map(|s| hex(&s.data)).collect();
    assert!(hashes.len() > 200, "{}", hashes.len());
    let begin = sound
        .windows(hashes.len())
        .position(|w| w.iter().zip(&hashes).all(|(l, h)| l["sha256"] == **h))
        .expect("sound is what was sent");
    assert!(recording.audio.windows(2).all(|w| w[1].pts > w[0].pts));
    // The log's times of both tracks are not of one clock: only that the distance is constant can be asked.
    let pictures_ns = sent[first]["pts"].as_i64().expect("a time");
    let distance = |i: usize| {
        let sent_us = (sound[begin + i]["pts"].as_i64().expect("a time") - pictures_ns) / 1000;
        recording.audio[i].pts * 1_000_000 / 48_000 - sent_us
    };
    assert!((0..hashes.len()).all(|i| (distance(i) - distance(0)).abs() < 2_000));
    // What sender reports say of both tracks meets on our clock.
    let at_zero_us = |track: TrackKind, ticks_per_s: i64| {
        let report = recording
            .reports
            .iter()
            .rev()
            .find(|r| r.track == track)
            .expect("a report");
        report.camera_wall.micros() - report.pts * 1_000_000 / ticks_per_s
    };
    let apart_us = at_zero_us(TrackKind::Audio, 48_000) - at_zero_us(TrackKind::Video, 90_000);
    assert!(apart_us.abs() < 5_000, "{apart_us}");
}

#[test]
fn h265_with_open_gops_arrives_bit_exact() {
    let camera = Camera::start(&[
        "--codec",
        "h265",
        "--bframes",
        "3",
        "--open-gop",
        "--aud",
        "--vfr",
    ]);
    let recording = runtime().block_on(record(&config(&camera.url), pictures(100)));
    assert_eq!(recording.end, None);
    assert_sent(&camera, &recording);
    let track = &recording.starts[0].0[0];
    assert!(track.codec.starts_with("hvc1.1"), "{}", track.codec);
    assert_eq!(track.sample_entry.get(4..8), Some(&b"hvc1"[..]));
}

#[test]
fn a_change_of_parameters_is_announced_before_its_first_picture() {
    let camera = Camera::start(&["--audio", "aac"]);
    let mut switched = false;
    let recording = runtime().block_on(record(&config(&camera.url), |r| {
        if r.video.len() > 30 && !switched {
            camera.signal(Signal::USR1);
            switched = true;
        }
        r.starts
            .last()
            .is_some_and(|&(_, _, before)| before > 0 && r.video.len() > before + 30)
    }));
    assert_eq!(recording.end, None);
    let [(first, true, 0), (second, false, before)] = &recording.starts[..] else {
        panic!("{:?}", recording.starts);
    };
    assert_eq!(
        (first[0].width, second[0].width, second[0].height),
        (640, 320, 240)
    );
    assert_ne!(first[0].sample_entry, second[0].sample_entry);
    assert_eq!(first[1], second[1]);
    assert!(
        recording.video[*before].keyframe && recording.video[*before].pts > recording.video[before - 1].pts
    );
    assert_sent(&camera, &recording);
}

#[test]
fn a_digest_login_is_used_and_a_wrong_one_is_refused() {
    let camera = Camera::start(&["--user", "ad min", "--password", "p@ss/word"]);
    let with = |user: &str| camera.url.replace("rtsp://", &format!("rtsp://{user}@"));
    let recording = runtime().block_on(record(&config(&with("ad%20min:p%40ss%2Fword")), pictures(5)));
    assert_eq!(recording.end, None);
    for wrong in [with("ad%20min:nope"), camera.url.clone()] {
        let recording = runtime().block_on(record(&config(&wrong), pictures(5)));
        let error = recording.end.expect("refused");
        assert_eq!(error.cause(), GapCause::Refused, "{error}");
        assert!(
            error.to_string().contains("401") && !error.to_string().contains("nope"),
            "{error}"
        );
    }
}

#[test]
fn a_camera_that_falls_silent_and_one_that_dies_are_told_apart() {
    let camera = Camera::start(&[]);
    let mut config = config(&camera.url);
    config.limits.no_data = Duration::from_secs(2);
    let mut stopped = false;
    let recording = runtime().block_on(record(&config, |r| {
        if r.video.len() > 10 && !stopped {
            camera.signal(Signal::STOP);
            stopped = true;
        }
        false
    }));
    assert_eq!(recording.end.expect("an end").cause(), GapCause::NoData);
    camera.signal(Signal::CONT);

    let mut killed = false;
    let recording = runtime().block_on(record(&config, |r| {
        if r.video.len() > 10 && !killed {
            camera.signal(Signal::KILL);
            killed = true;
        }
        false
    }));
    assert_eq!(recording.end.expect("an end").cause(), GapCause::SessionLost);
}

#[test]
fn datagrams_carry_the_same() {
    let camera = Camera::start(&[]);
    let mut config = config(&camera.url);
    config.transport = Transport::Udp;
    let recording = runtime().block_on(record(&config, pictures(40)));
    assert_eq!(recording.end, None);
    if recording.video.iter().all(|s| s.packets_lost == 0) {
        assert_sent(&camera, &recording);
    }
}

#[test]
fn a_camera_with_a_wrong_clock_says_so() {
    let camera = Camera::start(&["--clock-offset-ms=-90000", "--audio", "aac"]);
    let recording = runtime().block_on(record(&config(&camera.url), |r| {
        r.reports.len() >= 2 && r.video.len() > 20
    }));
    for report in &recording.reports {
        let behind_us = report.arrival_wall.micros_since(report.camera_wall);
        assert!((89_800_000..91_000_000).contains(&behind_us), "{behind_us}");
    }
}
