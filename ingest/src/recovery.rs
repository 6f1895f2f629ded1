//! What a start does before anything is recorded: finds the true end of every stream.

use archive::buffer::Pool;
use archive::disk::Disk;
use archive::layout::{SegmentName, hour_dir, parse_segment_path, segment_path, stream_dir};
use archive::segment::{Footer, SegmentReader, Tail, finish, scan, scan_tail};
use archive::{ArchiveError, SegmentId, StreamId, StreamNo, WallTime};
use indexer::{Batch, Incident, IncidentKind, Index, SegmentRow, SegmentState};

use crate::error::IngestError;

/// What a start found and mended.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Fragments that were whole but not yet indexed.
    pub fragments: u64,
    /// Segments found without a row.
    pub adopted: u64,
    /// Segments whose bytes are not what the index says; they are left as they are and reported.
    pub damaged: u64,
    /// Files moved aside because nothing in them is whole.
    pub set_aside: u64,
    /// Segments that wait to be sealed.
    pub unsealed: Vec<SegmentRow>,
}

/// Where files go that hold nothing whole; never deleted by itself.
const ASIDE: &str = ".set-aside";

/// Indexes whole fragments behind the index's last, adopts segments without a row, and leaves every byte
/// where it is. Running it again changes nothing. Must end before recording begins.
pub fn recover(disk: &Disk, index: &Index) -> Result<Recovered, IngestError> {
    let mut done = Recovered::default();
    for row in unsealed(index)? {
        let Some(stream) = index.stream_id(row.id.stream) else {
            continue;
        };
        match extend(disk, index, &stream, &row) {
            Ok(fragments) => done.fragments += fragments,
            Err(IngestError::Archive(e @ ArchiveError::Io { .. })) => {
                tracing::error!(stream = %stream, segment = row.id.seq, error = %e, "a segment cannot be read; what is behind its acknowledged end is left");
                done.damaged += 1;
            }
            Err(IngestError::Archive(e)) => {
                tracing::error!(stream = %stream, segment = row.id.seq, error = %e, "a segment is damaged; it is kept as it is");
                let seq = row.id.seq;
                let mut batch = Batch::default();
                batch.incident(
                    row.id.stream,
                    Incident {
                        at: row.wall_start,
                        kind: IncidentKind::Quarantined { seq },
                    },
                );
                index.commit(batch)?;
                done.damaged += 1;
            }
            Err(e) => return Err(e),
        }
    }
    for (no, stream) in index.streams() {
        for name in look(disk, index, no, &stream)? {
            match indexer::adopt(disk, index, &stream, &name) {
                Ok(n) if n > 0 => {
                    done.adopted += 1;
                    done.fragments += u64::from(n);
                }
                // The file may be whole: it stays where it is, and so does what would follow it.
                Err(indexer::IndexError::Archive(e @ ArchiveError::Io { .. })) => {
                    tracing::error!(stream = %stream, error = %e, "a file without a row cannot be read; the next start looks at it again");
                    index.set_mark(&not_looked_at(no), name.start)?;
                    break;
                }
                Ok(_) | Err(indexer::IndexError::Archive(_)) => {
                    set_aside(disk, &segment_path(&stream, &name));
                    done.set_aside += 1;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }
    done.unsealed = unsealed(index)?;
    Ok(done)
}

/// Segments that are to be sealed; those whose deletion has begun are not.
fn unsealed(index: &Index) -> Result<Vec<SegmentRow>, IngestError> {
    let mut rows = index.unsealed()?;
    rows.retain(|row| row.state != SegmentState::Deleting);
    Ok(rows)
}

fn set_aside(disk: &Disk, path: &str) {
    match disk.rename(path, &format!("{ASIDE}/{path}")) {
        Ok(()) => tracing::warn!(path, "a file that belongs to no segment is set aside"),
        Err(e) => tracing::error!(path, error = %e, "a file that belongs to no segment stays where it is"),
    }
}

/// Looks behind the last indexed fragment of a segment.
fn extend(disk: &Disk, index: &Index, stream: &StreamId, row: &SegmentRow) -> Result<u64, IngestError> {
    let path = segment_path(stream, &row.name());
    let reader = SegmentReader::open(disk, &path)?;
    if reader.len()? < row.bytes {
        let what = format!("{} bytes where {} were acknowledged", reader.len()?, row.bytes);
        return Err(ArchiveError::Corrupt {
            path: reader.path().to_owned(),
            what,
        }
        .into());
    }
    // What lies behind the acknowledged end of a segment that was given up stands in the one after it.
    let is_last = index
        .end(row.id.stream)?
        .is_some_and(|end| end.next_seq == row.id.seq + 1);
    if row.state == SegmentState::Poisoned || !is_last || footer(&reader, row)?.is_some() {
        return Ok(0);
    }
    reader.distrust_cache()?;
    let Tail {
        fragments, valid_len, ..
    } = scan_tail(&reader, row.bytes, row.fragments, row.head, 0)?;
    let Some(last) = fragments.last() else {
        return Ok(0);
    };
    // The process that wrote them may have been killed before it synced.
    disk.make_durable(&path)?;
    let found = fragments.len() as u64;
    let mut batch = Batch::default();
    batch.segment(&SegmentRow {
        wall_end: last.row.entry.wall_end(),
        bytes: valid_len,
        head: last.row.leaf,
        fragments: row.fragments + fragments.len() as u32,
        ..row.clone()
    });
    fragments
        .into_iter()
        .for_each(|f| batch.fragment(row.id, f.row.entry));
    index.commit(batch)?;
    Ok(found)
}

/// The footer of a segment that the index does not know as sealed. One that was torn is none, and neither is
/// one that tells of something else: a camera could have sent it.
fn footer(reader: &SegmentReader, row: &SegmentRow) -> Result<Option<Footer>, ArchiveError> {
    match reader.footer() {
        Ok(footer) => Ok(footer.filter(|f| f.head == row.head && f.end() == row.bytes)),
        Err(ArchiveError::Corrupt { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The mark of where a stream has files that could not be looked at.
fn not_looked_at(no: StreamNo) -> String {
    format!("not_looked_at.{}", no.0)
}

/// Looks for files without a row. A folder that cannot be read keeps nobody from recording: the next start
/// looks again, from where this one should have.
fn look(
    disk: &Disk,
    index: &Index,
    no: StreamNo,
    stream: &StreamId,
) -> Result<Vec<SegmentName>, IngestError> {
    let mark = not_looked_at(no);
    let missed = index.mark(&mark)?.filter(|at| *at != WallTime::MAX);
    let last = match (index.last_segment(no)?, index.end(no)?) {
        // Those behind it were deleted: it was held.
        (Some(row), Some(end)) if end.next_seq > row.id.seq + 1 => end.wall_end,
        (Some(row), _) => row.wall_start,
        (None, _) => WallTime::MIN,
    };
    let from = missed.map_or(last, |missed| missed.min(last));
    match unknown_files(disk, index, no, stream, from) {
        Err(IngestError::Archive(e)) => {
            tracing::error!(stream = %stream, error = %e, "a folder cannot be read: files without a row stay in it");
            index.set_mark(&mark, from)?;
            Ok(Vec::new())
        }
        Ok(found) => {
            if missed.is_some() {
                index.set_mark(&mark, WallTime::MAX)?;
            }
            Ok(found)
        }
        Err(e) => Err(e),
    }
}

/// Segment files of a stream without a row, in order, from the hour of `from` on, where its last segment
/// begins. Where those before it went wrong is where they were begun, and what is older was looked at by
/// earlier starts.
fn unknown_files(
    disk: &Disk,
    index: &Index,
    no: StreamNo,
    stream: &StreamId,
    from: WallTime,
) -> Result<Vec<SegmentName>, IngestError> {
    let from = hour_dir(from);
    let root = stream_dir(stream);
    let mut found = Vec::new();
    let first_day = from.split('/').next().unwrap_or_default().to_owned();
    for day in disk.list(&root)? {
        // A year of days is not read to find out that it was looked at before.
        if day < first_day {
            continue;
        }
        for hour in disk.list(&format!("{root}/{day}"))? {
            if format!("{day}/{hour}") < from {
                continue;
            }
            let folder = format!("{root}/{day}/{hour}");
            for file in disk.list(&folder)? {
                let path = format!("{folder}/{file}");
                let Ok((_, name)) = parse_segment_path(&path) else {
                    continue;
                };
                // What thinning has left half done is taken up where it is done.
                if name.generation > 0 {
                    continue;
                }
                let id = SegmentId {
                    stream: no,
                    seq: name.seq,
                };
                let row = index.segment(id)?;
                if row.is_none_or(|row| segment_path(stream, &row.name()) != path) {
                    found.push(name);
                }
            }
        }
    }
    found.sort_unstable_by_key(|n| (n.seq, n.epoch));
    Ok(found)
}

/// Seals what a crash left open. May run beside recording: these segments are not written any more.
pub fn seal_left_open(
    disk: &Disk,
    index: &Index,
    pool: &Pool,
    rows: &[SegmentRow],
) -> Result<(), IngestError> {
    for row in rows {
        let Some(stream) = index.stream_id(row.id.stream) else {
            continue;
        };
        match seal_one(disk, index, pool, &stream, row) {
            Ok(()) => {}
            Err(IngestError::Archive(e)) => {
                tracing::error!(stream = %stream, segment = row.id.seq, error = %e, "a segment could not be sealed; it stays readable");
            }
            // Retention, which makes space, waits for this to end.
            Err(IngestError::Index(e)) if e.is_disk_full() => {
                tracing::error!(stream = %stream, segment = row.id.seq, error = %e, "a segment is not sealed before the next start; it stays readable");
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn seal_one(
    disk: &Disk,
    index: &Index,
    pool: &Pool,
    stream: &StreamId,
    row: &SegmentRow,
) -> Result<(), IngestError> {
    let path = segment_path(stream, &row.name());
    let reader = SegmentReader::open(disk, &path)?;
    reader.distrust_cache()?;
    let poisoned = row.state == SegmentState::Poisoned;
    let mut batch = Batch::default();
    if let Some(footer) = footer(&reader, row)?.filter(|_| !poisoned) {
        disk.make_durable(&path)?;
        batch.seal(&SegmentRow {
            bytes: reader.len()?,
            head: footer.head,
            ..row.clone()
        });
        return Ok(index.commit(batch)?);
    }
    let mut found = scan(&reader, if poisoned { 0 } else { row.bytes })?;
    found.fragments.truncate(row.fragments as usize);
    if found.fragments.len() < row.fragments as usize {
        let what = found.stopped.unwrap_or_else(|| "fragments are missing".into());
        return Err(ArchiveError::Corrupt {
            path: reader.path().to_owned(),
            what,
        }
        .into());
    }
    drop(reader);
    let sealed = finish(disk, pool, &found.header, row.bytes, &found.fragments)?;
    batch.seal(&SegmentRow {
        bytes: sealed.bytes,
        head: sealed.head,
        ..row.clone()
    });
    Ok(index.commit(batch)?)
}
