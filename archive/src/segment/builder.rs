//! Collects the samples of one fragment in aligned memory. They are hashed when it is complete, those of several
//! fragments side by side.

use super::frame::Frame;
use super::padding_box;
use super::sums::{SUM_BYTES, Summing};
use crate::buffer::{Pool, SlabBuf};
use crate::fragment::{FRAGMENT_BYTES_MAX, FragmentEntry, NOTES_MAX, Note, bound_notes};
use crate::id::Sha256;
use crate::mp4::{
    AUDIO_TRACK_ID, SAMPLES_MAX, SampleEntry, TrackRun, TrackSamples, VIDEO_TRACK_ID, moof_bytes,
};
use crate::sha256;
use crate::time::WallTime;

/// Room kept for the boxes before the samples when nothing is known yet.
const HEADROOM_FIRST: usize = 1024;
/// No run lasts so many ticks; beyond it, arithmetic on times could overflow.
const PTS_MAX: i64 = 1 << 60;

#[derive(Copy, Clone, Debug)]
struct Pending {
    /// In ticks since the beginning of the run.
    pts: i64,
    size: u32,
    keyframe: bool,
}

/// A fragment that is being filled.
pub struct FragmentBuilder {
    buf: SlabBuf,
    headroom: usize,
    sums: Summing,
    video: Vec<Pending>,
    audio: Vec<Pending>,
    /// Small beside the video, so it waits here to stand in one piece behind it.
    audio_data: Vec<u8>,
}

/// What closing a fragment needs to know from outside.
#[derive(Clone, Debug)]
pub struct Closing {
    /// When its first picture was taken.
    pub wall_start: WallTime,
    /// How long it lasts on the wall, in microseconds.
    pub wall_duration_us: u32,
    /// The decode time of the video that follows in the same run, if it is known.
    pub media_end: Option<i64>,
    /// The duration of the last sample where nothing better is known, in video ticks.
    pub typical_duration: u32,
    /// Whether a run begins here.
    pub run_start: bool,
    /// How much moves.
    pub activity: u8,
    /// Gaps before it, clock steps, losses.
    pub notes: Vec<Note>,
    /// The camera's clock minus ours, in microseconds.
    pub clock_offset_us: Option<i64>,
    /// The duration of an audio sample in audio ticks.
    pub audio_duration: u32,
}

/// A complete fragment in memory, waiting for its place in a segment.
pub struct ClosedFragment {
    buf: SlabBuf,
    headroom: usize,
    pub(super) frame: Frame,
    pub(super) moof: Vec<u8>,
    /// Offsets count from the first sample.
    pub(super) tracks: Vec<TrackSamples>,
    is_hashed: bool,
    pool: Pool,
}

/// Hashes the samples of `fragments` that were not hashed before, which costs least when they come many at a time.
/// Without it [`SegmentWriter::append`](super::SegmentWriter::append) does so with those that it is given.
pub fn hash_samples<'a>(fragments: impl Iterator<Item = &'a mut ClosedFragment>) {
    let mut fragments: Vec<_> = fragments.filter(|f| !f.is_hashed).collect();
    let digests = sha256::digests(fragments.iter().map(|f| f.buf.range(f.samples())));
    for (f, digest) in fragments.iter_mut().zip(digests) {
        f.frame.data = digest;
        f.is_hashed = true;
    }
}

impl FragmentBuilder {
    /// An empty fragment. `headroom` is what the fragment before it needed.
    pub fn new(pool: &Pool, headroom: Option<usize>) -> Self {
        let headroom = headroom.unwrap_or(HEADROOM_FIRST);
        let mut buf = SlabBuf::new(pool);
        buf.extend_zeros(headroom);
        Self {
            buf,
            headroom,
            sums: Summing::from(headroom),
            video: Vec::new(),
            audio: Vec::new(),
            audio_data: Vec::new(),
        }
    }

    /// Appends one picture. `pts` is its presentation time in ticks since the beginning of the run.
    pub fn push_video(&mut self, pts: i64, keyframe: bool, data: &[u8]) {
        let pts = pts.clamp(0, PTS_MAX);
        self.sums.update(data);
        self.buf.extend(data);
        self.video.push(Pending {
            pts,
            size: data.len() as u32,
            keyframe,
        });
    }

    /// Appends one audio sample. `pts` is in audio ticks since the beginning of the run.
    pub fn push_audio(&mut self, pts: i64, data: &[u8]) {
        let pts = pts.clamp(0, PTS_MAX);
        self.audio_data.extend_from_slice(data);
        self.audio.push(Pending {
            pts,
            size: data.len() as u32,
            keyframe: true,
        });
    }

    /// Whether no picture is in it yet.
    pub fn is_empty(&self) -> bool {
        self.video.is_empty()
    }

    /// Whether a sample of `bytes` more still fits.
    pub fn has_room(&self, bytes: usize) -> bool {
        let samples = self.video.len().max(self.audio.len());
        samples < SAMPLES_MAX && self.buf.len() + self.audio_data.len() + bytes <= FRAGMENT_BYTES_MAX
    }

    /// Bytes of samples so far.
    pub fn bytes(&self) -> usize {
        self.buf.len() - self.headroom + self.audio_data.len()
    }

    /// Pictures so far.
    pub fn pictures(&self) -> usize {
        self.video.len()
    }

    /// Bytes of pictures that are no keyframes, and how many those are.
    pub fn delta_bytes(&self) -> (u64, u32) {
        let deltas = self.video.iter().filter(|s| !s.keyframe);
        deltas.fold((0, 0), |(bytes, n), s| (bytes + u64::from(s.size), n + 1))
    }

    /// Whether every picture is a keyframe.
    pub fn is_intra(&self) -> bool {
        self.video.iter().all(|s| s.keyframe)
    }

    /// Presentation times of the earliest and the latest picture.
    pub fn pts_span(&self) -> Option<(i64, i64)> {
        let all = || self.video.iter().map(|s| s.pts);
        Some((all().min()?, all().max()?))
    }

    /// Whether pictures are shown in another order than they are decoded in.
    pub fn is_reordered(&self) -> bool {
        !self.video.is_sorted_by_key(|s| s.pts)
    }

    /// Closes the fragment. Its decode times are its presentation times in order, so that a stream
    /// without B-frames needs no composition offsets and none needs an initial delay.
    pub fn close(self, pool: &Pool, closing: Closing) -> ClosedFragment {
        let mut order: Vec<i64> = self.video.iter().map(|s| s.pts).collect();
        order.sort_unstable();
        // Equal or backward times would make decode times stand still, which players do not forgive.
        for i in 1..order.len() {
            order[i] = order[i].max(order[i - 1] + 1);
        }
        let start = order.first().copied().unwrap_or(0);
        let last = order.last().copied().unwrap_or(0);
        let end = closing
            .media_end
            .filter(|end| (last + 1..=PTS_MAX).contains(end))
            .unwrap_or(last + i64::from(closing.typical_duration.max(1)));
        let ends = order.iter().skip(1).copied().chain([end]);
        let video: Vec<SampleEntry> = (self.video.iter().zip(order.iter().zip(ends)))
            .map(|(s, (dts, next))| SampleEntry {
                duration: clamp_u32(next - dts),
                size: s.size,
                composition_offset: clamp_i32(s.pts - dts),
                keyframe: s.keyframe,
            })
            .collect();
        let audio = audio_entries(&self.audio, closing.audio_duration);

        let entry = FragmentEntry {
            offset: 0,
            len: 0,
            wall_start: closing.wall_start,
            wall_duration_us: closing.wall_duration_us,
            media_start: start.unsigned_abs(),
            media_duration: clamp_u32(end - start),
            keyframe: self.video.first().is_some_and(|s| s.keyframe),
            run_start: closing.run_start,
            activity: closing.activity,
            notes: closing.notes,
        };
        let audio = self.audio.first().map(|first| (first.pts.unsigned_abs(), audio));
        self.complete(pool, entry, closing.clock_offset_us, video, audio, &[])
    }

    /// Closes the fragment with tables and times that are known: those of `video` and, with the time of the first
    /// sample, of `audio` in the order in which they were pushed. `rest` follows the samples, and is none.
    pub(super) fn complete(
        mut self,
        pool: &Pool,
        entry: FragmentEntry,
        clock_offset_us: Option<i64>,
        video: Vec<SampleEntry>,
        audio: Option<(u64, Vec<SampleEntry>)>,
        rest: &[u8],
    ) -> ClosedFragment {
        let video_bytes: u64 = video.iter().map(|s| u64::from(s.size)).sum();
        let track = |track_id, base_media_time, data_offset, samples| TrackSamples {
            track_id,
            base_media_time,
            data_offset,
            samples,
        };
        let mut tracks = vec![track(VIDEO_TRACK_ID, entry.media_start, 0, video)];
        if let Some((base, audio)) = audio {
            self.sums.update(&self.audio_data);
            self.buf.extend(&self.audio_data);
            tracks.push(track(AUDIO_TRACK_ID, base, video_bytes, audio));
        }
        self.sums.update(rest);
        self.buf.extend(rest);
        let runs: Vec<TrackRun<'_>> = (tracks.iter())
            .map(|t| TrackRun {
                track_id: t.track_id,
                base_media_time: t.base_media_time,
                samples: &t.samples,
            })
            .collect();
        let moof = moof_bytes(1, &runs, rest.len() as u32);
        let body_len = (moof.len() + self.buf.len() - self.headroom) as u32;
        let pad = pad(&mut self.buf);
        self.sums.update(&pad);
        let frame = Frame {
            index: 0,
            entry,
            body_len,
            clock_offset_us,
            data: Sha256::default(),
            prev: Sha256::default(),
            sums: self.sums.finish(),
        };
        ClosedFragment {
            buf: self.buf,
            headroom: self.headroom,
            frame,
            moof,
            tracks,
            is_hashed: false,
            pool: pool.clone(),
        }
    }
}

/// Fills up to a whole block. Returns what it was filled with.
fn pad(buf: &mut SlabBuf) -> Vec<u8> {
    let pad = padding_box(buf.len());
    buf.extend(&pad);
    pad
}

fn audio_entries(samples: &[Pending], typical: u32) -> Vec<SampleEntry> {
    let ends = samples.iter().skip(1).map(|s| Some(s.pts)).chain([None]);
    (samples.iter().zip(ends))
        .map(|(s, next)| SampleEntry {
            duration: next.map_or(typical, |next| clamp_u32(next - s.pts)),
            size: s.size,
            composition_offset: 0,
            keyframe: true,
        })
        .collect()
}

fn clamp_u32(v: i64) -> u32 {
    v.clamp(0, u32::MAX.into()) as u32
}

fn clamp_i32(v: i64) -> i32 {
    v.clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

impl ClosedFragment {
    /// What the index will say of it; `offset` and `len` are set once it has its place.
    pub fn entry(&self) -> &FragmentEntry {
        &self.frame.entry
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.buf.len()
    }

    /// The headroom that would have fitted, with some room to spare: for the next fragment.
    pub fn headroom_needed(&self) -> usize {
        let needed = self.frame.len_min() + self.moof.len();
        needed + needed / 16
    }

    /// Puts `notes` before its own, for what happened before it and could not be written.
    pub fn prepend_notes(&mut self, mut notes: Vec<Note>) {
        notes.append(&mut self.frame.entry.notes);
        bound_notes(&mut notes, NOTES_MAX);
        self.frame.entry.notes = notes;
    }

    /// Gives it its place: fills in the boxes before the samples. May be done again for another place. Returns
    /// its leaf. Its samples must be hashed.
    pub(super) fn place(&mut self, index: u32, offset: u64, prev: Sha256) -> Sha256 {
        debug_assert!(self.is_hashed);
        self.frame.index = index;
        self.frame.prev = prev;
        if self.frame.len_min() + self.moof.len() > self.headroom {
            self.grow_headroom();
        }
        let len = self.headroom - self.moof.len();
        let (mut head, leaf) = self.frame.boxed(len, &self.moof);
        head.extend_from_slice(&self.moof);
        self.buf.write_front(&head);
        self.frame.entry.offset = offset;
        self.frame.entry.len = len as u32 + self.frame.body_len;
        leaf
    }

    /// Moves the samples back to make room; rare, since the fragment before tells how much is needed.
    fn grow_headroom(&mut self) {
        // Moved, the samples reach into other blocks, and each has a checksum in the box.
        let needed = self.frame.len_min() + self.moof.len();
        let headroom = needed + (needed / SUM_BYTES + 3) * size_of::<u64>();
        let mut grown = SlabBuf::new(&self.pool);
        grown.extend_zeros(headroom);
        let mut sums = Summing::from(headroom);
        for part in self.buf.range(self.samples()) {
            grown.extend(part);
            sums.update(part);
        }
        sums.update(&pad(&mut grown));
        self.frame.sums = sums.finish();
        self.buf = grown;
        self.headroom = headroom;
    }

    pub(super) fn buf(&self) -> &SlabBuf {
        &self.buf
    }

    /// Where its samples stand in its memory.
    fn samples(&self) -> std::ops::Range<usize> {
        self.headroom..self.headroom + self.frame.body_len as usize - self.moof.len()
    }

    /// Where its `moof` begins, counted from its own beginning.
    pub(super) fn moof_start(&self) -> u64 {
        (self.headroom - self.moof.len()) as u64
    }

    /// Where its samples begin, counted from its own beginning.
    pub(super) fn data_start(&self) -> u64 {
        self.headroom as u64
    }
}

impl std::fmt::Debug for ClosedFragment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClosedFragment")
            .field("frame", &self.frame)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for FragmentBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FragmentBuilder")
            .field("pictures", &self.video.len())
            .finish_non_exhaustive()
    }
}
