//! Looks at one copy of a segment.

use std::sync::Arc;

use archive::disk::Disk;
use archive::layout::{MARKER, segment_path};
use archive::segment::{CheckedReader, Pace, SegmentReader, verify};
use archive::store::{Crc64, READ_BYTES_MAX, StoreError, Stores};
use archive::{ArchiveError, FragmentEntry, StreamId, Tier};
use indexer::{FaultKind, SegmentRow, SegmentState};
use tokio::sync::Semaphore;

/// What the system says when a disk cannot read what it holds.
const EIO: i32 = 5;
/// Objects that are read at a time.
const READS: usize = 2;

/// What a copy turned out to be.
#[derive(Debug)]
pub(super) enum Look {
    /// What was recorded.
    Sound,
    /// Not that, and why.
    Wrong(FaultKind, String),
    /// It cannot be told now.
    Unknown(ArchiveError),
}

/// A segment that is looked at.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) row: SegmentRow,
    /// The name of its file and of its objects.
    pub(super) name: String,
    /// All its fragments, as the index knows them.
    pub(super) fragments: Arc<[FragmentEntry]>,
}

impl Subject {
    pub(super) fn new(stream: &StreamId, row: SegmentRow, fragments: Vec<FragmentEntry>) -> Self {
        Self {
            name: segment_path(stream, &row.name()),
            row,
            fragments: fragments.into(),
        }
    }
}

/// Where copies lie, read past every cache.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) disk: Disk,
    pub(super) stores: Stores,
    pace: Pace,
}

impl Places {
    pub(super) fn new(disk: Disk, stores: Stores, pace: Pace) -> Self {
        let turns = Arc::new(Semaphore::new(READS));
        let mut stores = stores;
        for objects in [&mut stores.warm, &mut stores.cold].into_iter().flatten() {
            objects.cache = None;
            objects.turns = turns.clone();
        }
        Self { disk, stores, pace }
    }

    /// Opens a copy as it is now.
    pub(super) fn open(&self, what: &Subject, tier: Tier) -> Result<SegmentReader, ArchiveError> {
        let reader = match tier {
            Tier::Hot => SegmentReader::open(&self.disk, &what.name)?,
            tier => SegmentReader::of_unknown_object(self.stores.expected(tier)?, &what.name)?,
        };
        reader.distrust_cache()?;
        Ok(reader)
    }

    /// What an error says of a copy. All that lay on a disk is missing when it is not mounted, and none of it is gone.
    fn judge(&self, tier: Tier, e: ArchiveError) -> Look {
        if !e.is_not_found() {
            return judge(e);
        }
        let why = match self.marked(tier) {
            Ok(true) => return Look::Wrong(FaultKind::Missing, "it is not there".to_owned()),
            Ok(false) => format!("{MARKER} is not there: is its disk mounted?"),
            Err(e) => e.to_string(),
        };
        Look::Unknown(ArchiveError::Store(StoreError::Away {
            what: format!("look at the {tier} tier"),
            why,
        }))
    }

    /// Whether a tier is there and answers.
    pub(super) fn is_there(&self, tier: Tier) -> bool {
        self.marked(tier).unwrap_or(false)
    }

    fn marked(&self, tier: Tier) -> Result<bool, StoreError> {
        if tier == Tier::Hot {
            return Ok(self.disk.path(MARKER).exists());
        }
        let objects = self.stores.expected(tier)?;
        let marker = objects.runtime.block_on(objects.store.stat(MARKER))?;
        Ok(marker.is_some())
    }

    /// Whether a copy is there, with its length.
    pub(super) fn glance(&self, what: &Subject, tier: Tier) -> Look {
        match self.open(what, tier).and_then(|reader| reader.len()) {
            Ok(len) => of_length(what, len),
            Err(e) => self.judge(tier, e),
        }
    }

    /// Reads a copy to its last byte at the pace that was set. What is wrong is looked at a second time, by hashes.
    pub(super) fn read(&self, what: &Subject, tier: Tier, crc64: u64) -> Look {
        let first = match tier {
            Tier::Hot => self.verify(what, tier, Some(&self.pace)),
            _ if crc64 == 0 => self.verify(what, tier, Some(&self.pace)),
            tier => self
                .compare(what, tier, crc64)
                .map_or_else(|e| self.judge(tier, e), |()| Look::Sound),
        };
        match first {
            Look::Wrong(FaultKind::Damaged, _) => self.verify(what, tier, None),
            other => other,
        }
    }

    /// The same by hashes alone, without delay.
    pub(super) fn read_now(&self, what: &Subject, tier: Tier) -> Look {
        self.verify(what, tier, None)
    }

    /// An object against the checksum that it had when it was verified: read in long pieces.
    fn compare(&self, what: &Subject, tier: Tier, crc64: u64) -> Result<(), ArchiveError> {
        let objects = self.stores.expected(tier)?;
        let (store, wait) = (&objects.store, &objects.runtime);
        let missing = || StoreError::Missing {
            name: what.name.clone(),
        };
        let there = wait.block_on(store.stat(&what.name))?.ok_or_else(missing)?;
        let wrong = |why: String| StoreError::Wrong {
            name: what.name.clone(),
            why,
        };
        if there.len != what.row.bytes {
            return Err(wrong(format!(
                "it has {} bytes instead of {}",
                there.len, what.row.bytes
            ))
            .into());
        }
        let mut found = Crc64::new();
        let mut at = 0;
        while at < there.len {
            let end = (at + READ_BYTES_MAX).min(there.len);
            found.update(&wait.block_on(store.read(&what.name, at..end))?);
            self.pace.spend((end - at) as usize);
            at = end;
        }
        if found.finish() == crc64 {
            return Ok(());
        }
        Err(wrong("its bytes are not those that were put there".to_owned()).into())
    }

    fn verify(&self, what: &Subject, tier: Tier, pace: Option<&Pace>) -> Look {
        let mut reader = match self.open(what, tier) {
            Ok(reader) => reader,
            Err(e) => return self.judge(tier, e),
        };
        if let Some(pace) = pace {
            reader = reader.paced(pace);
        }
        if what.row.state != SegmentState::Sealed {
            return self.fragments_of(what, reader);
        }
        match reader.len() {
            Ok(len) => match of_length(what, len) {
                Look::Sound => {}
                wrong => return wrong,
            },
            Err(e) => return self.judge(tier, e),
        }
        match verify(&reader) {
            Ok(found) if found.sealed && found.link == what.row.head => Look::Sound,
            Ok(_) => Look::Wrong(FaultKind::Damaged, "it is another segment's".to_owned()),
            Err(e) => self.judge(tier, e),
        }
    }

    /// What was never sealed counts by its fragments.
    fn fragments_of(&self, what: &Subject, reader: SegmentReader) -> Look {
        let mut reader = CheckedReader::new(reader, what.fragments.clone());
        for fragment in what.fragments.iter() {
            if let Err(e) = reader.read(range(fragment)) {
                return judge(e.error);
            }
        }
        Look::Sound
    }

    /// The fragments that are right in none of the copies on `tiers`. Fails when one of these cannot be asked now.
    pub(super) fn unreadable(
        &self,
        what: &Subject,
        tiers: &[Tier],
    ) -> Result<Vec<FragmentEntry>, ArchiveError> {
        let mut left = what.fragments.to_vec();
        for tier in tiers {
            let mut reader = match self.open(what, *tier) {
                Ok(reader) => CheckedReader::new(reader, what.fragments.clone()),
                Err(e) => match self.judge(*tier, e) {
                    Look::Unknown(e) => return Err(e),
                    _ => continue,
                },
            };
            let mut wrong = Vec::new();
            for fragment in left {
                match reader
                    .read(range(&fragment))
                    .map_err(|e| self.judge(*tier, e.error))
                {
                    Ok(_) => {}
                    Err(Look::Unknown(e)) => return Err(e),
                    Err(_) => wrong.push(fragment),
                }
            }
            left = wrong;
        }
        Ok(left)
    }
}

fn range(fragment: &FragmentEntry) -> std::ops::Range<u64> {
    fragment.offset..fragment.offset + u64::from(fragment.len)
}

fn of_length(what: &Subject, len: u64) -> Look {
    let sealed = what.row.state == SegmentState::Sealed;
    if len == what.row.bytes || (!sealed && len > what.row.bytes) {
        return Look::Sound;
    }
    let why = format!("it has {len} bytes where the index says {}", what.row.bytes);
    Look::Wrong(FaultKind::Damaged, why)
}

/// What an error says of the copy, and what of the way to it.
fn judge(e: ArchiveError) -> Look {
    let wrong = match &e {
        ArchiveError::Corrupt { .. } | ArchiveError::Malformed(_) => true,
        ArchiveError::Io { source, .. } => {
            source.kind() == std::io::ErrorKind::UnexpectedEof || source.raw_os_error() == Some(EIO)
        }
        _ => false,
    };
    if wrong {
        Look::Wrong(FaultKind::Damaged, e.to_string())
    } else {
        Look::Unknown(e)
    }
}
