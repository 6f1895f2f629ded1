//! Importing files that ffmpeg made, told apart from what ffprobe says of them; and files that are broken.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use archive::{TrackKind, WallTime};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tierline_ingest::event::{Event, Sample, TrackParams};
use tierline_ingest::import::{Import, ImportError};

const START: i64 = 1_767_225_600_000_000;

fn start() -> WallTime {
    WallTime::from_micros(START)
}

/// Encodes four seconds of test pictures and sound.
fn encode(dir: &Path, name: &str, options: &str) -> PathBuf {
    let path = dir.join(name);
    let done = Command::new("ffmpeg")
        .args("-v error -y -f lavfi -i testsrc=s=160x120:r=25:d=4 -f lavfi -i sine=d=4:r=44100 -pix_fmt yuv420p".split(' '))
        .args(options.split(' '))
        .arg(&path)
        .status()
        .expect("ffmpeg runs");
    assert!(done.success(), "{name}");
    path
}

fn cut(from: &Path, name: &str, options: &str) -> PathBuf {
    let path = from.with_file_name(name);
    let mut command = Command::new("ffmpeg");
    command
        .args(["-v", "error", "-y", "-ss", "1.4", "-i"])
        .arg(from)
        .args(options.split(' '))
        .arg(&path);
    assert!(command.status().expect("ffmpeg runs").success(), "{name}");
    path
}

fn read_all<R: std::io::Read + std::io::Seek>(
    mut import: Import<R>,
) -> (Vec<TrackParams>, Vec<Sample>, Option<ImportError>) {
    let (mut tracks, mut samples) = (Vec::new(), Vec::new());
    loop {
        match import.next_event() {
            Ok(Some(Event::Start {
                tracks: t,
                new_run: true,
            })) => tracks = t,
            Ok(Some(Event::Sample(s))) => samples.push(s),
            Ok(Some(other)) => panic!("{other:?}"),
            Ok(None) => return (tracks, samples, None),
            Err(e) => return (tracks, samples, Some(e)),
        }
    }
}

fn packets(path: &Path, stream: &str) -> Vec<Value> {
    let out = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            stream,
            "-show_packets",
            "-show_data_hash",
            "sha256",
            "-of",
            "json",
        ])
        .arg(path)
        .output()
        .expect("ffprobe runs");
    let json: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    json["packets"].as_array().cloned().unwrap_or_default()
}

fn seconds(packet: &Value) -> f64 {
    packet["pts_time"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("a number")
}

/// The samples are those that ffprobe sees, in the same order, at the same times.
fn assert_as_ffprobe(path: &Path, kind: TrackKind, zero: f64, tracks: &[TrackParams], samples: &[Sample]) {
    let track = tracks.iter().find(|t| t.kind == kind).expect("the track");
    let ours: Vec<&Sample> = samples.iter().filter(|s| s.track == kind).collect();
    let stream = if kind == TrackKind::Video { "v" } else { "a" };
    let theirs: Vec<Value> = packets(path, stream)
        .into_iter()
        .filter(|p| kind == TrackKind::Video || seconds(p) >= zero - 1e-6)
        .collect();
    assert_eq!(ours.len(), theirs.len(), "{}", path.display());
    for (i, (s, p)) in ours.iter().zip(&theirs).enumerate() {
        let hash: String = Sha256::digest(&s.data)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(
            p["data_hash"],
            format!("SHA256:{hash}"),
            "{}: {stream} {i}",
            path.display()
        );
        let pts = s.pts as f64 / f64::from(track.timescale.get());
        assert!(
            (pts - (seconds(p) - zero)).abs() < 1e-4,
            "{stream} {i}: {pts}, {} - {zero}",
            seconds(p)
        );
        assert_eq!(
            s.keyframe,
            p["flags"].as_str().is_some_and(|f| f.contains('K')),
            "{stream} {i}"
        );
        let wall_us = s.arrival_wall.micros() - START;
        assert!(
            (wall_us as f64 / 1e6 - (seconds(p) - zero.max(0.0))).abs() < 1e-4,
            "{stream} {i}: {wall_us}"
        );
    }
}

fn check(path: &Path, codec: &str) -> Vec<Sample> {
    let import = Import::open(path, start()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(import.skipped().is_empty());
    let (tracks, samples, error) = read_all(import);
    assert!(error.is_none(), "{}: {error:?}", path.display());
    assert_eq!(tracks[0].codec, codec, "{}", path.display());
    assert_eq!((tracks[0].width, tracks[0].height), (160, 120));
    assert_eq!((&*tracks[1].codec, tracks[1].sample_rate), ("mp4a.40.2", 44_100));
    let zero = packets(path, "v").first().map(seconds).expect("a packet");
    assert_as_ffprobe(path, TrackKind::Video, zero, &tracks, &samples);
    assert_as_ffprobe(path, TrackKind::Audio, zero, &tracks, &samples);
    samples
}

#[test]
fn every_layout_that_ffmpeg_writes_is_read_sample_by_sample() {
    let dir = tempfile::tempdir().expect("a directory");
    let x264 = "-c:v libx264 -bf 3 -g 25 -preset ultrafast -x264-params bframes=3:b-adapt=0 -c:a aac";
    for (name, options) in [
        ("end.mp4", ""),
        ("front.mp4", " -movflags +faststart"),
        ("fragments.mp4", " -movflags +frag_keyframe+empty_moov"),
        ("mixed.mp4", " -movflags +frag_keyframe"),
        (
            "cmaf.mp4",
            " -movflags +frag_keyframe+empty_moov+default_base_moof+separate_moof",
        ),
        ("negative.mp4", " -movflags +faststart+negative_cts_offsets"),
        ("quick.mov", " -tag:v avc1"),
    ] {
        let path = encode(dir.path(), name, &format!("{x264}{options}"));
        if name == "quick.mov" {
            // Its sound is described in QuickTime's own way.
            let import = Import::open(&path, start()).expect("a movie");
            assert_eq!(
                import.tracks().len() + import.skipped().len(),
                2,
                "{:?}",
                import.skipped()
            );
            continue;
        }
        let samples = check(&path, "avc1.4D400B");
        assert!(
            samples.windows(2).any(|w| w[0].track != w[1].track),
            "{name}: tracks are interleaved"
        );
        let one_second_late = |s: &&Sample| s.arrival_wall.micros() > START + 3_000_000;
        let last_key = samples
            .iter()
            .rposition(|s| s.keyframe && s.track == TrackKind::Video)
            .expect("some");
        assert!(
            samples
                .iter()
                .position(|s| one_second_late(&s))
                .is_some_and(|i| i + 60 > last_key),
            "{name}"
        );
    }
}

#[test]
fn h265_is_read_in_both_layouts() {
    let dir = tempfile::tempdir().expect("a directory");
    let x265 = "-c:v libx265 -preset ultrafast -x265-params log-level=error:bframes=3 -tag:v hvc1 -c:a aac";
    check(&encode(dir.path(), "a.mp4", x265), "hvc1.1.6.L30.90");
    check(
        &encode(
            dir.path(),
            "b.mp4",
            &format!("{x265} -movflags +frag_keyframe+empty_moov"),
        ),
        "hvc1.1.6.L30.90",
    );
}

#[test]
fn a_cut_by_edit_list_begins_at_the_start_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let whole = encode(
        dir.path(),
        "whole.mp4",
        "-c:v libx264 -bf 0 -g 50 -preset ultrafast -c:a aac",
    );
    let path = cut(&whole, "cut.mp4", "-c copy");
    let (_, samples, error) = read_all(Import::open(&path, start()).expect("a file"));
    assert!(error.is_none());
    let video: Vec<_> = samples.iter().filter(|s| s.track == TrackKind::Video).collect();
    assert!(video[0].keyframe && video[0].pts == 0);
    // The keyframe at 0 s is needed to show the picture at 1.4 s, which stands at the start time.
    let before = video.iter().filter(|s| s.arrival_wall < start()).count();
    assert_eq!((before, video[35].arrival_wall), (35, start()));
}

#[test]
fn what_cannot_be_imported_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    for (options, why) in [
        ("-c:v mpeg4 -c:a aac", "`mp4v`"),
        ("-vn -c:a aac", "no H.264 or H.265 video"),
    ] {
        let path = encode(dir.path(), "x.mp4", options);
        let error = Import::open(&path, start()).err().expect("refused");
        assert!(
            matches!(&error, ImportError::Unsupported(text) if text.contains(why)),
            "{error}"
        );
    }
    let path = encode(
        dir.path(),
        "y.mp4",
        "-c:v libx264 -preset ultrafast -c:a libmp3lame",
    );
    let import = Import::open(&path, start()).expect("a file");
    assert_eq!((import.tracks().len(), import.skipped().len()), (1, 1));
    for bytes in [&b""[..], b"x", b"not a movie at all, just text", &[0; 64]] {
        assert!(Import::new(Cursor::new(bytes), start()).is_err(), "{bytes:?}");
    }
    assert!(matches!(
        Import::open(&dir.path().join("none"), start()),
        Err(ImportError::Io(_))
    ));
}

#[test]
fn a_file_that_was_cut_short_gives_what_it_has() {
    let dir = tempfile::tempdir().expect("a directory");
    let x264 = "-c:v libx264 -g 25 -preset ultrafast -c:a aac -movflags";
    for layout in ["+faststart", "+frag_keyframe+empty_moov"] {
        let bytes = std::fs::read(encode(dir.path(), "a.mp4", &format!("{x264} {layout}"))).expect("a file");
        let (_, whole, _) = read_all(Import::new(Cursor::new(&bytes[..]), start()).expect("a file"));
        let half = &bytes[..bytes.len() * 2 / 3];
        let (_, samples, error) = read_all(Import::new(Cursor::new(half), start()).expect("a file"));
        assert!(
            matches!(error, Some(ImportError::Truncated { .. })),
            "{layout}: {error:?}"
        );
        assert!(
            samples.len() > whole.len() / 3 && samples.len() < whole.len(),
            "{layout}: {}",
            samples.len()
        );
        assert!(
            samples
                .iter()
                .zip(&whole)
                .all(|(a, b)| a.data == b.data && a.pts == b.pts)
        );
    }
}

#[test]
fn mutated_files_neither_panic_nor_hang_nor_grow() {
    let dir = tempfile::tempdir().expect("a directory");
    let x264 = "-t 1 -c:v libx264 -bf 2 -g 12 -preset ultrafast -crf 51 -c:a aac -b:a 16k -movflags";
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 1).expect("63 bits") % below
    };
    let (mut good, mut bad) = (0, 0);
    for layout in ["+faststart", "+frag_keyframe+empty_moov"] {
        let bytes = std::fs::read(encode(dir.path(), "m.mp4", &format!("{x264} {layout}"))).expect("a file");
        let boxes = bytes.windows(4).position(|w| w == b"mdat").expect("an mdat");
        for _ in 0..4000 {
            let mut mutant = bytes.clone();
            for _ in 0..=next(4) {
                let within = if next(4) == 0 { bytes.len() } else { boxes };
                let any = u8::try_from(next(256)).expect("a byte");
                mutant[next(within)] = [0, 1, 0x7f, 0x80, 0xff, any][next(6)];
            }
            let begin = Instant::now();
            let outcome = Import::new(Cursor::new(mutant), start()).map(read_all);
            match outcome {
                Ok((_, samples, None)) => {
                    good += 1;
                    assert!(samples.iter().map(|s| s.data.len()).sum::<usize>() <= bytes.len());
                }
                Ok((_, samples, Some(_))) => {
                    bad += 1;
                    assert!(samples.iter().map(|s| s.data.len()).sum::<usize>() <= bytes.len());
                }
                Err(_) => bad += 1,
            }
            assert!(
                begin.elapsed() < Duration::from_secs(2),
                "took {:?}",
                begin.elapsed()
            );
        }
    }
    assert!(good > 1000 && bad > 1000, "{good} good, {bad} bad");
}
