//! The farm against a real client and clips from a real encoder.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures::StreamExt as _;
use retina::client::{
    Demuxed, PlayOptions, Session, SessionOptions, SetupOptions, TcpTransportOptions, Transport,
};
use retina::codec::{CodecItem, FrameFormat, VideoFrame};
use sha2::{Digest as _, Sha256};

use super::link::{Link, Sent};
use super::{Camsim, Clip, Codec, Config};

const PATIENCE: Duration = Duration::from_secs(10);

fn farm(cameras: usize, clips: Vec<PathBuf>) -> Camsim {
    super::start(Config {
        cameras,
        clips,
        ..Config::default()
    })
    .expect("the farm starts")
}

async fn watch(camsim: &Camsim, number: usize) -> Result<Demuxed, retina::Error> {
    let url = camsim.url(number).parse().expect("a URL");
    let mut session = Session::describe(url, SessionOptions::default()).await?;
    let tcp = Transport::Tcp(TcpTransportOptions::default());
    session
        .setup(
            0,
            SetupOptions::default()
                .transport(tcp)
                .frame_format(FrameFormat::MP4),
        )
        .await?;
    session.play(PlayOptions::default()).await?.demuxed()
}

/// The next frame; `None` when the session ended or failed.
async fn next_frame(session: &mut Demuxed) -> Option<VideoFrame> {
    loop {
        match tokio::time::timeout(PATIENCE, session.next())
            .await
            .expect("a frame in time")?
        {
            Ok(CodecItem::VideoFrame(frame)) => return Some(frame),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

/// The next frames as (RTP timestamp, SHA-256).
async fn hashes(session: &mut Demuxed, frames: usize) -> Vec<(u32, [u8; 32])> {
    let mut hashes = Vec::new();
    while hashes.len() < frames {
        let frame = next_frame(session).await.expect("the session lasts");
        assert_eq!(frame.loss(), 0);
        hashes.push((
            frame.timestamp().timestamp() as u32,
            Sha256::digest(frame.data()).into(),
        ));
    }
    hashes
}

fn logged(camsim: &Camsim, number: usize) -> Vec<(u32, [u8; 32])> {
    camsim
        .logged_frames(number)
        .iter()
        .map(|frame| (frame.rtp_timestamp, frame.sha256))
        .collect()
}

fn ffmpeg(input: &[&str], arguments: &str, output: PathBuf) -> PathBuf {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-v", "error", "-y"])
        .args(input)
        .args(arguments.split_whitespace())
        .arg(&output);
    assert!(command.status().expect("ffmpeg runs").success());
    output
}

/// Encodes two seconds of a test pattern into `dir`.
fn encode(dir: &Path, name: &str, arguments: &str) -> PathBuf {
    ffmpeg(
        &["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-t", "2"],
        arguments,
        dir.join(name),
    )
}

/// Puts the same access units into another container.
fn remux(from: &Path, name: &str) -> PathBuf {
    ffmpeg(
        &["-i", from.to_str().expect("a plain name")],
        "-c copy",
        from.with_file_name(name),
    )
}

#[tokio::test]
async fn two_cameras_arrive_bit_exact_under_their_own_clocks() {
    let camsim = farm(2, Vec::new());
    let (mut first, mut second) = (
        watch(&camsim, 0).await.expect("plays"),
        watch(&camsim, 1).await.expect("plays"),
    );
    (0..2).for_each(|number| camsim.set_logging(number, true));
    let received = tokio::join!(hashes(&mut first, 80), hashes(&mut second, 80));
    for (number, received) in [received.0, received.1].into_iter().enumerate() {
        let sent = logged(&camsim, number);
        let begin = received
            .iter()
            .position(|frame| frame == &sent[0])
            .expect("what was sent arrives");
        assert!(begin <= 2, "only what came before the log may be missing from it");
        assert_eq!(received[begin..], sent[..received.len() - begin]);
        let steps: Vec<u32> = received
            .windows(2)
            .map(|pair| pair[1].0.wrapping_sub(pair[0].0))
            .collect();
        assert!(steps.iter().all(|&step| step == 3000), "{steps:?}");
        assert!(
            camsim
                .logged_frames(number)
                .iter()
                .any(|frame| frame.keyframe && frame.viewers == 1)
        );
    }
    let samples: Vec<[u8; 32]> = (0..camsim.clips()[0].len())
        .map(|index| Sha256::digest(camsim.clips()[0].sample(index).expect("in range")).into())
        .collect();
    assert!(logged(&camsim, 0).iter().all(|(_, hash)| samples.contains(hash)));
    assert_eq!((camsim.counters().active, camsim.counters().stalls), (2, 0));
    camsim.stop();
    // What was under way arrives.
    while next_frame(&mut first).await.is_some() {}
}

#[tokio::test]
async fn two_clients_of_one_camera_see_the_same_stream() {
    let camsim = farm(1, Vec::new());
    let mut first = watch(&camsim, 0).await.expect("plays");
    next_frame(&mut first).await.expect("a frame");
    let mut second = watch(&camsim, 0).await.expect("plays");
    let (first, second) = tokio::join!(hashes(&mut first, 60), hashes(&mut second, 30));
    let begin = first
        .iter()
        .position(|frame| frame == &second[0])
        .expect("the streams meet");
    let common = second.len().min(first.len() - begin);
    assert_eq!(first[begin..begin + common], second[..common]);
}

#[tokio::test]
async fn b_frames_keep_decoding_order_and_carry_presentation_times() {
    let dir = tempfile::tempdir().expect("a directory");
    let clip = encode(dir.path(), "b.h264", "-c:v libx264 -bf 3 -g 25");
    let camsim = farm(1, vec![clip]);
    let mut session = watch(&camsim, 0).await.expect("plays");
    camsim.set_logging(0, true);
    let received = hashes(&mut session, 40).await;
    let sent = logged(&camsim, 0);
    let begin = received
        .iter()
        .position(|frame| frame == &sent[0])
        .expect("what was sent arrives");
    assert_eq!(received[begin..], sent[..received.len() - begin]);
    assert!(
        received
            .windows(2)
            .any(|pair| (pair[1].0.wrapping_sub(pair[0].0) as i32) < 0),
        "nothing is reordered"
    );
}

#[test]
fn one_picture_makes_a_clip_and_so_do_fragments() {
    let dir = tempfile::tempdir().expect("a directory");
    let one = encode(dir.path(), "one.mp4", "-c:v libx264 -frames:v 1");
    let one = Clip::load(&one, None).expect("loads");
    assert_eq!((one.len(), one.duration_ticks), (1, 3000));
    let whole = encode(dir.path(), "whole.mp4", "-c:v libx264 -bf 2 -g 10");
    let fragmented = ffmpeg(
        &["-i", whole.to_str().expect("a plain name")],
        "-c copy -movflags frag_keyframe+empty_moov",
        dir.path().join("fragmented.mp4"),
    );
    let clips = [whole, fragmented].map(|path| Clip::load(&path, None).expect("loads"));
    let [whole, fragmented] = clips
        .each_ref()
        .map(|clip| (clip.len(), clip.duration_ticks, clip.sample(7)));
    assert_eq!(whole, fragmented);
    assert_eq!(whole.0, 50);
}

#[test]
fn picture_order_read_from_slices_equals_the_times_in_mp4() {
    let dir = tempfile::tempdir().expect("a directory");
    let kinds = [
        (
            "a",
            Codec::H264,
            "-c:v libx264 -bf 3 -b_strategy 2 -x264-params b-pyramid=normal:keyint=20",
        ),
        ("b", Codec::H264, "-c:v libx264 -bf 0 -profile:v baseline -g 10"),
        (
            "c",
            Codec::H265,
            "-c:v libx265 -x265-params log-level=none:keyint=20:bframes=4:b-pyramid=1:open-gop=1",
        ),
        (
            "d",
            Codec::H265,
            "-c:v libx265 -x265-params log-level=none:keyint=20:bframes=0",
        ),
    ];
    for (name, codec, arguments) in kinds {
        let extension = if codec == Codec::H264 { "h264" } else { "h265" };
        let mp4 = encode(dir.path(), &format!("{name}.mp4"), arguments);
        let raw = remux(&mp4, &format!("{name}.{extension}"));
        let (mp4, raw) = (
            Clip::load(&mp4, None).expect("loads"),
            Clip::load(&raw, Some(25)).expect("loads"),
        );
        assert_eq!(
            (mp4.codec(), raw.codec(), mp4.len()),
            (codec, codec, raw.len()),
            "{name}"
        );
        let times = |clip: &Clip| -> Vec<_> {
            clip.frames
                .iter()
                .map(|frame| (frame.send_ticks, frame.capture_ticks, frame.keyframe))
                .collect()
        };
        assert_eq!(times(&mp4), times(&raw), "{name}");
        assert_eq!(
            (mp4.duration_ticks, raw.duration_ticks),
            (180_000, 180_000),
            "{name}"
        );
        assert_eq!(mp4.parameter_sets, raw.parameter_sets, "{name}");
        assert!(
            (0..raw.len()).all(|index| mp4.sample(index) == raw.sample(index)),
            "{name}"
        );
        assert!(
            raw.frames
                .iter()
                .all(|frame| frame.capture_ticks <= frame.send_ticks as i64),
            "{name}"
        );
    }
}

#[tokio::test]
async fn h265_arrives_bit_exact() {
    let dir = tempfile::tempdir().expect("a directory");
    let clip = encode(
        dir.path(),
        "a.h265",
        "-c:v libx265 -x265-params log-level=none:keyint=25",
    );
    let camsim = farm(1, vec![clip]);
    let mut session = watch(&camsim, 0).await.expect("plays");
    camsim.set_logging(0, true);
    let received = hashes(&mut session, 60).await;
    let sent = logged(&camsim, 0);
    let begin = received
        .iter()
        .position(|frame| frame == &sent[0])
        .expect("what was sent arrives");
    assert_eq!(received[begin..], sent[..received.len() - begin]);
}

#[tokio::test]
async fn a_stalled_camera_is_silent_and_resumes_with_a_keyframe() {
    let camsim = farm(1, Vec::new());
    let mut session = watch(&camsim, 0).await.expect("plays");
    next_frame(&mut session).await.expect("a frame");
    camsim.set_stalled(0, true);
    let silence = async { while next_frame(&mut session).await.is_some() {} };
    assert!(
        tokio::time::timeout(Duration::from_millis(700), silence)
            .await
            .is_err()
    );
    assert_eq!(camsim.counters().active, 1);
    camsim.set_stalled(0, false);
    let frame = next_frame(&mut session).await.expect("the session lasts");
    assert!(frame.is_random_access_point());
    assert_eq!(frame.loss(), 0);
}

#[tokio::test]
async fn a_camera_that_is_down_cuts_its_sessions_and_no_others() {
    let camsim = farm(2, Vec::new());
    let (mut down, mut other) = (
        watch(&camsim, 0).await.expect("plays"),
        watch(&camsim, 1).await.expect("plays"),
    );
    camsim.set_down(0, true);
    while next_frame(&mut down).await.is_some() {}
    assert!(watch(&camsim, 0).await.is_err());
    hashes(&mut other, 20).await;
    camsim.set_down(0, false);
    let mut back = watch(&camsim, 0).await.expect("plays");
    next_frame(&mut back).await.expect("a frame");
    camsim.drop_sessions(0);
    while next_frame(&mut back).await.is_some() {}
}

#[tokio::test]
async fn a_switched_clip_brings_new_parameters_into_the_running_session() {
    let dir = tempfile::tempdir().expect("a directory");
    let other = encode(dir.path(), "other.h264", "-c:v libx264 -bf 2 -g 25");
    let other = Clip::load(&other, None).expect("loads");
    let camsim = farm(1, Vec::new());
    let mut session = watch(&camsim, 0).await.expect("plays");
    let mut last = next_frame(&mut session)
        .await
        .expect("a frame")
        .timestamp()
        .timestamp();
    camsim.switch_clip(0, other.clone());
    let changed = loop {
        let frame = next_frame(&mut session).await.expect("the session lasts");
        assert_eq!(frame.loss(), 0);
        assert!(frame.timestamp().timestamp() > last, "timestamps go on");
        last = frame.timestamp().timestamp();
        if frame.has_new_parameters() {
            break frame;
        }
    };
    assert!(changed.is_random_access_point());
    assert_eq!(Some(changed.into_data()), other.sample(0));
    let Some(retina::codec::ParametersRef::Video(video)) = session.streams()[0].parameters() else {
        panic!("no video parameters")
    };
    assert_eq!(video.pixel_dimensions(), (320, 240));
    let mut late = watch(&camsim, 0).await.expect("plays the new clip");
    next_frame(&mut late).await.expect("a frame");
}

#[tokio::test]
async fn lost_frames_show_as_missing_packets() {
    let camsim = farm(1, Vec::new());
    let mut session = watch(&camsim, 0).await.expect("plays");
    next_frame(&mut session).await.expect("a frame");
    camsim.lose_frames(0, 2);
    let mut lost = 0;
    for _ in 0..15 {
        lost += next_frame(&mut session).await.expect("the session lasts").loss();
    }
    assert!(lost >= 2, "{lost}");
}

#[tokio::test]
async fn sender_reports_carry_the_cameras_clock() {
    let camsim = farm(1, Vec::new());
    camsim.set_wall_offset_us(0, 3_600_000_000);
    let mut session = watch(&camsim, 0).await.expect("plays");
    loop {
        let item = tokio::time::timeout(PATIENCE, session.next())
            .await
            .expect("in time")
            .expect("lasts");
        let CodecItem::Rtcp(packet) = item.expect("no error") else {
            continue;
        };
        let reports: Vec<_> = packet
            .pkts()
            .filter_map(|packet| packet.as_sender_report().ok().flatten())
            .collect();
        let report = reports.first().expect("a sender report");
        #[expect(
            clippy::disallowed_methods,
            reason = "the camera's clock is compared with the host's"
        )]
        let host = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        let camera = (report.ntp_timestamp().0 >> 32) as i64 - 2_208_988_800;
        assert!((camera - host.as_secs() as i64 - 3600).abs() <= 1);
        return;
    }
}

#[tokio::test]
async fn sessions_are_cut_after_the_configured_time() {
    let camsim = super::start(Config {
        drop_after: Some(Duration::from_millis(300)),
        ..Config::default()
    });
    let camsim = camsim.expect("the farm starts");
    for _ in 0..2 {
        let mut session = watch(&camsim, 0).await.expect("plays");
        let mut frames = 0;
        while next_frame(&mut session).await.is_some() {
            frames += 1;
        }
        assert!((3..=12).contains(&frames), "{frames}");
    }
}

#[test]
fn requests_that_cannot_be_met_are_answered_with_the_reason() {
    let camsim = farm(1, Vec::new());
    let url = camsim.url(0);
    let cases = [
        (
            "OPTIONS * RTSP/1.0\r\nCSeq: 7\r\n\r\n".to_owned(),
            "RTSP/1.0 200 OK\r\nCSeq: 7",
        ),
        (
            format!("DESCRIBE {url}7 RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
            "RTSP/1.0 404 ",
        ),
        (
            format!("SETUP {url}/trackID=0 RTSP/1.0\r\nTransport: RTP/AVP;unicast;client_port=1-2\r\n\r\n"),
            "RTSP/1.0 461 ",
        ),
        (format!("PLAY {url} RTSP/1.0\r\n\r\n"), "RTSP/1.0 455 "),
        (format!("RECORD {url} RTSP/1.0\r\n\r\n"), "RTSP/1.0 501 "),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "RTSP/1.0 400 "),
    ];
    for (request, expected) in cases {
        let mut socket = TcpStream::connect(camsim.local_addr()).expect("connects");
        socket.write_all(request.as_bytes()).expect("sends");
        let mut answer = vec![0; 200];
        let bytes = socket.read(&mut answer).expect("answers");
        let answer = String::from_utf8_lossy(&answer[..bytes]);
        assert!(answer.starts_with(expected), "{request} gave {answer}");
    }
}

#[test]
fn a_client_that_does_not_read_is_cut_once_too_far_behind() {
    let message = vec![0; 1 << 20];
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let socket = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (_reader, slow) = (listener.accept().expect("accepts"), Link::new(socket));
    let mut sent: Vec<_> = (0..40).map(|_| slow.send(&message)).collect();
    sent.dedup();
    sent.retain(|&sent| sent != Sent::Whole);
    assert_eq!(sent, [Sent::Stalled, Sent::Overrun, Sent::Closed]);
}

#[test]
fn what_makes_no_clip_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let cases: [(&str, &[u8], &str); 4] = [
        ("empty", b"", "neither MP4 nor Annex B"),
        ("text", b"hello", "neither MP4 nor Annex B"),
        (
            "cut.h264",
            &[0, 0, 1, 0x65, 0x88, 0x80],
            "before any sequence parameter set",
        ),
        ("cut.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", "no moov"),
    ];
    for (name, content, reason) in cases {
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("writes");
        let error = Clip::load(&path, None).err().expect("refused").to_string();
        assert!(error.contains(reason), "{name}: {error}");
    }
    let missing = super::start(Config {
        clips: vec![dir.path().join("missing")],
        ..Config::default()
    });
    assert_eq!(
        missing.err().expect("refused").kind(),
        std::io::ErrorKind::InvalidInput
    );
    assert!(
        super::start(Config {
            cameras: 0,
            ..Config::default()
        })
        .is_err()
    );
}
