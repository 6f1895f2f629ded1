//! What is fuzzed of this crate, the rows of a damaged database: see `archive::fuzzing`.

use archive::codec::{Decoder, Encoder};
use archive::fuzzing::{Input, Target};
use archive::{Gap, StreamNo, TimeRange, WallTime};

use crate::certificates::{ChainEnd, read_stretch, stretch_row};
use crate::copies::{Copies, CopyState};
use crate::coverage::{HourCoverage, contribution};
use crate::deletions::Deletion;
use crate::faults::Fault;
use crate::keys;
use crate::registry::CameraRow;
use crate::restores::Restore;
use crate::rows::{
    Ended, Incident, SegmentRow, decode_entry, decode_gap, decode_table, encode_entry, encode_gap,
    encode_table,
};
use crate::thinning::Thinning;
use crate::timeline;

pub use crate::certificates::fuzzing::{certificates, chain};
pub use crate::holds::fuzzing::holds;

/// The parsers of this crate.
pub const TARGETS: &[Target] = &[
    Target::new("camera_row", camera_row),
    Target::new("certificates", certificates),
    Target::new("chain", chain),
    Target::new("holds", holds),
    Target::new("moved_rows", moved_rows),
    Target::new("rows", rows),
    Target::new("timeline", timelines),
];

/// Rows that are taken can be written again and say the same.
pub fn rows(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.u8();
    let at = WallTime::from_micros(input.i64());
    let bytes = input.rest();
    match kind % 8 {
        0 => {
            if let Ok(row) = SegmentRow::decode(StreamNo(3), at, bytes) {
                assert!(row.range().from() == at && row.wall_end >= at);
                assert_eq!(row.bytes % 4096, 0);
                assert_eq!(SegmentRow::decode(StreamNo(3), at, &row.encode()), Ok(row));
            }
        }
        1 => {
            if let Ok(entries) = decode_table(bytes) {
                for pair in entries.windows(2) {
                    let [a, b] = pair else { continue };
                    assert!(a.offset + u64::from(a.len) <= b.offset, "fragments share bytes");
                }
                assert_eq!(decode_table(&encode_table(&entries)).as_ref(), Ok(&entries));
                for (hour, row) in contribution(entries.get(..100).unwrap_or(&entries)) {
                    assert_eq!(hour, hour.hour());
                    assert_eq!(HourCoverage::decode(hour, &row.encode()), Ok(row));
                }
            }
        }
        2 => {
            if let Ok(gap) = decode_gap(at, bytes) {
                assert!(gap.to.is_none_or(|to| to >= at));
                assert_eq!(decode_gap(at, &encode_gap(&gap)), Ok(gap));
            }
        }
        3 => {
            if let Ok(ended) = Ended::decode(bytes) {
                assert_eq!(ended.encode(), bytes);
            }
        }
        4 => {
            if let Ok(incident) = Incident::decode(at, bytes) {
                assert_eq!(Incident::decode(at, &incident.encode()), Ok(incident));
            }
        }
        5 => {
            if let Ok(row) = HourCoverage::decode(at, bytes) {
                assert!(row.recorded_ms.iter().all(|ms| *ms <= 60_000));
                assert_eq!(HourCoverage::decode(at, &row.encode()), Ok(row));
            }
        }
        6 => {
            let mut d = Decoder(bytes);
            if let Ok(entry) = decode_entry(&mut d, &mut Default::default()) {
                let mut e = Encoder::default();
                encode_entry(&mut e, &entry, &mut Default::default());
                let again = decode_entry(&mut Decoder(&e.0), &mut Default::default());
                assert_eq!(again, Ok(entry));
            }
        }
        _ => {
            if let Some((stream, at)) = keys::parse_at(bytes) {
                let key = keys::at(stream, at);
                assert_eq!(keys::parse_at(&key), Some((stream, at)));
            }
        }
    }
}

/// Rows of segments that move, are restored, thinned or deleted: those that are taken say the same when they are written
/// again, and one whole copy counts.
pub fn moved_rows(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.u8();
    let at = WallTime::from_micros(input.i64());
    let (stream, bytes) = (StreamNo(3), input.rest());
    match kind % 7 {
        0 => {
            if let Ok(copies) = Copies::decode(bytes) {
                assert_eq!(copies.state(copies.authority), CopyState::Whole);
                assert_eq!(copies.state(copies.nearest()), CopyState::Whole);
                assert!(copies.nearest() <= copies.authority);
                assert_eq!(Copies::decode(&copies.encode()), Ok(copies));
            }
        }
        1 => {
            if let Ok(restore) = Restore::decode(stream, at, bytes) {
                assert!(restore.range.from() == at && restore.range.to() >= at);
                assert!(!restore.is_readable(at) || !restore.is_over(at));
                assert_eq!(Restore::decode(stream, at, &restore.encode()), Ok(restore));
            }
        }
        2 => {
            if let Ok(thinning) = Thinning::decode(stream, at, bytes) {
                let next = thinning.next();
                assert!(next.generation > thinning.before.generation, "both have one name");
                assert_ne!(next.name(), thinning.before.name());
                assert_eq!(Thinning::decode(stream, at, &thinning.encode()), Ok(thinning));
            }
        }
        3 => {
            let (key, value) = bytes.split_at(bytes.len().min(19));
            if let Ok(fault) = Fault::decode(key, value) {
                assert_eq!(Fault::key(fault.segment, fault.tier), key);
                assert_eq!(Fault::decode(key, &fault.encode()), Ok(fault));
            }
        }
        4 => {
            if let Ok(deletion) = serde_json::from_slice::<Deletion>(bytes) {
                let json = serde_json::to_vec(&deletion).expect("rows are written as JSON");
                assert_eq!(serde_json::from_slice(&json).ok(), Some(deletion));
            }
        }
        5 => {
            let (key, row) = bytes.split_at(bytes.len().min(20));
            if let Ok((number, stretch)) = read_stretch(key, row) {
                assert!(stretch.from <= stretch.to && stretch.seqs.0 <= stretch.seqs.1);
                let next = stretch.seqs.1.checked_add(1);
                assert!(next.is_some(), "no segment can follow");
                let (stream, _) = keys::parse_at(key.get(..12).unwrap_or_default()).expect("was read");
                let (key, row) = stretch_row(stream, number, &stretch);
                assert_eq!(read_stretch(&key, &row), Ok((number, stretch)));
            }
        }
        _ => {
            if let Ok(end) = ChainEnd::decode(bytes) {
                assert_eq!(end.encode(), bytes);
                assert!(end.number.checked_add(1).is_some(), "no certificate can follow");
            }
        }
    }
}

/// A camera's row: what is shown of it never has its credentials.
pub fn camera_row(data: &[u8]) {
    let Ok(row) = serde_json::from_slice::<CameraRow>(data) else {
        return;
    };
    let bytes = serde_json::to_vec(&row).expect("rows are written as JSON");
    assert_eq!(
        serde_json::from_slice::<CameraRow>(&bytes).ok().as_ref(),
        Some(&row)
    );
    for stream in &row.streams {
        let redacted = stream.url.redacted();
        assert!(redacted.password().is_none() && redacted.username().is_empty());
        assert_eq!(stream.url.to_string(), redacted.to_string());
        assert!(format!("{:?}", stream.url).contains(redacted.as_str()));
    }
}

/// Timelines of rows that overlap and contradict each other: runs come in order, within the range.
pub fn timelines(data: &[u8]) {
    let mut input = Input(data);
    let base = 1_700_000_000_000_000;
    let time = |input: &mut Input<'_>| WallTime::from_micros(base + input.skewed_signed() % 1_000_000);
    let (a, b) = (time(&mut input), time(&mut input));
    let Some(range) = TimeRange::new(a, b) else { return };
    let (mut segments, mut gaps) = (Vec::new(), Vec::new());
    while !input.is_empty() {
        let from = time(&mut input);
        let kind = input.u8();
        if kind & 1 == 0 {
            let row = input.bytes(76);
            segments.extend(SegmentRow::decode(StreamNo(1), from, row));
        } else {
            let to = (kind & 2 == 0).then(|| from.max(time(&mut input)));
            let cause = archive::GapCause::NoData;
            gaps.push(Gap { from, to, cause });
        }
    }
    // The index gives both in the order of their keys.
    segments.sort_by_key(|s| s.wall_start);
    gaps.sort_by_key(|g| g.from);
    let built = timeline::build(range, &segments, gaps);
    for run in &built.runs {
        assert!(!run.range.is_empty());
        assert!(range.from() <= run.range.from() && run.range.to() <= range.to());
    }
}

#[cfg(test)]
#[test]
fn the_inputs_that_are_kept_and_mutations_of_them_break_nothing() {
    archive::fuzzing::replay(TARGETS);
}
