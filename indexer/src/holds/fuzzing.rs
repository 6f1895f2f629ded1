//! Holds as they come back from the archive, under fuzzing.

use archive::fuzzing::Input;
use archive::{StreamId, WallTime};

use super::view::HoldView;
use super::{HOLDS_FOLDER, Hold, Release, StoredHolds, hold_path};

/// Files of holds one behind the other: of each hold the newest version counts, whatever the order, and can be written,
/// named and released. What is held is in order and without overlap.
pub fn holds(data: &[u8]) {
    let mut input = Input(data);
    let now = WallTime::from_micros(input.i64());
    let files: Vec<&[u8]> = input.rest().split(|byte| *byte == 0).collect();
    let taken = |files: &mut dyn Iterator<Item = &&[u8]>| {
        let mut all = StoredHolds::default();
        for (n, file) in files.enumerate() {
            all.take(format!("{n}"), Ok(file.to_vec()));
        }
        all
    };
    let (all, reversed) = (taken(&mut files.iter()), taken(&mut files.iter().rev()));
    assert_eq!(all.left_out.len(), reversed.left_out.len());
    let versions = |all: &StoredHolds| {
        let versions = all.found.iter().map(|(id, hold)| (id.clone(), hold.version));
        versions.collect::<Vec<_>>()
    };
    assert_eq!(versions(&all), versions(&reversed));
    for hold in all.found.values() {
        check(hold, now);
    }
    let view = HoldView::new(all.found.values().cloned().collect(), 1);
    for hold in all.found.values() {
        let stream = StreamId {
            tenant: Default::default(),
            camera: hold.camera.clone(),
            stream: hold
                .streams
                .first()
                .cloned()
                .unwrap_or_else(|| "main".parse().expect("a name")),
        };
        assert!(hold.covers(&stream));
        let ranges = view.ranges(&stream, now);
        for pair in ranges.windows(2) {
            let [a, b] = pair else { continue };
            assert!(a.to() < b.from(), "what is held overlaps");
        }
        let range = hold.range();
        let is_held = ranges.iter().any(|held| held.intersect(range) == Some(range));
        assert!(
            is_held || range.is_empty() || !hold.is_active(now),
            "a hold holds nothing"
        );
    }
}

fn check(hold: &Hold, now: WallTime) {
    let json = hold.to_json();
    assert_eq!(serde_json::from_slice::<Hold>(&json).ok().as_ref(), Some(hold));
    let path = hold_path(hold);
    let (folder, name) = path.split_once('/').expect("in a folder");
    assert!(folder == HOLDS_FOLDER && !name.starts_with('.') && !name.contains('/'));
    assert!(name.ends_with(".json") && hold.range().from() <= hold.range().to());
    // Of its last version nothing follows, and it is released by then.
    if hold.version == u32::MAX {
        assert!(!hold.is_active(now));
        return;
    }
    let release = Release {
        at: now,
        by: "somebody".to_owned(),
        reason: "over".to_owned(),
    };
    let released = hold.with_release(&release);
    assert!(released.version > hold.version && !released.is_active(now));
    let mut both = StoredHolds::default();
    both.take(path, Ok(json));
    both.take(hold_path(&released), Ok(released.to_json()));
    assert_eq!(
        both.found.into_values().collect::<Vec<_>>(),
        [released],
        "a release was forgotten"
    );
}
