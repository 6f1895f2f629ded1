//! A fragment of the new segment: the pictures that stay of one of the original, and the time of those behind it of
//! which none does.
#![deny(clippy::indexing_slicing)]

use super::carried::{self, CarriedUnit};
use super::keep::{shown, ticks, video};
use super::sei::Coding;
use crate::buffer::Pool;
use crate::error::Malformed;
use crate::fragment::{FragmentEntry, NOTES_MAX, Note, bound_notes};
use crate::mp4::{AUDIO_TRACK_ID, SampleEntry, TrackSamples};
use crate::segment::{ClosedFragment, FooterFragment, FragmentBuilder};

pub(super) struct Joined {
    builder: FragmentBuilder,
    entry: FragmentEntry,
    clock_offset_us: Option<i64>,
    video: Vec<SampleEntry>,
    audio: Option<(u64, Vec<SampleEntry>)>,
    carried: Vec<CarriedUnit>,
}

impl Joined {
    /// With the pictures `kept` of `row`, which is fragment `number` of the original and whose bytes are `bytes`.
    pub(super) fn begin(
        pool: &Pool,
        number: u32,
        row: &FooterFragment,
        kept: &[usize],
        bytes: &[u8],
        coding: Coding,
    ) -> Result<Self, Malformed> {
        let pictures = video(row).ok_or(Malformed("a fragment without pictures"))?;
        let mut joined = Self {
            builder: FragmentBuilder::new(pool, None),
            entry: row.entry.clone(),
            clock_offset_us: row.clock_offset_us,
            video: times(pictures, kept),
            audio: None,
            carried: Vec::new(),
        };
        for (i, sample) in samples(pictures, row, bytes).enumerate() {
            let sample = sample?;
            if kept.binary_search(&i).is_ok() {
                let keyframe = pictures.samples.get(i).is_some_and(|s| s.keyframe);
                joined.builder.push_video(0, keyframe, sample);
            } else {
                joined.carry(number, i, sample, coding);
            }
        }
        joined.add_sound(row, bytes)?;
        Ok(joined)
    }

    /// Takes over the time, the sound, the notes and the signatures of `row`, of which no picture stays.
    pub(super) fn take_over(
        &mut self,
        number: u32,
        row: &FooterFragment,
        bytes: &[u8],
        coding: Coding,
    ) -> Result<(), Malformed> {
        const TOO_LONG: Malformed = Malformed("a fragment would last too long");
        let pictures = video(row).ok_or(Malformed("a fragment without pictures"))?;
        for (i, sample) in samples(pictures, row, bytes).enumerate() {
            self.carry(number, i, sample?, coding);
        }
        let more = u32::try_from(ticks(pictures)).map_err(|_| TOO_LONG)?;
        let longer = |at: u32, by: u32| at.checked_add(by).ok_or(TOO_LONG);
        let entry = &mut self.entry;
        entry.media_duration = longer(entry.media_duration, more)?;
        entry.wall_duration_us = longer(entry.wall_duration_us, row.entry.wall_duration_us)?;
        entry.activity = entry.activity.max(row.entry.activity);
        for note in &row.entry.notes {
            add_note(&mut entry.notes, *note);
        }
        bound_notes(&mut entry.notes, NOTES_MAX);
        if let Some(last) = self.video.last_mut() {
            last.duration = longer(last.duration, more)?;
        }
        self.add_sound(row, bytes)
    }

    fn carry(&mut self, fragment: u32, picture: usize, sample: &[u8], coding: Coding) {
        self.carried
            .extend(coding.signatures(sample).map(|unit| CarriedUnit {
                fragment,
                picture: picture as u32,
                unit: unit.to_vec(),
            }));
    }

    fn add_sound(&mut self, row: &FooterFragment, bytes: &[u8]) -> Result<(), Malformed> {
        let Some(track) = row.tracks.iter().find(|t| t.track_id == AUDIO_TRACK_ID) else {
            return Ok(());
        };
        for sample in samples(track, row, bytes) {
            self.builder.push_audio(0, sample?);
        }
        let (base, all) = self.audio.get_or_insert((track.base_media_time, Vec::new()));
        // The last one lasts until the next begins, also where some are missing.
        let end = *base + all.iter().map(|s| u64::from(s.duration)).sum::<u64>();
        if let Some(last) = all.last_mut() {
            let begin = end - u64::from(last.duration);
            let duration = track.base_media_time.saturating_sub(begin);
            last.duration = u32::try_from(duration).unwrap_or(u32::MAX);
        }
        all.extend_from_slice(&track.samples);
        Ok(())
    }

    /// Complete.
    pub(super) fn close(self, pool: &Pool) -> Result<ClosedFragment, Malformed> {
        let rest = carried::boxed(&self.carried);
        if !self.builder.has_room(rest.len()) {
            return Err(Malformed("more signatures than a fragment holds"));
        }
        let Self {
            builder,
            entry,
            clock_offset_us,
            video,
            audio,
            ..
        } = self;
        Ok(builder.complete(pool, entry, clock_offset_us, video, audio, &rest))
    }
}

/// The bytes of each sample of a track of `row`, whose bytes are `bytes`.
fn samples<'a>(
    track: &'a TrackSamples,
    row: &FooterFragment,
    bytes: &'a [u8],
) -> impl Iterator<Item = Result<&'a [u8], Malformed>> {
    let mut at = track.data_offset.saturating_sub(row.entry.offset) as usize;
    track.samples.iter().map(move |s| {
        let end = at.saturating_add(s.size as usize);
        let sample = bytes.get(at..end);
        at = end;
        sample.ok_or(Malformed("a sample lies outside its fragment"))
    })
}

/// The table of the pictures `kept`: each is shown when it was, and the last until the end of the fragment. Decode times
/// are the times of showing in order, the first that of the fragment.
fn times(track: &TrackSamples, kept: &[usize]) -> Vec<SampleEntry> {
    let all: Vec<(i64, &SampleEntry)> = shown(track).collect();
    if kept.len() == all.len() {
        return track.samples.clone();
    }
    let kept: Vec<_> = kept.iter().filter_map(|i| all.get(*i).copied()).collect();
    let begin = track.base_media_time as i64;
    let end = begin.saturating_add(ticks(track) as i64);
    let mut order: Vec<i64> = kept.iter().map(|(at, _)| *at).collect();
    order.sort_unstable();
    let mut least = begin;
    for (i, at) in order.iter_mut().enumerate() {
        *at = if i == 0 { begin } else { (*at).max(least) };
        least = *at + 1;
    }
    let ends = order.iter().skip(1).copied().chain([end.max(least)]);
    (kept.iter().zip(order.iter().zip(ends)))
        .map(|((at, sample), (decoded, next))| SampleEntry {
            duration: u32::try_from(next - decoded).unwrap_or(u32::MAX),
            composition_offset: (at - decoded).clamp(i32::MIN.into(), i32::MAX.into()) as i32,
            ..**sample
        })
        .collect()
}

/// Losses of packets have no time of their own: they are summed up.
fn add_note(notes: &mut Vec<Note>, note: Note) {
    if let Note::PacketsLost { packets: more } = note {
        for known in notes.iter_mut() {
            if let Note::PacketsLost { packets } = known {
                *packets = packets.saturating_add(more);
                return;
            }
        }
    }
    notes.push(note);
}
