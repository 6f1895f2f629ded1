//! What is fuzzed of this crate, all that clients send and what is written from damaged rows: see
//! `archive::fuzzing`.

use std::time::Duration;

use archive::destination::{Destination, destination};
use archive::fuzzing::{Input, Target};
use archive::{Epoch, FragmentEntry, SegmentId, Sha256, StreamNo, Tier, Timescale, WallTime};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use indexer::{SegmentFragments, SegmentRow, SegmentState};

use crate::auth::{Glob, fuzzing as auth};
use crate::byte_range::{Wanted, wanted};
use crate::camera_url;
use crate::hls::{Codecs, EventList, LiveWindow, Variant, multivariant, vod};
use crate::keyframe::from_keyframe;
use crate::query::Query;
use crate::routes::fuzzing as routes;

/// The parsers of this crate.
pub const TARGETS: &[Target] = &[
    Target::new("byte_range", byte_range),
    Target::new("camera_json", routes::camera_json),
    Target::new("camera_url", camera_urls),
    Target::new("credentials", credentials),
    Target::new("glob", glob),
    Target::new("playlists", playlists),
    Target::new("query", query),
];

pub use crate::routes::fuzzing::camera_json;

/// The `Range` header: what is taken lies within what there is.
pub fn byte_range(data: &[u8]) {
    let mut input = Input(data);
    let len = input.skewed();
    let Ok(text) = std::str::from_utf8(input.rest()) else {
        return;
    };
    if let Wanted::Part(part) = wanted(Some(text), len) {
        assert!(part.start < part.end && part.end <= len);
    }
}

/// Queries: what is taken is a range within its bound.
pub fn query(data: &[u8]) {
    let Ok(uri) = [b"/x?", data].concat().as_slice().try_into() as Result<Uri, _> else {
        return;
    };
    let max = Duration::from_secs(86_400);
    let Ok(query) = Query::parse(&uri, &["from", "to", "stream", "at"]) else {
        return;
    };
    if let Ok(range) = query.range(max) {
        assert!(!range.is_empty() && range.from() < range.to());
        assert!(u128::from(range.micros()) <= max.as_micros());
    }
    for name in ["stream", "at", "none"] {
        let _ = (query.get(name), query.time(name));
    }
}

/// The headers by which a caller is known: no bytes but a key's own make someone its holder.
pub fn credentials(data: &[u8]) {
    let mut input = Input(data);
    let method = match input.u8() % 4 {
        0 => Method::GET,
        1 => Method::POST,
        2 => Method::DELETE,
        _ => Method::PATCH,
    };
    let mut headers = HeaderMap::new();
    const NAMES: [&str; 6] = [
        "authorization",
        "x-api-key",
        "host",
        "origin",
        "sec-fetch-site",
        "cookie",
    ];
    while !input.is_empty() && headers.len() < 16 {
        let name = NAMES.get(usize::from(input.u8()) % NAMES.len()).copied();
        let name = HeaderName::from_static(name.unwrap_or("cookie"));
        if let Ok(value) = HeaderValue::from_bytes(input.piece(700)) {
            headers.append(name, value);
        }
    }
    auth::judge(&method, &headers);
}

/// A camera's URL: what is taken is RTSP, to a place that may be a camera's, and reads back.
pub fn camera_urls(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match camera_url::parse(text) {
        Ok(url) => {
            assert!(url.scheme() == "rtsp" && url.host_str().is_some_and(|h| !h.is_empty()));
            assert_ne!(destination(&url), Destination::Forbidden);
            let again = camera_url::parse(url.as_str()).expect("reads back");
            assert_eq!(destination(&again), destination(&url));
        }
        Err(what) => assert!(what.len() < 200),
    }
}

/// Globs: quick whatever they are, and each matches itself.
pub fn glob(data: &[u8]) {
    let mut input = Input(data);
    let pattern = String::from_utf8_lossy(input.piece(200)).into_owned();
    let text = String::from_utf8_lossy(input.rest()).into_owned();
    let glob = Glob::from(pattern.clone());
    assert!(glob.matches(&pattern));
    let matched = glob.matches(&text);
    assert!(matched || !glob.is_everything());
    if !pattern.contains(['*', '?']) {
        assert_eq!(matched, pattern == text);
    }
}

/// Playlists of rows that contradict themselves: every line has its fragment, and numbers only grow.
pub fn playlists(data: &[u8]) {
    let mut input = Input(data);
    let mut codecs = Codecs::new();
    for n in 0..2u8 {
        let ticks = if input.u8() & 1 == 0 { 90_000 } else { input.u32() };
        codecs.extend(Timescale::new(ticks).map(|t| (Sha256([n; 32]), t)));
    }
    let start_us = input.skewed_signed();
    let (mut live, mut event) = (LiveWindow::default(), EventList::new(WallTime::MIN));
    let (mut all, mut last_sequence) = (Vec::new(), 0);
    let (mut known, mut seq) = (0, 0);
    while !input.is_empty() && known < 200 {
        let rows = vec![row(&mut input, &mut seq, all.last())];
        known += rows.iter().map(|r| r.fragments.len()).sum::<usize>();
        event.extend(&rows, &codecs);
        if live.is_stale(rows.iter().map(|r| r.segment.wall_end).max().unwrap_or_default()) {
            live.clear();
            last_sequence = 0;
        }
        live.extend(rows.clone(), &codecs);
        if let Some(text) = live.text() {
            check(&text, &codecs);
            let number = number_behind(&text, "#EXT-X-MEDIA-SEQUENCE:");
            assert!(number >= last_sequence, "a live playlist went back");
            last_sequence = number;
        }
        all.extend(rows);
    }
    event.start_at(start_us);
    let text: Vec<u8> = event.pieces().concat();
    check(std::str::from_utf8(&text).expect("a text"), &codecs);
    let text = vod(&all, &codecs, start_us);
    let lines = check(&text, &codecs);
    let with_codec = all.iter().filter(|r| codecs.contains_key(&r.segment.init));
    assert_eq!(lines, with_codec.map(|r| r.fragments.len()).sum::<usize>());
    let segments: Vec<SegmentRow> = all.iter().map(|r| r.segment.clone()).collect();
    let variant = Variant::new("main".into(), "main.m3u8".into(), &segments, &[]);
    assert!(multivariant(vec![variant]).starts_with("#EXTM3U\n"));
    let before: usize = all.iter().map(|r| r.fragments.len()).sum();
    from_keyframe(&mut all, WallTime::from_micros(1_700_000_000_000_000));
    let first = all.first().and_then(|r| r.fragments.first());
    assert!(first.is_none_or(|e| e.keyframe));
    assert!(all.iter().map(|r| r.fragments.len()).sum::<usize>() <= before);
}

fn number_behind(text: &str, tag: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(tag)).expect("the tag");
    line.parse().expect("a number")
}

/// How many fragments a playlist has. None lasts longer than it promises.
fn check(text: &str, codecs: &Codecs) -> usize {
    assert!(text.starts_with("#EXTM3U\n") && text.ends_with('\n'));
    let target = number_behind(text, "#EXT-X-TARGETDURATION:");
    let mut fragments = 0;
    let mut has_map = false;
    for line in text.lines() {
        if let Some(map) = line.strip_prefix("#EXT-X-MAP:URI=\"init/") {
            let hash = map.strip_suffix(".mp4\"").and_then(Sha256::from_hex);
            assert!(hash.is_some_and(|hash| codecs.contains_key(&hash)));
            has_map = true;
        }
        if let Some(duration) = line.strip_prefix("#EXTINF:") {
            let (seconds, micros) = duration.trim_end_matches(',').split_once('.').expect("a point");
            let seconds: u64 = seconds.parse().expect("a number");
            let half = micros.parse::<u64>().expect("a number") >= 500_000;
            assert!(micros.len() == 6 && seconds + u64::from(half) <= target);
            assert!(has_map, "a fragment before its init segment");
            fragments += 1;
        }
    }
    fragments
}

fn row(input: &mut Input<'_>, seq: &mut u64, last: Option<&SegmentFragments>) -> SegmentFragments {
    let shape = input.u8();
    *seq = if shape & 1 == 0 {
        seq.saturating_add(1)
    } else {
        input.skewed()
    };
    let last = last.and_then(|row| row.fragments.last());
    let mut at = last.map_or(
        WallTime::from_micros(1_700_000_000_000_000),
        FragmentEntry::wall_end,
    );
    let mut media = last.map_or(0, |e| e.media_start.wrapping_add(e.media_duration.into()));
    let mut offset = 4096u64;
    let mut fragments = Vec::new();
    for _ in 0..input.u8() % 12 {
        let wild = input.u8();
        if wild & 1 != 0 {
            at = at.plus_micros(input.skewed_signed());
        }
        if wild & 2 != 0 {
            media = input.skewed();
        }
        let entry = FragmentEntry {
            offset,
            len: input.u32(),
            wall_start: at,
            wall_duration_us: if wild & 4 == 0 { 2_000_000 } else { input.u32() },
            media_start: media,
            media_duration: if wild & 8 == 0 { 180_000 } else { input.u32() },
            keyframe: wild & 16 == 0,
            run_start: wild & 32 != 0,
            activity: 0,
            notes: Vec::new(),
        };
        at = entry.wall_end();
        media = media.wrapping_add(entry.media_duration.into());
        offset = offset.saturating_add(entry.len.into());
        fragments.push(entry);
    }
    let wild_end = WallTime::from_micros(input.skewed_signed());
    let segment = SegmentRow {
        id: SegmentId {
            stream: StreamNo(1),
            seq: *seq,
        },
        epoch: Epoch(1),
        wall_start: fragments.first().map_or(at, |e| e.wall_start),
        wall_end: if shape & 2 == 0 { at } else { wild_end },
        bytes: if shape & 4 == 0 { offset } else { input.u64() },
        state: SegmentState::Sealed,
        tier: Tier::Hot,
        init: Sha256([shape >> 6; 32]),
        head: Sha256::default(),
        fragments: fragments.len() as u32,
        generation: 0,
    };
    SegmentFragments { segment, fragments }
}

#[cfg(test)]
#[test]
fn the_inputs_that_are_kept_and_mutations_of_them_break_nothing() {
    archive::fuzzing::replay(TARGETS);
}
