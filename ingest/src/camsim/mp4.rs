//! Reads the video track of a progressive MP4 file, with the presentation times that B-frames need.
#![deny(clippy::indexing_slicing)]

use mp4_atom::{Atom, Decode, FourCC, Header, Moov, Stbl, StszSamples, Trak};

use super::annexb::AccessUnit;
use super::clip::{TICKS_PER_SECOND, TimedUnit};
use super::codec::{Codec, Role};

/// More samples than this are refused: days of video do not make a clip.
const SAMPLES_MAX: usize = 10_000_000;

/// The bytes of a NAL unit's length and the parameter sets that the sample entry holds.
struct Entry {
    codec: Codec,
    length_bytes: usize,
    parameter_sets: AccessUnit,
}

/// Whether `data` starts like an ISO base media file.
pub(super) fn is_mp4(data: &[u8]) -> bool {
    data.get(4..8)
        .is_some_and(|kind| matches!(kind, b"ftyp" | b"moov" | b"styp"))
}

/// The codec, the access units and the duration in ticks of the first H.264 or H.265 track.
///
/// # Errors
/// A clause for the user.
pub(super) fn demux(data: &[u8]) -> Result<(Codec, Vec<TimedUnit>, u64), String> {
    let moov = find_moov(data)?;
    let (trak, entry) = moov
        .trak
        .iter()
        .find_map(|trak| Some((trak, entry(trak)?)))
        .ok_or("it holds no H.264 or H.265 track")?;
    let timescale = u64::from(trak.mdia.mdhd.timescale);
    if timescale == 0 {
        return Err("its timescale is 0".into());
    }
    let table = &trak.mdia.minf.stbl;
    let spans = sample_spans(table)?;
    if spans.is_empty() {
        return Err(
            "its sample table is empty; a fragmented file must be remuxed first (ffmpeg -c copy)".into(),
        );
    }
    let (times, duration) = sample_times(table, spans.len())?;
    let scaled = |ticks: i64| ticks * TICKS_PER_SECOND as i64 / timescale as i64;
    let mut units = Vec::with_capacity(spans.len());
    for ((offset, size), (decode, presentation)) in spans.into_iter().zip(times) {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|from| data.get(from..)?.get(..size as usize));
        let bytes = bytes.ok_or("a sample lies outside the file")?;
        let unit = access_unit(&entry, bytes).ok_or("a sample does not consist of whole NAL units")?;
        units.push(TimedUnit {
            decode_ticks: scaled(decode).unsigned_abs(),
            presentation_ticks: scaled(presentation),
            unit,
        });
    }
    Ok((entry.codec, units, scaled(duration).unsigned_abs()))
}

fn find_moov(data: &[u8]) -> Result<Moov, String> {
    const MOOV: FourCC = Moov::KIND;
    let mut rest = data;
    while !rest.is_empty() {
        let header = Header::decode(&mut rest).map_err(|error| format!("its boxes are damaged: {error}"))?;
        let size = header.size.unwrap_or(rest.len());
        let body = rest.get(..size).ok_or("it is cut short")?;
        if header.kind == MOOV {
            return Moov::decode_body(&mut &*body).map_err(|error| format!("its moov is damaged: {error}"));
        }
        rest = rest.get(size..).unwrap_or_default();
    }
    Err("it has no moov box".into())
}

fn entry(trak: &Trak) -> Option<Entry> {
    use mp4_atom::Codec as Kind;
    let avc = |avcc: &mp4_atom::Avcc| Entry {
        codec: Codec::H264,
        length_bytes: usize::from(avcc.length_size),
        parameter_sets: [
            &avcc.sequence_parameter_sets[..],
            &avcc.picture_parameter_sets[..],
        ]
        .concat(),
    };
    let hevc = |hvcc: &mp4_atom::Hvcc| Entry {
        codec: Codec::H265,
        length_bytes: usize::from(hvcc.length_size_minus_one) + 1,
        parameter_sets: hvcc
            .arrays
            .iter()
            .flat_map(|array| array.nalus.iter().cloned())
            .collect(),
    };
    trak.mdia
        .minf
        .stbl
        .stsd
        .codecs
        .iter()
        .find_map(|codec| match codec {
            Kind::Avc1(avc1) => Some(avc(&avc1.avcc)),
            Kind::Avc3(avc3) => Some(avc(&avc3.avcc)),
            Kind::Hvc1(hvc1) => Some(hevc(&hvc1.hvcc)),
            Kind::Hev1(hev1) => Some(hevc(&hev1.hvcc)),
            _ => None,
        })
}

/// Offset in the file and size of every sample.
fn sample_spans(table: &Stbl) -> Result<Vec<(u64, u32)>, String> {
    let sizes: Vec<u32> = match &table.stsz.samples {
        StszSamples::Different { sizes } => sizes.clone(),
        StszSamples::Identical { count, size } => vec![*size; (*count as usize).min(SAMPLES_MAX)],
    };
    if sizes.len() > SAMPLES_MAX {
        return Err(format!("it has more than {SAMPLES_MAX} samples"));
    }
    let offsets: Vec<u64> = match (&table.stco, &table.co64) {
        (Some(stco), _) => stco.entries.iter().map(|&offset| u64::from(offset)).collect(),
        (None, Some(co64)) => co64.entries.clone(),
        (None, None) => Vec::new(),
    };
    let mut sizes = sizes.into_iter();
    let mut spans = Vec::with_capacity(sizes.len());
    let mut groups = table.stsc.entries.iter().peekable();
    let mut per_group = 0;
    for (number, mut offset) in (1_u32..).zip(offsets) {
        while let Some(group) = groups.next_if(|group| group.first_chunk <= number) {
            per_group = group.samples_per_chunk;
        }
        for size in sizes.by_ref().take(per_group as usize) {
            spans.push((offset, size));
            offset = offset.saturating_add(u64::from(size));
        }
    }
    Ok(spans)
}

/// Decoding and presentation time of every sample, and the end of the last, in the track's timescale.
fn sample_times(table: &Stbl, samples: usize) -> Result<(Vec<(i64, i64)>, i64), String> {
    let repeat = |count: u32| (count as usize).min(samples);
    let deltas = table
        .stts
        .entries
        .iter()
        .flat_map(|run| std::iter::repeat_n(run.sample_delta, repeat(run.sample_count)));
    let offsets = table.ctts.iter().flat_map(|ctts| &ctts.entries);
    let offsets = offsets.flat_map(|run| std::iter::repeat_n(run.sample_offset, repeat(run.sample_count)));
    let mut now = 0_i64;
    let times: Vec<_> = deltas
        .zip(offsets.chain(std::iter::repeat(0)))
        .take(samples)
        .map(|(delta, offset)| {
            let at = now;
            now += i64::from(delta);
            (at, at + offset)
        })
        .collect();
    if times.len() < samples {
        return Err("its time table is shorter than its sample table".into());
    }
    Ok((times, now))
}

/// Splits a sample into NAL units; a keyframe without parameter sets gets those of the sample entry, as a
/// camera sends them.
fn access_unit(entry: &Entry, mut sample: &[u8]) -> Option<AccessUnit> {
    let mut unit = AccessUnit::new();
    while !sample.is_empty() {
        let (length, rest) = sample.split_at_checked(entry.length_bytes)?;
        let length = length
            .iter()
            .fold(0_usize, |value, &byte| value << 8 | usize::from(byte));
        let (nal, rest) = rest.split_at_checked(length)?;
        if !nal.is_empty() {
            unit.push(nal.to_vec());
        }
        sample = rest;
    }
    let roles: Vec<Role> = unit.iter().map(|nal| entry.codec.role(nal)).collect();
    let keyframe = roles
        .iter()
        .any(|role| matches!(role, Role::Slice { keyframe: true, .. }));
    if keyframe && !roles.contains(&Role::Sps) {
        let delimiter = match entry.codec {
            Codec::H264 => unit.first()?.first()? & 0x1f == 9,
            Codec::H265 => unit.first()?.first()? >> 1 == 35,
        };
        let at = usize::from(delimiter);
        unit.splice(at..at, entry.parameter_sets.iter().cloned());
    }
    Some(unit)
}
