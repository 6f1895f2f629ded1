//! Whether an index and a folder of footage belong together: guards against a disk that is not mounted, and
//! against the wrong one.
//!
//! An archive has a random id, which stands in its data directory and in the folder of its hot tier.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use archive::Sha256;

/// The file with the id in the data directory.
pub(crate) const ID_FILE: &str = "archive-id";
/// The file with the id in the folder of the hot tier.
pub(crate) use archive::layout::MARKER;
/// Random bytes in an id.
const ID_BYTES: usize = 16;

/// What the index is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum IndexFound {
    /// There is none.
    Missing,
    /// It knows no footage.
    Empty,
    /// It knows footage.
    WithFootage,
}

/// What was found where the archive should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) index: IndexFound,
    /// The id in the data directory.
    pub(crate) data_id: Option<String>,
    /// The id in the folder of the hot tier.
    pub(crate) hot_id: Option<String>,
    /// Whether anything else stands in that folder.
    pub(crate) hot_has_footage: bool,
}

/// Why an archive is not opened.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// The index knows footage and the hot tier is not there.
    HotMissing,
    /// Two archives.
    Swapped,
    /// There is footage and no index.
    IndexMissing,
    /// There was an archive, and neither its index nor its footage is there.
    BothMissing,
}

/// Decides whether what was found is one archive. The answer is its id, a new one where there is none yet.
pub(crate) fn judge(found: &Found, new_id: impl FnOnce() -> String) -> Result<String, Refusal> {
    match (&found.data_id, &found.hot_id) {
        (Some(data), Some(hot)) if data != hot => return Err(Refusal::Swapped),
        (_, None) if found.index == IndexFound::WithFootage => return Err(Refusal::HotMissing),
        _ => {}
    }
    if found.index == IndexFound::Missing {
        if found.hot_has_footage {
            return Err(Refusal::IndexMissing);
        }
        // The id is written into the data directory last, when the index is there.
        if found.data_id.is_some() {
            return Err(Refusal::BothMissing);
        }
    }
    Ok(found
        .data_id
        .clone()
        .or_else(|| found.hot_id.clone())
        .unwrap_or_else(new_id))
}

impl Refusal {
    /// What is wrong and what to do.
    pub(crate) fn explain(self, data_dir: &Path, hot: &Path) -> String {
        let (data, hot, id) = (data_dir.display(), hot.display(), data_dir.join(ID_FILE));
        let id = id.display();
        match self {
            Self::HotMissing => format!(
                "the index in {data} knows footage, but {hot} is not the folder that it lies in: it has no `{MARKER}` \
                 file. Mount the disk, or correct tiers.hot.url. If the footage is lost for good, run \
                 `cp {id} {hot}/{MARKER}` and start again; `tierline check` then names what is missing"
            ),
            Self::Swapped => format!(
                "{hot} holds the footage of another archive than the index in {data}: `{MARKER}` there and `{id}` \
                 differ. Mount the right disks, or correct data_dir and tiers.hot.url"
            ),
            Self::IndexMissing => format!(
                "{hot} holds footage, but {data} has no index. Mount the disk of the index or correct data_dir; if \
                 the index is lost, make it anew with `tierline rebuild --config FILE --into {data}/index`"
            ),
            Self::BothMissing => format!(
                "{data} belonged to an archive, but neither its index nor its footage is there. Mount the disks; to \
                 begin a new archive, remove {id}"
            ),
        }
    }
}

/// A new id.
pub(crate) fn new_id() -> io::Result<String> {
    let mut bytes = [0; ID_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Sha256::of(&bytes)
        .to_string()
        .chars()
        .take(2 * ID_BYTES)
        .collect())
}

/// Reads an id; `None` when the file is not there.
pub(crate) fn read_id(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes an id; whole or not at all, and durable when it returns.
pub(crate) fn write_id(path: &Path, id: &str) -> io::Result<()> {
    let aside: PathBuf = path.with_extension("new");
    let mut file = File::create(&aside)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(index: IndexFound, data: Option<&str>, hot: Option<&str>, footage: bool) -> Found {
        Found {
            index,
            data_id: data.map(Into::into),
            hot_id: hot.map(Into::into),
            hot_has_footage: footage,
        }
    }

    fn judged(found: &Found) -> Result<String, Refusal> {
        judge(found, || "new".to_owned())
    }

    #[test]
    fn an_empty_place_becomes_a_new_archive_also_after_a_crash_in_between() {
        use IndexFound::{Empty, Missing};
        assert_eq!(judged(&found(Missing, None, None, false)).as_deref(), Ok("new"));
        assert_eq!(
            judged(&found(Missing, None, Some("a"), false)).as_deref(),
            Ok("a")
        );
        assert_eq!(judged(&found(Empty, None, Some("a"), false)).as_deref(), Ok("a"));
        assert_eq!(judged(&found(Empty, Some("a"), None, false)).as_deref(), Ok("a"));
    }

    #[test]
    fn an_archive_whose_parts_belong_together_is_opened() {
        for footage in [false, true] {
            let whole = found(IndexFound::WithFootage, Some("a"), Some("a"), footage);
            assert_eq!(judged(&whole).as_deref(), Ok("a"));
        }
    }

    #[test]
    fn a_disk_that_is_not_mounted_and_a_wrong_one_are_refused() {
        use IndexFound::{Empty, Missing, WithFootage};
        for (index, data, hot, footage, refusal) in [
            (WithFootage, Some("a"), None, false, Refusal::HotMissing),
            (WithFootage, Some("a"), Some("b"), true, Refusal::Swapped),
            (Empty, Some("a"), Some("b"), false, Refusal::Swapped),
            (Missing, None, Some("a"), true, Refusal::IndexMissing),
            (Missing, Some("a"), Some("a"), true, Refusal::IndexMissing),
            (Missing, None, None, true, Refusal::IndexMissing),
            (Missing, Some("a"), None, false, Refusal::BothMissing),
        ] {
            assert_eq!(judged(&found(index, data, hot, footage)), Err(refusal));
        }
    }
}
