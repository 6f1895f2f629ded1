//! A folder as a tier below the disk.

use std::path::Path;
use std::sync::Arc;

use archive::store::{Objects, Store, StoreConfig, Stores};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::report::Failure;

/// The folder `dir` as the warm tier, the only one.
pub(crate) fn warm(dir: &Path, runtime: &Runtime) -> Result<Stores, Failure> {
    let url = url::Url::from_directory_path(dir).map_err(|()| "not a folder")?;
    let warm = Objects {
        store: Store::open(&StoreConfig::at(url))?,
        cache: None,
        runtime: runtime.handle().clone(),
        turns: Arc::new(Semaphore::new(4)),
    };
    Ok(Stores {
        warm: Some(warm),
        cold: None,
    })
}
