//! Real footage for the tests: made by ffmpeg, recorded through our own writer into segment files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use mp4_atom::{Decode, Moov};

use crate::buffer::Pool;
use crate::disk::Disk;
use crate::export::{Assembly, ExportError, ExportFragment, ExportInput, Piece};
use crate::id::{Epoch, SegmentId, Sha256, StreamId, StreamNo};
use crate::layout::segment_path;
use crate::mp4::{AUDIO_TRACK_ID, Boxes, InitSegment, Track, TrackKind, VIDEO_TRACK_ID};
use crate::segment::{Closing, FragmentBuilder, SegmentHeader, SegmentReader, SegmentWriter};
use crate::time::{TimeRange, Timescale, WallTime};

/// What a program printed, after checking that it had nothing to complain about.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new("timeout")
        .arg("120")
        .arg(program)
        .args(args)
        .output()
        .expect("starts");
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success() && errors.trim().is_empty(),
        "{program} {args:?}: {} {errors}",
        out.status
    );
    String::from_utf8(out.stdout).expect("text")
}

/// A file made by ffmpeg, taken apart.
pub(crate) struct Clip {
    pub(crate) path: PathBuf,
    pub(crate) video: Coded,
    pub(crate) audio: Option<Coded>,
    _dir: tempfile::TempDir,
}

/// One track of a clip. Times are in ticks since the first picture is shown.
pub(crate) struct Coded {
    pub(crate) track: Track,
    pub(crate) samples: Vec<CodedSample>,
}

pub(crate) struct CodedSample {
    pub(crate) pts: i64,
    pub(crate) keyframe: bool,
    pub(crate) data: Vec<u8>,
}

impl Clip {
    /// Runs ffmpeg with these arguments, which end before the name of the output.
    pub(crate) fn make(args: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("clip.mp4");
        let mut all: Vec<&str> = "-v fatal -nostdin -y"
            .split(' ')
            .chain(args.split_whitespace())
            .collect();
        all.extend(["-video_track_timescale", "90000", path.to_str().expect("utf-8")]);
        run("ffmpeg", &all);
        let file = std::fs::read(&path).expect("clip");
        let moov_box = Boxes(&file).find(b"moov").expect("moov");
        let moov = Moov::decode(&mut &moov_box.whole[..]).expect("mp4-atom reads it");
        let traks: Vec<_> = moov_box
            .children()
            .filter_map(Result::ok)
            .filter(|b| &b.kind == b"trak")
            .collect();
        let mut coded = moov
            .trak
            .iter()
            .zip(traks)
            .map(|(trak, raw)| Coded::read(&file, trak, raw.content));
        let video = coded.next().expect("video");
        let audio = coded.next();
        Self {
            path,
            video,
            audio,
            _dir: dir,
        }
    }

    /// When each picture is shown, in ticks, in order.
    pub(crate) fn shown(&self) -> Vec<i64> {
        let mut all: Vec<i64> = self.video.samples.iter().map(|s| s.pts).collect();
        all.sort_unstable();
        all
    }
}

impl Coded {
    fn read(file: &[u8], trak: &mp4_atom::Trak, raw: &[u8]) -> Self {
        let stbl = &trak.mdia.minf.stbl;
        let sizes: Vec<u32> = match &stbl.stsz.samples {
            mp4_atom::StszSamples::Different { sizes } => sizes.clone(),
            mp4_atom::StszSamples::Identical { count, size } => vec![*size; *count as usize],
        };
        let media_time = trak
            .edts
            .iter()
            .filter_map(|e| e.elst.as_ref())
            .flat_map(|e| &e.entries);
        let media_time = media_time.filter_map(|e| e.media_time).next().unwrap_or(0) as i64;
        let deltas = stbl
            .stts
            .entries
            .iter()
            .flat_map(|e| vec![i64::from(e.sample_delta); e.sample_count as usize]);
        let mut offsets = vec![0; sizes.len()];
        if let Some(ctts) = &stbl.ctts {
            offsets = ctts
                .entries
                .iter()
                .flat_map(|e| vec![e.sample_offset; e.sample_count as usize])
                .collect();
        }
        let stco = stbl.stco.as_ref().expect("stco");
        let mut positions = Vec::new();
        for (i, start) in stco.entries.iter().enumerate() {
            let rows = &stbl.stsc.entries;
            let row = rows
                .iter()
                .rev()
                .find(|r| r.first_chunk as usize <= i + 1)
                .expect("stsc");
            let mut at = *start as usize;
            for _ in 0..row.samples_per_chunk {
                positions.push(at);
                at += sizes[positions.len() - 1] as usize;
            }
        }
        let (mut dts, mut samples) = (-media_time, Vec::new());
        for (i, delta) in deltas.enumerate() {
            let keyframe = stbl
                .stss
                .as_ref()
                .is_none_or(|s| s.entries.contains(&(i as u32 + 1)));
            let data = file[positions[i]..positions[i] + sizes[i] as usize].to_vec();
            samples.push(CodedSample {
                pts: dts + offsets[i],
                keyframe,
                data,
            });
            dts += delta;
        }
        let timescale = Timescale::new(trak.mdia.mdhd.timescale).expect("timescale");
        Self {
            track: track(timescale, raw),
            samples,
        }
    }

    fn ticks_of(&self, video_ticks: i64) -> i64 {
        self.track.timescale.from_micros(video_ticks * 100 / 9)
    }
}

/// The track as ours, with the sample entry as it stands in the clip.
fn track(timescale: Timescale, trak: &[u8]) -> Track {
    let path: [&[u8; 4]; 3] = [b"mdia", b"minf", b"stbl"];
    let stbl = path
        .iter()
        .fold(trak, |at, kind| Boxes(at).find(kind).expect("box").content);
    let stsd = Boxes(stbl).find(b"stsd").expect("stsd");
    let entry = Boxes(&stsd.content[8..]).next().expect("entry").expect("entry");
    let number = |at: usize| u16::from_be_bytes([entry.content[at], entry.content[at + 1]]);
    let sample_entry = Bytes::copy_from_slice(entry.whole);
    let codec = String::from_utf8_lossy(&entry.kind).into_owned();
    match &entry.kind {
        b"mp4a" => Track {
            id: AUDIO_TRACK_ID,
            kind: TrackKind::Audio,
            timescale,
            codec,
            width: 0,
            height: 0,
            channels: number(16),
            sample_entry,
        },
        _ => Track {
            id: VIDEO_TRACK_ID,
            kind: TrackKind::Video,
            timescale,
            codec,
            width: number(24),
            height: number(26),
            channels: 0,
            sample_entry,
        },
    }
}

/// Segments on disk, and what the index would say of them.
pub(crate) struct Archive {
    dir: tempfile::TempDir,
    disk: Disk,
    pool: Pool,
    pub(crate) stream: StreamId,
    pub(crate) fragments: Vec<ExportFragment>,
    files: HashMap<SegmentId, Vec<u8>>,
}

pub(crate) fn start() -> WallTime {
    "2026-11-20T08:00:00Z".parse().expect("time")
}

impl Archive {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let disk = Disk::open(dir.path()).expect("disk");
        let id = |text: &str| text.parse().expect("id");
        let stream = StreamId {
            tenant: Default::default(),
            camera: "lobby".parse().expect("id"),
            stream: id("main"),
        };
        Self {
            dir,
            disk,
            pool: Pool::new(64),
            stream,
            fragments: Vec::new(),
            files: HashMap::new(),
        }
    }

    /// Records the clip as one run that begins at `at`, three fragments to a segment. Fragments end before
    /// keyframes, and after `pictures_max` pictures.
    pub(crate) fn record(&mut self, clip: &Clip, at: WallTime, pictures_max: usize) {
        let tracks = [Some(&clip.video), clip.audio.as_ref()].into_iter().flatten();
        let init = Arc::new(InitSegment::build(tracks.map(|c| c.track.clone()).collect()));
        let mut groups: Vec<Vec<&CodedSample>> = Vec::new();
        for sample in &clip.video.samples {
            match groups.last_mut() {
                Some(group) if !sample.keyframe && group.len() < pictures_max => group.push(sample),
                _ => groups.push(vec![sample]),
            }
        }
        let starts: Vec<i64> = groups
            .iter()
            .map(|g| g.iter().map(|s| s.pts).min().expect("pictures"))
            .collect();
        let mut fragments = Vec::new();
        for (i, group) in groups.iter().enumerate() {
            let end = starts.get(i + 1).copied();
            let mut builder = FragmentBuilder::new(&self.pool, None);
            group
                .iter()
                .for_each(|s| builder.push_video(s.pts, s.keyframe, &s.data));
            for (audio, s) in clip
                .audio
                .iter()
                .flat_map(|a| a.samples.iter().map(move |s| (a, s)))
            {
                let from = if i == 0 { 0 } else { audio.ticks_of(starts[i]) };
                if s.pts >= from && end.is_none_or(|end| s.pts < audio.ticks_of(end)) {
                    builder.push_audio(s.pts, &s.data);
                }
            }
            let us = |ticks: i64| ticks * 100 / 9;
            let media_end = end.unwrap_or(clip.shown().last().expect("pictures") + 3600);
            fragments.push(builder.close(
                &self.pool,
                Closing {
                    wall_start: at.plus_micros(us(starts[i])),
                    wall_duration_us: (us(media_end) - us(starts[i])) as u32,
                    media_end: Some(media_end),
                    typical_duration: 3000,
                    run_start: i == 0,
                    activity: 0,
                    notes: vec![],
                    clock_offset_us: None,
                    audio_duration: 1024,
                },
            ));
        }
        while !fragments.is_empty() {
            let mut now: Vec<_> = fragments.drain(..fragments.len().min(3)).collect();
            self.write(&init, &mut now);
        }
    }

    fn write(&mut self, init: &Arc<InitSegment>, fragments: &mut [crate::segment::ClosedFragment]) {
        let seq = self.files.len() as u64;
        let wall_start = fragments[0].entry().wall_start;
        let (stream, epoch) = (self.stream.clone(), Epoch(1));
        let header = SegmentHeader {
            stream,
            seq,
            epoch,
            wall_start,
            prev: Sha256::default(),
            init: init.hash,
            generation: 0,
        };
        let path = segment_path(&header.stream, &header.name());
        let mut writer = SegmentWriter::create(&self.disk, &self.pool, header, init, 0).expect("create");
        let entries = writer.append(fragments).expect("append");
        if seq.is_multiple_of(2) {
            writer.seal(&self.pool).expect("seal");
        } else {
            writer.sync().expect("sync");
        }
        let reader = SegmentReader::open(&self.disk, &path).expect("open");
        let segment = SegmentId {
            stream: StreamNo(1),
            seq,
        };
        self.files
            .insert(segment, std::fs::read(self.disk.path(&path)).expect("segment"));
        let tracks = reader
            .all_samples(&entries, seq.is_multiple_of(2))
            .expect("samples");
        let rows = entries.into_iter().zip(tracks);
        self.fragments.extend(rows.map(|(entry, tracks)| ExportFragment {
            segment,
            init: init.clone(),
            entry,
            tracks,
            generation: 0,
        }));
    }

    pub(crate) fn assemble(&self, from: WallTime, to: WallTime) -> Result<Assembly, ExportError> {
        let range = TimeRange::new(from, to).expect("forwards");
        Assembly::build(&ExportInput {
            stream: &self.stream,
            range,
            fragments: &self.fragments,
        })
    }

    /// The bytes of a range of the assembled file.
    pub(crate) fn bytes(&self, assembly: &Assembly, range: std::ops::Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in assembly.pieces(range) {
            match piece {
                Piece::Memory(memory) => bytes.extend_from_slice(&memory),
                Piece::File { segment, range } => {
                    bytes.extend_from_slice(&self.files[&segment][range.start as usize..range.end as usize]);
                }
            }
        }
        bytes
    }

    /// Writes the whole assembled file.
    pub(crate) fn export(&self, assembly: &Assembly) -> PathBuf {
        let bytes = self.bytes(assembly, 0..u64::MAX);
        assert_eq!(bytes.len() as u64, assembly.len());
        let path = self.dir.path().join("export.mp4");
        std::fs::write(&path, bytes).expect("export");
        path
    }
}

/// One line per picture or packet.
pub(crate) fn probe(path: &Path, stream: &str, show: &str) -> Vec<String> {
    let path = path.to_str().expect("utf-8");
    let args = [
        "-v",
        "error",
        "-select_streams",
        stream,
        "-show_data_hash",
        "md5",
        "-of",
        "csv=p=0",
    ];
    let args: Vec<&str> = args.into_iter().chain(["-show_entries", show, path]).collect();
    let text = run("ffprobe", &args);
    text.lines()
        .map(|l| l.trim_end_matches(',').to_owned())
        .filter(|l| !l.is_empty())
        .collect()
}

/// The hashes of all decoded pictures, in the order in which they are shown.
pub(crate) fn pictures(path: &Path) -> Vec<String> {
    let path = path.to_str().expect("utf-8");
    let args = "-v error -nostdin -xerror -i PATH -map 0:v -fps_mode passthrough -f framemd5 -";
    let args: Vec<&str> = args
        .split(' ')
        .map(|a| if a == "PATH" { path } else { a })
        .collect();
    let lines = run("ffmpeg", &args);
    let lines = lines.lines().filter(|l| !l.starts_with('#'));
    lines
        .map(|l| l.rsplit(',').next().expect("hash").trim().to_owned())
        .collect()
}

/// The decoded sound, mono, 48 kHz.
pub(crate) fn sound(path: &Path) -> Vec<i16> {
    let out = Command::new("timeout")
        .args("120 ffmpeg -v error -nostdin -xerror -i".split(' '))
        .arg(path)
        .args("-map 0:a -ac 1 -f s16le -".split(' '))
        .output()
        .expect("ffmpeg");
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
        .chunks_exact(2)
        .map(|b| i16::from_le_bytes([b[0], b[1]]))
        .collect()
}
