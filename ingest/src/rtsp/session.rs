//! The session itself.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use archive::{Clock, GapCause, Timescale, TrackKind, WallTime};
use futures::Stream as _;
use retina::client::{
    Demuxed, InitialTimestampPolicy, PlayOptions, SetupOptions, TcpTransportOptions, UdpTransportOptions,
    UnknownRtcpSsrcPolicy,
};
use retina::codec::{AudioFrame, CodecItem, FrameFormat, VideoFrame};
use retina::rtcp::ReceivedCompoundPacket;
use tokio::time::{Interval, MissedTickBehavior};

use super::align::Alignment;
use super::describe::describe;
use super::error::Phase;
use super::recovery_point;
use super::tracks::{self, Chosen};
use super::{SessionConfig, SessionError, Transport};
use crate::event::{Event, Sample, SenderReport, TrackParams};

/// How often a silent session is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// So many items that are no pictures may come at once before other sessions have their turn.
const ITEMS_AT_ONCE: u32 = 1024;
/// After the camera said goodbye for its pictures, it is given this long to begin anew.
const GOODBYE_US: u64 = 2_000_000;
/// Sound is held back at most this long while its place is being found.
const ALIGN_WITHIN_US: u64 = 3_000_000;
/// And at most this many frames of it.
const HELD_FRAMES_MAX: usize = 1000;
/// Presentation time that jumps by this much more than time has passed, or back, begins a new run.
const JUMP_US: i64 = 2_000_000;
/// B-frames go back by some picture intervals: fewer than this many are no jump.
const REORDER_INTERVALS: i64 = 16;
/// Going back by less is never a jump.
const REORDER_US_MIN: i64 = 1_000_000;
/// Seconds from 1900, where NTP begins, to 1970.
const NTP_UNIX_S: i64 = 2_208_988_800;
/// The RTCP packet type that says goodbye.
const RTCP_BYE: u8 = 203;

/// A session that is playing. Dropping it tears it down in the background, and must happen within the
/// runtime that made it.
///
/// Made for many sessions on one thread: a sample costs no timer, no copy and no allocation beyond retina's,
/// and what arrived while the thread slept is handed out without waiting.
pub struct Session {
    media: Demuxed,
    chosen: Chosen,
    config: SessionConfig,
    clock: Arc<dyn Clock>,
    watch: Interval,
    /// Pictures have to come within this time.
    patience_us: u64,
    /// When the last picture came, or else when playing began, on the monotonic clock.
    last_picture_us: u64,
    /// When playing began, until a picture comes at which decoding can begin.
    awaits_keyframe_us: Option<u64>,
    /// Whether the pictures are H.265.
    hevc: bool,
    video_scale: Timescale,
    audio_scale: Timescale,
    tracks: Vec<TrackParams>,
    align: Alignment,
    run: Option<Run>,
    /// Packets lost before pictures that could not be handed out.
    lost: u32,
    ready: VecDeque<Event>,
}

/// A run: media time without a jump. Elapsed times count from the origin of the session.
struct Run {
    /// Of the first picture, in video ticks.
    origin: i64,
    /// Of the latest picture in presentation order, in microseconds.
    latest_us: i64,
    /// Smoothed difference between pictures, in microseconds.
    interval_us: i64,
    keyframes: u64,
    began_us: u64,
    /// The latest sound: elapsed, and when it came, in microseconds.
    sound: Option<(i64, u64)>,
    /// The last presentation time given to sound.
    sound_pts: Option<i64>,
    /// Sound whose place is not known yet; its times are elapsed times.
    held: VecDeque<Sample>,
}

/// The host's clocks at one instant.
#[derive(Copy, Clone)]
struct Arrival {
    wall: WallTime,
    mono_us: u64,
}

impl Session {
    /// Connects, asks what the camera offers, and lets it play. Returns before the first picture.
    ///
    /// # Errors
    /// `Unreachable` when it does not answer in time, `Refused` when it answers with an error,
    /// `Unsupported` when it offers nothing that can be recorded, `SessionLost` when it breaks off.
    pub async fn connect(config: &SessionConfig, clock: Arc<dyn Clock>) -> Result<Self, SessionError> {
        let mut session = describe(config).await?;
        if session.sdp().len() > config.limits.description_bytes {
            return Err(SessionError::new(
                GapCause::Unsupported,
                "the camera's description is too long",
            ));
        }
        let chosen = tracks::choose(session.streams())?;
        for index in [Some(chosen.video), chosen.audio].into_iter().flatten() {
            let transport = match config.transport {
                Transport::Tcp => retina::client::Transport::Tcp(TcpTransportOptions::default()),
                Transport::Udp => retina::client::Transport::Udp(UdpTransportOptions::default()),
            };
            let setup = SetupOptions::default()
                .transport(transport)
                .frame_format(FrameFormat::MP4);
            answered(Phase::Setup, config, session.setup(index, setup)).await?;
        }
        let scale = |index: usize| session.streams().get(index).and_then(tracks::timescale);
        let no_clock = || SessionError::new(GapCause::Unsupported, "a stream without a clock rate");
        let video_scale = scale(chosen.video).ok_or_else(no_clock)?;
        let audio_scale = chosen.audio.and_then(scale).unwrap_or(video_scale);
        let hevc = session
            .streams()
            .get(chosen.video)
            .is_some_and(|s| s.encoding_name() == "h265");
        let play = PlayOptions::default()
            .initial_timestamp(InitialTimestampPolicy::Permissive)
            .unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::ProcessPackets);
        let media = answered(Phase::Play, config, session.play(play))
            .await?
            .demuxed()
            .map_err(|e| {
                let error = SessionError::from_retina(Phase::Play, &e, config);
                SessionError::new(GapCause::Unsupported, error.to_string())
            })?;
        let mut watch = tokio::time::interval(WATCH_EVERY);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            media,
            chosen,
            config: config.clone(),
            watch,
            patience_us: micros(config.limits.no_data),
            last_picture_us: clock.monotonic_us(),
            awaits_keyframe_us: Some(clock.monotonic_us()),
            clock,
            hevc,
            video_scale,
            audio_scale,
            tracks: Vec::new(),
            align: Alignment::default(),
            run: None,
            lost: 0,
            ready: VecDeque::new(),
        })
    }

    /// The next event; the first is [`Event::Start`]. After an error the session is of no more use. Safe to
    /// drop half way: nothing is lost.
    ///
    /// # Errors
    /// `NoData` when no picture came in time, `SessionLost` when the camera ended the session or broke the
    /// protocol.
    pub async fn next(&mut self) -> Result<Event, SessionError> {
        let mut items = 0;
        loop {
            items += 1;
            if u32::is_multiple_of(items, ITEMS_AT_ONCE) {
                tokio::task::yield_now().await;
            }
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let item = poll_fn(|cx| self.poll_item(cx)).await?;
            let now = Arrival {
                wall: self.clock.wall(),
                mono_us: self.clock.monotonic_us(),
            };
            match item {
                CodecItem::VideoFrame(frame) => {
                    if let Some(event) = self.picture(frame, now) {
                        return Ok(event);
                    }
                }
                CodecItem::AudioFrame(frame) => self.sound(&frame, now),
                CodecItem::Rtcp(packet) => self.control(&packet, now),
                _ => {}
            }
            // A camera that always has something else to say never lets everything be read.
            self.endures_silence(now.mono_us, 2)?;
        }
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Result<CodecItem, SessionError>> {
        match Pin::new(&mut self.media).poll_next(cx) {
            Poll::Ready(Some(Ok(item))) => return Poll::Ready(Ok(item)),
            Poll::Ready(Some(Err(error))) => {
                return Poll::Ready(Err(SessionError::from_retina(Phase::Media, &error, &self.config)));
            }
            Poll::Ready(None) => {
                let closed = SessionError::new(GapCause::SessionLost, "the camera closed the connection");
                return Poll::Ready(Err(closed));
            }
            Poll::Pending => {}
        }
        // Everything that had arrived was read: only now is silence the camera's.
        // The ticks only wake us: a flood of garbage uses up what one task may do, and timers with it.
        while self.watch.poll_tick(cx).is_ready() {}
        if let Err(error) = self.endures_silence(self.clock.monotonic_us(), 1) {
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }

    /// An error when no picture came for `times` as long as is waited for one.
    fn endures_silence(&self, now_us: u64, times: u64) -> Result<(), SessionError> {
        let no_data = |what: &str, us: u64| {
            let text = format!("{what} for {} s", us / 1_000_000);
            Err(SessionError::new(GapCause::NoData, text))
        };
        let silent_us = now_us.saturating_sub(self.last_picture_us);
        if silent_us > self.patience_us.saturating_mul(times) {
            return if self.run.is_some() {
                no_data("no picture", silent_us)
            } else {
                no_data("no picture that can be decoded", silent_us)
            };
        }
        let blind_us = self
            .awaits_keyframe_us
            .map_or(0, |since| now_us.saturating_sub(since));
        if blind_us > micros(self.config.limits.no_keyframe) {
            return no_data("no keyframe", blind_us);
        }
        Ok(())
    }

    /// A picture. Usually it is the next event; what must come before it goes through `ready`, and it too.
    fn picture(&mut self, frame: VideoFrame, now: Arrival) -> Option<Event> {
        self.lost = self.lost.saturating_add(frame.loss().into());
        if frame.has_new_parameters() || self.tracks.is_empty() {
            self.describe_tracks(now);
        }
        // Without parameter sets nothing can be decoded; an access unit of parameter sets alone is empty.
        if self.tracks.is_empty() || frame.data().is_empty() {
            return None;
        }
        let elapsed = frame.timestamp().elapsed();
        let elapsed_us = self.video_scale.to_micros(elapsed);
        let passed_us = span(self.last_picture_us, now.mono_us);
        self.last_picture_us = now.mono_us;
        self.patience_us = micros(self.config.limits.no_data);
        let recovers = match self.hevc {
            true => tracks::begins_with_irap(frame.data()),
            false => recovery_point::has(frame.data()),
        };
        let keyframe = frame.is_random_access_point() || recovers;
        if keyframe {
            self.awaits_keyframe_us = None;
        }

        if self
            .run
            .as_ref()
            .is_some_and(|run| run.is_jump(elapsed_us, passed_us))
        {
            self.place_sound(true, now);
            self.run = None;
            self.align.forget_all();
            self.ready.push_back(Event::Start {
                tracks: self.tracks.clone(),
                new_run: true,
            });
        }
        let run = self.run.get_or_insert_with(|| Run::new(elapsed, elapsed_us, now));
        run.keyframes += u64::from(keyframe);
        run.interval_us = (run.interval_us * 7 + (elapsed_us - run.latest_us).saturating_abs()) / 8;
        run.latest_us = run.latest_us.max(elapsed_us);
        self.align.video.observe(elapsed_us, mono(now));
        let second_keyframe = keyframe && run.keyframes == 2;
        let pts = elapsed.saturating_sub(run.origin);
        if second_keyframe {
            self.place_sound(true, now);
        }
        let sample = Sample {
            track: TrackKind::Video,
            pts,
            keyframe,
            data: frame.into_data(),
            arrival_wall: now.wall,
            arrival_mono_us: now.mono_us,
            packets_lost: std::mem::take(&mut self.lost),
        };
        if self.ready.is_empty() {
            return Some(Event::Sample(sample));
        }
        self.ready.push_back(Event::Sample(sample));
        None
    }

    /// Announces the tracks when they are known and differ from those announced before.
    fn describe_tracks(&mut self, now: Arrival) {
        let streams = self.media.streams();
        let Some(video) = streams.get(self.chosen.video).and_then(tracks::video_params) else {
            return;
        };
        let audio = self
            .chosen
            .audio
            .and_then(|i| streams.get(i))
            .and_then(tracks::audio_params);
        let tracks: Vec<_> = [Some(video), audio].into_iter().flatten().collect();
        if tracks != self.tracks {
            // The fragment in progress ends here; sound that belongs to it must not come later.
            self.place_sound(true, now);
            self.ready.push_back(Event::Start {
                tracks: tracks.clone(),
                new_run: self.run.is_none(),
            });
            self.tracks = tracks;
        }
    }

    /// Sound. It waits until its place is known; what comes before the first picture is not kept.
    fn sound(&mut self, frame: &AudioFrame, now: Arrival) {
        let Some(run) = &mut self.run else {
            return;
        };
        let elapsed = frame.timestamp().elapsed();
        let elapsed_us = self.audio_scale.to_micros(elapsed);
        let jumped = run.sound.is_some_and(|(latest_us, at_us)| {
            let step_us = elapsed_us.saturating_sub(latest_us);
            step_us < 0 || step_us > JUMP_US.saturating_add(span(at_us, now.mono_us))
        });
        if jumped {
            self.place_sound(true, now);
            self.align.forget_sound();
        }
        self.align.audio.observe(elapsed_us, mono(now));
        self.align.follow(elapsed_us);
        if let Some(run) = &mut self.run {
            run.sound = Some((elapsed_us, now.mono_us));
            run.held.push_back(Sample {
                track: TrackKind::Audio,
                pts: elapsed,
                keyframe: true,
                data: frame.data().to_vec(),
                arrival_wall: now.wall,
                arrival_mono_us: now.mono_us,
                packets_lost: frame.loss().into(),
            });
        }
        self.place_sound(jumped, now);
    }

    /// Decides where sound belongs, if that is due, and hands out what waits for it.
    fn place_sound(&mut self, at_once: bool, now: Arrival) {
        let Some(run) = &mut self.run else {
            return;
        };
        if self.align.offset_us().is_none() {
            let waited_us = now.mono_us.saturating_sub(run.began_us);
            let due = at_once || waited_us >= ALIGN_WITHIN_US || run.held.len() >= HELD_FRAMES_MAX;
            if !due && !self.align.is_certain() {
                return;
            }
            let elapsed = run.held.back().map_or(0, |sample| sample.pts);
            self.align.decide(self.audio_scale.to_micros(elapsed));
        }
        let Some(offset) = sound_offset(&self.align, run, self.video_scale, self.audio_scale) else {
            return;
        };
        for mut sample in run.held.drain(..) {
            // Two frames never share a time, whatever the camera's clock does.
            let earliest = run.sound_pts.map_or(i64::MIN, |last| last.saturating_add(1));
            sample.pts = sample.pts.saturating_add(offset).max(earliest);
            if sample.pts >= 0 {
                run.sound_pts = Some(sample.pts);
                self.ready.push_back(Event::Sample(sample));
            }
        }
    }

    /// RTCP: what the camera's clock says, and goodbyes.
    fn control(&mut self, packet: &ReceivedCompoundPacket, now: Arrival) {
        let is_video = packet.stream_id() == self.chosen.video;
        if is_video && packet.pkts().any(|p| p.payload_type() == RTCP_BYE) {
            self.patience_us = self.patience_us.min(GOODBYE_US);
        }
        let report = packet
            .pkts()
            .next()
            .and_then(|p| p.as_sender_report().ok().flatten());
        let (Some(report), Some(at)) = (report, packet.rtp_timestamp()) else {
            return;
        };
        // A camera that knows no time says 0.
        let Some(camera_us) = unix_micros(report.ntp_timestamp().0) else {
            return;
        };
        let elapsed = at.elapsed();
        let pts = if is_video {
            self.align
                .video
                .observe_sr(self.video_scale.to_micros(elapsed), camera_us);
            self.run.as_ref().map(|run| elapsed.saturating_sub(run.origin))
        } else {
            self.align
                .audio
                .observe_sr(self.audio_scale.to_micros(elapsed), camera_us);
            let offset = self
                .run
                .as_ref()
                .and_then(|run| sound_offset(&self.align, run, self.video_scale, self.audio_scale));
            offset.map(|offset| elapsed.saturating_add(offset))
        };
        if let Some(pts) = pts {
            self.ready.push_back(Event::SenderReport(SenderReport {
                track: if is_video {
                    TrackKind::Video
                } else {
                    TrackKind::Audio
                },
                camera_wall: WallTime::from_micros(camera_us),
                pts,
                arrival_wall: now.wall,
                arrival_mono_us: now.mono_us,
            }));
        }
    }
}

impl Run {
    fn new(origin: i64, origin_us: i64, now: Arrival) -> Self {
        Self {
            origin,
            latest_us: origin_us,
            interval_us: 0,
            keyframes: 0,
            began_us: now.mono_us,
            sound: None,
            sound_pts: None,
            held: VecDeque::new(),
        }
    }

    /// Whether a picture at `elapsed_us` cannot belong to the same clock as the one before it, which came
    /// `passed_us` earlier.
    fn is_jump(&self, elapsed_us: i64, passed_us: i64) -> bool {
        let step_us = elapsed_us.saturating_sub(self.latest_us);
        let reorder_us = self
            .interval_us
            .saturating_mul(REORDER_INTERVALS)
            .max(REORDER_US_MIN);
        step_us > passed_us.saturating_add(JUMP_US) || step_us < -reorder_us
    }
}

/// What to add to the sound's elapsed ticks to get its time since the first picture.
fn sound_offset(align: &Alignment, run: &Run, video: Timescale, audio: Timescale) -> Option<i64> {
    let offset_us = align.offset_us()?;
    Some(audio.from_micros(offset_us.saturating_sub(video.to_micros(run.origin))))
}

/// Waits for the camera's answer.
pub(super) async fn answered<T>(
    phase: Phase,
    config: &SessionConfig,
    answer: impl Future<Output = Result<T, retina::Error>>,
) -> Result<T, SessionError> {
    match tokio::time::timeout(config.limits.answer, answer).await {
        Ok(answer) => answer.map_err(|e| SessionError::from_retina(phase, &e, config)),
        Err(_) => Err(SessionError::timeout(phase, config)),
    }
}

/// An NTP time as microseconds since 1970; `None` for 0. Valid until 2106.
fn unix_micros(ntp: u64) -> Option<i64> {
    let seconds = i64::try_from(ntp >> 32).ok()?;
    let since_1970 = if seconds < NTP_UNIX_S {
        seconds + (1 << 32)
    } else {
        seconds
    } - NTP_UNIX_S;
    let fraction_us = ((ntp & 0xffff_ffff) * 1_000_000) >> 32;
    (ntp != 0).then(|| since_1970 * 1_000_000 + i64::try_from(fraction_us).unwrap_or(0))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn mono(at: Arrival) -> i64 {
    i64::try_from(at.mono_us).unwrap_or(i64::MAX)
}

fn span(from_us: u64, to_us: u64) -> i64 {
    i64::try_from(to_us.saturating_sub(from_us)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_times_are_read_in_both_eras() {
        assert_eq!(unix_micros(0), None);
        assert_eq!(unix_micros(2_208_988_800 << 32), Some(0));
        assert_eq!(unix_micros((2_208_988_801 << 32) | 0x8000_0000), Some(1_500_000));
        // 2036-02-07T06:28:16Z begins the second era.
        assert_eq!(unix_micros(1 << 32), Some((2_085_978_496 + 1) * 1_000_000));
    }

    #[test]
    fn reordered_pictures_are_no_jump() {
        let now = Arrival {
            wall: WallTime::MIN,
            mono_us: 0,
        };
        let mut run = Run::new(0, 0, now);
        run.latest_us = 1_000_000;
        assert!(!run.is_jump(800_000, 40_000) && !run.is_jump(3_000_000, 40_000));
        assert!(
            !run.is_jump(31_000_000, 30_000_000),
            "pictures lost for half a minute"
        );
        assert!(run.is_jump(-1, 40_000) && run.is_jump(4_000_000, 40_000));
        // One picture in two seconds, with B-frames.
        run.interval_us = 2_000_000;
        assert!(!run.is_jump(-3_000_000, 2_000_000));
    }
}
