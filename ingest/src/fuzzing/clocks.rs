//! What hostile timestamps do to wall time and fragments.

use archive::buffer::Pool;
use archive::fragment::{FRAGMENT_BYTES_MAX, NOTES_MAX};
use archive::fuzzing::Input;
use archive::time::HOUR_US;
use archive::{GapCause, InitSegment, Note, Timescale, TrackKind, WallTime};

use crate::clock_map::ClockMap;
use crate::event::{Event, Sample, SenderReport, TrackParams};
use crate::fragmenter::{Finished, Fragmenter};
use crate::gap_tracker::GapTracker;

const START_US: i64 = 1_700_000_000_000_000;
/// The longest that media of any one fragment is believed to last, with the most it can be corrected by.
const DURATION_US_MAX: u32 = 70_000_000;

/// The host's clocks: the monotonic one goes on, the wall clock may jump.
struct Host {
    mono_us: u64,
    wall_us: i64,
}

impl Host {
    fn pass(&mut self, input: &mut Input<'_>) {
        let us = input.skewed() % HOUR_US.unsigned_abs();
        self.mono_us += us;
        self.wall_us = self.wall_us.saturating_add(us.cast_signed());
        if input.u8() > 240 {
            self.wall_us = self.wall_us.saturating_add(input.skewed_signed()).max(0);
        }
    }

    fn wall(&self) -> WallTime {
        WallTime::from_micros(self.wall_us)
    }
}

/// Wherever media time, sender reports and the host's clock go: fragments never overlap nor run backwards, last
/// some time, and every hole between two of them has its gap.
pub fn clock_map(data: &[u8]) {
    let mut input = Input(data);
    let mut end = WallTime::from_micros(START_US);
    let mut map = ClockMap::new(end);
    let mut host = Host {
        mono_us: input.skewed() >> 1,
        wall_us: START_US + input.skewed_signed() % (1 << 50),
    };
    let (mut media_us, mut first) = (0i64, true);
    while !input.is_empty() {
        host.pass(&mut input);
        match input.u8() % 8 {
            0 => media_us = input.skewed_signed(),
            1 => map.observe_sr(
                media_us,
                WallTime::from_micros(input.skewed_signed()),
                host.mono_us,
            ),
            2 => map.restart(),
            3 => {
                let from = media_us;
                media_us = media_us.saturating_add(input.skewed_signed());
                let estimate = map.estimate(from);
                let placed = map.close_fragment(from, media_us);
                assert!(placed.wall_start >= end, "wall time runs backwards");
                assert!(placed.wall_duration_us > 0 && placed.wall_duration_us <= DURATION_US_MAX);
                assert!(placed.notes.len() <= NOTES_MAX);
                let gap = placed.notes.iter().find_map(|note| match *note {
                    Note::Gap { from, to, .. } => Some((from, to)),
                    _ => None,
                });
                if !first && placed.wall_start > end {
                    assert_eq!(gap, Some((end, placed.wall_start)), "a hole has no gap");
                    assert!(placed.run_start);
                } else {
                    assert_eq!(gap, None, "a gap where there is no hole");
                }
                assert!(!first || placed.run_start);
                assert!(estimate.is_none_or(|at| at >= end));
                end = placed.wall_end();
                first = false;
            }
            _ => {
                media_us = media_us.saturating_add(input.skewed_signed() % 10_000_000);
                map.observe(media_us, host.wall(), host.mono_us);
            }
        }
        let _ = map.offset_ms();
    }
}

/// Whatever samples and reports say: fragments stay within their bounds, tile the wall with their gaps, and have
/// an init segment that readers take.
pub fn fragmenter(data: &[u8]) {
    let mut input = Input(data);
    let start = WallTime::from_micros(START_US);
    let mut fragmenter = Fragmenter::new(Pool::new(1 << 20), start, GapTracker::default());
    fragmenter.begin_gap(start, GapCause::Connecting);
    let mut host = Host {
        mono_us: 0,
        wall_us: START_US + input.skewed_signed() % (1 << 50),
    };
    let mut end = None;
    let mut check = |finished: Option<Finished>| {
        let Some(finished) = finished else { return };
        let entry = finished.fragment.entry();
        assert!(end.is_none_or(|end| entry.wall_start >= end), "fragments overlap");
        let mut at = end;
        for note in &entry.notes {
            if let Note::Gap { from, to, .. } = *note {
                assert!(from < to && at.is_none_or(|at| from == at), "gaps leave holes");
                at = Some(to);
            }
        }
        if end.is_some() {
            assert_eq!(at, Some(entry.wall_start), "a hole has no gap");
        }
        assert!(entry.wall_duration_us > 0 && entry.wall_duration_us <= DURATION_US_MAX);
        assert!(entry.media_duration > 0);
        assert!(finished.bytes <= FRAGMENT_BYTES_MAX && finished.pictures > 0);
        assert!(finished.fragment.bytes() <= finished.bytes + (1 << 20));
        let init = InitSegment::parse(finished.init.bytes.clone()).expect("readers take it");
        assert_eq!(init.hash, finished.init.hash);
        end = Some(entry.wall_end());
    };
    let mut ticks = [0i64; 2];
    check(fragmenter.push(start_event(&mut input)));
    while !input.is_empty() {
        host.pass(&mut input);
        let kind = input.u8();
        let sound = usize::from(kind & 8 != 0);
        let track = if sound == 1 {
            TrackKind::Audio
        } else {
            TrackKind::Video
        };
        match kind % 8 {
            0 => check(fragmenter.push(start_event(&mut input))),
            1 => check(fragmenter.push(Event::SenderReport(SenderReport {
                track,
                camera_wall: WallTime::from_micros(input.skewed_signed()),
                pts: input.skewed_signed(),
                arrival_wall: host.wall(),
                arrival_mono_us: host.mono_us,
            }))),
            2 => {
                check(fragmenter.end_session());
                fragmenter.begin_gap(host.wall(), GapCause::SessionLost);
                fragmenter.begin_session();
            }
            _ => {
                let step = if kind & 0x20 == 0 {
                    3000
                } else {
                    input.skewed_signed()
                };
                let at = ticks.get_mut(sound).expect("two tracks");
                *at = if kind & 0x40 == 0 {
                    at.saturating_add(step)
                } else {
                    step
                };
                check(fragmenter.push(Event::Sample(Sample {
                    track,
                    pts: *at,
                    keyframe: kind & 0x10 != 0,
                    data: input.piece(40).to_vec(),
                    arrival_wall: host.wall(),
                    arrival_mono_us: host.mono_us,
                    packets_lost: u32::from(input.u8() / 250),
                })));
            }
        }
    }
    check(fragmenter.end_session());
}

fn start_event(input: &mut Input<'_>) -> Event {
    let shape = input.u8();
    let video = TrackParams {
        kind: TrackKind::Video,
        timescale: Timescale::new(if shape & 1 == 0 { 90_000 } else { input.u32() })
            .unwrap_or(Timescale::new(1).expect("not zero")),
        codec: "avc1.4d401f".into(),
        sample_entry: sample_entry(b"avc1", if shape & 2 == 0 { b"" } else { input.piece(200) }),
        width: 640,
        height: 360,
        channels: 0,
        sample_rate: 0,
    };
    let audio = TrackParams {
        kind: TrackKind::Audio,
        timescale: Timescale::new(48_000).expect("not zero"),
        codec: "mp4a.40.2".into(),
        sample_entry: sample_entry(b"mp4a", b""),
        channels: 1,
        sample_rate: 48_000,
        ..video.clone()
    };
    let mut tracks = vec![video];
    if shape & 4 == 0 {
        tracks.push(audio);
    }
    Event::Start {
        tracks,
        new_run: shape & 8 == 0,
    }
}

/// Of the right shape, with `more` behind its fields.
fn sample_entry(kind: &[u8; 4], more: &[u8]) -> Vec<u8> {
    let mut w = archive::mp4::BoxWriter::default();
    w.boxed(kind, |w| {
        w.zeros(78);
        w.bytes(more);
    });
    w.0
}
