//! The one place that knows file and object names, both ways:
//! `<tenant>/<camera>/<stream>/<YYYYMMDD>/<HH>/<MM-SS>Z.<sequence>.<epoch>.mp4`, and `….t<generation>.mp4` for what
//! thinning has made of it.

use crate::error::Malformed;
use crate::id::{Epoch, StreamId};
use crate::time::WallTime;

/// Stands at the root of every tier and says whose it is: where it is not, the disk is not mounted, or it is another
/// place.
pub const MARKER: &str = ".tierline";

/// What a segment is called, apart from its stream.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct SegmentName {
    /// When it begins; the name keeps whole seconds.
    pub start: WallTime,
    /// Its place among the segments of its stream.
    pub seq: u64,
    /// Which opening of the archive wrote it.
    pub epoch: Epoch,
    /// How often it was thinned; 0 as it was recorded.
    pub generation: u8,
}

/// The folder of a stream, relative to its store's root.
pub fn stream_dir(stream: &StreamId) -> String {
    format!("{}/{}/{}", stream.tenant, stream.camera, stream.stream)
}

/// Reads a name that [`stream_dir`] made.
pub fn parse_stream_dir(folder: &str) -> Result<StreamId, Malformed> {
    const BAD: Malformed = Malformed("not the folder of a stream");
    let mut parts = folder.split('/');
    let mut next = || parts.next().ok_or(BAD);
    let stream = StreamId {
        tenant: next()?.parse().map_err(|_| BAD)?,
        camera: next()?.parse().map_err(|_| BAD)?,
        stream: next()?.parse().map_err(|_| BAD)?,
    };
    if parts.next().is_some() || stream_dir(&stream) != folder {
        return Err(BAD);
    }
    Ok(stream)
}

/// `<YYYYMMDD>/<HH>` of the UTC hour of `at`.
pub fn hour_dir(at: WallTime) -> String {
    let [y, mo, d, h, ..] = parts(at);
    format!("{y:04}{mo:02}{d:02}/{h:02}")
}

/// The name of a segment, relative to its store's root.
pub fn segment_path(stream: &StreamId, name: &SegmentName) -> String {
    let [.., mi, s] = parts(name.start);
    let (dir, hour) = (stream_dir(stream), hour_dir(name.start));
    let generation = match name.generation {
        0 => String::new(),
        n => format!(".t{n}"),
    };
    format!(
        "{dir}/{hour}/{mi:02}-{s:02}Z.{}.{}{generation}.mp4",
        name.seq, name.epoch.0
    )
}

/// Where the outline of a segment stands in the store that has the segment.
pub fn outline_path(segment: &str) -> String {
    format!(".index/{segment}.footer")
}

/// Reads a name that [`segment_path`] made. The start comes back in whole seconds.
pub fn parse_segment_path(path: &str) -> Result<(StreamId, SegmentName), Malformed> {
    const BAD: Malformed = Malformed("not a segment name");
    let mut parts = path.split('/');
    let mut next = || parts.next().ok_or(BAD);
    let (tenant, camera, stream) = (next()?, next()?, next()?);
    let (day, hour, file) = (next()?, next()?, next()?);
    if parts.next().is_some() {
        return Err(BAD);
    }
    let stream = StreamId {
        tenant: tenant.parse().map_err(|_| BAD)?,
        camera: camera.parse().map_err(|_| BAD)?,
        stream: stream.parse().map_err(|_| BAD)?,
    };
    let mut fields = file.strip_suffix(".mp4").ok_or(BAD)?.split('.');
    let mut field = || fields.next().ok_or(BAD);
    let clock = field()?.strip_suffix('Z').ok_or(BAD)?;
    let (minute, second) = clock.split_once('-').ok_or(BAD)?;
    let seq = number(field()?)?;
    let epoch = Epoch(u32::try_from(number(field()?)?).map_err(|_| BAD)?);
    let generation = match fields.next() {
        None => 0,
        Some(text) => text.strip_prefix('t').and_then(|n| n.parse().ok()).ok_or(BAD)?,
    };
    if fields.next().is_some() || day.len() != 8 || !day.is_ascii() {
        return Err(BAD);
    }
    let (year, rest) = day.split_at(4);
    let (month, dom) = rest.split_at(2);
    let start = format!("{year}-{month}-{dom}T{hour}:{minute}:{second}Z")
        .parse()
        .map_err(|_| BAD)?;
    let name = SegmentName {
        start,
        seq,
        epoch,
        generation,
    };
    // One name for one segment: a text that would be written otherwise is none of ours.
    if segment_path(&stream, &name) == path {
        Ok((stream, name))
    } else {
        Err(BAD)
    }
}

fn number(text: &str) -> Result<u64, Malformed> {
    text.parse()
        .map_err(|_| Malformed("not a number in a segment name"))
}

/// Year, month, day, hour, minute, second of `at` in UTC.
fn parts(at: WallTime) -> [i32; 6] {
    let stamp = jiff::Timestamp::from_microsecond(at.micros()).unwrap_or_default();
    let t = jiff::tz::Offset::UTC.to_datetime(stamp);
    let [mo, d, h, mi, s] = [t.month(), t.day(), t.hour(), t.minute(), t.second()].map(i32::from);
    [i32::from(t.year()), mo, d, h, mi, s]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lobby() -> StreamId {
        StreamId {
            tenant: Default::default(),
            camera: "lobby".parse().expect("id"),
            stream: "main".parse().expect("id"),
        }
    }

    #[test]
    fn a_segment_is_named_by_its_utc_start_its_sequence_and_its_epoch() {
        let start = "2026-11-20T23:05:09.7Z".parse().expect("time");
        let path = segment_path(
            &lobby(),
            &SegmentName {
                start,
                seq: 42,
                epoch: Epoch(3),
                generation: 0,
            },
        );
        assert_eq!(path, "default/lobby/main/20261120/23/05-09Z.42.3.mp4");
    }

    #[test]
    fn what_was_thinned_stands_right_behind_its_original() {
        let start = "2026-11-20T23:05:09Z".parse().expect("time");
        let path = |seq, generation| {
            let epoch = Epoch(3);
            let name = SegmentName {
                start,
                seq,
                epoch,
                generation,
            };
            segment_path(&lobby(), &name)
        };
        assert_eq!(path(42, 1), "default/lobby/main/20261120/23/05-09Z.42.3.t1.mp4");
        let mut names = [path(43, 0), path(42, 1), path(42, 0)];
        names.sort_unstable();
        assert_eq!(names, [path(42, 0), path(42, 1), path(43, 0)]);
    }

    #[test]
    fn other_names_are_refused() {
        for bad in [
            "default/lobby/main/20261120/23/05-09Z.42.3.mp4/x",
            "default/lobby/main/20261120/23/05-09Z.042.3.mp4",
            "default/lobby/main/20261120/24/05-09Z.42.3.mp4",
            "default/lobby/main/20261120/23/05-09Z.42.mp4",
            "default/lobby/main/20261120/23/05-09Z.42.3.t0.mp4",
            "default/lobby/main/20261120/23/05-09Z.42.3.t01.mp4",
            "default/lobby/main/20261120/23/05-09Z.42.3.1.mp4",
            "default/lobby/main/20261120/23/05-09Z.42.3.t1.t1.mp4",
            "default/../main/20261120/23/05-09Z.42.3.mp4",
            "default/lobby/main/2026é120/23/05-09Z.42.3.mp4",
            "",
        ] {
            assert!(parse_segment_path(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn names_read_back(micros in 0i64..253_402_207_200_000_000, seq in any::<u64>(), epoch in any::<u32>(), generation: u8) {
            let start = WallTime::from_micros(micros - micros % 1_000_000);
            let name = SegmentName { start, seq, epoch: Epoch(epoch), generation };
            prop_assert_eq!(parse_segment_path(&segment_path(&lobby(), &name)), Ok((lobby(), name)));
        }
    }
}
