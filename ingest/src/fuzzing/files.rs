//! MP4 files from outside.

use std::io::Cursor;

use archive::fragment::FRAGMENT_BYTES_MAX;
use archive::{TrackKind, WallTime};

use crate::event::Event;
use crate::import::Import;

/// A file is read to its end: what comes out is no more than it has, and every sample is of a track of it.
pub fn import(data: &[u8]) {
    let start = WallTime::from_micros(1_700_000_000_000_000);
    let Ok(mut import) = Import::new(Cursor::new(data), start) else {
        return;
    };
    let kinds: Vec<TrackKind> = import.tracks().iter().map(|t| t.kind).collect();
    assert!(matches!(
        kinds[..],
        [TrackKind::Video] | [TrackKind::Video, TrackKind::Audio]
    ));
    let mut bytes = 0;
    let mut first = true;
    while let Ok(Some(event)) = import.next_event() {
        match event {
            Event::Start { tracks, new_run } => {
                assert!(first && new_run && tracks == import.tracks());
            }
            Event::Sample(sample) => {
                assert!(!first && kinds.contains(&sample.track));
                assert!((1..=FRAGMENT_BYTES_MAX).contains(&sample.data.len()));
                assert!(sample.track == TrackKind::Video || (sample.pts >= 0 && sample.keyframe));
                bytes += sample.data.len();
                assert!(bytes <= data.len(), "more samples than the file has bytes");
            }
            Event::SenderReport(_) => panic!("a file has no sender reports"),
        }
        first = false;
    }
}
