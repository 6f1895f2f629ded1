//! Says whether two indexes tell the same of the media.

use std::fmt::Debug;

use archive::{FragmentEntry, GapCause, StreamId, TimeRange};

use crate::coverage::Borders;
use crate::error::IndexError;
use crate::index::Index;
use crate::rows::{IncidentKind, SegmentRow, SegmentState};

/// One thing that two indexes tell differently.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Whose.
    pub stream: StreamId,
    /// Which table, and what each says.
    pub what: String,
}

/// Compares what two indexes tell of all media. Left out is what media cannot tell: gaps that still last
/// or stand behind the last fragment, deletions, files given up or set aside, and stream numbers.
pub fn compare(a: &Index, b: &Index) -> Result<Vec<Difference>, IndexError> {
    let mut found = Vec::new();
    let mut streams: Vec<StreamId> = a.streams().into_iter().chain(b.streams()).map(|s| s.1).collect();
    streams.sort_unstable();
    streams.dedup();
    for stream in streams {
        let (na, nb) = (a.stream_no(&stream)?, b.stream_no(&stream)?);
        let spans =
            [na.map(|n| a.span(n)), nb.map(|n| b.span(n))].map(|s| s.transpose().map(Option::flatten));
        let [sa, sb] = spans;
        let (Some(sa), Some(na), Some(sb), Some(nb)) = (sa?, na, sb?, nb) else {
            // A stream that never recorded has nothing to compare.
            let (ha, hb) = (
                na.map(|n| a.span(n)).transpose()?.flatten(),
                nb.map(|n| b.span(n)).transpose()?.flatten(),
            );
            if ha != hb {
                found.push(Difference {
                    stream,
                    what: format!("recorded span: {ha:?} against {hb:?}"),
                });
            }
            continue;
        };
        let mut differ = |table: &str, x: &dyn Debug, y: &dyn Debug, same: bool| {
            if !same {
                found.push(Difference {
                    stream: stream.clone(),
                    what: format!("{table}: {x:?} against {y:?}"),
                });
            }
        };
        differ("span", &sa, &sb, sa == sb);
        let all = TimeRange::ALL;
        let segments = |i: &Index, no| -> Result<Vec<_>, IndexError> {
            let rows = i.segments(no, all)?.into_iter();
            Ok(rows
                .map(|r| {
                    let sealed = r.state == SegmentState::Sealed;
                    (
                        r.id.seq,
                        r.epoch,
                        r.wall_start,
                        r.wall_end,
                        r.bytes,
                        (sealed, r.tier, r.generation),
                        r.init,
                        r.head,
                        r.fragments,
                    )
                })
                .collect())
        };
        pairwise("segments", segments(a, na)?, segments(b, nb)?, &mut differ);
        for (x, y) in a.segments(na, all)?.iter().zip(&b.segments(nb, all)?) {
            // What has left the hot tier tells its fragments itself.
            let (tx, ty) = (kept_table(a, x)?, kept_table(b, y)?);
            let borders = |i: &Index, row, table: &Option<Vec<_>>| match table {
                Some(table) => Ok(Borders::of(table)),
                None => i.copies(row).map(|copies| copies.borders),
            };
            let (bx, by) = (borders(a, x, &tx)?, borders(b, y, &ty)?);
            differ("borders", &bx, &by, bx == by);
            if let (Some(tx), Some(ty)) = (tx, ty) {
                pairwise("fragments", tx, ty, &mut differ);
            }
        }
        let gaps = |i: &Index, no| -> Result<Vec<_>, IndexError> {
            let mut gaps = i.gap_rows(no, all)?;
            gaps.retain(|g| {
                g.cause != GapCause::Retention
                    && g.to.is_some_and(|to| to <= sa.to())
                    // Those before belong to footage that may be deleted by now.
                    && g.from >= sa.from()
            });
            Ok(gaps)
        };
        pairwise("gaps", gaps(a, na)?, gaps(b, nb)?, &mut differ);
        let incidents = |i: &Index, no| -> Result<Vec<_>, IndexError> {
            let mut all = i.incidents(no, all)?;
            all.retain(|i| {
                matches!(
                    i.kind,
                    IncidentKind::ClockStep { .. } | IncidentKind::PacketsLost { .. }
                ) && i.at >= sa.from()
            });
            Ok(all)
        };
        pairwise("incidents", incidents(a, na)?, incidents(b, nb)?, &mut differ);
        pairwise(
            "coverage",
            a.coverage(na, all)?,
            b.coverage(nb, all)?,
            &mut differ,
        );
    }
    Ok(found)
}

/// The fragments of a segment, where the index itself tells them.
fn kept_table(index: &Index, row: &SegmentRow) -> Result<Option<Vec<FragmentEntry>>, IndexError> {
    match index.table(row) {
        Err(IndexError::Elsewhere(_)) => Ok(None),
        table => table.map(Some),
    }
}

fn pairwise<T: PartialEq + Debug>(
    table: &str,
    a: Vec<T>,
    b: Vec<T>,
    differ: &mut impl FnMut(&str, &dyn Debug, &dyn Debug, bool),
) {
    differ(
        &format!("number of {table}"),
        &a.len(),
        &b.len(),
        a.len() == b.len(),
    );
    if let Some((x, y)) = a.iter().zip(&b).find(|(x, y)| x != y) {
        differ(table, x, y, false);
    }
}
