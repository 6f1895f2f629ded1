//! Which samples a range needs: pure decisions over sample tables.

use std::collections::HashMap;
use std::ops::Range;

use super::{EXPORT_DURATION_MAX_US, EXPORT_SAMPLES_MAX, ExportError, ExportFragment, ExportInput};
use crate::mp4::{SampleEntry, Track, TrackSamples};
use crate::time::{Timescale, WallTime};

/// Beyond this, in ticks, media time is not believed: it leaves room for every sum of durations.
pub(super) const MEDIA_TIME_MAX: u64 = 1 << 56;

/// A sample in decode order: the fragment's index in the input and its own index in the track.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub(super) fragment: usize,
    pub(super) sample: usize,
}

/// The part of one run that the export shows. Media times are in ticks of the run's video.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RunCut {
    /// All fragments of the run, as indexes in the input; audio may come from any of them.
    pub(super) fragments: Range<usize>,
    pub(super) timescale: Timescale,
    /// The keyframe that decoding begins with.
    pub(super) begin: Place,
    /// The last picture, in decode order, that is needed.
    pub(super) last: Place,
    /// When the keyframe is shown. Pictures shown before it refer to what is not there, and are left out.
    pub(super) base: i64,
    /// The time of the first picture that is shown.
    pub(super) first: i64,
    /// When the first picture of the export is shown: at its time, or at the beginning of the range if it is still
    /// shown then.
    pub(super) shown_from: i64,
    /// When the last one ends.
    pub(super) shown_to: i64,
    /// `shown_from` on the wall.
    pub(super) wall_from: WallTime,
    /// `shown_to` on the wall.
    pub(super) wall_to: WallTime,
}

/// The video of one fragment.
#[derive(Copy, Clone, Debug)]
struct Video<'a> {
    track: &'a Track,
    samples: &'a TrackSamples,
    /// Decode time of its first sample, in ticks.
    start: i64,
    /// Decode time of what follows it.
    end: i64,
}

/// A sample and its times, in ticks.
#[derive(Copy, Clone, Debug)]
pub(super) struct Timed<'a> {
    pub(super) dts: i64,
    pub(super) pts: i64,
    pub(super) sample: &'a SampleEntry,
}

/// The samples of a track in decode order with their times in the run.
pub(super) fn timed(track: &TrackSamples) -> impl Iterator<Item = Timed<'_>> {
    let start = track.base_media_time as i64;
    track.samples.iter().scan(start, |next, sample| {
        let dts = *next;
        *next += i64::from(sample.duration);
        Some(Timed {
            dts,
            pts: dts + i64::from(sample.composition_offset),
            sample,
        })
    })
}

/// Finds what to show of each run. Never empty.
pub(super) fn cut(input: &ExportInput<'_>) -> Result<Vec<RunCut>, ExportError> {
    if input.range.micros() > EXPORT_DURATION_MAX_US.unsigned_abs() {
        return Err(ExportError::TooLong);
    }
    let samples: usize = input
        .fragments
        .iter()
        .flat_map(|f| &f.tracks)
        .map(|t| t.samples.len())
        .sum();
    if samples > EXPORT_SAMPLES_MAX {
        return Err(ExportError::TooManySamples);
    }
    let videos = input.fragments.iter().map(video).collect::<Result<Vec<_>, _>>()?;
    let mut cuts: Vec<RunCut> = Vec::new();
    for run in runs(input.fragments, &videos)? {
        let Some(mut cut) = cut_run(input, &videos, run) else {
            continue;
        };
        if !cuts.is_empty() {
            // Only the beginning of the whole may be hidden.
            (cut.first, cut.shown_from) = (cut.base, cut.base);
        }
        cuts.push(cut);
    }
    if cuts.is_empty() {
        Err(ExportError::Nothing)
    } else {
        Ok(cuts)
    }
}

/// The video of a fragment, and whether all its tables stay inside it.
fn video(fragment: &ExportFragment) -> Result<Video<'_>, ExportError> {
    let entry = &fragment.entry;
    for track in &fragment.tracks {
        let bytes: u64 = track.samples.iter().map(|s| u64::from(s.size)).sum();
        let end = track.data_offset.checked_add(bytes);
        let entry_end = entry.offset.saturating_add(entry.len.into());
        if track.data_offset < entry.offset || end.is_none_or(|end| end > entry_end) {
            return Err(fragment.inconsistent("samples lie outside the fragment"));
        }
        if track.base_media_time > MEDIA_TIME_MAX {
            return Err(fragment.inconsistent("media time is out of range"));
        }
    }
    let track = fragment
        .init
        .video()
        .ok_or(fragment.inconsistent("no video track"))?;
    let samples = fragment
        .tracks
        .iter()
        .find(|t| t.track_id == track.id && !t.samples.is_empty());
    let samples = samples.ok_or(fragment.inconsistent("no video samples"))?;
    let start = samples.base_media_time as i64;
    let duration: i64 = samples.samples.iter().map(|s| i64::from(s.duration)).sum();
    Ok(Video {
        track,
        samples,
        start,
        end: start + duration,
    })
}

/// Splits the input where media time does not run on.
fn runs(fragments: &[ExportFragment], videos: &[Video<'_>]) -> Result<Vec<Range<usize>>, ExportError> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (i, pair) in (1..).zip(fragments.windows(2).zip(videos.windows(2))) {
        let ([before, fragment], [video_before, video]) = pair else {
            continue;
        };
        if fragment.entry.wall_start < before.entry.wall_start {
            return Err(fragment.inconsistent("fragments are out of order"));
        }
        let runs_on = !fragment.entry.run_start
            && video.start == video_before.end
            && video.track.timescale == video_before.track.timescale;
        if !runs_on {
            runs.push(runs.last().map_or(0, |r| r.end)..i);
        }
    }
    if !fragments.is_empty() {
        runs.push(runs.last().map_or(0, |r| r.end)..fragments.len());
    }
    Ok(runs)
}

/// What to show of one run; `None` when no picture of it is in the range, or none can be decoded.
fn cut_run(input: &ExportInput<'_>, videos: &[Video<'_>], run: Range<usize>) -> Option<RunCut> {
    let in_run = || {
        run.clone()
            .filter_map(|i| Some((i, input.fragments.get(i)?, videos.get(i)?)))
    };
    let places = || {
        in_run().flat_map(|(fragment, _, v)| {
            timed(v.samples)
                .enumerate()
                .map(move |(sample, t)| (Place { fragment, sample }, t))
        })
    };
    let (from, to) = (input.range.from(), input.range.to());

    // In the range, by wall time.
    let mut shown: Option<(i64, i64, usize)> = None;
    for (i, fragment, video) in in_run() {
        let wall = Wall::new(fragment, video);
        let ends = ends(fragment, video);
        let is_shown = |pts: i64| {
            let lasts = || {
                ends.get(&pts)
                    .is_some_and(|end| wall.reaches(*end, from.plus_micros(1)))
            };
            (wall.reaches(pts, from) || lasts()) && !wall.reaches(pts, to)
        };
        for t in timed(video.samples).filter(|t| is_shown(t.pts)) {
            shown = Some(match shown {
                Some((first, last, at)) if t.pts <= last => (first.min(t.pts), last, at),
                Some((first, ..)) => (first, t.pts, i),
                None => (t.pts, t.pts, i),
            });
        }
    }
    let (first_shown, last_shown, last_fragment) = shown?;

    // The latest keyframe that the first of them can be decoded from, else the first there is.
    let keyframes = || places().filter(|(_, t)| t.sample.keyframe);
    let (begin, key) = keyframes()
        .take_while(|(place, _)| place.fragment <= last_fragment)
        .filter(|(_, t)| t.pts <= first_shown)
        .last()
        .or_else(|| keyframes().find(|(_, t)| t.pts <= last_shown))?;
    let base = key.pts;
    let first = first_shown.max(base);

    let last_video = videos.get(last_fragment)?;
    let last = (timed(last_video.samples).enumerate())
        .filter(|(_, t)| (base..=last_shown).contains(&t.pts))
        .map(|(sample, _)| Place {
            fragment: last_fragment,
            sample,
        })
        .last()?;
    let later = timed(last_video.samples)
        .map(|t| t.pts)
        .filter(|pts| *pts > last_shown);
    let mut shown_to = later.min().unwrap_or(last_video.end.max(last_shown));
    let last_entry = input.fragments.get(last_fragment)?;
    let last_wall = Wall::new(last_entry, last_video);
    if last_entry.generation > 0 && last_wall.reaches(shown_to, to) {
        shown_to = last_wall.media(to).clamp(last_shown, shown_to);
    }

    // Its leading pictures may be shown in the fragment, or the run, before.
    let first_fragment = in_run()
        .take_while(|(i, _, v)| *i == begin.fragment || v.start <= first)
        .last()?;
    let first_wall = Wall::new(first_fragment.1, first_fragment.2);
    let mut shown_from = first;
    if first_fragment.1.generation > 0 && !first_wall.reaches(first, from) {
        shown_from = first_wall.media(from).clamp(first, shown_to.max(first));
    }
    let wall_from = first_wall.of(shown_from);
    let wall_to = last_wall.of(shown_to);
    Some(RunCut {
        fragments: run,
        timescale: last_video.track.timescale,
        begin,
        last: last.max(begin),
        base,
        first,
        shown_from,
        shown_to,
        wall_from,
        wall_to,
    })
}

/// Until when each picture of a thinned fragment is shown; pictures of others last as long as it takes to take one.
fn ends(fragment: &ExportFragment, video: &Video<'_>) -> HashMap<i64, i64> {
    if fragment.generation == 0 {
        return HashMap::new();
    }
    let mut all: Vec<i64> = timed(video.samples).map(|t| t.pts).collect();
    all.sort_unstable();
    let ends = all.iter().skip(1).copied().chain([video.end]);
    all.iter().copied().zip(ends).collect()
}

/// The straight line from media to wall time inside one fragment.
struct Wall {
    start: WallTime,
    duration_us: i128,
    media_start: i64,
    media_duration: i128,
}

impl Wall {
    fn new(fragment: &ExportFragment, video: &Video<'_>) -> Self {
        let (duration_us, media_duration) = match video.end - video.start {
            0 => (0, 1),
            ticks => (fragment.entry.wall_duration_us.into(), ticks.into()),
        };
        Self {
            start: fragment.entry.wall_start,
            duration_us,
            media_start: video.start,
            media_duration,
        }
    }

    /// Whether `pts` is taken at `at` or later. Exact, so that ranges that meet share no picture.
    fn reaches(&self, pts: i64, at: WallTime) -> bool {
        i128::from(pts - self.media_start) * self.duration_us
            >= i128::from(at.micros_since(self.start)) * self.media_duration
    }

    /// The first media time that is not before `at`.
    fn media(&self, at: WallTime) -> i64 {
        let us = i128::from(at.micros_since(self.start)) * self.media_duration;
        let ticks = -(-us).div_euclid(self.duration_us.max(1));
        self.media_start.saturating_add(ticks as i64)
    }

    /// When `pts` is taken, rounded towards the past.
    fn of(&self, pts: i64) -> WallTime {
        let us = (i128::from(pts - self.media_start) * self.duration_us).div_euclid(self.media_duration);
        self.start.plus_micros(us as i64)
    }
}
