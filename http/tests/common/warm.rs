//! Footage that lies in a store alone.

use std::sync::Arc;

use archive::Tier;
use archive::layout::segment_path;
use archive::store::{Cache, CacheConfig, Objects, Store, StoreConfig, Stores};
use indexer::{Batch, Event, SegmentRow};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::{Service, Site, epoch};

impl Site {
    /// Where the object of a segment lies in the warm store.
    pub fn object(&self, row: &SegmentRow) -> std::path::PathBuf {
        self.dir.path().join("warm").join(self.name(row))
    }

    /// What a segment is called.
    pub fn name(&self, row: &SegmentRow) -> String {
        let stream = self.index.stream_id(row.id.stream).expect("stream");
        segment_path(&stream, &row.name())
    }

    /// Moves a segment from the disk to the warm store; its row as it is then.
    pub fn move_to_warm(&self, row: &SegmentRow) -> SegmentRow {
        let object = self.object(row);
        std::fs::create_dir_all(object.parent().expect("folder")).expect("folder");
        std::fs::rename(self.disk.path(&self.name(row)), object).expect("moved");
        let steps = [
            Event::CopyBegun(Tier::Warm),
            Event::Copied(Tier::Warm),
            Event::DeletionBegun(Tier::Hot),
            Event::Deleted(Tier::Hot),
        ];
        let before = self.index.copies(row).expect("copies");
        let copies = steps
            .iter()
            .try_fold(before, |copies, step| copies.after(*step, epoch()));
        let mut batch = Batch::default();
        batch.copies(row, copies.expect("allowed"));
        self.index.commit(batch).expect("commit");
        self.index.segment(row.id).expect("index").expect("row")
    }

    /// The service with the warm store behind a cache that has so much on the disk, and that store as it reads it.
    pub fn serve_warm(&self, disk: usize) -> (Service, Objects) {
        let runtime = Runtime::new().expect("runtime");
        let config = CacheConfig {
            memory: 64 << 20,
            disk,
            folder: self.dir.path().join("cache"),
        };
        let url = url::Url::from_directory_path(self.dir.path().join("warm")).expect("url");
        let warm = Objects {
            store: Store::open(&StoreConfig::at(url)).expect("store"),
            cache: Some(runtime.block_on(Cache::open(&config)).expect("cache")),
            runtime: runtime.handle().clone(),
            turns: Arc::new(Semaphore::new(4)),
        };
        let stores = Stores {
            warm: Some(warm.clone()),
            cold: None,
        };
        (self.serve_with(runtime, stores, |_| ()), warm)
    }
}
