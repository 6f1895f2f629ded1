//! Reads existing MP4 files as if a camera had sent them: progressive and fragmented ones, H.264 and H.265
//! with AAC.
//!
//! Files come from outside. Only the boxes that are needed are decoded, every size is checked against the
//! file before anything is allocated, and a file cannot yield more bytes of samples than it has.

mod entry;
mod fragments;
mod into;
mod movie;
mod tables;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use archive::fragment::FRAGMENT_BYTES_MAX;
use archive::{Malformed, Timescale, TrackKind, WallTime};

use crate::event::{Event, Sample, TrackParams};
use fragments::Fragments;
pub use into::Importer;
use movie::{Movie, Track};
use tables::Tables;

/// Larger `moov` boxes are refused; a day at 60 pictures a second takes about 80 MiB.
const MOOV_BYTES_MAX: u64 = 128 << 20;
/// Boxes on the top level of a file.
const BOXES_MAX: usize = 4 << 20;
/// Samples read ahead to bring the tracks of a fragmented file together.
const AHEAD_MAX: usize = 50_000;
/// Reads of neighbouring samples are served from one read of this many bytes.
const READ_BYTES: usize = 256 << 10;

/// Why a file cannot be imported, or not further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The disk refused.
    #[error("reading: {0}")]
    Io(#[from] io::Error),
    /// The file does not follow its format.
    #[error("not a usable MP4 file: {0}")]
    Malformed(String),
    /// The file ends before what it promises. All samples before that have been given.
    #[error("the file ends at byte {len}, in the middle of a sample or box")]
    Truncated {
        /// Its length.
        len: u64,
    },
    /// The file is fine but holds nothing that can be recorded.
    #[error("{0}")]
    Unsupported(String),
}

impl From<Malformed> for ImportError {
    fn from(m: Malformed) -> Self {
        Self::Malformed(m.0.to_owned())
    }
}

impl From<mp4_atom::Error> for ImportError {
    fn from(e: mp4_atom::Error) -> Self {
        Self::Malformed(e.to_string())
    }
}

/// Where a sample lies and when it is shown.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Located {
    offset: u64,
    size: u32,
    /// In ticks of the track, edit list applied.
    dts: i64,
    pts: i64,
    keyframe: bool,
}

/// A file being imported. All calls block.
pub struct Import<R> {
    input: Input<R>,
    tracks: Vec<TrackParams>,
    skipped: Vec<String>,
    video: Lane,
    audio: Option<Lane>,
    fragments: Option<Fragments>,
    start: WallTime,
    origin: Option<Origin>,
    started: bool,
    /// Bytes of samples that the file can still hold.
    budget: u64,
}

/// A track on its way out.
struct Lane {
    kind: TrackKind,
    timescale: Timescale,
    id: u32,
    tables: Option<Tables>,
    waiting: VecDeque<Located>,
    has_edit: bool,
}

/// The first picture.
#[derive(Copy, Clone)]
struct Origin {
    /// In video ticks.
    pts: i64,
    /// What stands at the start time, in microseconds on the presentation's own time.
    zero_us: i64,
}

impl Import<File> {
    /// Opens a file whose first picture was taken at `start`. Where an edit list cuts into the first GOP, it
    /// is the first picture of the cut; those needed to decode it come before.
    ///
    /// # Errors
    /// Anything in [`ImportError`]; the headers are read here.
    pub fn open(path: &Path, start: WallTime) -> Result<Self, ImportError> {
        Self::new(File::open(path)?, start)
    }
}

impl<R: Read + Seek> Import<R> {
    /// Like [`open`](Import::open), for any reader.
    ///
    /// # Errors
    /// Anything in [`ImportError`].
    pub fn new(file: R, start: WallTime) -> Result<Self, ImportError> {
        let mut input = Input::new(file)?;
        let (moov, after) = find_moov(&mut input)?;
        let movie = Movie::parse(&moov)?;
        let budget = input.len;
        let fragments = movie.fragmented.then(|| Fragments::new(after, &movie));
        let lane = |track: Track| {
            let lane = Lane {
                kind: track.params.kind,
                timescale: track.params.timescale,
                id: track.id,
                tables: track.tables,
                waiting: VecDeque::new(),
                has_edit: track.has_edit,
            };
            (track.params, lane)
        };
        let (video_params, video) = lane(movie.video);
        let (audio_params, audio) = movie.audio.map(lane).unzip();
        Ok(Self {
            input,
            tracks: [Some(video_params), audio_params].into_iter().flatten().collect(),
            skipped: movie.skipped,
            video,
            audio,
            fragments,
            start,
            origin: None,
            started: false,
            budget,
        })
    }

    /// What is in the file: video, then audio if there is any.
    pub fn tracks(&self) -> &[TrackParams] {
        &self.tracks
    }

    /// Tracks of the file that are not imported, in words.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The next event, [`Event::Start`] first; `None` at the end. Arrival times are what the host's clocks
    /// would have said had the camera been live.
    ///
    /// # Errors
    /// Anything in [`ImportError`]; what was given before is good.
    pub fn next_event(&mut self) -> Result<Option<Event>, ImportError> {
        if !self.started {
            self.started = true;
            return Ok(Some(Event::Start {
                tracks: self.tracks.clone(),
                new_run: true,
            }));
        }
        loop {
            self.fill()?;
            let origin = match (self.origin, self.video.waiting.front()) {
                (Some(origin), _) => origin,
                (None, Some(first)) => {
                    let us = self.video.timescale.to_micros(first.pts);
                    let zero_us = if self.video.has_edit { us.max(0) } else { us };
                    *self.origin.insert(Origin {
                        pts: first.pts,
                        zero_us,
                    })
                }
                (None, None) => return Ok(None),
            };
            let Some((kind, timescale, at)) = self.pop() else {
                return Ok(None);
            };
            let origin_ticks = match kind {
                TrackKind::Video => origin.pts,
                TrackKind::Audio => timescale.from_micros(self.video.timescale.to_micros(origin.pts)),
            };
            let pts = at.pts.saturating_sub(origin_ticks);
            if kind == TrackKind::Audio && pts < 0 {
                // Before the first picture, such as an encoder's priming.
                continue;
            }
            let since_start_us = timescale.to_micros(at.pts).saturating_sub(origin.zero_us);
            let data = self.read(at)?;
            return Ok(Some(Event::Sample(Sample {
                track: kind,
                pts,
                keyframe: at.keyframe || kind == TrackKind::Audio,
                data,
                arrival_wall: self.start.plus_micros(since_start_us),
                arrival_mono_us: self.start.plus_micros(since_start_us).micros().unsigned_abs(),
                packets_lost: 0,
            })));
        }
    }

    /// Sees to it that the next sample of each track is known, as far as there is one.
    fn fill(&mut self) -> Result<(), ImportError> {
        for lane in [Some(&mut self.video), self.audio.as_mut()].into_iter().flatten() {
            if lane.waiting.is_empty()
                && let Some(tables) = &mut lane.tables
            {
                match tables.next_sample()? {
                    Some(sample) => lane.waiting.push_back(sample),
                    None => lane.tables = None,
                }
            }
        }
        // Samples in `moov` come before those in fragments.
        if self.video.tables.is_some() || self.audio.as_ref().is_some_and(|a| a.tables.is_some()) {
            return Ok(());
        }
        while let Some(fragments) = &mut self.fragments {
            let video_waits = self.video.waiting.is_empty();
            let audio_waits = self.audio.as_ref().is_some_and(|a| a.waiting.is_empty());
            let ahead = self.video.waiting.len() + self.audio.as_ref().map_or(0, |a| a.waiting.len());
            if !(video_waits || audio_waits) || ahead >= AHEAD_MAX {
                break;
            }
            let Some(runs) = fragments.next_moof(&mut self.input)? else {
                self.fragments = None;
                break;
            };
            for run in runs {
                let lanes = [Some(&mut self.video), self.audio.as_mut()];
                if let Some(lane) = lanes.into_iter().flatten().find(|lane| lane.id == run.track_id) {
                    lane.waiting.extend(run.samples);
                }
            }
        }
        Ok(())
    }

    /// The sample that is decoded first.
    fn pop(&mut self) -> Option<(TrackKind, Timescale, Located)> {
        let due = |lane: &Lane| lane.waiting.front().map(|s| lane.timescale.to_micros(s.dts));
        let audio_due = self.audio.as_ref().and_then(due);
        let lane = match (due(&self.video), audio_due) {
            (Some(video), Some(audio)) if audio < video => self.audio.as_mut()?,
            (None, Some(_)) => self.audio.as_mut()?,
            _ => &mut self.video,
        };
        let sample = lane.waiting.pop_front()?;
        Some((lane.kind, lane.timescale, sample))
    }

    fn read(&mut self, at: Located) -> Result<Vec<u8>, ImportError> {
        if at.size == 0 || at.size as usize > FRAGMENT_BYTES_MAX {
            return Err(ImportError::Malformed(format!("a sample of {} bytes", at.size)));
        }
        // Samples that share bytes could make a small file endless.
        self.budget = (self.budget.checked_sub(at.size.into()))
            .ok_or_else(|| ImportError::Malformed("samples overlap".into()))?;
        self.input.bytes(at.offset, at.size.into())
    }
}

/// The content of `moov`, and where the box behind it begins.
fn find_moov<R: Read + Seek>(input: &mut Input<R>) -> Result<(Vec<u8>, u64), ImportError> {
    let mut at = 0;
    for _ in 0..BOXES_MAX {
        let Some(b) = input.box_at(at)? else {
            return Err(ImportError::Malformed("no moov box".into()));
        };
        if &b.kind == b"moov" {
            return Ok((input.content(&b, MOOV_BYTES_MAX)?, b.end));
        }
        at = b.end;
    }
    Err(ImportError::Malformed("too many boxes".into()))
}

/// A box on the top level.
struct TopBox {
    kind: [u8; 4],
    start: u64,
    content: u64,
    end: u64,
}

/// A file with checked reads.
struct Input<R> {
    reader: BufReader<R>,
    at: u64,
    len: u64,
}

impl<R: Read + Seek> Input<R> {
    fn new(mut file: R) -> Result<Self, ImportError> {
        let len = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        Ok(Self {
            reader: BufReader::with_capacity(READ_BYTES, file),
            at: 0,
            len,
        })
    }

    /// The box that begins at `at`; `None` at the end of the file. It may end behind the file.
    fn box_at(&mut self, at: u64) -> Result<Option<TopBox>, ImportError> {
        if at >= self.len {
            return Ok(None);
        }
        let head = self.bytes(at, 8)?;
        let mut head = archive::codec::Decoder(&head);
        let (size, kind) = (head.u32()?, head.u32()?.to_be_bytes());
        let (content, end) = match size {
            0 => (at + 8, Some(self.len)),
            1 => {
                let large = self.bytes(at + 8, 8)?;
                (at + 16, at.checked_add(archive::codec::Decoder(&large).u64()?))
            }
            n => (at + 8, at.checked_add(n.into())),
        };
        match end {
            Some(end) if end >= content => Ok(Some(TopBox {
                kind,
                start: at,
                content,
                end,
            })),
            _ => Err(ImportError::Malformed("a box with an impossible size".into())),
        }
    }

    fn content(&mut self, b: &TopBox, max: u64) -> Result<Vec<u8>, ImportError> {
        let len = b.end - b.content;
        if len > max {
            let kind = b.kind.escape_ascii();
            return Err(ImportError::Malformed(format!("a {kind} box of {len} bytes")));
        }
        self.bytes(b.content, len)
    }

    /// `len` bytes from `from`; memory is taken only for bytes that the file has.
    fn bytes(&mut self, from: u64, len: u64) -> Result<Vec<u8>, ImportError> {
        if from.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(ImportError::Truncated { len: self.len });
        }
        match i64::try_from(i128::from(from) - i128::from(self.at)) {
            Ok(distance) => self.reader.seek_relative(distance)?,
            Err(_) => drop(self.reader.seek(SeekFrom::Start(from))?),
        }
        self.at = from;
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| ImportError::Truncated { len: self.len })?];
        self.reader.read_exact(&mut bytes)?;
        self.at += len;
        Ok(bytes)
    }
}
