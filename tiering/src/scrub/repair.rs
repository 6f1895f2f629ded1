//! Puts a wrong copy right from another one, step by step: the index says of each before and after.

use std::sync::Arc;

use archive::buffer::Pool;
use archive::segment::{Restored, SegmentReader, restore};
use archive::store::{Content, Crc64, PART_BYTES, Store, StoreError};
use archive::{ArchiveError, Tier, WallTime};
use indexer::{
    Batch, Copies, CopyState, Damage, Event, Fault, FaultKind, Incident, IncidentKind, Index, IndexError,
    SegmentRow, SegmentState, fetch_tables, with_tables,
};
use object_store::PutPayload;

use super::is_passing;
use super::look::{Look, Places, Subject};
use super::plan::sources;
use crate::locks::{unlocked, was_ours};
use crate::mover::outline;

/// Slabs of 64 KiB that are kept while a file is written.
const SLABS: usize = 64;
/// A file is made anew only where so much more than it is free, in lengths of it: recording comes first.
const ROOM: u64 = 4;

/// What became of a copy that was wrong.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is right, or is not needed any more.
    Gone,
    /// It was made anew.
    Repaired,
    /// There is nothing to make it anew from; some of the segment can be read nowhere.
    Lost,
    /// Not now, and why.
    Later(String),
}

/// Why a repair stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stopped {
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The disk or a store did.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It is not what follows.
    #[error(transparent)]
    Forbidden(#[from] indexer::Forbidden),
}

impl From<StoreError> for Stopped {
    fn from(e: StoreError) -> Self {
        Self::Archive(e.into())
    }
}

/// Repairs one copy. Nobody else changes the segment meanwhile.
pub(super) struct Repair<'a> {
    pub(super) index: &'a Index,
    pub(super) places: &'a Places,
    pub(super) now: WallTime,
}

impl Repair<'_> {
    /// Looks at the copy once more, and does what can be done for it.
    pub(super) fn mend(&self, fault: &Fault) -> Result<Outcome, Stopped> {
        let Some((what, copies)) = self.subject(fault)? else {
            self.forget(fault)?;
            return Ok(Outcome::Gone);
        };
        match copies.state(fault.tier) {
            CopyState::Absent => {
                self.forget(fault)?;
                return Ok(Outcome::Gone);
            }
            CopyState::Whole => match self.look_again(&what, fault) {
                Look::Wrong(..) => {}
                Look::Unknown(e) => return Ok(Outcome::Later(e.to_string())),
                Look::Sound => {
                    self.forget(fault)?;
                    self.mended(&what)?;
                    return Ok(Outcome::Gone);
                }
            },
            // An earlier attempt was interrupted.
            CopyState::Copying | CopyState::Deleting => {}
        }
        let outcome = match fault.tier {
            Tier::Hot => self.file(&what, &copies)?,
            tier => self.object(&what, copies, tier)?,
        };
        match outcome {
            Outcome::Repaired => {
                self.forget(fault)?;
                self.mended(&what)?;
                Ok(Outcome::Repaired)
            }
            Outcome::Lost => self.lost(fault, &what, &copies),
            other => Ok(other),
        }
    }

    /// One that its store did not give out is wrong when it still does not, and the store was there just before: some
    /// servers answer nothing for a moment after they have met damage.
    fn look_again(&self, what: &Subject, fault: &Fault) -> Look {
        let is_there = fault.kind == FaultKind::Unreadable && self.places.is_there(fault.tier);
        match self.places.read_now(what, fault.tier) {
            Look::Unknown(e) if is_there && is_passing(&e) => Look::Wrong(fault.kind, e.to_string()),
            look => look,
        }
    }

    fn subject(&self, fault: &Fault) -> Result<Option<(Subject, Copies)>, Stopped> {
        let row = self.index.segment(fault.segment)?;
        let (Some(row), Some(stream)) = (row, self.index.stream_id(fault.segment.stream)) else {
            return Ok(None);
        };
        if row.state == SegmentState::Deleting {
            return Ok(None);
        }
        let copies = self.index.copies(&row)?;
        let Places { disk, stores, .. } = self.places;
        // What was lost may have come back: its copies are asked, whatever is known.
        let is_cut = |table: Vec<_>| table.len() < row.fragments as usize;
        let is_cut = self.index.table(&row).is_ok_and(is_cut);
        let ask = || {
            self.index.recall(&row);
            fetch_tables(self.index, disk, stores, std::slice::from_ref(&row), || true)
        };
        let asked = is_cut.then(ask);
        let _loan = match asked.transpose() {
            Err(IndexError::Archive(e)) if is_passing(&e) => return Err(e.into()),
            Err(IndexError::Archive(_)) => None,
            loan => loan?,
        };
        let fragments = match with_tables(self.index, disk, stores, || self.index.table(&row)) {
            // No copy tells them any more.
            Err(IndexError::Archive(e)) if !is_passing(&e) => Vec::new(),
            Err(IndexError::Archive(e)) => return Err(e.into()),
            fragments => fragments?,
        };
        Ok(Some((Subject::new(&stream, row, fragments), copies)))
    }

    fn forget(&self, fault: &Fault) -> Result<(), IndexError> {
        let mut batch = Batch::default();
        batch.fault_gone(fault.segment, fault.tier);
        self.index.commit(batch)
    }

    /// Forgets damage of a segment whose nearest copy reads right.
    pub(super) fn mended(&self, what: &Subject) -> Result<(), IndexError> {
        let row = &what.row;
        let damage = self.index.damage(row.id.stream, row.range())?;
        if damage.iter().all(|damage| damage.segment != row.id) {
            return Ok(());
        }
        let nearest = self.index.copies(row)?.nearest();
        if matches!(self.places.read_now(what, nearest), Look::Sound) {
            let mut batch = Batch::default();
            batch.mended(row);
            self.index.commit(batch)?;
            tracing::info!(segment = %what.name, "footage that was damaged reads right again");
        }
        Ok(())
    }

    /// The file is made beside the wrong one and takes its place at once: readers find the one or the other.
    fn file(&self, what: &Subject, copies: &Copies) -> Result<Outcome, Stopped> {
        let row = &what.row;
        let others = sources(copies, Tier::Hot);
        if row.state != SegmentState::Sealed || others.is_empty() {
            return Ok(Outcome::Lost);
        }
        let (free, _) = self.places.disk.space()?;
        if free < row.bytes.saturating_mul(ROOM) {
            return Ok(Outcome::Later("there is no room on the disk".to_owned()));
        }
        let mut readers = Vec::new();
        for tier in others.into_iter().chain([Tier::Hot]) {
            match self.places.open(what, tier) {
                Ok(reader) => readers.push(reader),
                Err(error) => tracing::warn!(segment = %what.name, %tier, %error, "a copy cannot be read"),
            }
        }
        let restored = Restored {
            name: what.name.clone(),
            bytes: row.bytes,
            head: row.head,
            fragments: what.fragments.clone(),
        };
        match restore(&self.places.disk, &Pool::new(SLABS), &restored, readers) {
            Ok(()) => Ok(Outcome::Repaired),
            Err(ArchiveError::Corrupt { .. } | ArchiveError::Malformed(_)) => Ok(Outcome::Lost),
            Err(e) if e.is_not_found() => Ok(Outcome::Lost),
            Err(e) => Err(e.into()),
        }
    }

    /// An object goes before it is put there again: nothing is ever overwritten.
    fn object(&self, what: &Subject, mut copies: Copies, tier: Tier) -> Result<Outcome, Stopped> {
        let row = &what.row;
        let objects = self.places.stores.expected(tier)?;
        let (store, wait) = (&objects.store, &objects.runtime);
        let mut unknown = None;
        let mut source = None;
        for other in sources(&copies, tier) {
            match self.places.read_now(what, other) {
                Look::Sound => {
                    source = Some(other);
                    break;
                }
                Look::Unknown(e) => unknown = Some(e),
                Look::Wrong(kind, why) => self.note(what, other, kind, &why)?,
            }
        }
        let Some(source) = source else {
            return Ok(unknown.map_or(Outcome::Lost, |e| Outcome::Later(e.to_string())));
        };
        if copies.state(tier) == CopyState::Whole {
            if copies.authority == tier {
                copies = copies.after(Event::Trusted(source), self.now)?;
            }
            copies = copies.after(Event::DeletionBegun(tier), self.now)?;
            self.commit(row, copies)?;
        }
        if copies.state(tier) == CopyState::Deleting {
            // The copy that it is made anew from has a lock of its own where it is held.
            let is_ours = || was_ours(self.index, row);
            let name = &what.name;
            wait.block_on(unlocked(store, name, is_ours, || store.delete(name)))?;
            copies = copies.after(Event::Deleted(tier), self.now)?;
            copies = copies.after(Event::CopyBegun(tier), self.now)?;
            self.commit(row, copies)?;
        }
        let reader = self.places.open(what, source)?;
        let crc64 = wait.block_on(put(store, what, reader))?;
        if copies.crc64 != 0 && copies.crc64 != crc64 {
            tracing::warn!(segment = %what.name, "the checksum of the whole was another one before");
        }
        copies.crc64 = crc64;
        // What is under a hold is locked in its store: the object that was had its lock for itself.
        if self.index.held(row.id.stream, row.range(), self.now)? {
            // A store that does not let us lock it has the copy nevertheless.
            if let Err(error) = wait.block_on(store.legal_hold(&what.name, true)) {
                tracing::error!(segment = %what.name, %error, "a copy that was made anew is not locked in its store");
            }
        }
        copies = copies.after(Event::Copied(tier), self.now)?;
        self.commit(row, copies)?;
        Ok(Outcome::Repaired)
    }

    fn commit(&self, row: &SegmentRow, copies: Copies) -> Result<(), IndexError> {
        let mut batch = Batch::default();
        batch.copies(row, copies);
        self.index.commit(batch)
    }

    /// Another copy of the same segment is wrong too.
    fn note(&self, what: &Subject, tier: Tier, kind: FaultKind, why: &str) -> Result<(), IndexError> {
        if self.index.fault(what.row.id, tier)?.is_some() {
            return Ok(());
        }
        tracing::error!(segment = %what.name, %tier, why, "a copy is wrong");
        let mut batch = Batch::default();
        batch.fault(Fault {
            segment: what.row.id,
            tier,
            kind,
            found: self.now,
            lost: false,
        });
        self.index.commit(batch)
    }

    /// Says what can be read from no copy: it stays in the timeline as lost, and the rest is served.
    fn lost(&self, fault: &Fault, what: &Subject, copies: &Copies) -> Result<Outcome, Stopped> {
        let whole: Vec<Tier> = Tier::ALL
            .into_iter()
            .filter(|tier| copies.state(*tier) == CopyState::Whole)
            .collect();
        let unreadable = match self.places.unreadable(what, &whole) {
            Ok(unreadable) => unreadable,
            Err(e) => return Ok(Outcome::Later(e.to_string())),
        };
        let row = &what.row;
        let untold = Damage::of_rest(row, &what.fragments, self.now);
        if unreadable.is_empty() && untold.is_none() {
            return Ok(Outcome::Later("no copy is right throughout".to_owned()));
        }
        let known = self.index.damage(row.id.stream, row.range())?;
        let mut batch = Batch::default();
        // All that is wrong now takes the place of what was known.
        batch.mended(row);
        let wrong = unreadable.iter().map(|entry| Damage::of(row.id, entry, self.now));
        for damage in wrong.chain(untold) {
            let is_it = |d: &&Damage| (d.segment, d.offset, d.rest) == (row.id, damage.offset, damage.rest);
            batch.damage(known.iter().find(is_it).copied().unwrap_or(damage));
        }
        if !fault.lost {
            let kind = IncidentKind::Lost { seq: row.id.seq };
            let at = row.wall_start;
            batch.incident(row.id.stream, Incident { at, kind });
            batch.fault(Fault { lost: true, ..*fault });
            tracing::error!(
                segment = %what.name, fragments = unreadable.len(), of = what.fragments.len(),
                "footage is lost: it can be read from no copy; the rest is served"
            );
        }
        self.index.commit(batch)?;
        Ok(Outcome::Lost)
    }
}

/// Puts a segment into a store, and believes it when the store has told the checksum. What an interrupted attempt left
/// there counts if it is the same.
async fn put(store: &Store, what: &Subject, reader: SegmentReader) -> Result<u64, StoreError> {
    let mut content = Upload {
        reader: Arc::new(reader),
        len: what.row.bytes,
        at: 0,
        crc64: Crc64::new(),
    };
    let name = &what.name;
    outline::put(store, name, || Arc::clone(&content.reader)).await?;
    if store.stat(name).await?.is_some() {
        while content.next().await?.is_some() {}
        let crc64 = content.crc64.finish();
        match store.verify(name, content.len, crc64).await {
            Ok(()) => return Ok(crc64),
            Err(StoreError::Wrong { .. }) => store.delete(name).await?,
            Err(e) => return Err(e),
        }
        (content.at, content.crc64) = (0, Crc64::new());
    }
    store.put(name, &mut content).await?;
    // Where somebody else was faster, not everything was read.
    while content.next().await?.is_some() {}
    let crc64 = content.crc64.finish();
    store.verify(name, content.len, crc64).await?;
    Ok(crc64)
}

/// A copy on its way into a store.
struct Upload {
    reader: Arc<SegmentReader>,
    len: u64,
    at: u64,
    crc64: Crc64,
}

impl Content for Upload {
    fn len(&self) -> u64 {
        self.len
    }

    async fn next(&mut self) -> Result<Option<PutPayload>, StoreError> {
        let end = (self.at + PART_BYTES as u64).min(self.len);
        if self.at == end {
            return Ok(None);
        }
        let (reader, at) = (Arc::clone(&self.reader), self.at);
        let read = move || reader.read_aligned(at, (end - at) as usize);
        let unreadable = |e| StoreError::Content(Arc::new(e));
        let bytes = tokio::task::spawn_blocking(read).await;
        let bytes = bytes.map_err(|e| StoreError::Away {
            what: "read a copy".to_owned(),
            why: e.to_string(),
        })?;
        let bytes = bytes.map_err(unreadable)?;
        self.at = end;
        self.crc64.update(&bytes);
        Ok(Some(PutPayload::from_bytes(bytes)))
    }
}
