//! Reads the tables of segments whose bytes have left the hot tier from their footers.

use std::sync::Arc;

use archive::disk::Disk;
use archive::layout::segment_path;
use archive::segment::{Contents, SegmentReader, scan};
use archive::store::{StoreError, Stores};
use archive::{ArchiveError, FragmentEntry, Malformed, Sha256, Tier};
use tokio::sync::Semaphore;

use crate::copies::CopyState;
use crate::error::IndexError;
use crate::index::Index;
use crate::lent::Loan;
use crate::pool::in_order;
use crate::rows::{SegmentRow, SegmentState};

/// Footers that are asked for at a time by one who needs several: each waits for a store, and costs little beside that.
const AT_ONCE: usize = 8;
/// Segments may be moved, thinned and deleted while their tables are fetched, but not so often.
const IDLE_ROUNDS_MAX: usize = 8;

/// Has the tables of `rows` at hand, which the index said to be elsewhere. Blocks while stores are asked; gives up when
/// `go_on` says so.
pub fn fetch_tables(
    index: &Index,
    disk: &Disk,
    stores: &Stores,
    rows: &[SegmentRow],
    go_on: impl Fn() -> bool + Sync,
) -> Result<Vec<Loan>, IndexError> {
    let mut loans = Vec::with_capacity(rows.len());
    let fetch = |row: &SegmentRow| match go_on() {
        true => fetch_table(index, disk, stores, row),
        false => Err(given_up()),
    };
    in_order(rows, AT_ONCE, fetch, |_, loan| {
        loans.extend(loan?);
        Ok::<_, IndexError>(())
    })?;
    Ok(loans)
}

fn given_up() -> IndexError {
    IndexError::Archive(ArchiveError::Store(StoreError::Away {
        what: "read footers".to_owned(),
        why: "it took too long".to_owned(),
    }))
}

/// What `read` gives of the index once it has all tables at hand that it needs. Blocks while stores are asked.
pub fn with_tables<T>(
    index: &Index,
    disk: &Disk,
    stores: &Stores,
    mut read: impl FnMut() -> Result<T, IndexError>,
) -> Result<T, IndexError> {
    let (mut loans, mut idle) = (Vec::new(), 0);
    loop {
        match read() {
            Err(IndexError::Elsewhere(rows)) if idle < IDLE_ROUNDS_MAX => {
                let fetched = fetch_tables(index, disk, stores, &rows, || true)?;
                idle += usize::from(fetched.is_empty());
                loans.extend(fetched);
            }
            other => return other,
        }
    }
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
    let is_same = |now: &SegmentRow| {
        now.generation == row.generation && now.head == row.head && now.state != SegmentState::Deleting
    };
    let now = index.segment(row.id)?.filter(is_same);
    let (Some(row), Some(stream)) = (now, index.stream_id(row.id.stream)) else {
        return Ok(None);
    };
    let name = segment_path(&stream, &row.name());
    let copies = index.copies(&row)?;
    let (mut failure, mut beginning) = (None, Vec::new());
    for tier in Tier::ALL {
        if copies.state(tier) != CopyState::Whole {
            continue;
        }
        let told = open(tier, disk, stores, &name, &row).and_then(|reader| told(&reader, &row));
        let lent = match told {
            Ok(Told::All(fragments, link)) => index.lend(&row, &fragments, link),
            Ok(Told::Beginning(fragments, why)) => {
                if fragments.len() > beginning.len() {
                    beginning = fragments;
                }
                Err(why.into())
            }
            Err(e) => Err(e.into()),
        };
        let error = match lent {
            Ok(loan) => return Ok(Some(loan)),
            Err(error) => error,
        };
        // It may have moved or gone meanwhile.
        let still = index.segment(row.id)?.filter(is_same);
        if still.is_none_or(|now| {
            index
                .copies(&now)
                .is_ok_and(|now| now.state(tier) != CopyState::Whole)
        }) {
            return Ok(None);
        }
        if is_wrong(&error) {
            // Somebody else finds out what is wrong with it.
            index.suspects().add(row.id, tier);
            tracing::warn!(segment = name, %tier, %error, "the footer of a copy is not there or not right");
        }
        failure = failure.or(Some(error));
    }
    // No other copy tells more: the rest of it is lost, as the scrub will say, if it is not away.
    const NOWHERE: Malformed = Malformed("no copy of it is whole");
    let failure = failure.unwrap_or(ArchiveError::Malformed(NOWHERE).into());
    match is_wrong(&failure) {
        true => index.lend_beginning(&row, &beginning).map(Some).ok_or(failure),
        false => Err(failure),
    }
}

/// Whether an error says that a copy is not what it should be, and not that it cannot be asked.
fn is_wrong(error: &IndexError) -> bool {
    match error {
        IndexError::Archive(e @ (ArchiveError::Corrupt { .. } | ArchiveError::Malformed(_))) => {
            !e.is_archived()
        }
        IndexError::Archive(e) => e.is_not_found(),
        _ => false,
    }
}

/// Opened around the cache of blocks, of which a footer is a small part, and without waiting behind those who read.
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
    objects.turns = Arc::new(Semaphore::new(1));
    if objects.store.restoring().is_some() {
        return SegmentReader::of_object_as_it_is(&objects, name);
    }
    Ok(SegmentReader::of_object(&objects, name, row.bytes))
}

/// What a copy tells of its fragments.
enum Told {
    /// All, and what the next segment is chained to.
    All(Vec<FragmentEntry>, Sha256),
    /// Only the first of them, and why.
    Beginning(Vec<FragmentEntry>, ArchiveError),
}

/// Where its footer is damaged, the fragments of a segment tell it themselves.
fn told(reader: &SegmentReader, row: &SegmentRow) -> Result<Told, ArchiveError> {
    let error = match reader.contents() {
        Ok(Some(Contents { entries, link, .. })) => return Ok(Told::All(entries, link)),
        Ok(None) => ArchiveError::Malformed(Malformed("a sealed segment without a footer")),
        Err(e) => e,
    };
    // A thinned segment ends in another hash than its last fragment's.
    if row.generation > 0 || !matches!(error, ArchiveError::Corrupt { .. } | ArchiveError::Malformed(_)) {
        return Err(error);
    }
    let found = scan(reader, u64::MAX)?;
    if found.header.name() != row.name() {
        return Err(error);
    }
    let (entries, leaves): (Vec<_>, Vec<_>) = (found.fragments.into_iter())
        .map(|f| (f.row.entry, f.row.leaf))
        .unzip();
    match leaves.last() {
        Some(link) if *link == row.head => Ok(Told::All(entries, *link)),
        _ => Ok(Told::Beginning(entries, error)),
    }
}
