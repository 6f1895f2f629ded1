//! Which pictures stay: a pure decision over the tables of a segment.
#![deny(clippy::indexing_slicing)]

use std::ops::Range;

use crate::fragment::{FragmentEntry, Note};
use crate::mp4::{SAMPLES_MAX, SampleEntry, TrackSamples, VIDEO_TRACK_ID};
use crate::segment::{FooterFragment, Keep};
use crate::time::{SECOND_US, TimeRange};

/// No picture is held for longer because others went; but within its own GOP.
const HOLD_MAX_US: u64 = 60 * SECOND_US as u64;
/// A fragment takes over no more sound than this, and no more time than its fields hold.
const SOUND_SAMPLES_MAX: usize = SAMPLES_MAX / 2;
const SOUND_BYTES_MAX: u64 = 4 << 20;

/// The video of a fragment.
pub(super) fn video(row: &FooterFragment) -> Option<&TrackSamples> {
    row.tracks.iter().find(|t| t.track_id == VIDEO_TRACK_ID)
}

/// When each sample of a track is shown, in ticks.
pub(super) fn shown(track: &TrackSamples) -> impl Iterator<Item = (i64, &SampleEntry)> {
    let mut next = track.base_media_time as i64;
    track.samples.iter().map(move |s| {
        let at = next.saturating_add(s.composition_offset.into());
        next = next.saturating_add(s.duration.into());
        (at, s)
    })
}

/// Ticks that a track lasts.
pub(super) fn ticks(track: &TrackSamples) -> u64 {
    track.samples.iter().map(|s| u64::from(s.duration)).sum()
}

/// Whether what stands before a segment is needed to decode it, which begins with the fragment `first` of these samples.
pub fn leans(first: &FragmentEntry, tracks: &[TrackSamples]) -> bool {
    if first.run_start {
        return false;
    }
    let mut video = tracks.iter().filter(|t| t.track_id == VIDEO_TRACK_ID);
    !first.keyframe || video.any(|video| leading(video).next().is_some())
}

/// Whether pictures of a GOP refer to the one before it.
pub(super) fn is_open(row: &FooterFragment) -> bool {
    row.entry.keyframe && video(row).is_some_and(|video| leading(video).next().is_some())
}

/// The pictures that are shown before the keyframe that a fragment begins with: they refer to what was before it.
fn leading(video: &TrackSamples) -> impl Iterator<Item = usize> {
    let key = shown(video).next().map_or(i64::MIN, |(at, _)| at);
    shown(video)
        .enumerate()
        .filter(move |(_, (at, _))| *at < key)
        .map(|(i, _)| i)
}

/// Whether a fragment goes on where the one before it ends, in media and in wall time.
fn follows(before: &FooterFragment, row: &FooterFragment) -> bool {
    let (Some(a), Some(b)) = (video(before), video(row)) else {
        return false;
    };
    let gap = |note: &Note| matches!(note, Note::Gap { .. });
    !row.entry.run_start
        && row.entry.wall_start == before.entry.wall_end()
        && a.base_media_time.checked_add(ticks(a)) == Some(b.base_media_time)
        && !row.entry.notes.iter().any(gap)
}

/// GOPs as ranges of fragments; one that follows nothing begins one too, keyframe or not.
fn gops(rows: &[FooterFragment]) -> Vec<Range<usize>> {
    let mut starts = vec![0];
    for (i, pair) in (1..).zip(rows.windows(2)) {
        if let [before, row] = pair
            && (row.entry.keyframe || !follows(before, row))
        {
            starts.push(i);
        }
    }
    let ends = starts.iter().skip(1).copied().chain([rows.len()]);
    starts.iter().copied().zip(ends).map(|(a, b)| a..b).collect()
}

/// What a fragment takes over.
#[derive(Copy, Clone, Default)]
struct Load {
    us: u64,
    sounds: usize,
    bytes: u64,
}

impl Load {
    fn of(rows: &[FooterFragment]) -> Self {
        rows.iter().fold(Self::default(), |load, row| {
            let tracks = row.tracks.iter().filter(|t| t.track_id != VIDEO_TRACK_ID);
            let sound = tracks.flat_map(|t| &t.samples);
            load.and(Self {
                us: row.entry.wall_duration_us.into(),
                sounds: sound.clone().count(),
                bytes: sound.map(|s| u64::from(s.size)).sum(),
            })
        })
    }

    fn and(self, other: Self) -> Self {
        Self {
            us: self.us + other.us,
            sounds: self.sounds + other.sounds,
            bytes: self.bytes + other.bytes,
        }
    }

    /// Whether one fragment can hold it.
    fn fits(self) -> bool {
        self.us <= u32::MAX.into() && self.sounds <= SOUND_SAMPLES_MAX && self.bytes <= SOUND_BYTES_MAX
    }
}

/// The pictures of each fragment that stay, in decode order. A fragment of which none stays follows one of which some do.
/// `leaned_on` says that the next segment needs the last GOP to be decoded.
pub(super) fn plan(
    rows: &[FooterFragment],
    keep: Keep,
    spared: &[TimeRange],
    leaned_on: bool,
) -> Vec<Vec<usize>> {
    let mut stay: Vec<Vec<usize>> = Vec::with_capacity(rows.len());
    let all = |row: &FooterFragment| (0..video(row).map_or(0, |v| v.samples.len())).collect();
    // The place in the count of every n-th, what the last GOP that stays has taken over, and whether it is whole.
    let (mut place, mut held, mut before_is_whole) = (0u64, Load::default(), true);
    let mut before: Option<&FooterFragment> = None;
    for gop in gops(rows) {
        let members = rows.get(gop.clone()).unwrap_or_default();
        let Some(first) = members.first() else { continue };
        let joined = before.is_some_and(|before| follows(before, first));
        before = members.last();
        if !joined {
            (place, held, before_is_whole) = (0, Load::default(), true);
        }
        let load = Load::of(members);
        let is_spared =
            |row: &FooterFragment| spared.iter().any(|s| s.intersect(row.entry.range()).is_some());
        let is_whole = !first.entry.keyframe
            || (gop.end == rows.len() && leaned_on)
            || members.iter().any(is_spared)
            || !load.fits();
        let goes = match keep {
            _ if is_whole => false,
            Keep::Keyframes => true,
            Keep::EveryNthGop(n) => {
                place % u64::from(n.max(2)) != 0 && held.us + load.us <= HOLD_MAX_US && held.and(load).fits()
            }
        };
        place += 1;
        match keep {
            Keep::Keyframes if goes => {
                let keys = |row: &FooterFragment| {
                    let samples = video(row).map_or(&[][..], |v| &v.samples);
                    let keys = samples.iter().enumerate().filter(|(_, s)| s.keyframe);
                    keys.map(|(i, _)| i).collect()
                };
                stay.extend(members.iter().map(keys));
            }
            Keep::EveryNthGop(_) if goes => {
                held = held.and(load);
                stay.extend(members.iter().map(|_| Vec::new()));
            }
            _ => {
                held = Load::of(members.last().map_or(&[], std::slice::from_ref));
                held.us = 0;
                let begin = stay.len();
                stay.extend(members.iter().map(all));
                if !before_is_whole && let (Some(kept), Some(video)) = (stay.get_mut(begin), video(first)) {
                    let gone: Vec<usize> = leading(video).collect();
                    kept.retain(|i| !gone.contains(i));
                }
            }
        }
        before_is_whole = !goes;
    }
    stay
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::Sha256;
    use crate::time::WallTime;

    /// A fragment of two seconds and ten pictures: `K` begins with a keyframe, `L` too and has two pictures that are
    /// shown before it, `.` goes on, `r` begins a run with a keyframe, `x` follows nothing and has none.
    fn rows(pattern: &str) -> Vec<FooterFragment> {
        let row = |(i, kind): (usize, char)| {
            let i = i as i64;
            let lost = i64::from(kind == 'x');
            let sample = |p: usize| SampleEntry {
                duration: 18_000,
                size: 1000,
                composition_offset: match (kind, p) {
                    ('L', 0) => 36_000,
                    ('L', 1 | 2) => -18_000,
                    _ => 0,
                },
                keyframe: p == 0 && "KLr".contains(kind),
            };
            FooterFragment {
                entry: FragmentEntry {
                    offset: 4096 * (i as u64 + 1),
                    len: 4000,
                    wall_start: WallTime::from_micros((2 * i + lost) * SECOND_US),
                    wall_duration_us: 2_000_000 - lost as u32 * 1_000_000,
                    media_start: 180_000 * i as u64,
                    media_duration: 180_000,
                    keyframe: "KLr".contains(kind),
                    run_start: kind == 'r',
                    activity: 0,
                    notes: vec![],
                },
                leaf: Sha256::default(),
                clock_offset_us: None,
                tracks: vec![TrackSamples {
                    track_id: VIDEO_TRACK_ID,
                    base_media_time: 180_000 * i as u64,
                    data_offset: 4096 * (i as u64 + 1),
                    samples: (0..10).map(sample).collect(),
                }],
            }
        };
        pattern.chars().enumerate().map(row).collect()
    }

    /// How many pictures of each fragment stay.
    fn kept(pattern: &str, keep: Keep, spared: &[(i64, i64)], leaned_on: bool) -> Vec<usize> {
        let spared: Vec<_> = (spared.iter())
            .map(|(s, us)| TimeRange::starting(WallTime::from_micros(s * SECOND_US), us.unsigned_abs()))
            .collect();
        plan(&rows(pattern), keep, &spared, leaned_on)
            .iter()
            .map(Vec::len)
            .collect()
    }

    #[test]
    fn of_each_gop_its_keyframe_stays() {
        let keys = |pattern| kept(pattern, Keep::Keyframes, &[], false);
        assert_eq!(keys("KKK"), [1, 1, 1]);
        assert_eq!(keys("K..K"), [1, 0, 0, 1]);
        assert_eq!(keys("KLL"), [1, 1, 1]);
    }

    #[test]
    fn what_others_lean_on_and_what_leans_on_others_stays_whole() {
        let keys = |pattern, leaned_on| kept(pattern, Keep::Keyframes, &[], leaned_on);
        assert_eq!(
            keys(".KKK", false),
            [10, 1, 1, 1],
            "its keyframe is in the segment before"
        );
        assert_eq!(keys("KK.", true), [1, 10, 10], "the next segment goes on with it");
        assert_eq!(keys("KxK", false), [1, 10, 1], "its keyframe was lost");
        let leans = |pattern| {
            let rows = rows(pattern);
            leans(&rows[0].entry, &rows[0].tracks)
        };
        assert!(leans(".") && leans("L"));
        assert!(!leans("K") && !leans("r"));
    }

    #[test]
    fn one_gop_of_n_stays_from_the_beginning_of_each_run() {
        let nth = |pattern, n| kept(pattern, Keep::EveryNthGop(n), &[], false);
        assert_eq!(nth("KKKKKKK", 3), [10, 0, 0, 10, 0, 0, 10]);
        assert_eq!(nth("KK.KKrKK", 2), [10, 0, 0, 10, 0, 10, 0, 10]);
        // A minute without another picture is the most.
        let held = nth(&"K".repeat(64), 255);
        assert_eq!(held.iter().filter(|n| **n == 10).count(), 3);
        assert_eq!((held[0], held[31], held[62]), (10, 10, 10));
    }

    #[test]
    fn spared_times_stay_whole_and_pictures_that_refer_to_what_is_gone_do_not() {
        // From 4 s to 5 s something moves.
        let keys = |pattern| kept(pattern, Keep::Keyframes, &[(4, 1_000_000)], false);
        assert_eq!(keys("KKKKK"), [1, 1, 10, 1, 1]);
        assert_eq!(keys("KKLKK"), [1, 1, 8, 1, 1]);
        assert_eq!(
            kept("KKLLK", Keep::Keyframes, &[(4, 3_000_000)], false),
            [1, 1, 8, 10, 1]
        );
        assert_eq!(kept("LKK", Keep::Keyframes, &[(0, 1)], false), [10, 1, 1]);
        assert_eq!(kept("LLLL", Keep::EveryNthGop(2), &[], false), [10, 0, 8, 0]);
    }

    proptest! {
        /// Whatever the segment is made of, what stays can be decoded and shown, and all of it has something before it.
        #[test]
        fn what_stays_can_be_decoded(
            pattern in "[KL.rx]{1,40}",
            n in 1u8..6,
            spared in proptest::collection::vec((0i64..80, 0i64..9_000_000), 0..3),
            leaned_on: bool,
        ) {
            let keep = if n == 1 { Keep::Keyframes } else { Keep::EveryNthGop(n) };
            let rows = rows(&pattern);
            let ranges: Vec<_> = (spared.iter())
                .map(|(s, us)| TimeRange::starting(WallTime::from_micros(s * SECOND_US), us.unsigned_abs()))
                .collect();
            let stay = plan(&rows, keep, &ranges, leaned_on);
            prop_assert_eq!(stay.len(), rows.len());
            prop_assert!(!stay[0].is_empty());
            // Whether the pictures so far of this GOP, and of the one before it, are all there.
            let (mut whole, mut whole_before) = (true, true);
            for (i, (row, kept)) in rows.iter().zip(&stay).enumerate() {
                let joined = i > 0 && follows(&rows[i - 1], row);
                prop_assert!(!kept.is_empty() || joined);
                prop_assert!(kept.is_sorted());
                if row.entry.keyframe {
                    (whole_before, whole) = (!joined || whole, true);
                } else if !joined {
                    (whole_before, whole) = (true, true);
                }
                let video = video(row).expect("video");
                let early: Vec<usize> = leading(video).collect();
                let leans_back = kept.iter().any(|p| early.contains(p));
                prop_assert!(!(row.entry.keyframe && leans_back && !whole_before), "refers to what is gone");
                let deltas = kept.iter().any(|p| !video.samples[*p].keyframe);
                prop_assert!(!deltas || whole, "a picture without those before it");
                let missing = (0..video.samples.len()).any(|p| !kept.contains(&p) && !early.contains(&p));
                whole &= !missing;
                if ranges.iter().any(|r| r.intersect(row.entry.range()).is_some()) {
                    prop_assert!(!missing, "spared");
                }
            }
        }
    }
}
