//! H.264 with B-frames, made by ffmpeg, cut into GOPs.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use archive::{Timescale, Track, TrackKind};
use bytes::Bytes;

/// The length of each GOP.
pub const GOP_SECONDS: i64 = 2;

#[derive(Clone)]
pub struct Sample {
    /// In ticks of 90 kHz since the beginning of its GOP.
    pub pts: i64,
    pub keyframe: bool,
    pub data: Bytes,
}

pub struct Clip {
    pub track: Track,
    pub gops: Vec<Vec<Sample>>,
}

impl Clip {
    /// Five GOPs of 320×180.
    pub fn small() -> Arc<Self> {
        static CLIP: OnceLock<Arc<Clip>> = OnceLock::new();
        CLIP.get_or_init(|| Arc::new(Self::make("320x180", "200k")))
            .clone()
    }

    /// The same with another picture size: other parameter sets.
    pub fn other() -> Arc<Self> {
        static CLIP: OnceLock<Arc<Clip>> = OnceLock::new();
        CLIP.get_or_init(|| Arc::new(Self::make("640x360", "400k")))
            .clone()
    }

    pub fn make(size: &str, rate: &str) -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("clip.mp4");
        let source = format!("testsrc2=size={size}:rate=25:duration=10");
        let done = Command::new("ffmpeg")
            .args([
                "-loglevel",
                "error",
                "-f",
                "lavfi",
                "-i",
                &source,
                "-c:v",
                "libx264",
                "-preset",
                "veryfast",
            ])
            .args([
                "-profile:v",
                "main",
                "-b:v",
                rate,
                "-maxrate",
                rate,
                "-bufsize",
                rate,
                "-bf",
                "2",
            ])
            .args([
                "-x264-params",
                "keyint=50:min-keyint=50:scenecut=0:open-gop=0",
                "-pix_fmt",
                "yuv420p",
            ])
            .args(["-video_track_timescale", "90000"])
            .arg(&path)
            .status()
            .expect("ffmpeg");
        assert!(done.success());
        Self::read(&path)
    }

    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).expect("clip");
        let mut mp4 = mp4::Mp4Reader::read_header(std::io::Cursor::new(&bytes), bytes.len() as u64)
            .expect("an MP4 file");
        let (width, height) = mp4
            .tracks()
            .values()
            .next()
            .map(|t| (t.width(), t.height()))
            .expect("a track");
        let mut gops: Vec<Vec<Sample>> = Vec::new();
        for n in 1..=mp4.sample_count(1).expect("count") {
            let sample = mp4.read_sample(1, n).expect("readable").expect("a sample");
            if sample.is_sync {
                gops.push(Vec::new());
            }
            // The first picture is shown after the encoder's delay of two frames.
            let delay = 2 * 3600;
            let start = (gops.len() as i64 - 1) * GOP_SECONDS * 90_000;
            let pts = sample.start_time as i64 + i64::from(sample.rendering_offset) - delay - start;
            let gop = gops.last_mut().expect("begins with a keyframe");
            gop.push(Sample {
                pts,
                keyframe: sample.is_sync,
                data: sample.bytes,
            });
        }
        assert!(
            gops.iter().all(|gop| gop.len() == 50 && gop[0].pts == 0),
            "GOPs of two seconds"
        );
        let entry = entry(&bytes);
        let track = Track {
            id: 1,
            kind: TrackKind::Video,
            timescale: Timescale::new(90_000).expect("not zero"),
            codec: codec(&entry),
            width,
            height,
            channels: 0,
            sample_entry: entry,
        };
        Self { track, gops }
    }
}

/// The first sample entry in `stsd`.
fn entry(bytes: &[u8]) -> Bytes {
    let stsd = bytes.windows(4).position(|w| w == b"stsd").expect("stsd");
    let at = stsd + 12;
    let size = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("size")) as usize;
    assert_eq!(&bytes[at + 4..at + 8], b"avc1");
    Bytes::copy_from_slice(&bytes[at..at + size])
}

fn codec(entry: &[u8]) -> String {
    let avcc = entry.windows(4).position(|w| w == b"avcC").expect("avcC") + 4;
    format!(
        "avc1.{:02x}{:02x}{:02x}",
        entry[avcc + 1],
        entry[avcc + 2],
        entry[avcc + 3]
    )
}
