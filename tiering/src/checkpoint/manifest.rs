//! The manifest of a checkpoint: a line for what it is, one for each file, and one with the SHA-256 of all before it.

use archive::Sha256;

const FIRST: &str = "tierline checkpoint 1";
/// More files are none of ours.
const FILES_MAX: usize = 100_000;
/// And no larger manifest.
pub(super) const BYTES_MAX: u64 = 16 << 20;

/// A file of a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sha256: Sha256,
}

pub(super) fn write(files: &[File]) -> String {
    let mut text = format!("{FIRST}\n");
    for File { name, bytes, sha256 } in files {
        text += &format!("{sha256} {bytes} {name}\n");
    }
    sealed(text)
}

/// With the last line: without it a manifest that lost some lines would be one of fewer files.
pub(super) fn sealed(mut text: String) -> String {
    let sha256 = Sha256::of(text.as_bytes());
    text += &format!("{sha256}\n");
    text
}

/// Reads what [`write`] wrote, to the byte; `None` for anything else. A name is that of a file in one folder.
pub(super) fn read(text: &str) -> Option<Vec<File>> {
    let (lines, _) = text.strip_suffix('\n')?.rsplit_once('\n')?;
    let mut files = Vec::new();
    for line in lines.strip_prefix(FIRST)?.split('\n').skip(1) {
        let mut fields = line.splitn(3, ' ');
        let sha256 = Sha256::from_hex(fields.next()?)?;
        let bytes = fields.next()?.parse().ok()?;
        let name = fields.next()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_name =
            !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.chars().all(plain);
        if !is_name || files.len() == FILES_MAX {
            return None;
        }
        files.push(File {
            name: name.to_owned(),
            bytes,
            sha256,
        });
    }
    // What else would be read the same was written by nobody of ours.
    (!files.is_empty() && write(&files) == text).then_some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_reads_back_and_names_no_file_elsewhere() {
        let file = |name: &str| File {
            name: name.to_owned(),
            bytes: 12,
            sha256: Sha256::of(name.as_bytes()),
        };
        let files = [file("000012.sst"), file("CURRENT")];
        assert_eq!(read(&write(&files)).as_deref(), Some(&files[..]));
        for bad in ["../000012.sst", "a/b", ".hidden", "", "a b"] {
            assert_eq!(read(&write(&[file(bad)])), None, "{bad}");
        }
        let text = write(&files);
        assert_eq!(read(text.trim_end()), None, "cut off");
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for n in 0..lines.len() {
            let fewer: String = (lines.iter().enumerate().filter(|(i, _)| *i != n))
                .map(|(_, line)| *line)
                .collect();
            assert_eq!(read(&fewer), None, "without line {n}");
            assert_eq!(read(&lines[..n].concat()), None, "{n} lines");
        }
        let other = text.replacen("checkpoint 1", "checkpoint 10", 1);
        assert_eq!(read(&other), None, "of another format");
        assert_eq!(read(""), None);
        assert_eq!(read(&write(&[])), None);
    }
}
