//! What players see of an export, told by ffmpeg and by another demuxer.

use std::sync::mpsc;
use std::time::Duration;

use super::footage::{Archive, Clip, pictures, probe, run, sound, start};
use crate::export::ExportError;
use crate::time::WallTime;

const H264: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25 -keyint_min 25 -sc_threshold 0";
const TONE: &str = "-f lavfi -i sine=frequency=440:beep_factor=4:sample_rate=48000:duration=6";
// Without noise substitution, which depends on what was decoded before.
const AAC: &str = "-c:a aac -aac_pns 0 -ac 1 -b:a 64k";

fn picture_source(size: &str, seconds: u32) -> String {
    format!("-f lavfi -i testsrc2=size={size}:rate=25:duration={seconds}")
}

fn h264_with_audio() -> Clip {
    Clip::make(&format!(
        "{} {TONE} {H264} -bf 0 {AAC}",
        picture_source("320x180", 6)
    ))
}

/// When a picture that is shown at `ticks` was taken.
fn taken(begin: WallTime, ticks: i64) -> WallTime {
    begin.plus_micros(ticks * 100 / 9)
}

/// Exports from picture `a` up to, but without, picture `b` and compares what is decoded.
fn assert_shows_exactly(
    archive: &Archive,
    clip: &Clip,
    source: &[String],
    begin: WallTime,
    a: usize,
    b: usize,
) {
    let shown = clip.shown();
    let to = shown
        .get(b)
        .map_or(taken(begin, shown[b - 1] + 1), |t| taken(begin, *t));
    let assembly = archive.assemble(taken(begin, shown[a]), to).expect("assembles");
    let path = archive.export(&assembly);
    assert_eq!(pictures(&path), source[a..b], "pictures {a}..{b}");
    let times = probe(&path, "v:0", "frame=pts_time");
    let seconds: Vec<f64> = times.iter().map(|t| t.parse().expect("number")).collect();
    let wanted: Vec<f64> = shown[a..b]
        .iter()
        .map(|t| (t - shown[a]) as f64 / 90_000.0)
        .collect();
    assert_eq!(seconds.len(), wanted.len());
    for (seen, wanted) in seconds.iter().zip(&wanted) {
        assert!((seen - wanted).abs() < 2e-5, "{a}..{b}: {seen} {wanted}");
    }
    assert_eq!(assembly.shown().from(), taken(begin, shown[a]));
}

fn assert_every_cut_is_exact(clip: &Clip, pictures_max: usize, cuts: &[(usize, usize)]) {
    let source = pictures(&clip.path);
    assert_eq!(source.len(), clip.shown().len());
    let mut archive = Archive::new();
    archive.record(clip, start(), pictures_max);
    for (a, b) in cuts {
        assert_shows_exactly(&archive, clip, &source, start(), *a, *b);
    }
}

#[test]
fn pictures_without_reordering_are_cut_inside_their_gops() {
    let clip = h264_with_audio();
    let n = clip.shown().len();
    assert_every_cut_is_exact(
        &clip,
        usize::MAX,
        &[(0, n), (7, 61), (25, 50), (24, 26), (40, 41), (n - 1, n)],
    );
}

#[test]
fn reordered_pictures_are_cut_inside_their_gops() {
    let args = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 30 -bf 3 -b_strategy 0 -sc_threshold 0";
    let clip = Clip::make(&format!("{} {args}", picture_source("320x180", 6)));
    assert!(
        clip.shown() != clip.video.samples.iter().map(|s| s.pts).collect::<Vec<_>>(),
        "has B-frames"
    );
    let n = clip.shown().len();
    let cuts: Vec<_> = (28..34).flat_map(|a| (61..64).map(move |b| (a, b))).collect();
    assert_every_cut_is_exact(
        &clip,
        usize::MAX,
        &[&cuts[..], &[(0, n), (3, 4), (100, 149)]].concat(),
    );
}

#[test]
fn a_variable_frame_rate_is_kept() {
    let select = r"-vf select='not(mod(n\,3))+gt(mod(n\,7)\,4)' -fps_mode vfr";
    let clip = Clip::make(&format!("{} {select} {H264} -bf 2", picture_source("320x180", 6)));
    let n = clip.shown().len();
    assert_every_cut_is_exact(&clip, usize::MAX, &[(0, n), (11, 43), (30, 31)]);
}

#[test]
fn hevc_with_open_gops_is_cut_anywhere() {
    let args = "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params \
                log-level=none:keyint=25:min-keyint=25:bframes=3:b-adapt=0:open-gop=1:scenecut=0:pools=1";
    let clip = Clip::make(&format!("{} {args}", picture_source("320x180", 5)));
    let keyframes = clip.video.samples.iter().filter(|s| s.keyframe).count();
    assert!(keyframes >= 4, "{keyframes} keyframes");
    let n = clip.shown().len();
    let cuts: Vec<_> = (20..30).map(|a| (a, a + 31)).collect();
    assert_every_cut_is_exact(
        &clip,
        usize::MAX,
        &[&cuts[..], &[(0, n), (49, 51), (60, n - 1)]].concat(),
    );
}

#[test]
fn a_gop_that_goes_on_in_the_next_fragment_is_cut_there() {
    let clip = Clip::make(&format!(
        "{} {H264} -g 50 -keyint_min 50 -bf 0",
        picture_source("320x180", 6)
    ));
    assert_every_cut_is_exact(&clip, 20, &[(0, 150), (25, 35), (45, 120), (110, 149)]);
}

#[test]
fn without_the_fragment_before_an_export_begins_at_the_first_keyframe() {
    let clip = Clip::make(&format!(
        "{} {H264} -g 50 -keyint_min 50 -bf 0",
        picture_source("320x180", 6)
    ));
    let source = pictures(&clip.path);
    let mut archive = Archive::new();
    archive.record(&clip, start(), 20);
    archive.fragments.drain(..2);
    let shown = clip.shown();
    let assembly = archive
        .assemble(taken(start(), shown[42]), taken(start(), shown[90]))
        .expect("assembles");
    assert_eq!(pictures(&archive.export(&assembly)), source[50..90]);
    assert_eq!(assembly.shown().from(), taken(start(), shown[50]));
    let nothing = archive.assemble(taken(start(), shown[42]), taken(start(), shown[50]));
    assert_eq!(nothing.err(), Some(ExportError::Nothing));
}

#[test]
fn sound_is_cut_with_the_picture_to_the_sample() {
    let clip = h264_with_audio();
    let mut archive = Archive::new();
    archive.record(&clip, start(), usize::MAX);
    let source = sound(&clip.path);
    let shown = clip.shown();
    for (a, b) in [(0, 150), (7, 61), (33, 99)] {
        let to = shown.get(b).map_or(WallTime::MAX, |t| taken(start(), *t));
        let to = to.min(start().plus_micros(6_000_000));
        let assembly = archive.assemble(taken(start(), shown[a]), to).expect("assembles");
        let heard = sound(&archive.export(&assembly));
        let from = shown[a] as usize * 48 / 90;
        // The first packet of the clip is the encoder's run-in and was not recorded.
        let skip = if a == 0 { 2048 } else { 0 };
        let wanted = &source[from..(from + heard.len()).min(source.len())];
        assert!(
            heard.len().abs_diff((b - a) * 1920) <= 1024,
            "{} samples of sound for {} pictures",
            heard.len(),
            b - a
        );
        let off = heard
            .iter()
            .zip(wanted)
            .enumerate()
            .skip(skip)
            .find(|(_, (h, w))| h.abs_diff(**w) > 2);
        assert_eq!(
            off,
            None,
            "{a}..{b}: sound differs; {} heard, {} recorded",
            heard.len(),
            wanted.len()
        );
    }
}

#[test]
fn a_gap_is_played_across_with_sound_in_step() {
    let clip = h264_with_audio();
    let source = pictures(&clip.path);
    let mut archive = Archive::new();
    let second = start().plus_micros(3_600_000_000);
    archive.record(&clip, start(), usize::MAX);
    archive.record(&clip, second, usize::MAX);
    let shown = clip.shown();
    let assembly = archive
        .assemble(taken(start(), shown[110]), taken(second, shown[33]))
        .expect("assembles");
    let path = archive.export(&assembly);
    assert_eq!(pictures(&path), [&source[110..], &source[..33]].concat());
    let times = probe(&path, "v:0", "frame=pts_time");
    assert_eq!(
        times.last().map(String::as_str),
        Some("2.880000"),
        "73 pictures without a hole"
    );

    // Every packet of sound of the second run stands where its pictures stand.
    let of_clip = probe(&clip.path, "a:0", "packet=pts_time,data_hash");
    let exported = probe(&path, "a:0", "packet=pts_time,data_hash");
    // Lines beside these tell what is cut off.
    let split = |line: &str| {
        line.split_once(',')
            .and_then(|(t, h)| Some((t.parse::<f64>().ok()?, h.to_owned())))
    };
    let mut second_run = 0;
    for (at, hash) in exported
        .iter()
        .filter_map(|l| split(l))
        .filter(|(at, _)| *at >= 40.0 / 25.0)
    {
        let recorded = of_clip.iter().filter_map(|l| split(l)).find(|(_, h)| *h == hash);
        let (recorded, _) = recorded.expect("a packet of the clip");
        assert!((at - 40.0 / 25.0 - recorded).abs() < 1e-4, "{at} {recorded}");
        second_run += 1;
    }
    assert!(second_run > 55, "{second_run} packets");
    let comment = run(
        "ffprobe",
        &[
            "-v",
            "error",
            "-show_entries",
            "format_tags",
            path.to_str().expect("utf-8"),
        ],
    );
    let gap = r#""gaps":[{"from":"2026-11-20T08:00:06.000000Z","to":"2026-11-20T09:00:00.000000Z"}]"#;
    assert!(comment.contains(gap), "{comment}");
    assert!(
        comment.contains("creation_time=2026-11-20T08:00:04.000000Z"),
        "{comment}"
    );
}

#[test]
fn sound_that_begins_later_starts_with_an_empty_edit() {
    let silent = Clip::make(&format!("{} {H264} -bf 0", picture_source("320x180", 2)));
    let clip = h264_with_audio();
    let mut archive = Archive::new();
    archive.record(&silent, start(), usize::MAX);
    archive.record(&clip, start().plus_micros(2_000_000), usize::MAX);
    let assembly = archive
        .assemble(start(), start().plus_micros(5_000_000))
        .expect("assembles");
    let path = archive.export(&assembly);
    assert_eq!(pictures(&path).len(), 125);
    let first = probe(&path, "a:0", "packet=pts_time")
        .first()
        .and_then(|t| t.parse::<f64>().ok());
    assert!(first.is_some_and(|t| (2.0..2.05).contains(&t)), "{first:?}");
}

#[test]
fn new_parameter_sets_get_their_own_sample_entry() {
    let a = Clip::make(&format!(
        "{} {H264} -bf 0 -profile:v baseline",
        picture_source("320x180", 3)
    ));
    let b = Clip::make(&format!(
        "{} -c:v libx264 -preset medium -pix_fmt yuv420p -g 25 -refs 4 -profile:v high",
        picture_source("320x180", 3)
    ));
    let mut archive = Archive::new();
    archive.record(&a, start(), usize::MAX);
    archive.record(&b, start().plus_micros(3_000_000), usize::MAX);
    let (first, second) = (pictures(&a.path), pictures(&b.path));
    let assembly = archive
        .assemble(start().plus_micros(1_000_000), start().plus_micros(5_000_000))
        .expect("assembles");
    let path = archive.export(&assembly);
    assert_eq!(pictures(&path), [&first[25..], &second[..50]].concat());
}

#[test]
fn a_new_picture_size_is_decoded_at_that_size() {
    let a = Clip::make(&format!("{} {H264} -bf 0", picture_source("320x180", 2)));
    let b = Clip::make(&format!("{} {H264} -bf 0", picture_source("480x272", 2)));
    let mut archive = Archive::new();
    archive.record(&a, start(), usize::MAX);
    archive.record(&b, start().plus_micros(2_000_000), usize::MAX);
    let assembly = archive
        .assemble(start(), start().plus_micros(4_000_000))
        .expect("assembles");
    let sizes = probe(&archive.export(&assembly), "v:0", "frame=width,height");
    assert_eq!(sizes.len(), 100);
    assert!(
        sizes[..50].iter().all(|s| s == "320,180") && sizes[50..].iter().all(|s| s == "480,272"),
        "{sizes:?}"
    );
}

#[test]
fn another_demuxer_reads_the_same_samples() {
    let clip = h264_with_audio();
    let mut archive = Archive::new();
    archive.record(&clip, start(), usize::MAX);
    let assembly = archive
        .assemble(start(), start().plus_micros(4_000_000))
        .expect("assembles");
    let bytes = archive.bytes(&assembly, 0..u64::MAX);
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let len = bytes.len() as u64;
        let mut reader = mp4::Mp4Reader::read_header(std::io::Cursor::new(bytes), len).expect("header");
        let read = |reader: &mut mp4::Mp4Reader<_>, track| -> Vec<(Vec<u8>, bool)> {
            let count = reader.sample_count(track).expect("count");
            let sample = |i| reader.read_sample(track, i).expect("reads").expect("there");
            (1..=count)
                .map(sample)
                .map(|s| (s.bytes.to_vec(), s.is_sync))
                .collect()
        };
        let _ = done.send((read(&mut reader, 1), read(&mut reader, 2)));
    });
    let (video, audio) = wait.recv_timeout(Duration::from_secs(30)).expect("reads in time");
    let recorded = |coded: &super::footage::Coded, n| -> Vec<(Vec<u8>, bool)> {
        coded
            .samples
            .iter()
            .filter(|s| s.pts >= 0)
            .take(n)
            .map(|s| (s.data.clone(), s.keyframe))
            .collect()
    };
    assert_eq!(video.len(), 100);
    assert!(video == recorded(&clip.video, 100));
    assert!((187..=189).contains(&audio.len()), "{}", audio.len());
    assert!(audio == recorded(clip.audio.as_ref().expect("audio"), audio.len()));
}

#[test]
fn hevc_parameters_change_there_and_back() {
    let hevc = |ctu: u32| {
        Clip::make(&format!(
            "{} -c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params log-level=none:keyint=25:ctu={ctu}:pools=1",
            picture_source("320x180", 2)
        ))
    };
    let (a, b) = (hevc(32), hevc(16));
    let mut archive = Archive::new();
    for (clip, at) in [(&a, 0), (&b, 2), (&a, 4)] {
        archive.record(clip, start().plus_micros(at * 1_000_000), usize::MAX);
    }
    let (first, second) = (pictures(&a.path), pictures(&b.path));
    let assembly = archive
        .assemble(start().plus_micros(400_000), start().plus_micros(5_600_000))
        .expect("assembles");
    let path = archive.export(&assembly);
    assert_eq!(
        pictures(&path),
        [&first[10..], &second[..], &first[..40]].concat()
    );
}
