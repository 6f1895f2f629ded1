//! One free-running simulated encoder: which frame it sends next, under which stamp, and to whom.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::clip::Clip;
use super::clock::FarmClock;
use super::counters::Tally;
use super::link::{Link, Sent};
use super::packetize::Stamp;
use super::report::SenderReport;

/// Time between two RTCP sender reports.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Frames that a log holds at most; the oldest give way.
const LOGGED_FRAMES_MAX: usize = 1 << 20;

/// One frame that a camera sent, as [`Camsim::logged_frames`](super::Camsim::logged_frames) returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentFrame {
    /// The frame's RTP timestamp.
    pub rtp_timestamp: u32,
    /// SHA-256 of the frame as an `avc1` or `hvc1` sample: see [`Clip::sample`].
    pub sha256: [u8; 32],
    /// Whether the frame is a random access point.
    pub keyframe: bool,
    /// Wall time of sending.
    pub sent_at: SystemTime,
    /// How many clients it was sent to.
    pub viewers: usize,
}

/// The synchronisation source of camera `number`.
pub(super) fn ssrc(number: usize) -> u32 {
    0xca00_0000 | number as u32
}

/// A client that receives the camera's frames.
struct Viewer {
    link: Arc<Link>,
    since: Instant,
}

/// A place in the endless repetition of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    cycle: u64,
    frame: usize,
}

/// The state of one camera. Whether anybody watches or not, its clock runs: position and timestamps follow
/// from the time alone, so that all clients see the same stream and a client joins in mid-GOP.
pub(super) struct Encoder {
    clip: Arc<Clip>,
    /// Where on the farm clock the clip's first repetition began, in ticks.
    origin_ticks: i64,
    next: Position,
    sequence: u16,
    timestamp_base: u32,
    ssrc: u32,
    packets_sent: u32,
    octets_sent: u32,
    next_report: Option<Instant>,
    viewers: Vec<Viewer>,
    /// The pacer knows of this camera.
    scheduled: bool,
    stalled: bool,
    down: bool,
    awaits_keyframe: bool,
    frames_to_lose: u32,
    wall_offset_us: i64,
    log: Option<VecDeque<SentFrame>>,
}

impl Encoder {
    /// Camera `number`, whose frames and keyframes fall at other times than those of its neighbours.
    pub(super) fn new(number: usize, clip: Arc<Clip>) -> Self {
        // Multiples of the golden ratio spread any number of cameras evenly over the clip.
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let turn = (number as u64).wrapping_mul(GOLDEN);
        let phase = (u128::from(turn) * u128::from(clip.duration_ticks)) >> 64;
        Self {
            origin_ticks: -(phase as i64),
            next: Position { cycle: 0, frame: 0 },
            sequence: (number as u16).wrapping_mul(77),
            timestamp_base: (number as u32).wrapping_mul(0x0123_4567),
            ssrc: ssrc(number),
            packets_sent: 0,
            octets_sent: 0,
            next_report: None,
            viewers: Vec::new(),
            scheduled: false,
            stalled: false,
            down: false,
            awaits_keyframe: false,
            frames_to_lose: 0,
            wall_offset_us: 0,
            log: None,
            clip,
        }
    }

    pub(super) fn clip(&self) -> &Arc<Clip> {
        &self.clip
    }

    fn cycle_start_ticks(&self) -> i64 {
        self.origin_ticks + (self.next.cycle * self.clip.duration_ticks) as i64
    }

    /// When the next frame is due.
    fn due_ticks(&self) -> i64 {
        self.cycle_start_ticks() + self.clip.frames[self.next.frame].send_ticks as i64
    }

    /// Goes to the first frame that is due at `ticks` or later.
    fn seek(&mut self, ticks: i64) {
        let since = (ticks - self.origin_ticks).max(0).unsigned_abs();
        let (cycle, into) = (since / self.clip.duration_ticks, since % self.clip.duration_ticks);
        let frame = self.clip.frames.partition_point(|frame| frame.send_ticks < into);
        self.next = Position { cycle, frame };
        self.wrap();
    }

    fn wrap(&mut self) {
        if self.next.frame >= self.clip.frames.len() {
            self.next = Position {
                cycle: self.next.cycle + 1,
                frame: 0,
            };
        }
    }

    fn stamp(&self) -> Stamp {
        let capture = self.cycle_start_ticks() + self.clip.frames[self.next.frame].capture_ticks;
        let timestamp = self.timestamp_base.wrapping_add(capture as u32);
        Stamp {
            sequence: self.sequence,
            timestamp,
            ssrc: self.ssrc,
        }
    }

    /// Adds a client, after `answer` made from the stamp of its first frame went out to it.
    ///
    /// Returns when the pacer must come back, if it does not know of this camera yet.
    pub(super) fn join(
        &mut self,
        link: Arc<Link>,
        now: Instant,
        clock: &FarmClock,
        answer: impl FnOnce(Stamp) -> String,
    ) -> Option<Instant> {
        if !self.scheduled {
            self.seek(clock.ticks(now));
        }
        link.send(answer(self.stamp()).as_bytes());
        self.viewers.push(Viewer { link, since: now });
        (!std::mem::replace(&mut self.scheduled, true)).then(|| clock.instant(self.due_ticks()))
    }

    /// Sends the frame that is due and returns when the next one is; `None` once nobody watches.
    pub(super) fn step(
        &mut self,
        now: Instant,
        clock: &FarmClock,
        drop_after: Option<Duration>,
        message: &mut Vec<u8>,
        tally: &Tally,
    ) -> Option<Instant> {
        if let Some(limit) = drop_after {
            self.viewers
                .iter()
                .filter(|viewer| now >= viewer.since + limit)
                .for_each(|viewer| viewer.link.close());
        }
        message.clear();
        let keyframe = self.clip.frames[self.next.frame].keyframe;
        let sends = !self.stalled && (keyframe || !self.awaits_keyframe);
        if sends {
            self.compose(now, clock, message);
        }
        self.awaits_keyframe = !sends;
        let before = self.viewers.len();
        self.viewers.retain(|viewer| {
            let sent = viewer.link.send(message);
            tally.count(sent, message.len());
            matches!(sent, Sent::Whole | Sent::Stalled)
        });
        tally.leave(before - self.viewers.len());
        if sends {
            if !self.viewers.is_empty() {
                self.log_frame(clock.wall(now));
            }
            self.sequence = self
                .sequence
                .wrapping_add(self.clip.frames[self.next.frame].packets.count() as u16);
        }
        self.next.frame += 1;
        self.wrap();
        self.scheduled = !self.viewers.is_empty();
        self.scheduled.then(|| clock.instant(self.due_ticks()))
    }

    /// Writes the frame that is due, and a sender report if its time has come; nothing for a lost frame.
    fn compose(&mut self, now: Instant, clock: &FarmClock, message: &mut Vec<u8>) {
        if self.frames_to_lose > 0 {
            self.frames_to_lose -= 1;
            return;
        }
        if self.next_report.is_none_or(|due| now >= due) {
            self.next_report = Some(now + REPORT_EVERY);
            let report = SenderReport {
                ssrc: self.ssrc,
                wall: clock.wall(now),
                wall_offset_us: self.wall_offset_us,
                timestamp: self.timestamp_base.wrapping_add(clock.ticks(now) as u32),
                packets: self.packets_sent,
                octets: self.octets_sent,
            };
            report.write(message);
        }
        let packets = &self.clip.frames[self.next.frame].packets;
        packets.stamp_into(message, self.stamp());
        self.packets_sent = self.packets_sent.wrapping_add(packets.count() as u32);
        self.octets_sent = self.octets_sent.wrapping_add(packets.payload_bytes() as u32);
    }

    fn log_frame(&mut self, sent_at: SystemTime) {
        let Stamp {
            timestamp: rtp_timestamp,
            ..
        } = self.stamp();
        let Some(log) = &mut self.log else { return };
        if log.len() >= LOGGED_FRAMES_MAX {
            log.pop_front();
        }
        log.push_back(SentFrame {
            rtp_timestamp,
            sha256: self.clip.sample_sha256(self.next.frame),
            keyframe: self.clip.frames[self.next.frame].keyframe,
            sent_at,
            viewers: self.viewers.len(),
        });
    }

    /// From the next frame on, plays `clip` from its beginning under continuing timestamps. Clients stay
    /// connected unless the codec changes, which no running session can follow.
    pub(super) fn switch_clip(&mut self, clip: Arc<Clip>, now: Instant, clock: &FarmClock) {
        let begin = if self.scheduled {
            self.due_ticks()
        } else {
            clock.ticks(now)
        };
        if clip.codec != self.clip.codec {
            self.viewers.iter().for_each(|viewer| viewer.link.close());
        }
        self.origin_ticks = begin + clip.reorder_ticks as i64;
        self.next = Position { cycle: 0, frame: 0 };
        self.clip = clip;
    }

    /// A stalled camera keeps its sessions but sends nothing; it resumes with a keyframe.
    pub(super) fn set_stalled(&mut self, stalled: bool) {
        self.stalled = stalled;
    }

    /// A camera that is down answers nobody.
    pub(super) fn set_down(&mut self, down: bool) {
        self.down = down;
    }

    pub(super) fn is_down(&self) -> bool {
        self.down
    }

    /// Lets the next `frames` frames get lost on the way: their sequence numbers are missing.
    pub(super) fn lose_frames(&mut self, frames: u32) {
        self.frames_to_lose = frames;
    }

    /// Sets the camera's wall clock against the host's, and reports it with the next frame.
    pub(super) fn set_wall_offset_us(&mut self, offset_us: i64) {
        self.wall_offset_us = offset_us;
        self.next_report = None;
    }

    /// Starts a new log, or ends logging.
    pub(super) fn set_logging(&mut self, on: bool) {
        self.log = on.then(VecDeque::new);
    }

    /// The frames logged so far.
    pub(super) fn logged_frames(&self) -> Vec<SentFrame> {
        self.log.iter().flatten().cloned().collect()
    }
}
