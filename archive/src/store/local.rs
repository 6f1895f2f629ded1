//! A folder as a store: another disk, or a share that is mounted.

use std::path::Path as FilePath;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};

use super::error::StoreError;
use super::upload::Content;

/// Files appear under their names whole and synced, or not at all.
#[derive(Clone, Debug)]
pub(super) struct Folder(Arc<LocalFileSystem>);

impl Folder {
    pub(super) fn open(root: &FilePath) -> Result<Self, StoreError> {
        let refused = |why: String| StoreError::Refused {
            what: format!("open the folder {}", root.display()),
            why,
        };
        // The folders above it are missing when its disk is not mounted.
        match std::fs::create_dir(root) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(refused(
                    "the folder above it is not there: mount its disk, or make it".to_owned(),
                ));
            }
            made => made.map_err(|e| refused(e.to_string()))?,
        }
        let objects = LocalFileSystem::new_with_prefix(root).map_err(|e| refused(e.to_string()))?;
        Ok(Self(Arc::new(
            objects.with_fsync(true).with_automatic_cleanup(true),
        )))
    }

    pub(super) fn objects(&self) -> &dyn ObjectStore {
        &*self.0
    }

    /// Only one process writes to a folder, so that looking first is enough.
    pub(super) async fn put(&self, path: &Path, content: &mut impl Content) -> Result<bool, StoreError> {
        let failed = |e| StoreError::of("write", path.as_ref(), e);
        match self.0.head(path).await {
            Ok(_) => return Ok(false),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(e) => return Err(failed(e)),
        }
        let mut upload = self.0.put_multipart(path).await.map_err(failed)?;
        let written = async {
            while let Some(part) = content.next().await? {
                upload.put_part(part).await.map_err(failed)?;
            }
            upload.complete().await.map_err(failed)
        };
        let written = written.await;
        if written.is_err() {
            let _ = upload.abort().await;
        }
        written.map(|_| true)
    }
}
