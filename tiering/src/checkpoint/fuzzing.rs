//! Manifests of checkpoints under fuzzing.

use archive::fuzzing::Input;

use super::manifest::{read, write};

/// What is taken is, to the byte, what we would write, and names files in one folder alone. Of a manifest with damage done
/// to it nothing is taken.
pub fn manifest(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.u8();
    let Ok(text) = std::str::from_utf8(input.rest()) else {
        return;
    };
    let whole = match kind % 3 {
        0 => text.to_owned(),
        1 => super::manifest::sealed(text.to_owned()),
        _ => return of_ours(text.as_bytes()),
    };
    let Some(files) = read(&whole) else { return };
    assert_eq!(write(&files), whole);
    for file in &files {
        assert!((1..=64).contains(&file.name.len()) && !file.name.starts_with('.'));
        assert!(!file.name.contains(['/', '\\', '\0']));
    }
}

fn of_ours(data: &[u8]) {
    let file = |name: &str, bytes| super::manifest::File {
        name: name.to_owned(),
        bytes,
        sha256: archive::Sha256::of(name.as_bytes()),
    };
    let files = [
        file("000012.sst", 70_000),
        file("MANIFEST-000004", 300),
        file("CURRENT", 16),
    ];
    let whole = write(&files);
    assert_eq!(read(&whole).as_deref(), Some(&files[..]));
    let mut input = Input(data);
    let mut damaged = whole.clone().into_bytes();
    let (from, len) = (usize::from(input.u8()), usize::from(input.u8()));
    let from = from % damaged.len();
    let to = (from + len).min(damaged.len());
    damaged.splice(from..to, input.rest().iter().copied());
    let Ok(damaged) = String::from_utf8(damaged) else {
        return;
    };
    assert!(
        damaged == whole || read(&damaged).is_none(),
        "a damaged manifest was taken: {damaged}"
    );
}
