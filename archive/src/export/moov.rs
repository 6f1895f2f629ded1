//! Everything in front of the media: `ftyp`, `moov`, and the head of the `mdat`.

use bytes::Bytes;

use super::tables::Tables;
use crate::mp4::{BoxWriter, VIDEO_TRACK_ID};
use crate::time::{SECOND_US, Timescale, WallTime};

/// Seconds from 1904, where the clock of MP4 begins, to 1970.
const EPOCH_1904_S: u64 = 2_082_844_800;
/// More than all boxes without the tables need.
const BOXES_BYTES_MAX: usize = 1 << 20;

/// One entry of an edit list.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Edit {
    /// In ticks of the movie.
    pub(super) duration: u64,
    /// In ticks of the track; `None` shows nothing.
    pub(super) media_time: Option<i64>,
}

/// One track, ready to be written.
#[derive(Debug)]
pub(super) struct TrackLayout<'a> {
    pub(super) id: u32,
    pub(super) timescale: Option<Timescale>,
    pub(super) sample_entries: &'a [&'a Bytes],
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) tables: &'a Tables,
    /// What all composition offsets are raised by.
    pub(super) delay: i64,
    pub(super) edits: Vec<Edit>,
}

/// The whole movie.
#[derive(Debug)]
pub(super) struct Movie<'a> {
    pub(super) timescale: Timescale,
    pub(super) created: WallTime,
    /// In ticks of the movie.
    pub(super) duration: u64,
    pub(super) tracks: &'a [TrackLayout<'a>],
    pub(super) comment: &'a str,
    /// How long the content of the `mdat` is.
    pub(super) content_len: u64,
}

/// Where `stco` or `co64` entries stand that count from the content of the `mdat` so far.
struct Unplaced {
    at: usize,
    count: usize,
    wide: bool,
}

/// The bytes from the beginning of the file to the content of the `mdat`.
pub(super) fn head(movie: &Movie<'_>) -> Vec<u8> {
    let tables: usize = movie.tracks.iter().map(|t| table_bytes_max(t.tables)).sum();
    let head_max = (tables + BOXES_BYTES_MAX) as u64;
    let wide = movie.content_len + head_max > u64::from(u32::MAX);
    let mut w = BoxWriter(Vec::with_capacity(tables + (16 << 10)));
    w.boxed(b"ftyp", |w| w.bytes(b"isom\0\0\x02\0isomiso2mp41"));
    let mut unplaced = Vec::new();
    w.boxed(b"moov", |w| {
        mvhd(w, movie);
        for track in movie.tracks {
            trak(w, movie, track, wide, &mut unplaced);
        }
        udta(w, movie.comment);
    });
    match u32::try_from(movie.content_len + 8) {
        Ok(size) => {
            w.u32(size);
            w.bytes(b"mdat");
        }
        Err(_) => {
            w.u32(1);
            w.bytes(b"mdat");
            w.u64(movie.content_len + 16);
        }
    }
    let mut head = w.0;
    let content_at = head.len() as u64;
    for table in unplaced {
        place(&mut head, &table, content_at);
    }
    head
}

fn table_bytes_max(t: &Tables) -> usize {
    8 * (t.durations.len() + t.compositions.len() + t.stretches.len())
        + 4 * (t.sizes.len() + t.keyframes.len())
        + 12 * t.per_stretch.len()
}

/// Adds `by` to the offsets of a table.
fn place(head: &mut [u8], table: &Unplaced, by: u64) {
    let width = if table.wide { 8 } else { 4 };
    let entries = head
        .get_mut(table.at..table.at + table.count * width)
        .unwrap_or_default();
    for entry in entries.chunks_exact_mut(width) {
        let at = entry.iter().fold(0, |at, byte| at << 8 | u64::from(*byte)) + by;
        entry.copy_from_slice(&at.to_be_bytes()[8 - width..]);
    }
}

/// Begins a full box in the version that its times and durations need: 32 bits where they fit, since some
/// readers know no other.
fn timed(
    w: &mut BoxWriter,
    kind: &[u8; 4],
    flags: u32,
    values: [u64; 2],
    content: impl FnOnce(&mut BoxWriter, &dyn Fn(&mut BoxWriter, u64)),
) {
    let version = u8::from(values.iter().any(|v| *v > u32::MAX.into()));
    w.full(kind, version, flags, |w| {
        content(w, &|w, v| if version == 1 { w.u64(v) } else { w.u32(v as u32) });
    });
}

fn created(movie: &Movie<'_>) -> u64 {
    movie.created.micros().div_euclid(SECOND_US).unsigned_abs() + EPOCH_1904_S
}

fn mvhd(w: &mut BoxWriter, movie: &Movie<'_>) {
    let created = created(movie);
    timed(w, b"mvhd", 0, [created, movie.duration], |w, wide| {
        wide(w, created);
        wide(w, created);
        w.u32(movie.timescale.get());
        wide(w, movie.duration);
        w.u32(0x1_0000);
        w.u16(0x0100);
        w.zeros(10);
        w.unity_matrix();
        w.zeros(24);
        w.u32(movie.tracks.iter().map(|t| t.id).max().unwrap_or(0) + 1);
    });
}

fn trak(
    w: &mut BoxWriter,
    movie: &Movie<'_>,
    track: &TrackLayout<'_>,
    wide: bool,
    unplaced: &mut Vec<Unplaced>,
) {
    let video = track.id == VIDEO_TRACK_ID;
    let created = created(movie);
    let duration: u64 = track.edits.iter().map(|e| e.duration).sum();
    w.boxed(b"trak", |w| {
        timed(w, b"tkhd", 3, [created, duration], |w, wide| {
            wide(w, created);
            wide(w, created);
            w.u32(track.id);
            w.u32(0);
            wide(w, duration);
            w.zeros(12);
            w.u16(if video { 0 } else { 0x0100 });
            w.u16(0);
            w.unity_matrix();
            w.u32(u32::from(track.width) << 16);
            w.u32(u32::from(track.height) << 16);
        });
        w.boxed(b"edts", |w| elst(w, &track.edits));
        w.boxed(b"mdia", |w| {
            timed(w, b"mdhd", 0, [created, track.tables.duration], |w, wide| {
                wide(w, created);
                wide(w, created);
                w.u32(track.timescale.map_or(1, Timescale::get));
                wide(w, track.tables.duration);
                w.u16(0x55c4); // "und"
                w.u16(0);
            });
            w.full(b"hdlr", 0, 0, |w| {
                w.u32(0);
                w.bytes(if video { b"vide" } else { b"soun" });
                w.zeros(12);
                w.bytes(if video { b"Video\0" } else { b"Audio\0" });
            });
            w.boxed(b"minf", |w| {
                if video {
                    w.full(b"vmhd", 0, 1, |w| w.zeros(8));
                } else {
                    w.full(b"smhd", 0, 0, |w| w.zeros(4));
                }
                w.boxed(b"dinf", |w| {
                    w.full(b"dref", 0, 0, |w| {
                        w.u32(1);
                        w.full(b"url ", 0, 1, |_| {});
                    });
                });
                w.boxed(b"stbl", |w| stbl(w, track, wide, unplaced));
            });
        });
    });
}

fn elst(w: &mut BoxWriter, edits: &[Edit]) {
    let fits =
        |e: &Edit| u32::try_from(e.duration).is_ok() && i32::try_from(e.media_time.unwrap_or(-1)).is_ok();
    let version = u8::from(!edits.iter().all(fits));
    w.full(b"elst", version, 0, |w| {
        w.u32(edits.len() as u32);
        for edit in edits {
            let media_time = edit.media_time.unwrap_or(-1);
            if version == 1 {
                w.u64(edit.duration);
                w.u64(media_time as u64);
            } else {
                w.u32(edit.duration as u32);
                w.u32(media_time as u32);
            }
            w.u32(0x1_0000);
        }
    });
}

fn stbl(w: &mut BoxWriter, track: &TrackLayout<'_>, wide: bool, unplaced: &mut Vec<Unplaced>) {
    let t = track.tables;
    w.full(b"stsd", 0, 0, |w| {
        w.u32(track.sample_entries.len() as u32);
        track.sample_entries.iter().for_each(|e| w.bytes(e));
    });
    w.full(b"stts", 0, 0, |w| {
        w.u32(t.durations.len() as u32);
        for (count, ticks) in &t.durations {
            w.u32(*count);
            w.u32(*ticks);
        }
    });
    if track.delay != 0 || t.compositions.iter().any(|(_, offset)| *offset != 0) {
        w.full(b"ctts", 0, 0, |w| {
            w.u32(t.compositions.len() as u32);
            for (count, offset) in &t.compositions {
                w.u32(*count);
                w.u32((i64::from(*offset) + track.delay) as u32);
            }
        });
    }
    if t.keyframes.len() < t.sizes.len() {
        w.full(b"stss", 0, 0, |w| {
            w.u32(t.keyframes.len() as u32);
            t.keyframes.iter().for_each(|number| w.u32(*number));
        });
    }
    w.full(b"stsc", 0, 0, |w| {
        w.u32(t.per_stretch.len() as u32);
        for (first, samples, sample_entry) in &t.per_stretch {
            w.u32(*first);
            w.u32(*samples);
            w.u32(*sample_entry);
        }
    });
    w.full(b"stsz", 0, 0, |w| {
        let first = t.sizes.first().copied().unwrap_or(0);
        let uniform = first != 0 && t.sizes.iter().all(|size| *size == first);
        w.u32(if uniform { first } else { 0 });
        w.u32(t.sizes.len() as u32);
        if !uniform {
            t.sizes.iter().for_each(|size| w.u32(*size));
        }
    });
    w.full(if wide { b"co64" } else { b"stco" }, 0, 0, |w| {
        w.u32(t.stretches.len() as u32);
        unplaced.push(Unplaced {
            at: w.0.len(),
            count: t.stretches.len(),
            wide,
        });
        for at in &t.stretches {
            if wide { w.u64(*at) } else { w.u32(*at as u32) }
        }
    });
}

/// The comment, where both Apple's and FFmpeg's readers look for it.
fn udta(w: &mut BoxWriter, comment: &str) {
    let text = |w: &mut BoxWriter, kind: &[u8; 4], text: &str| {
        w.boxed(kind, |w| {
            w.full(b"data", 0, 1, |w| {
                w.u32(0);
                w.bytes(text.as_bytes());
            });
        });
    };
    w.boxed(b"udta", |w| {
        w.full(b"meta", 0, 0, |w| {
            w.full(b"hdlr", 0, 0, |w| {
                w.u32(0);
                w.bytes(b"mdirappl");
                w.zeros(9);
            });
            w.boxed(b"ilst", |w| {
                text(w, b"\xa9too", "Tierline");
                text(w, b"\xa9cmt", comment);
            });
        });
    });
}
