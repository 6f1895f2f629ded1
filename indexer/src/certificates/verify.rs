//! What `check` asks of certificates: that they are one unbroken chain, and that what was deleted has one.

use archive::{GapCause, StreamNo, TimeRange, WallTime};

use super::text;
use crate::db::CERTIFICATES;
use crate::error::IndexError;
use crate::index::Index;
use crate::rows::SegmentRow;

/// Tells which certificates are not what they should be: each holds by its signature, names the one before it, and no
/// number is missing.
pub(crate) fn verify_chain(index: &Index, mut find: impl FnMut(String, String)) -> Result<(), IndexError> {
    let (mut number, mut before) = (0, None);
    for row in index
        .db
        .iterator_cf(index.cf(CERTIFICATES)?, rocksdb::IteratorMode::Start)
    {
        let (key, line) = row?;
        let key = <[u8; 8]>::try_from(&*key).map_or(0, u64::from_be_bytes);
        let name = format!("deletion certificate {key}");
        let line = String::from_utf8_lossy(&line).into_owned();
        number += 1;
        if key != number {
            let missing = format!("certificates {number} to {} are missing", key.saturating_sub(1));
            find(name.clone(), missing);
            (number, before) = (key, None);
        }
        match text::parse(&line) {
            Err(why) => find(name, why),
            Ok((certificate, _)) if certificate.number != key => {
                find(name, format!("it says that it is number {}", certificate.number));
            }
            Ok((certificate, _)) if certificate.previous != before && (before.is_some() || key == 1) => {
                find(name, "it does not link to the one before it".to_owned());
            }
            Ok(_) => {}
        }
        before = Some(text::hash(&line));
    }
    let last = index.last_certificate()?;
    if last != number {
        find(
            "deletion certificates".to_owned(),
            format!("the last one is {number} where {last} were issued"),
        );
    }
    Ok(())
}

/// Deleted time of a stream for which there is no certificate. Before the first certificate nothing had one.
pub(crate) fn uncertified(index: &Index, no: StreamNo) -> Result<Vec<TimeRange>, IndexError> {
    let mut found = Vec::new();
    if index.last_certificate()? == 0 {
        return Ok(found);
    }
    for gap in index.gap_rows(no, TimeRange::ALL)? {
        if gap.cause != GapCause::Retention {
            continue;
        }
        let to = gap.to.unwrap_or(WallTime::MAX);
        let range = TimeRange::new(gap.from, to).unwrap_or(TimeRange::ALL);
        let mut at = gap.from;
        for (_, stretch) in index.stretches(no, range)? {
            found.extend(TimeRange::new(at, stretch.from).filter(|hole| !hole.is_empty()));
            at = at.max(stretch.to);
        }
        found.extend(TimeRange::new(at, to).filter(|hole| !hole.is_empty()));
    }
    Ok(found)
}

/// Whether every segment that is missing between two of a stream was deleted and has a certificate.
pub(crate) fn is_certified(index: &Index, before: &SegmentRow, row: &SegmentRow) -> Result<bool, IndexError> {
    let Some(between) = TimeRange::new(before.wall_end, row.wall_start) else {
        return Ok(false);
    };
    let mut next = before.id.seq + 1;
    for (_, stretch) in index.stretches(row.id.stream, between)? {
        if stretch.seqs.0 != next {
            return Ok(false);
        }
        next = stretch.seqs.1 + 1;
    }
    Ok(next == row.id.seq)
}
