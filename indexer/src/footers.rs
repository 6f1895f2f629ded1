//! Reads the tables of segments whose bytes have left the hot tier from their footers.

use archive::disk::Disk;
use archive::layout::segment_path;
use archive::segment::{SegmentReader, scan};
use archive::store::Stores;
use archive::{ArchiveError, FragmentEntry, Malformed, Sha256, Tier};

use crate::copies::CopyState;
use crate::error::IndexError;
use crate::index::Index;
use crate::lent::Loan;
use crate::pool::in_order;
use crate::rows::SegmentRow;

/// Footers that are asked for at a time by one who needs several: each waits for a store, and costs little beside that.
const AT_ONCE: usize = 8;
/// Nobody needs the tables of other segments more often than that: a time, what lies before it, and what follows.
const ROUNDS_MAX: usize = 32;

/// Has the tables of `rows` at hand, which the index said to be elsewhere. Blocks while stores are asked.
pub fn fetch_tables(
    index: &Index,
    disk: &Disk,
    stores: &Stores,
    rows: &[SegmentRow],
) -> Result<Vec<Loan>, IndexError> {
    let mut loans = Vec::with_capacity(rows.len());
    let fetch = |row: &SegmentRow| fetch_table(index, disk, stores, row);
    in_order(rows, AT_ONCE, fetch, |_, loan| {
        loans.extend(loan?);
        Ok::<_, IndexError>(())
    })?;
    Ok(loans)
}

/// What `read` gives of the index once it has all tables at hand that it needs. Blocks while stores are asked.
pub fn with_tables<T>(
    index: &Index,
    disk: &Disk,
    stores: &Stores,
    mut read: impl FnMut() -> Result<T, IndexError>,
) -> Result<T, IndexError> {
    let mut loans = Vec::new();
    for _ in 0..ROUNDS_MAX {
        match read() {
            Err(IndexError::Elsewhere(rows)) => loans.extend(fetch_tables(index, disk, stores, &rows)?),
            other => return other,
        }
    }
    read()
}

/// `None` when the segment is not any more what `row` says: who asks the index again is told so.
fn fetch_table(
    index: &Index,
    disk: &Disk,
    stores: &Stores,
    row: &SegmentRow,
) -> Result<Option<Loan>, IndexError> {
    if let Some(loan) = index.loan(row) {
        return Ok(Some(loan));
    }
    let now = index.segment(row.id)?;
    let (Some(row), Some(stream)) = (
        now.filter(|now| now.generation == row.generation && now.head == row.head),
        index.stream_id(row.id.stream),
    ) else {
        return Ok(None);
    };
    let name = segment_path(&stream, &row.name());
    let copies = index.copies(&row)?;
    let mut failure = None;
    let mut whole: Vec<Tier> = Tier::ALL.into_iter().collect();
    whole.retain(|tier| copies.state(*tier) == CopyState::Whole);
    for tier in whole {
        let told = open(tier, disk, stores, &name, &row).and_then(|reader| told(&reader, &row));
        let lent = told
            .map_err(IndexError::from)
            .and_then(|(fragments, link)| index.lend(&row, &fragments, link));
        match lent {
            Ok(loan) => return Ok(Some(loan)),
            Err(error) => {
                // Somebody else finds out what is wrong with it.
                index.suspects().add(row.id, tier);
                tracing::warn!(segment = name, %tier, %error, "the footer cannot be read");
                failure = failure.or(Some(error));
            }
        }
    }
    const NOWHERE: Malformed = Malformed("no copy of it is whole");
    Err(failure.unwrap_or(ArchiveError::Malformed(NOWHERE).into()))
}

/// Opened around the cache of blocks: a footer is a small part of one.
fn open(
    tier: Tier,
    disk: &Disk,
    stores: &Stores,
    name: &str,
    row: &SegmentRow,
) -> Result<SegmentReader, ArchiveError> {
    if tier == Tier::Hot {
        return SegmentReader::open(disk, name);
    }
    let mut objects = stores.expected(tier)?.clone();
    objects.cache = None;
    if objects.store.restoring().is_some() {
        return SegmentReader::of_object_as_it_is(&objects, name);
    }
    Ok(SegmentReader::of_object(&objects, name, row.bytes))
}

/// What a segment tells of its fragments, and what the next one is chained to. Where its footer is damaged, its fragments
/// tell it themselves.
fn told(reader: &SegmentReader, row: &SegmentRow) -> Result<(Vec<FragmentEntry>, Sha256), ArchiveError> {
    match reader.footer_without_samples() {
        Ok(Some(footer)) => {
            let link = footer.link();
            Ok((footer.fragments.into_iter().map(|f| f.entry).collect(), link))
        }
        Ok(None) | Err(ArchiveError::Corrupt { .. }) if row.generation == 0 => {
            let found = scan(reader, u64::MAX)?.fragments;
            let mut link = Sha256::default();
            let entries = found.into_iter().take(row.fragments as usize).map(|f| {
                link = f.row.leaf;
                f.row.entry
            });
            Ok((entries.collect(), link))
        }
        Ok(None) => Err(ArchiveError::Malformed(Malformed("it has no footer"))),
        Err(e) => Err(e),
    }
}
