//! Lays the wanted samples out: tables for `moov`, extents for `mdat`.

use bytes::Bytes;
use sha2::Digest;

use super::cut::{self, MEDIA_TIME_MAX, Place, RunCut, Timed};
use super::moov::{self, Edit, Movie, TrackLayout};
use super::parameter_sets;
use super::pieces::{self, Extent, Source};
use super::tables::Tables;
use super::{Assembly, ExportError, ExportFragment, ExportInput, LAYOUT_VERSION, about};
use crate::mp4::{AUDIO_TRACK_ID, Track, TrackSamples, VIDEO_TRACK_ID};
use crate::time::{TimeRange, Timescale};

pub(super) fn assemble(input: &ExportInput<'_>) -> Result<Assembly, ExportError> {
    let runs = cut::cut(input)?;
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else {
        return Err(ExportError::Nothing);
    };
    let shown = TimeRange::new(first.wall_from, last.wall_to.max(first.wall_from)).unwrap_or(input.range);
    let comment = about::comment(input, &runs);

    let content = Content::collect(input, &runs)?;
    let timescale = content.video.timescale.unwrap_or(first.timescale);
    let mut tracks = vec![content.video_layout()];
    tracks.extend(content.audio_layout(timescale));
    let movie = Movie {
        timescale,
        created: shown.from(),
        duration: (content.shown_to - content.shown_from).unsigned_abs(),
        tracks: &tracks,
        comment: &comment,
        content_len: content.payload.len,
    };
    let head = Bytes::from(moov::head(&movie));
    let Payload { mut extents, len } = content.payload;
    pieces::shift(&mut extents, head.len() as u64);
    let len = head.len() as u64 + len;
    let etag = etag(input, &comment, len, &extents).into();
    Ok(Assembly {
        head,
        extents: extents.into(),
        len,
        etag,
        shown,
    })
}

/// One track of the file while it is collected.
#[derive(Debug, Default)]
struct Output<'a> {
    tables: Tables,
    /// Of the first sample; what comes with another clock is converted.
    timescale: Option<Timescale>,
    sample_entries: Vec<&'a Bytes>,
    /// For each sample entry what its keyframes carry in front; empty where all samples share one entry.
    in_band: Vec<Bytes>,
    width: u16,
    height: u16,
}

/// Everything between `moov` and the end of the file. Times count from the first sample of the video.
#[derive(Debug, Default)]
struct Content<'a> {
    video: Output<'a>,
    audio: Output<'a>,
    payload: Payload,
    /// The first instant shown, in ticks of the video.
    shown_from: i64,
    /// The end of what is shown, in ticks of the video.
    shown_to: i64,
}

/// Where a run stands in the file. Times count as in [`Content`].
struct Placed<'a> {
    cut: &'a RunCut,
    /// In ticks of the video track.
    start: i64,
    /// In ticks of the video track.
    end: i64,
    timescale: Timescale,
    first: bool,
    last: bool,
}

impl<'a> Content<'a> {
    fn collect(input: &ExportInput<'a>, runs: &[RunCut]) -> Result<Self, ExportError> {
        let mut content = Self::default();
        content.prepare_in_band(input, runs);
        let mut start = 0;
        for (i, cut) in runs.iter().enumerate() {
            let timescale = *content.video.timescale.get_or_insert(cut.timescale);
            let end = start + rescale(cut.shown_to - cut.base, cut.timescale, timescale);
            if end.unsigned_abs() > MEDIA_TIME_MAX {
                let begin = input.fragments.get(cut.begin.fragment);
                return Err(begin.map_or(ExportError::TooLong, |f| {
                    f.inconsistent("media time is out of range")
                }));
            }
            let run = Placed {
                cut,
                start,
                end,
                timescale,
                first: i == 0,
                last: i + 1 == runs.len(),
            };
            if run.first {
                content.shown_from = rescale(cut.shown_from - cut.base, cut.timescale, timescale);
            }
            for i in cut.fragments.clone() {
                let Some(fragment) = input.fragments.get(i) else {
                    continue;
                };
                content.add_video(&run, i, fragment)?;
                content.add_audio(&run, fragment)?;
            }
            start = end;
        }
        content.shown_to = start;
        content.video.tables.finish();
        content.audio.tables.finish();
        Ok(content)
    }

    /// Decides whether keyframes carry their parameter sets.
    fn prepare_in_band(&mut self, input: &ExportInput<'a>, runs: &[RunCut]) {
        let shown = runs.iter().flat_map(|cut| cut.begin.fragment..=cut.last.fragment);
        for track in shown.filter_map(|i| input.fragments.get(i)?.init.video()) {
            self.video.sample_entry(track);
        }
        if self.video.sample_entries.len() > 1 {
            self.video.in_band = self
                .video
                .sample_entries
                .iter()
                .map(|e| parameter_sets::in_band(e))
                .collect();
        }
    }

    /// Takes the pictures of fragment `index` that the run needs.
    fn add_video(
        &mut self,
        run: &Placed<'_>,
        index: usize,
        fragment: &'a ExportFragment,
    ) -> Result<(), ExportError> {
        let cut = run.cut;
        if !(cut.begin.fragment..=cut.last.fragment).contains(&index) {
            return Ok(());
        }
        let Some((track, samples)) = samples_of(fragment, VIDEO_TRACK_ID) else {
            return Ok(());
        };
        let begin = if index == cut.begin.fragment {
            cut.begin.sample
        } else {
            0
        };
        let playable = |i: usize, t: &Timed<'_>| i >= begin && t.pts >= cut.base;
        // Decode times are presentation times in order. They stay so when the first pictures are left out.
        let mut order: Vec<i64> = Vec::new();
        if index == cut.begin.fragment {
            let kept = cut::timed(samples).enumerate().filter(|(i, t)| playable(*i, t));
            order.extend(kept.map(|(_, t)| t.pts));
            order.sort_unstable();
        }
        let mut order = order.into_iter();
        let place =
            |media_time: i64| run.start + rescale(media_time - cut.base, cut.timescale, run.timescale);
        let wanted = cut::timed(samples).enumerate().map(|(i, t)| {
            let wanted = playable(i, &t)
                && Place {
                    fragment: index,
                    sample: i,
                } <= cut.last;
            let dts = if wanted {
                order.next().unwrap_or(t.dts)
            } else {
                t.dts
            };
            // What was shown already when the range begins, is shown from there on.
            let pts = if t.pts == cut.first {
                cut.shown_from.max(t.pts)
            } else {
                t.pts
            };
            wanted.then(|| Timed {
                dts: place(dts),
                pts: place(pts),
                sample: t.sample,
            })
        });
        let scale = |ticks| rescale(ticks, cut.timescale, run.timescale);
        self.video
            .add(&mut self.payload, fragment, (track, samples), wanted, scale)
    }

    /// Takes the audio of `fragment` that is heard while the run is shown.
    fn add_audio(&mut self, run: &Placed<'_>, fragment: &'a ExportFragment) -> Result<(), ExportError> {
        let Some((track, samples)) = samples_of(fragment, AUDIO_TRACK_ID) else {
            return Ok(());
        };
        let timescale = *self.audio.timescale.get_or_insert(track.timescale);
        let scale = |ticks| rescale(ticks, track.timescale, timescale);
        let of_video = |ticks| rescale(ticks, run.timescale, timescale);
        let offset = of_video(run.start) - rescale(run.cut.base, run.cut.timescale, timescale);
        let shown_from = of_video(if run.first { self.shown_from } else { run.start });
        let shown_to = of_video(run.end);
        let mut before = self.audio.tables.last();
        let wanted = cut::timed(samples).map(|t| {
            let (at, duration) = (offset + scale(t.dts), scale(t.sample.duration.into()));
            // One sample more than is heard, since decoders need it; between runs, halves decide.
            let begun = if run.first {
                at + 2 * duration > shown_from
            } else {
                at + duration / 2 >= shown_from
            };
            let over = if run.last {
                at >= shown_to
            } else {
                at + duration / 2 >= shown_to
            };
            let wanted = begun && !over && before.is_none_or(|before| at > before);
            before = if wanted { Some(at) } else { before };
            wanted.then_some(Timed {
                dts: at,
                pts: at,
                sample: t.sample,
            })
        });
        self.audio
            .add(&mut self.payload, fragment, (track, samples), wanted, scale)
    }

    fn video_layout(&self) -> TrackLayout<'_> {
        let delay = self.video.tables.delay();
        let duration = (self.shown_to - self.shown_from).unsigned_abs();
        let edit = Edit {
            duration,
            media_time: Some(self.shown_from + delay),
        };
        self.video.layout(VIDEO_TRACK_ID, delay, vec![edit])
    }

    /// The audio track, unless nothing of it is heard. `movie` is the clock of the edit list's durations.
    fn audio_layout(&self, movie: Timescale) -> Option<TrackLayout<'_>> {
        let timescale = self.audio.timescale.filter(|_| !self.audio.tables.is_empty())?;
        let tables = &self.audio.tables;
        let shown_from = rescale(self.shown_from, movie, timescale);
        let shown_to = rescale(self.shown_to, movie, timescale);
        let heard_from = tables.first().max(shown_from);
        let heard_to = (tables.first() + tables.duration as i64).min(shown_to);
        if heard_from >= heard_to {
            return None;
        }
        let duration = |from: i64, to: i64| rescale(to - from, timescale, movie).unsigned_abs();
        let mut edits = Vec::new();
        if heard_from > shown_from {
            edits.push(Edit {
                duration: duration(shown_from, heard_from),
                media_time: None,
            });
        }
        let media_time = Some(heard_from - tables.first());
        edits.push(Edit {
            duration: duration(heard_from, heard_to),
            media_time,
        });
        Some(self.audio.layout(AUDIO_TRACK_ID, 0, edits))
    }
}

impl<'a> Output<'a> {
    fn layout(&self, id: u32, delay: i64, edits: Vec<Edit>) -> TrackLayout<'_> {
        TrackLayout {
            id,
            timescale: self.timescale,
            sample_entries: &self.sample_entries,
            width: self.width,
            height: self.height,
            tables: &self.tables,
            delay,
            edits,
        }
    }

    /// The number of the sample entry that `track` needs, counted from 1.
    fn sample_entry(&mut self, track: &'a Track) -> u32 {
        self.width = self.width.max(track.width);
        self.height = self.height.max(track.height);
        let known = self.sample_entries.iter().position(|e| **e == track.sample_entry);
        let index = known.unwrap_or_else(|| {
            self.sample_entries.push(&track.sample_entry);
            self.sample_entries.len() - 1
        });
        index as u32 + 1
    }
}

/// The content of the `mdat` while it grows.
#[derive(Debug, Default)]
struct Payload {
    extents: Vec<Extent>,
    len: u64,
}

impl Payload {
    fn push(&mut self, source: Source, len: u64) {
        pieces::append(&mut self.extents, source, len);
        self.len += len;
    }
}

impl<'a> Output<'a> {
    /// Appends the samples of one fragment that are `wanted`; `None` passes over one. `scale` converts
    /// durations to the output's clock.
    fn add(
        &mut self,
        payload: &mut Payload,
        fragment: &ExportFragment,
        (track, samples): (&'a Track, &TrackSamples),
        wanted: impl Iterator<Item = Option<Timed<'a>>>,
        scale: impl Fn(i64) -> i64,
    ) -> Result<(), ExportError> {
        let sample_entry = self.sample_entry(track);
        let in_band = self
            .in_band
            .get(sample_entry as usize - 1)
            .cloned()
            .unwrap_or_default();
        let (mut begun, mut from) = (false, samples.data_offset);
        for (timed, recorded) in wanted.zip(&samples.samples) {
            let at = from;
            from += u64::from(recorded.size);
            let Some(timed) = timed else {
                begun = false;
                continue;
            };
            if !begun {
                self.tables.begin_stretch(payload.len, sample_entry);
                begun = true;
            }
            let mut sample = *timed.sample;
            sample.duration = u32::try_from(scale(sample.duration.into())).unwrap_or(u32::MAX);
            if sample.keyframe && !in_band.is_empty() {
                sample.size = sample.size.saturating_add(in_band.len() as u32);
                payload.push(Source::Memory(in_band.clone()), in_band.len() as u64);
            }
            payload.push(
                Source::File {
                    segment: fragment.segment,
                    from: at,
                },
                recorded.size.into(),
            );
            let pushed = self.tables.push(timed.dts, timed.pts, &sample);
            pushed.map_err(|_| fragment.inconsistent("decode times run backwards or too far"))?;
        }
        Ok(())
    }
}

fn samples_of(fragment: &ExportFragment, track_id: u32) -> Option<(&Track, &TrackSamples)> {
    let track = fragment.init.tracks.iter().find(|t| t.id == track_id)?;
    Some((track, fragment.tracks.iter().find(|t| t.track_id == track_id)?))
}

/// `ticks` of one clock in ticks of another, rounded towards the past. Time that is out of range stays within what
/// leaves room for sums.
fn rescale(ticks: i64, from: Timescale, to: Timescale) -> i64 {
    if from == to {
        return ticks;
    }
    let scaled = (i128::from(ticks) * i128::from(to.get())).div_euclid(i128::from(from.get()));
    let most = i128::from(MEDIA_TIME_MAX);
    scaled.clamp(-most, most) as i64
}

fn etag(input: &ExportInput<'_>, comment: &str, len: u64, extents: &[Extent]) -> String {
    let mut hash = sha2::Sha256::new();
    hash.update([LAYOUT_VERSION]);
    let times = [input.range.from(), input.range.to()].map(|t| t.micros() as u64);
    let places = extents.iter().flat_map(|e| match &e.source {
        Source::File { segment, from } => [segment.stream.0.into(), segment.seq, *from, e.len],
        Source::Memory(_) => [u64::MAX, 0, 0, e.len],
    });
    for number in times.into_iter().chain([len]).chain(places) {
        hash.update(number.to_be_bytes());
    }
    // Recorded footage has the tags that it always had.
    for fragment in input.fragments.iter().filter(|f| f.generation > 0) {
        hash.update(fragment.segment.seq.to_be_bytes());
        hash.update([fragment.generation]);
    }
    hash.update(comment);
    let digest = hash.finalize();
    let hex: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("\"{hex}\"")
}
