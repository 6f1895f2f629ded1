//! Brings certificates back from where they lie beside the footage, and with them what they tell of: deleted time, and
//! where streams ended.

use std::collections::BTreeMap;

use archive::disk::Disk;
use archive::store::Stores;
use archive::{Gap, GapCause, SegmentId, StreamNo};
use rocksdb::WriteBatch;

use super::ledger::{CERTIFICATES_FOLDER, FILE_BYTES_MAX};
use super::{Certificate, ChainEnd, stretch_row, text};
use crate::beside::read_below;
use crate::db::{CERTIFICATES, CERTIFIED, GAPS, META};
use crate::error::IndexError;
use crate::index::Index;
use crate::keys;
use crate::rows::{self, Ended};

/// An object with more is none of ours.
const OBJECT_BYTES_MAX: u64 = 8 << 20;

/// Fills the index. Tells how many certificates there are, and adds to `left_out` what could not be read.
pub(crate) fn restore(
    disk: &Disk,
    stores: &Stores,
    index: &Index,
    left_out: &mut Vec<(String, String)>,
) -> Result<u64, IndexError> {
    for day in disk.list(CERTIFICATES_FOLDER)? {
        for name in disk.list(&format!("{CERTIFICATES_FOLDER}/{day}"))? {
            let path = format!("{CERTIFICATES_FOLDER}/{day}/{name}");
            match disk.read_small(&path, FILE_BYTES_MAX) {
                Ok(bytes) => take(index, &path, &bytes, left_out)?,
                Err(e) => left_out.push((path, e.to_string())),
            }
        }
    }
    read_below(
        stores,
        CERTIFICATES_FOLDER,
        OBJECT_BYTES_MAX,
        |place, bytes| match bytes {
            Ok(bytes) => take(index, &place, &bytes, left_out),
            Err(why) => {
                left_out.push((place, why));
                Ok(())
            }
        },
    )?;
    tell(index)
}

/// Adds the certificates of a file that are not there yet.
pub(super) fn take(
    index: &Index,
    place: &str,
    bytes: &[u8],
    left_out: &mut Vec<(String, String)>,
) -> Result<(), IndexError> {
    let mut new: BTreeMap<u64, &str> = BTreeMap::new();
    // What stands behind the last line break was being written.
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    let lines = bytes
        .get(..whole)
        .unwrap_or_default()
        .split(|byte| *byte == b'\n');
    for (n, line) in (1..).zip(lines).filter(|(_, line)| !line.is_empty()) {
        let read = std::str::from_utf8(line).map_err(|e| e.to_string());
        let read = read.and_then(|line| Ok((line, text::parse(line)?.0)));
        let (line, certificate) = match read {
            Ok(read) => read,
            Err(why) => {
                left_out.push((format!("{place}, line {n}"), why));
                continue;
            }
        };
        let known = match index.certificate(certificate.number)? {
            Some(known) => known == line,
            None => *new.entry(certificate.number).or_insert(line) == line,
        };
        if !known {
            left_out.push((
                format!("{place}, line {n}"),
                format!("there is another certificate {}", certificate.number),
            ));
        }
    }
    let mut out = WriteBatch::default();
    for (number, line) in new {
        out.put_cf(index.cf(CERTIFICATES)?, number.to_be_bytes(), line.as_bytes());
    }
    index.write(out)
}

/// What all certificates together tell.
pub(super) fn tell(index: &Index) -> Result<u64, IndexError> {
    let mut out = WriteBatch::default();
    let mut ends: BTreeMap<StreamNo, Ended> = BTreeMap::new();
    // Deleted time so far, and the last chain link.
    let mut gaps: BTreeMap<(StreamNo, archive::WallTime), Gap> = BTreeMap::new();
    let (mut count, mut end) = (0, None);
    for row in index
        .db
        .iterator_cf(index.cf(CERTIFICATES)?, rocksdb::IteratorMode::Start)
    {
        let line = String::from_utf8(row?.1.into_vec()).map_err(|e| super::bad(&e.to_string()))?;
        let (certificate, _) = text::parse(&line).map_err(|why| super::bad(&why))?;
        let no = index.ensure_stream(&certificate.stream())?;
        end = Some(ChainEnd {
            number: certificate.number,
            hash: text::hash(&line),
        });
        count += 1;
        for stretch in certificate.stretches() {
            let (key, row) = stretch_row(no, certificate.number, &stretch);
            out.put_cf(index.cf(CERTIFIED)?, key, row);
        }
        gaps_of(index, no, &certificate, &mut gaps)?;
        for s in &certificate.segments {
            let ended = Ended {
                next_seq: s.seq + 1,
                head: s.head,
                wall_end: s.to,
            };
            ends.entry(no)
                .and_modify(|last| *last = last.later(ended))
                .or_insert(ended);
        }
    }
    for ((no, _), gap) in joined(gaps) {
        out.put_cf(index.cf(GAPS)?, keys::at(no, gap.from), rows::encode_gap(&gap));
    }
    for (no, ended) in ends {
        out.put_cf(index.cf(META)?, Ended::key(no), ended.encode());
    }
    if let Some(end) = end {
        out.put_cf(index.cf(META)?, ChainEnd::KEY, end.encode());
    }
    index.write(out)?;
    Ok(count)
}

fn gaps_of(
    index: &Index,
    no: StreamNo,
    certificate: &Certificate,
    gaps: &mut BTreeMap<(StreamNo, archive::WallTime), Gap>,
) -> Result<(), IndexError> {
    for s in &certificate.segments {
        // Somebody brought it back: the footage tells more than the certificate.
        let id = SegmentId {
            stream: no,
            seq: s.seq,
        };
        if index.segment(id)?.is_some() {
            continue;
        }
        for gap in &s.gaps_before {
            let (from, to, cause) = (gap.from, Some(gap.to), gap.cause);
            gaps.insert((no, from), Gap { from, to, cause });
        }
        let (from, to) = (s.from, Some(s.to));
        gaps.insert(
            (no, from),
            Gap {
                from,
                to,
                cause: GapCause::Retention,
            },
        );
    }
    Ok(())
}

/// Deleted time that meets is one gap.
fn joined(
    gaps: BTreeMap<(StreamNo, archive::WallTime), Gap>,
) -> BTreeMap<(StreamNo, archive::WallTime), Gap> {
    let mut all: BTreeMap<(StreamNo, archive::WallTime), Gap> = BTreeMap::new();
    for ((no, from), gap) in gaps {
        let last = all.last_entry().filter(|last| last.key().0 == no);
        match last {
            Some(mut last)
                if last.get().cause == GapCause::Retention
                    && gap.cause == GapCause::Retention
                    && last.get().to == Some(from) =>
            {
                last.get_mut().to = gap.to;
            }
            _ => drop(all.insert((no, from), gap)),
        }
    }
    all
}
