//! A copy of the index as it is at one instant, without what must not leave the machine.

use std::fs;
use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{Cache, WriteOptions};

use crate::db::{self, CAMERAS};
use crate::error::IndexError;
use crate::index::Index;
use crate::registry::{CameraRow, SecretUrl};

/// What the copy is opened with while credentials are taken out of it.
const CACHE_BYTES: usize = 1 << 20;

impl Index {
    /// Copies the index into the folder `dir`, which must not be there, on the same disk: files are shared with it. The
    /// passwords of cameras are left out, and so is everything else in their URLs by which somebody could reach them.
    /// Returns the files that belong to the copy.
    pub fn checkpoint_into(&self, dir: &Path) -> Result<Vec<PathBuf>, IndexError> {
        Checkpoint::new(&self.db)?.create_checkpoint(dir)?;
        let cameras = self.cameras()?.into_iter().map(without_credentials);
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let mut copy = db::open(dir, &cache, false)?;
        // With its table go the files in which rows of cameras ever stood.
        copy.drop_cf(CAMERAS)?;
        db::make_table(&mut copy, &cache, CAMERAS)?;
        let mut o = WriteOptions::default();
        o.disable_wal(true);
        let missing = || IndexError::BadRow {
            table: CAMERAS,
            what: "the table is missing".into(),
        };
        for row in cameras {
            let json = serde_json::to_vec(&row).map_err(|e| IndexError::BadRow {
                table: CAMERAS,
                what: e.to_string(),
            })?;
            let table = copy.cf_handle(CAMERAS).ok_or_else(missing)?;
            copy.put_cf_opt(table, row.id.as_str(), json, &o)?;
        }
        for table in db::TABLES {
            copy.flush_cf(copy.cf_handle(table).ok_or_else(missing)?)?;
        }
        let mut files: Vec<PathBuf> = copy
            .live_files()?
            .into_iter()
            .map(|file| dir.join(file.name.trim_start_matches('/')))
            .collect();
        drop(copy);
        // Nothing stands in its logs that is not in these.
        let current = fs::read_to_string(dir.join("CURRENT"))?;
        files.extend([dir.join(current.trim()), dir.join("CURRENT")]);
        Ok(files)
    }
}

fn without_credentials(mut row: CameraRow) -> CameraRow {
    for stream in &mut row.streams {
        stream.url = SecretUrl::new(stream.url.redacted());
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IndexOptions, StreamConfig, Transport};
    use archive::WallTime;

    fn camera(url: &str) -> CameraRow {
        CameraRow {
            id: "lobby".parse().expect("id"),
            name: "Lobby".into(),
            streams: vec![StreamConfig {
                name: "main".parse().expect("name"),
                url: SecretUrl::new(url.parse().expect("url")),
                transport: Transport::Tcp,
                enabled: true,
            }],
            priority: 5,
            created: WallTime::MIN,
            removed: None,
            from_config: false,
        }
    }

    #[test]
    fn the_copy_knows_cameras_and_none_of_their_passwords() {
        let dir = tempfile::tempdir().expect("folder");
        let index = Index::open(&dir.path().join("index"), &IndexOptions::default()).expect("index");
        index
            .put_camera(&camera("rtsp://root:old-password@camera.test/"))
            .expect("camera");
        index
            .db
            .flush_cf(index.cf(CAMERAS).expect("table"))
            .expect("flush");
        index
            .put_camera(&camera("rtsp://root:hunter2@camera.test/live?token=geheim"))
            .expect("camera");
        let files = index
            .checkpoint_into(&dir.path().join("copy"))
            .expect("checkpoint");
        let moved = dir.path().join("moved");
        fs::create_dir(&moved).expect("folder");
        for file in &files {
            let bytes = fs::read(file).expect("file");
            for secret in ["hunter2", "old-password", "geheim"] {
                let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!found, "{secret} in {}", file.display());
            }
            fs::copy(file, moved.join(file.file_name().expect("name"))).expect("copy");
        }
        // What stood in the index itself is where it was.
        assert_eq!(index.cameras().expect("cameras").len(), 1);
        let copy = Index::open_read_only(&moved).expect("the files are all that it takes");
        let cameras = copy.cameras().expect("cameras");
        assert_eq!(cameras[0].name, "Lobby");
        assert_eq!(
            cameras[0].streams[0].url.expose().as_str(),
            "rtsp://camera.test/live"
        );
    }
}
