//! Keys sort by stream, then by wall start, so that one seek finds a time and one scan a range.

use archive::{SegmentId, StreamNo, WallTime};

/// `stream (4) | wall time in microseconds (8)`, big-endian. Wall times are never negative.
pub(crate) fn at(stream: StreamNo, wall: WallTime) -> [u8; 12] {
    let mut key = [0; 12];
    let (s, t) = key.split_at_mut(4);
    s.copy_from_slice(&stream.0.to_be_bytes());
    t.copy_from_slice(&wall.micros().to_be_bytes());
    key
}

/// Reads [`at`].
pub(crate) fn parse_at(key: &[u8]) -> Option<(StreamNo, WallTime)> {
    let (s, t) = key.split_first_chunk::<4>()?;
    let t: [u8; 8] = t.try_into().ok()?;
    Some((
        StreamNo(u32::from_be_bytes(*s)),
        WallTime::from_micros(i64::from_be_bytes(t)),
    ))
}

/// `stream (4) | sequence (8)`.
pub(crate) fn sequence(id: SegmentId) -> [u8; 12] {
    let mut key = [0; 12];
    let (s, q) = key.split_at_mut(4);
    s.copy_from_slice(&id.stream.0.to_be_bytes());
    q.copy_from_slice(&id.seq.to_be_bytes());
    key
}
