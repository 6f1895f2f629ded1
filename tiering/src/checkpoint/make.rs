//! Makes a checkpoint, and forgets older ones.

use std::fs;
use std::path::Path;

use archive::store::{Content, Objects, PART_BYTES, StoreError};
use archive::{ArchiveError, Sha256, WallTime};
use bytes::Bytes;
use indexer::{Index, IndexError};
use object_store::PutPayload;

use super::manifest::{self, File};
use super::{FOLDER, MANIFEST};

/// Copies `index` into `objects` and keeps the newest `keep` of all that stand there. `work` is a folder on the disk of
/// the index, which is used meanwhile. `go_on` is asked before each file. Returns the bytes that were copied; `None` when
/// it was told to stop. Blocks.
pub fn make(
    index: &Index,
    work: &Path,
    objects: &Objects,
    keep: usize,
    now: WallTime,
    go_on: impl Fn() -> bool,
) -> Result<Option<u64>, IndexError> {
    // What a kill has left.
    match fs::remove_dir_all(work) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    let name = format!("{:010}-{:016}", index.epoch().0, now.micros());
    // Now too: where none comes to its end, each would leave what it had copied.
    tidy(objects, &name, keep);
    let copied = copy(index, work, objects, &name, &go_on);
    let _ = fs::remove_dir_all(work);
    let Some(bytes) = copied? else {
        return Ok(None);
    };
    tidy(objects, &name, keep);
    Ok(Some(bytes))
}

fn tidy(objects: &Objects, newest: &str, keep: usize) {
    if let Err(error) = forget(objects, newest, keep) {
        tracing::warn!(%error, "older checkpoints stay");
    }
}

fn copy(
    index: &Index,
    work: &Path,
    objects: &Objects,
    name: &str,
    go_on: &impl Fn() -> bool,
) -> Result<Option<u64>, IndexError> {
    let mut files = Vec::new();
    for path in index.checkpoint_into(work)? {
        if !go_on() {
            return Ok(None);
        }
        let content = Bytes::from(fs::read(&path)?);
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        files.push(File {
            name: file.to_owned(),
            bytes: content.len() as u64,
            sha256: Sha256::of(&content),
        });
        put(objects, &format!("{FOLDER}/{name}/{file}"), content).map_err(ArchiveError::from)?;
    }
    let manifest = manifest::write(&files);
    put(objects, &format!("{FOLDER}/{name}/{MANIFEST}"), manifest.into()).map_err(ArchiveError::from)?;
    Ok(Some(files.iter().map(|file| file.bytes).sum()))
}

fn put(objects: &Objects, name: &str, content: Bytes) -> Result<(), StoreError> {
    let mut content = Pieces(content.len() as u64, content);
    if objects.runtime.block_on(objects.store.put(name, &mut content))? {
        return Ok(());
    }
    Err(StoreError::Wrong {
        name: name.to_owned(),
        why: "something stands there already".to_owned(),
    })
}

/// Removes checkpoints beyond the newest `keep`, and those before `newest` that never came to their end. A manifest goes
/// first, so that none is taken for whole.
fn forget(objects: &Objects, newest: &str, keep: usize) -> Result<(), StoreError> {
    let mut all = Vec::new();
    for folder in checkpoints(objects)? {
        let manifest = format!("{folder}/{MANIFEST}");
        let is_whole = objects.runtime.block_on(objects.store.stat(&manifest))?.is_some();
        all.push((folder, is_whole));
    }
    all.sort_unstable();
    let mut kept = 0;
    for (folder, is_whole) in all.into_iter().rev() {
        let is_later = folder.as_str() > format!("{FOLDER}/{newest}").as_str();
        if is_later || (is_whole && kept < keep) {
            kept += usize::from(is_whole);
            continue;
        }
        let delete = |name: &str| objects.runtime.block_on(objects.store.delete(name));
        delete(&format!("{folder}/{MANIFEST}"))?;
        let mut names = Vec::new();
        objects.for_each(&folder, |name, _| names.push(name))?;
        names.iter().try_for_each(|name| delete(name))?;
    }
    Ok(())
}

/// The folders of checkpoints, whole or not.
pub(super) fn checkpoints(objects: &Objects) -> Result<Vec<String>, StoreError> {
    let (mut folders, _) = objects.folder(FOLDER)?;
    let is_ours = |folder: &String| {
        let name = folder.rsplit('/').next().unwrap_or_default();
        let digits = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
        name.split_once('-')
            .is_some_and(|(epoch, time)| digits(epoch, 10) && digits(time, 16))
    };
    folders.retain(is_ours);
    Ok(folders)
}

/// The content of a file, and its length.
struct Pieces(u64, Bytes);

impl Content for Pieces {
    fn len(&self) -> u64 {
        self.0
    }

    async fn next(&mut self) -> Result<Option<PutPayload>, StoreError> {
        if self.1.is_empty() {
            return Ok(None);
        }
        let piece = self.1.split_to(self.1.len().min(PART_BYTES));
        Ok(Some(PutPayload::from_bytes(piece)))
    }
}
