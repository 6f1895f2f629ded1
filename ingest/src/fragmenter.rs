//! Cuts the samples of a stream into fragments, one a GOP, and places them on the wall clock.

use std::sync::Arc;

use archive::buffer::Pool;
use archive::fragment::FRAGMENT_DURATION_MAX_US;
use archive::mp4::{AUDIO_TRACK_ID, VIDEO_TRACK_ID};
use archive::segment::{ClosedFragment, Closing, FragmentBuilder};
use archive::{GapCause, InitSegment, Note, Timescale, Track, TrackKind, WallTime};

use crate::activity::Activity;
use crate::clock_map::ClockMap;
use crate::event::{Event, Sample, SenderReport, TrackParams};
use crate::gap_tracker::GapTracker;

/// Media time of a run begins at this many seconds, so that pictures shown before the first keyframe of an
/// open GOP have a time too.
const ORIGIN_SECONDS: i64 = 1;

/// A fragment ends after this time on our own clock too: later than by media time, so that pictures which come
/// unevenly change nothing.
const FRAGMENT_OPEN_MAX_US: u64 = FRAGMENT_DURATION_MAX_US.unsigned_abs() * 6 / 5;

/// After so many keyframes with nothing between them a camera is taken to send nothing else.
const INTRA_KEYFRAMES: u32 = 50;
/// A fragment of such a camera lasts this long: a row and a padding for each picture would be out of proportion.
const INTRA_FRAGMENT_US: i64 = archive::time::SECOND_US;

/// A complete fragment with what belongs to it.
#[derive(Debug)]
pub struct Finished {
    /// The fragment.
    pub fragment: ClosedFragment,
    /// What a player needs before it.
    pub init: Arc<InitSegment>,
    /// Bytes of its samples.
    pub bytes: usize,
    /// Its pictures.
    pub pictures: usize,
    /// Packets lost before or in it.
    pub packets_lost: u32,
    /// The camera's clock minus ours.
    pub clock_offset_ms: Option<i64>,
    /// When its last picture arrived, on the host's monotonic clock.
    pub arrived_us: u64,
}

/// The fragment in progress of one stream, and what is known of its clocks.
pub struct Fragmenter {
    pool: Pool,
    clock: ClockMap,
    gap: GapTracker,
    activity: Activity,
    /// Where the last fragment ended: the next begins there or later.
    end: WallTime,
    init: Option<Arc<InitSegment>>,
    scales: (Timescale, Timescale),
    audio_duration: u32,
    builder: Option<FragmentBuilder>,
    headroom: Option<usize>,
    /// The duration of a picture where nothing better is known, in video ticks.
    typical_duration: u32,
    packets_lost: u32,
    arrived_us: u64,
    /// When the first picture of the fragment in progress arrived.
    opened_us: u64,
    /// Keyframes since the last picture that was none.
    keyframes_in_row: u32,
}

fn default_scale() -> Timescale {
    Timescale::new(90_000).unwrap_or_else(|| unreachable!("90,000 is not 0"))
}

impl Fragmenter {
    /// A stream whose last fragment ended at `end`, with the gap since then in `gap`.
    pub fn new(pool: Pool, end: WallTime, gap: GapTracker) -> Self {
        Self {
            pool,
            clock: ClockMap::new(end),
            gap,
            activity: Activity::default(),
            end,
            init: None,
            scales: (default_scale(), default_scale()),
            audio_duration: 1024,
            builder: None,
            headroom: None,
            typical_duration: 3000,
            packets_lost: 0,
            arrived_us: 0,
            opened_us: 0,
            keyframes_in_row: 0,
        }
    }

    /// A new session begins: media time and the camera's clock start over.
    pub fn begin_session(&mut self) {
        self.clock = ClockMap::new(self.end);
        self.builder = None;
        self.packets_lost = 0;
        self.keyframes_in_row = 0;
    }

    /// The session has ended: closes what is in progress. Whoever cannot keep it says so in the
    /// [`gap`](Self::gap) before [`begin_gap`](Self::begin_gap).
    pub fn end_session(&mut self) -> Option<Finished> {
        self.close(None)
    }

    /// After the end of a session a gap begins where media ended. A gap that lasts already only changes its
    /// cause, from `now` on.
    pub fn begin_gap(&mut self, now: WallTime, cause: GapCause) {
        if self.gap.current().is_some() {
            self.gap.cause_changed(now, cause);
        } else {
            self.gap.start(self.end, cause);
        }
    }

    /// The gap in progress, in pieces.
    pub fn gap(&mut self) -> &mut GapTracker {
        &mut self.gap
    }

    /// Where the last fragment ended.
    pub fn end(&self) -> WallTime {
        self.end
    }

    /// Takes in what a source tells. Returns the fragment that this completed.
    pub fn push(&mut self, event: Event) -> Option<Finished> {
        match event {
            Event::Start { tracks, new_run } => self.start(tracks, new_run),
            Event::Sample(sample) => self.sample(sample),
            Event::SenderReport(report) => {
                self.sender_report(&report);
                None
            }
        }
    }

    fn start(&mut self, tracks: Vec<TrackParams>, new_run: bool) -> Option<Finished> {
        let finished = self.close(None);
        let scale = |kind| tracks.iter().find(|t| t.kind == kind).map(|t| t.timescale);
        let video = scale(TrackKind::Video).unwrap_or_else(default_scale);
        self.scales = (video, scale(TrackKind::Audio).unwrap_or_else(default_scale));
        self.typical_duration = video.get() / 30;
        let init = InitSegment::build(tracks.into_iter().map(track).collect());
        if InitSegment::parse(init.bytes.clone()).is_err() {
            tracing::warn!(
                bytes = init.bytes.len(),
                "parameter sets that no reader would take: nothing is kept"
            );
            self.init = None;
        } else if self.init.as_ref().is_none_or(|known| known.hash != init.hash) {
            self.init = Some(Arc::new(init));
        }
        if new_run {
            self.clock.restart();
        }
        finished
    }

    fn sample(&mut self, sample: Sample) -> Option<Finished> {
        self.packets_lost = self.packets_lost.saturating_add(sample.packets_lost);
        let (video, audio) = self.scales;
        if sample.track == TrackKind::Audio {
            // A fragment has no track that its init segment does not describe.
            let described = self.init.as_ref().is_some_and(|init| init.audio().is_some());
            let builder = self.builder.as_mut().filter(|_| described);
            if let Some(builder) = builder.filter(|b| b.has_room(sample.data.len())) {
                let origin = ORIGIN_SECONDS * i64::from(audio.get());
                builder.push_audio(sample.pts.saturating_add(origin), &sample.data);
            }
            return None;
        }
        let pts = sample.pts.saturating_add(ORIGIN_SECONDS * i64::from(video.get()));
        // A camera that sends other pictures after all has its fragments begin with every keyframe again.
        self.keyframes_in_row = if sample.keyframe {
            self.keyframes_in_row.saturating_add(1)
        } else {
            0
        };
        let mut finished = None;
        if let Some(builder) = &self.builder {
            let span_us = builder
                .pts_span()
                .map_or(0, |(first, _)| video.to_micros(pts.saturating_sub(first)));
            // Media time is the camera's word; where it stands still, its pictures still become durable.
            let open_us = sample.arrival_mono_us.saturating_sub(self.opened_us);
            let full = !builder.has_room(sample.data.len())
                || span_us >= FRAGMENT_DURATION_MAX_US
                || open_us >= FRAGMENT_OPEN_MAX_US;
            let is_intra = self.keyframes_in_row > INTRA_KEYFRAMES && builder.is_intra();
            let gop = sample.keyframe && !(is_intra && (0..INTRA_FRAGMENT_US).contains(&span_us));
            if !builder.is_empty() && (gop || full) {
                finished = self.close(Some(pts));
                self.builder = Some(FragmentBuilder::new(&self.pool, self.headroom));
            }
        } else if sample.keyframe && self.init.is_some() {
            self.builder = Some(FragmentBuilder::new(&self.pool, self.headroom));
        }
        if let Some(builder) = &mut self.builder {
            if builder.is_empty() {
                self.opened_us = sample.arrival_mono_us;
            }
            self.clock
                .observe(video.to_micros(pts), sample.arrival_wall, sample.arrival_mono_us);
            builder.push_video(pts, sample.keyframe, &sample.data);
            self.arrived_us = sample.arrival_mono_us;
        }
        finished
    }

    fn sender_report(&mut self, report: &SenderReport) {
        if report.track == TrackKind::Video {
            let video = self.scales.0;
            let pts = report.pts.saturating_add(ORIGIN_SECONDS * i64::from(video.get()));
            self.clock
                .observe_sr(video.to_micros(pts), report.camera_wall, report.arrival_mono_us);
        }
    }

    /// Closes the fragment in progress. `next` is the time of the picture that follows in the same run.
    fn close(&mut self, next: Option<i64>) -> Option<Finished> {
        let builder = self.builder.take().filter(|b| !b.is_empty())?;
        let init = self.init.clone()?;
        let video = self.scales.0;
        let (first, last) = builder.pts_span()?;
        let pictures = builder.pictures();
        if let Some(intervals) = u32::try_from(pictures - 1).ok().filter(|n| *n > 0) {
            let mean = last.saturating_sub(first) / i64::from(intervals);
            self.typical_duration = u32::try_from(mean).unwrap_or(u32::MAX).max(1);
        }
        // With B-frames the next keyframe is decoded before pictures that are shown earlier.
        let media_end = next
            .filter(|_| !builder.is_reordered())
            .filter(|next| *next > last);
        let end = media_end.unwrap_or(last.saturating_add(i64::from(self.typical_duration)));
        let placement = self
            .clock
            .close_fragment(video.to_micros(first), video.to_micros(end));
        let seconds = placement.wall_duration_us as f32 / 1e6;
        let activity = self.activity.level(builder.delta_bytes().0, seconds);
        let packets_lost = std::mem::take(&mut self.packets_lost);

        let mut notes = self.gap.media_resumed(placement.wall_start);
        // A gap between sessions and one that the clock map saw tell of the same time: the first wins.
        let told = |note: &Note| matches!(note, Note::Gap { .. }) && !notes.is_empty();
        let seen: Vec<Note> = placement.notes.iter().filter(|n| !told(n)).copied().collect();
        notes.extend(seen);
        if packets_lost > 0 {
            notes.push(Note::PacketsLost {
                packets: packets_lost,
            });
        }
        self.end = placement.wall_end();
        let bytes = builder.bytes();
        let offset_ms = self.clock.offset_ms();
        let closing = Closing {
            wall_start: placement.wall_start,
            wall_duration_us: placement.wall_duration_us,
            media_end: Some(end),
            typical_duration: self.typical_duration,
            run_start: placement.run_start,
            activity,
            notes,
            clock_offset_us: offset_ms.map(|ms| ms.saturating_mul(1000)),
            audio_duration: self.audio_duration,
        };
        let fragment = builder.close(&self.pool, closing);
        self.headroom = Some(fragment.headroom_needed());
        Some(Finished {
            fragment,
            init,
            bytes,
            pictures,
            packets_lost,
            clock_offset_ms: offset_ms,
            arrived_us: self.arrived_us,
        })
    }
}

fn track(t: TrackParams) -> Track {
    Track {
        id: if t.kind == TrackKind::Video {
            VIDEO_TRACK_ID
        } else {
            AUDIO_TRACK_ID
        },
        kind: t.kind,
        timescale: t.timescale,
        codec: t.codec,
        width: t.width,
        height: t.height,
        channels: t.channels,
        sample_entry: t.sample_entry.into(),
    }
}

impl std::fmt::Debug for Fragmenter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fragmenter")
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
