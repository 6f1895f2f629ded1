//! Brings the cameras of the configuration file into the index.

use std::collections::BTreeMap;

use archive::WallTime;
use indexer::{CameraRow, Index, IndexError};

use crate::config::CameraConfig;

/// Which rows to write so that the index has the cameras of the file. Those that left the file are marked as
/// removed; those added over the API stay as they are, unless the file has their id: then the file rules.
fn changes(known: &[CameraRow], file: &[CameraConfig], now: WallTime) -> Vec<CameraRow> {
    let wanted = file.iter().map(|camera| {
        let before = known.iter().find(|row| row.id == camera.id);
        CameraRow {
            id: camera.id.clone(),
            name: camera.name.clone().unwrap_or_else(|| camera.id.to_string()),
            streams: camera.streams.clone(),
            priority: camera.priority,
            created: before.map_or(now, |row| row.created),
            removed: None,
            from_config: true,
        }
    });
    let changed = wanted.filter(|row| !known.contains(row));
    let left = known
        .iter()
        .filter(|row| row.from_config && file.iter().all(|camera| camera.id != row.id));
    // No longer the file's: it may come back over the API.
    let left = left.map(|row| CameraRow {
        removed: row.removed.or(Some(now)),
        from_config: false,
        ..row.clone()
    });
    changed.chain(left).collect()
}

/// The cameras that there will be when those of the file have been written into an index that knows `known`.
pub(crate) fn enrolled(known: &[CameraRow], file: &[CameraConfig], now: WallTime) -> Vec<CameraRow> {
    let mut all: BTreeMap<_, _> = known.iter().map(|row| (row.id.clone(), row.clone())).collect();
    all.extend(
        changes(known, file, now)
            .into_iter()
            .map(|row| (row.id.clone(), row)),
    );
    all.into_values().collect()
}

/// Writes the cameras of the file into the index; durable when it returns.
pub(crate) fn enrol(index: &Index, file: &[CameraConfig], now: WallTime) -> Result<(), IndexError> {
    let changes = changes(&index.cameras()?, file, now);
    for row in &changes {
        let verb = if row.removed.is_some() {
            "left the configuration, its footage stays"
        } else {
            "configured"
        };
        tracing::info!(camera = %row.id, "camera {verb}");
    }
    index.put_cameras(&changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_micros(seconds * 1_000_000)
    }

    fn camera(id: &str) -> CameraConfig {
        CameraConfig {
            id: id.parse().expect("id"),
            name: None,
            priority: 5,
            streams: Vec::new(),
        }
    }

    #[test]
    fn a_camera_of_the_file_is_written_once_and_keeps_when_it_was_added() {
        let first = changes(&[], &[camera("lobby")], at(1));
        assert_eq!(first.len(), 1);
        assert!(first[0].from_config && first[0].name == "lobby" && first[0].created == at(1));
        assert_eq!(changes(&first, &[camera("lobby")], at(2)), []);
        let renamed = CameraConfig {
            name: Some("Lobby".to_owned()),
            ..camera("lobby")
        };
        let second = changes(&first, &[renamed], at(2));
        assert_eq!(
            (second.len(), second[0].name.as_str(), second[0].created),
            (1, "Lobby", at(1))
        );
    }

    #[test]
    fn a_camera_that_leaves_the_file_is_removed_once_and_comes_back_when_the_file_has_it_again() {
        let known = changes(&[], &[camera("lobby")], at(1));
        let left = changes(&known, &[], at(2));
        assert_eq!((left[0].removed, left[0].from_config), (Some(at(2)), false));
        assert_eq!(changes(&left, &[], at(3)), []);
        let back = changes(&left, &[camera("lobby")], at(4));
        assert_eq!((back[0].removed, back[0].created), (None, at(1)));
    }

    #[test]
    fn a_camera_added_over_the_api_stays_until_the_file_takes_its_id() {
        let mut api = changes(&[], &[camera("gate")], at(1));
        api[0].from_config = false;
        assert_eq!(changes(&api, &[], at(2)), []);
        assert!(changes(&api, &[camera("gate")], at(2))[0].from_config);
    }
}
