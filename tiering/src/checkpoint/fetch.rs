//! Fetches the newest checkpoint that is whole.

use std::fs;
use std::io::Write;
use std::path::Path;

use archive::Sha256;
use archive::store::{Objects, READ_BYTES_MAX, StoreError};

use super::MANIFEST;
use super::make::checkpoints;
use super::manifest::{self, BYTES_MAX, File};

/// Fetches the newest checkpoint of which every byte is as it was put there into the folder `into`, which must be there
/// and empty. Returns its name; `None` when there is none. Blocks.
pub fn fetch(objects: &Objects, into: &Path) -> Result<Option<String>, StoreError> {
    let mut folders = checkpoints(objects)?;
    folders.sort_unstable();
    for folder in folders.into_iter().rev() {
        match fetch_one(objects, &folder, into) {
            Ok(true) => return Ok(Some(folder)),
            Ok(false) => {}
            // An older one will do, but not because the store is away.
            Err(error) if error.is_passing() => return Err(error),
            Err(error) => tracing::warn!(folder, %error, "a checkpoint cannot be used"),
        }
        for entry in fs::read_dir(into).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(None)
}

/// False when it never came to its end.
fn fetch_one(objects: &Objects, folder: &str, into: &Path) -> Result<bool, StoreError> {
    let name = format!("{folder}/{MANIFEST}");
    let Some(there) = objects.runtime.block_on(objects.store.stat(&name))? else {
        return Ok(false);
    };
    let wrong = |why: &str| StoreError::Wrong {
        name: name.clone(),
        why: why.to_owned(),
    };
    if there.len > BYTES_MAX {
        return Err(wrong("it is too large"));
    }
    let mut text = Vec::new();
    read(objects, &name, there.len, |piece| {
        text.extend_from_slice(piece);
        Ok(())
    })?;
    let text = String::from_utf8(text).map_err(|_| wrong("it is no text"))?;
    let files = manifest::read(&text).ok_or_else(|| wrong("it is no manifest"))?;
    for file in &files {
        fetch_file(objects, folder, file, into)?;
    }
    Ok(true)
}

fn fetch_file(objects: &Objects, folder: &str, file: &File, into: &Path) -> Result<(), StoreError> {
    let name = format!("{folder}/{}", file.name);
    let local = |e: std::io::Error| StoreError::Refused {
        what: format!("write {}", into.join(&file.name).display()),
        why: e.to_string(),
    };
    let mut out = fs::File::create(into.join(&file.name)).map_err(local)?;
    let mut content = Vec::new();
    read(objects, &name, file.bytes, |piece| {
        content.extend_from_slice(piece);
        out.write_all(piece).map_err(local)
    })?;
    if Sha256::of(&content) == file.sha256 {
        return Ok(());
    }
    Err(StoreError::Wrong {
        name,
        why: "its SHA-256 is not that of the manifest".to_owned(),
    })
}

fn read(
    objects: &Objects,
    name: &str,
    len: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut at = 0;
    while at < len {
        let end = (at + READ_BYTES_MAX).min(len);
        take(&objects.runtime.block_on(objects.store.read(name, at..end))?)?;
        at = end;
    }
    Ok(())
}
