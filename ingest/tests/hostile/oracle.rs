//! What an honest camera sent is on disk, every picture of it.

use archive::segment::SegmentReader;
use archive::{GapCause, TimeRange};
use sha2::{Digest as _, Sha256};
use tierline_ingest::camsim::Camsim;

use crate::site::Site;

/// Pictures that may be under way when recording stops.
const UNDER_WAY: usize = 90;
/// Pictures before the first keyframe.
const BEFORE_KEYFRAME: usize = 130;

/// Fails if a picture of camera `number` of the farm is missing, changed or doubled. Returns how many there
/// are.
pub(crate) fn assert_nothing_lost(site: &Site, farm: &Camsim, number: usize, id: &str) -> usize {
    let no = site.stream(id).expect("a stream");
    let timeline = site.index.timeline(no, TimeRange::ALL).expect("timeline");
    let harmless = |cause| matches!(cause, GapCause::Connecting | GapCause::ServiceStopped);
    assert!(
        timeline.gaps.iter().all(|gap| harmless(gap.cause)),
        "{id}: {timeline:?}"
    );
    assert_eq!(timeline.runs.len(), 1, "{id}: {timeline:?}");
    let kept = kept(site, id);
    let sent: Vec<[u8; 32]> = (farm.logged_frames(number).iter())
        .filter(|frame| frame.viewers > 0)
        .map(|frame| frame.sha256)
        .collect();
    let begin = (0..sent.len()).find(|&at| sent[at..].starts_with(&kept));
    let begin =
        begin.unwrap_or_else(|| panic!("{id}: {} of {} pictures, but others", kept.len(), sent.len()));
    let missing = sent.len() - kept.len() - begin;
    assert!(
        begin <= BEFORE_KEYFRAME,
        "{id}: {begin} pictures at the beginning"
    );
    assert!(missing <= UNDER_WAY, "{id}: {missing} pictures at the end");
    kept.len()
}

/// The hashes of all pictures on disk, in order.
fn kept(site: &Site, id: &str) -> Vec<[u8; 32]> {
    let (no, stream) = site.index.streams_of(&id.parse().expect("id")).remove(0);
    let mut hashes = Vec::new();
    for segment in site.index.fragments(no, TimeRange::ALL).expect("fragments") {
        let path = archive::layout::segment_path(&stream, &segment.segment.name());
        let reader = SegmentReader::open(&site.disk, &path).expect("a segment");
        for entry in &segment.fragments {
            for track in reader.samples(entry).expect("samples") {
                let mut offset = track.data_offset;
                for sample in &track.samples {
                    let bytes = reader.read(offset, sample.size as usize).expect("a sample");
                    hashes.push(Sha256::digest(&bytes).into());
                    offset += u64::from(sample.size);
                }
            }
        }
    }
    hashes
}
