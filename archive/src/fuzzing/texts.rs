//! Numbers, names and quantities.

use super::Input;
use crate::codec::{Decoder, Encoder};
use crate::id::{CameraId, ID_BYTES_MAX, Sha256};
use crate::layout::{parse_segment_path, segment_path};
use crate::time::{TimeRange, Timescale, WallTime};
use crate::units::{format_duration, format_size, parse_duration, parse_size};

/// The decoder of our boxes and rows: never reads over the end, and what it reads can be written again.
pub fn numbers(data: &[u8]) {
    let mut input = Input(data);
    let kinds = input.piece(64);
    let bytes = input.rest();
    let mut d = Decoder(bytes);
    for kind in kinds {
        let left = d.0;
        let mut e = Encoder::default();
        let read = match kind % 11 {
            0 => d.u8().map(|v| e.u8(v)),
            1 => d.u16().map(|v| e.u16(v)),
            2 => d.u32().map(|v| e.u32(v)),
            3 => d.u64().map(|v| e.u64(v)),
            4 => d.i64().map(|v| e.i64(v)),
            5 => d.hash().map(|v| e.hash(&v)),
            6 => d.wall().map(|v| e.wall(v)),
            7 => d.varint().map(|v| e.varint(v)),
            8 => d.varint_u32().map(|v| e.varint(v.into())),
            9 => d.zigzag().map(|v| e.zigzag(v)),
            _ => d.short_str().map(|v| e.short_str(v)),
        };
        if read.is_err() {
            return;
        }
        let taken = left.len() - d.0.len();
        if matches!(kind % 11, 7..=9) {
            // Numbers may come longer than they need be.
            assert!(e.0.len() <= taken && taken <= 10);
        } else {
            assert_eq!(left.get(..taken), Some(&e.0[..]));
        }
    }
}

/// A segment's name that is taken is the one name of that segment.
pub fn layout(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok((stream, name)) = parse_segment_path(text) {
        assert_eq!(segment_path(&stream, &name), text);
        let safe = |part: &str| !part.is_empty() && part != "." && part != "..";
        assert!(text.split('/').all(safe) && text.split('/').count() == 6);
    }
}

/// Ids, times, durations and sizes as people write them.
pub fn texts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(id) = text.parse::<CameraId>() {
        assert_eq!(id.as_str(), text);
        assert!((1..=ID_BYTES_MAX).contains(&text.len()) && !text.contains(['/', '\\', '%']));
    }
    match text.parse::<WallTime>() {
        Ok(at) => {
            assert!((WallTime::MIN..=WallTime::MAX).contains(&at));
            assert_eq!(at.to_string().parse(), Ok(at));
            let range = TimeRange::starting(at, u64::MAX);
            assert!(range.from() == at && range.to() == WallTime::MAX);
            let rtp = Timescale::new(90_000).expect("not zero");
            assert!((rtp.to_micros(rtp.from_micros(at.micros())) - at.micros()).abs() < 12);
        }
        Err(error) => assert!(error.to_string().len() < 700 && error.to_string().is_ascii()),
    }
    if let Ok(duration) = parse_duration(text) {
        assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }
    if let Ok(size) = parse_size(text) {
        assert_eq!(parse_size(&format_size(size)), Ok(size));
    }
    if let Some(hash) = Sha256::from_hex(text) {
        assert!(hash.to_string().eq_ignore_ascii_case(text));
    }
}
