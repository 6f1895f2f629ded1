//! The index: opened once for writing, or any number of times for reading.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use archive::seam::{Seam, Step};
use archive::{CameraId, Epoch, InitSegment, Sha256, StreamId, StreamNo, WallTime};
use rocksdb::{ColumnFamily, DB, ReadOptions, WriteBatch, WriteOptions};
use tokio::sync::watch;

use crate::db::{self, CAMERAS, INITS, META, STREAMS};
use crate::error::IndexError;
use crate::holds::HoldView;
use crate::lent::Lent;
use crate::live::{Live, LiveBoard};
use crate::orphans::Orphans;
use crate::pulse::Pulse;
use crate::registry::CameraRow;
use crate::status::{StatusBoard, StreamStatus};
use crate::suspects::Suspects;

/// Init segments kept in memory.
const INITS_MAX: usize = 4096;

/// The version of the rows; a newer one is refused.
const FORMAT: u32 = 2;

/// How the index is opened.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// Memory for blocks that were read; a large index has more, 1/64 of its files and 256 MiB at most.
    pub cache_bytes: usize,
    /// What stands between the index and its disk: nothing but in fault tests.
    pub seam: Seam,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
            seam: Seam::default(),
        }
    }
}

#[derive(Default)]
pub(crate) struct Names {
    pub(crate) by_id: HashMap<StreamId, StreamNo>,
    pub(crate) by_no: HashMap<StreamNo, StreamId>,
}

/// The index. All methods take `&self` and block for microseconds to a few milliseconds.
pub struct Index {
    pub(crate) db: DB,
    pub(crate) epoch: Epoch,
    pub(crate) names: RwLock<Names>,
    pub(crate) live: LiveBoard,
    /// Taken by commits that read before they write.
    pub(crate) writing: Mutex<()>,
    /// Taken, before the other, by those who change what is known of restores.
    pub(crate) restoring: Mutex<()>,
    /// Odd while a segment gives way to a thinner version; counts up when it has.
    pub(crate) replacing: AtomicU64,
    /// The end of the last segment of each stream that gave way to a thinner version.
    pub(crate) replaced: RwLock<HashMap<StreamNo, WallTime>>,
    /// Changed under `writing`, with the table.
    pub(crate) holds: RwLock<HoldView>,
    status: StatusBoard,
    pulse: Pulse,
    suspects: Suspects,
    orphans: Orphans,
    pub(crate) lent: Lent,
    inits: RwLock<HashMap<Sha256, Arc<InitSegment>>>,
    registry: watch::Sender<u64>,
    shed_below: AtomicU8,
    seam: Seam,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("path", &self.db.path())
            .finish_non_exhaustive()
    }
}

impl Index {
    /// Opens the index in `dir` for writing, making it when it is missing. Only one process can.
    /// Begins a new epoch.
    pub fn open(dir: &Path, options: &IndexOptions) -> Result<Self, IndexError> {
        let db = db::open_cached(dir, options.cache_bytes, false)?;
        let mut index = Self::with(db)?;
        index.seam = options.seam.clone();
        index.epoch = Epoch(index.epoch.0 + 1);
        let mut batch = WriteBatch::default();
        batch.put("format", FORMAT.to_be_bytes());
        batch.put("epoch", index.epoch.0.to_be_bytes());
        index.write(batch)?;
        Ok(index)
    }

    /// Opens the index in `dir` as it is now, also while a service writes it.
    pub fn open_read_only(dir: &Path) -> Result<Self, IndexError> {
        let open = || db::open_cached(dir, IndexOptions::default().cache_bytes, true);
        // A service may remove a file between being listed and being opened.
        Self::with(open().or_else(|_| open())?)
    }

    fn with(db: DB) -> Result<Self, IndexError> {
        let mut names = Names::default();
        let meta = |key: &str| -> Result<u32, IndexError> {
            let bytes = db.get(key)?.unwrap_or_default();
            Ok(bytes.try_into().map_or(0, u32::from_be_bytes))
        };
        let (format, epoch) = (meta("format")?, meta("epoch")?);
        if format > FORMAT {
            return Err(IndexError::Version {
                found: format,
                known: FORMAT,
            });
        }
        if let Some(cf) = db.cf_handle(STREAMS) {
            for row in db.iterator_cf(cf, rocksdb::IteratorMode::Start) {
                let (key, value) = row?;
                let bad = |e: String| IndexError::BadRow {
                    table: STREAMS,
                    what: e,
                };
                let no = <[u8; 4]>::try_from(&*key).map_err(|e| bad(e.to_string()))?;
                let no = StreamNo(u32::from_be_bytes(no));
                let id: StreamId = serde_json::from_slice(&value).map_err(|e| bad(e.to_string()))?;
                names.by_id.insert(id.clone(), no);
                names.by_no.insert(no, id);
            }
        }
        let index = Self {
            db,
            epoch: Epoch(epoch),
            names: RwLock::new(names),
            live: LiveBoard::default(),
            writing: Mutex::default(),
            restoring: Mutex::default(),
            replacing: AtomicU64::new(0),
            replaced: RwLock::default(),
            holds: RwLock::default(),
            status: StatusBoard::default(),
            pulse: Pulse::default(),
            suspects: Suspects::default(),
            orphans: Orphans::default(),
            lent: Lent::default(),
            inits: RwLock::default(),
            registry: watch::Sender::default(),
            shed_below: AtomicU8::new(0),
            seam: Seam::default(),
        };
        for (stream, _) in index.streams() {
            if let Some(span) = index.span(stream)? {
                index.live.publish(stream, span.to());
            }
        }
        index.load_holds()?;
        Ok(index)
    }

    pub(crate) fn cf(&self, table: &'static str) -> Result<&ColumnFamily, IndexError> {
        self.db.cf_handle(table).ok_or_else(|| IndexError::BadRow {
            table,
            what: "the table is missing".into(),
        })
    }

    /// One synced write.
    pub(crate) fn write(&self, batch: WriteBatch) -> Result<(), IndexError> {
        let mut o = WriteOptions::default();
        o.set_sync(self.seam.may(Step::Commit, self.db.path())?);
        self.db.write_opt(batch, &o)?;
        self.seam.may(Step::Committed, self.db.path())?;
        Ok(())
    }

    /// Reads every row of every table, whose checksums the database compares as it reads.
    pub(crate) fn read_every_table(&self) -> Result<(), IndexError> {
        for table in db::TABLES {
            let mut o = ReadOptions::default();
            o.fill_cache(false);
            // Rows that a range has deleted are in a file still, and the compaction that drops them reads them first.
            #[expect(deprecated, reason = "this read has to see everything")]
            o.set_ignore_range_deletions(true);
            let mut it = self.db.raw_iterator_cf_opt(self.cf(table)?, o);
            it.seek_to_first();
            while it.valid() {
                it.next();
            }
            it.status()?;
        }
        Ok(())
    }

    /// Which opening of the archive this is.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Makes sure that the next opening outranks `epoch`, which was seen in the media.
    pub(crate) fn raise_epoch(&self, epoch: Epoch) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        batch.put("epoch", self.epoch.max(epoch).0.to_be_bytes());
        self.write(batch)
    }

    /// Every camera, by id, the removed ones too.
    pub fn cameras(&self) -> Result<Vec<CameraRow>, IndexError> {
        let rows = self
            .db
            .iterator_cf(self.cf(CAMERAS)?, rocksdb::IteratorMode::Start);
        rows.map(|row| decode_camera(&row?.1)).collect()
    }

    /// One camera.
    pub fn camera(&self, id: &CameraId) -> Result<Option<CameraRow>, IndexError> {
        let row = self.db.get_pinned_cf(self.cf(CAMERAS)?, id.as_str())?;
        row.map(|row| decode_camera(&row)).transpose()
    }

    /// Adds or replaces a camera; durable when it returns.
    pub fn put_camera(&self, row: &CameraRow) -> Result<(), IndexError> {
        self.put_cameras(std::slice::from_ref(row))
    }

    /// Adds or replaces cameras, all of them or none; durable when it returns.
    pub fn put_cameras(&self, rows: &[CameraRow]) -> Result<(), IndexError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        for row in rows {
            let json = serde_json::to_vec(row).map_err(|e| IndexError::BadRow {
                table: CAMERAS,
                what: e.to_string(),
            })?;
            batch.put_cf(self.cf(CAMERAS)?, row.id.as_str(), json);
        }
        self.write(batch)?;
        self.registry.send_modify(|n| *n += 1);
        Ok(())
    }

    /// Forgets a camera; its footage and its streams stay. False when there is none.
    pub fn delete_camera(&self, id: &CameraId) -> Result<bool, IndexError> {
        if self.camera(id)?.is_none() {
            return Ok(false);
        }
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.cf(CAMERAS)?, id.as_str());
        self.write(batch)?;
        self.registry.send_modify(|n| *n += 1);
        Ok(true)
    }

    /// Changes whenever a camera was added, changed or removed.
    pub fn registry_changed(&self) -> watch::Receiver<u64> {
        self.registry.subscribe()
    }

    /// The number of a stream; a new one when it has none yet. Durable when it returns.
    pub fn ensure_stream(&self, id: &StreamId) -> Result<StreamNo, IndexError> {
        if let Some(no) = self.stream_no(id)? {
            return Ok(no);
        }
        self.ensure_streams([id])?;
        self.stream_no(id)?.ok_or_else(|| IndexError::BadRow {
            table: STREAMS,
            what: format!("{id} has no number"),
        })
    }

    /// Gives a number to each of the streams that has none yet: one synced write for all of them.
    pub fn ensure_streams<'a>(&self, ids: impl IntoIterator<Item = &'a StreamId>) -> Result<(), IndexError> {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = names.by_no.keys().map(|n| n.0 + 1).max().unwrap_or(1);
        let mut new: HashMap<&StreamId, StreamNo> = HashMap::new();
        let mut batch = WriteBatch::default();
        for id in ids {
            if names.by_id.contains_key(id) || new.contains_key(id) {
                continue;
            }
            let json = serde_json::to_vec(id).map_err(|e| IndexError::BadRow {
                table: STREAMS,
                what: e.to_string(),
            })?;
            batch.put_cf(self.cf(STREAMS)?, next.to_be_bytes(), json);
            new.insert(id, StreamNo(next));
            next += 1;
        }
        if new.is_empty() {
            return Ok(());
        }
        self.write(batch)?;
        for (id, no) in new {
            names.by_id.insert(id.clone(), no);
            names.by_no.insert(no, id.clone());
        }
        Ok(())
    }

    /// The number of a stream.
    pub fn stream_no(&self, id: &StreamId) -> Result<Option<StreamNo>, IndexError> {
        Ok(self
            .names
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .by_id
            .get(id)
            .copied())
    }

    /// The name of a stream.
    pub fn stream_id(&self, no: StreamNo) -> Option<StreamId> {
        self.names
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .by_no
            .get(&no)
            .cloned()
    }

    /// Every stream that has a number, by name.
    pub fn streams(&self) -> Vec<(StreamNo, StreamId)> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = names.by_no.iter().map(|(no, id)| (*no, id.clone())).collect();
        all.sort_unstable_by(|a, b| a.1.cmp(&b.1));
        all
    }

    /// The streams of a camera, by name.
    pub fn streams_of(&self, camera: &CameraId) -> Vec<(StreamNo, StreamId)> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let of_camera = names.by_no.iter().filter(|(_, id)| id.camera == *camera);
        let mut all: Vec<_> = of_camera.map(|(no, id)| (*no, id.clone())).collect();
        all.sort_unstable_by(|a, b| a.1.cmp(&b.1));
        all
    }

    /// An init segment by its hash; kept in memory once read.
    pub fn init(&self, hash: &Sha256) -> Result<Option<Arc<InitSegment>>, IndexError> {
        if let Some(init) = self
            .inits
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(hash)
        {
            return Ok(Some(init.clone()));
        }
        let Some(bytes) = self.db.get_cf(self.cf(INITS)?, hash.0)? else {
            return Ok(None);
        };
        let init = InitSegment::parse(bytes.into()).map_err(IndexError::bad_row(INITS))?;
        if init.hash != *hash {
            return Err(IndexError::bad_row(INITS)(archive::Malformed(
                "an init segment is not what its hash says",
            )));
        }
        let init = Arc::new(init);
        let mut known = self.inits.write().unwrap_or_else(PoisonError::into_inner);
        // A camera may change its parameters without end.
        if known.len() >= INITS_MAX {
            known.clear();
        }
        known.insert(*hash, init.clone());
        Ok(Some(init))
    }

    /// How far a stream is durable, now and from now on.
    pub fn live(&self, stream: StreamNo) -> watch::Receiver<Live> {
        self.live.subscribe(stream)
    }

    /// What the stream's session is doing.
    pub fn status(&self, stream: StreamNo) -> StreamStatus {
        self.status.get(stream)
    }

    /// Changes what is known of the stream's session.
    pub fn set_status(&self, stream: StreamNo, change: impl FnOnce(&mut StreamStatus)) {
        self.status.update(stream, change);
    }

    /// How recording keeps up.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Objects of which no row is known.
    pub fn orphans(&self) -> &Orphans {
        &self.orphans
    }

    /// Copies that a reader found wrong.
    pub fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// Cameras of a priority below this are not recorded, because the disk is full; 0 sheds none.
    pub fn shed_below(&self) -> u8 {
        self.shed_below.load(Ordering::Relaxed)
    }

    /// Sets the priority below which cameras are not recorded. In memory only: the disk decides anew.
    pub fn set_shed_below(&self, priority: u8) {
        self.shed_below.store(priority, Ordering::Relaxed);
    }

    /// A time kept under `key` across restarts; durable when set.
    pub fn mark(&self, key: &str) -> Result<Option<WallTime>, IndexError> {
        let bytes = self.db.get_cf(self.cf(META)?, format!("mark.{key}"))?;
        Ok(bytes
            .and_then(|b| b.try_into().ok())
            .map(|b| WallTime::from_micros(i64::from_be_bytes(b))))
    }

    /// Keeps a time under `key`; durable when it returns.
    pub fn set_mark(&self, key: &str, at: WallTime) -> Result<(), IndexError> {
        self.set_marks([(key, at)])
    }

    /// Keeps times under keys: one synced write for all of them.
    pub fn set_marks<'a>(
        &self,
        marks: impl IntoIterator<Item = (&'a str, WallTime)>,
    ) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        for (key, at) in marks {
            batch.put_cf(self.cf(META)?, format!("mark.{key}"), at.micros().to_be_bytes());
        }
        self.write(batch)
    }
}

fn decode_camera(json: &[u8]) -> Result<CameraRow, IndexError> {
    serde_json::from_slice(json).map_err(|e| IndexError::BadRow {
        table: CAMERAS,
        what: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::INCIDENTS;

    #[test]
    fn damage_among_deleted_rows_is_seen_before_a_compaction_stumbles_over_it() {
        let dir = tempfile::tempdir().expect("folder");
        let index = Index::open(dir.path(), &IndexOptions::default()).expect("index");
        let incidents = index.cf(INCIDENTS).expect("table");
        for n in 0..4096_u32 {
            let hash = archive::Sha256::of(&n.to_be_bytes()).0;
            index
                .db
                .put_cf(incidents, n.to_be_bytes(), hash)
                .expect("written");
        }
        index.db.flush_cf(incidents).expect("flushed");
        let files = index.db.live_files().expect("files");
        let rows = files.iter().find(|file| file.column_family_name == INCIDENTS);
        let rows = dir
            .path()
            .join(rows.expect("a file").name.trim_start_matches('/'));
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(incidents, 0_u32.to_be_bytes(), u32::MAX.to_be_bytes());
        index.write(batch).expect("deleted");
        index.db.flush_cf(incidents).expect("flushed");
        drop(index);

        let mut bytes = std::fs::read(&rows).expect("table");
        let open = || Index::open_read_only(dir.path()).expect("index");
        open().read_every_table().expect("sound");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&rows, bytes).expect("written");
        open().read_every_table().expect_err("damaged");

        let index = Index::open(dir.path(), &IndexOptions::default()).expect("index");
        let incidents = index.cf(INCIDENTS).expect("table");
        index.db.compact_range_cf(incidents, None::<&[u8]>, None::<&[u8]>);
        index
            .set_mark("any", WallTime::MIN)
            .expect_err("nothing is written beside damage");
    }
}
