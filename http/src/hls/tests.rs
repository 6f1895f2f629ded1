use std::collections::BTreeMap;

use archive::{Epoch, FragmentEntry, SegmentId, Sha256, StreamNo, Tier, Timescale, WallTime};
use indexer::{SegmentFragments, SegmentRow, SegmentState};

use super::*;

const SECOND: i64 = 1_000_000;

fn at(seconds: i64) -> WallTime {
    WallTime::from_micros((1_800_000_000 + seconds) * SECOND)
}

fn rtp() -> Timescale {
    Timescale::new(90_000).expect("not zero")
}

fn codecs() -> Codecs {
    [Sha256::of(b"a"), Sha256::of(b"b")]
        .into_iter()
        .map(|hash| (hash, rtp()))
        .collect()
}

fn fragment(from: i64, seconds: i64) -> FragmentEntry {
    FragmentEntry {
        offset: 4096 * (from.unsigned_abs() + 1),
        len: 4000,
        wall_start: at(from),
        wall_duration_us: (seconds * SECOND) as u32,
        media_start: from.unsigned_abs() * 90_000,
        media_duration: (seconds * 90_000) as u32,
        keyframe: true,
        run_start: false,
        activity: 0,
        notes: Vec::new(),
    }
}

fn segment(seq: u64, init: &[u8], fragments: Vec<FragmentEntry>) -> SegmentFragments {
    let (first, last) = (fragments.first().expect("some"), fragments.last().expect("some"));
    let segment = SegmentRow {
        id: SegmentId {
            stream: StreamNo(1),
            seq,
        },
        epoch: Epoch(1),
        wall_start: first.wall_start,
        wall_end: last.wall_end(),
        bytes: last.offset + u64::from(last.len),
        state: SegmentState::Sealed,
        tier: Tier::Hot,
        init: Sha256::of(init),
        head: Sha256::default(),
        fragments: fragments.len() as u32,
        generation: 0,
    };
    SegmentFragments { segment, fragments }
}

fn count(text: &str, tag: &str) -> usize {
    text.lines().filter(|line| line.starts_with(tag)).count()
}

fn value<'a>(text: &'a str, tag: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.strip_prefix(tag))
        .unwrap_or_else(|| panic!("no {tag} in {text}"))
}

#[test]
fn an_uninterrupted_range_is_one_stretch_over_segments() {
    let rows = [
        segment(7, b"a", vec![fragment(0, 2), fragment(2, 2)]),
        segment(8, b"a", vec![fragment(4, 2), fragment(6, 3)]),
    ];
    let text = vod(&rows, &codecs(), 1_500_000);
    assert_eq!(value(&text, "#EXT-X-TARGETDURATION:"), "3");
    assert_eq!(value(&text, "#EXT-X-START:"), "TIME-OFFSET=1.500000,PRECISE=YES");
    assert_eq!(count(&text, "#EXT-X-MAP"), 1);
    assert_eq!(count(&text, "#EXT-X-PROGRAM-DATE-TIME"), 1);
    assert_eq!(count(&text, "#EXT-X-DISCONTINUITY"), 0);
    assert_eq!(count(&text, "#EXT-X-INDEPENDENT-SEGMENTS"), 1);
    assert!(
        text.contains("#EXTINF:2.000000,\n#EXT-X-BYTERANGE:4000@4096\nseg/7.mp4\n"),
        "{text}"
    );
    assert!(text.ends_with("seg/8.mp4\n#EXT-X-ENDLIST\n"), "{text}");
}

#[test]
fn a_gap_a_new_run_and_new_parameters_each_begin_with_a_discontinuity_and_a_date() {
    let mut new_run = fragment(6, 2);
    (new_run.run_start, new_run.media_start) = (true, 0);
    let mut after = fragment(8, 2);
    after.media_start = 2 * 90_000;
    let mut other = fragment(10, 2);
    other.media_start = 4 * 90_000;
    let rows = [
        segment(1, b"a", vec![fragment(0, 2), fragment(4, 2), new_run, after]),
        segment(2, b"b", vec![other]),
    ];
    let text = vod(&rows, &codecs(), 0);
    assert_eq!(count(&text, "#EXT-X-DISCONTINUITY"), 3, "{text}");
    assert_eq!(count(&text, "#EXT-X-PROGRAM-DATE-TIME"), 4);
    assert_eq!(count(&text, "#EXT-X-MAP"), 2);
    let dates: Vec<&str> = text
        .lines()
        .filter(|l| l.starts_with("#EXT-X-PROGRAM-DATE-TIME"))
        .collect();
    assert!(dates[1].ends_with(&at(4).to_string()));
}

#[test]
fn a_date_is_given_again_when_the_wall_clock_was_corrected() {
    let mut entries: Vec<FragmentEntry> = (0..40).map(|n| fragment(n * 2, 2)).collect();
    for (n, entry) in (0i64..).zip(&mut entries) {
        entry.wall_start = entry.wall_start.plus_micros(n * 1000);
    }
    let text = vod(&[segment(1, b"a", entries)], &codecs(), 0);
    assert_eq!(
        (
            count(&text, "#EXT-X-DISCONTINUITY"),
            count(&text, "#EXT-X-PROGRAM-DATE-TIME")
        ),
        (0, 2),
        "{text}"
    );
}

#[test]
fn a_growing_playlist_only_ever_appends() {
    let mut list = EventList::new(at(0));
    let all: Vec<FragmentEntry> = (0..3000).map(|n| fragment(n * 2, 2)).collect();
    let mut before = String::new();
    for upto in [1, 2, 500, 1800, 3000] {
        // Every answer of the index overlaps what is there already.
        list.extend(&[segment(1, b"a", all[..upto].to_vec())], &codecs());
        let text: Vec<u8> = list.pieces().concat();
        let text = String::from_utf8(text).expect("text");
        assert!(
            text.starts_with(&before) && text.len() > before.len(),
            "not a continuation at {upto}"
        );
        assert_eq!(count(&text, "#EXTINF"), upto);
        assert!(!text.contains("ENDLIST") && text.contains("PLAYLIST-TYPE:EVENT"));
        before = text;
    }
    assert_eq!(list.end(), at(6000));
}

#[test]
fn a_growing_playlist_keeps_the_line_of_what_is_found_damaged_and_says_so() {
    let mut list = EventList::new(at(0));
    let all: Vec<FragmentEntry> = (0..3000).map(|n| fragment(n * 2, 2)).collect();
    list.extend(&[segment(1, b"a", all[..2999].to_vec())], &codecs());
    let before = String::from_utf8(list.pieces().concat()).expect("text");
    // Early, in what is sent without a copy; late; and what has no line and gets none.
    for n in [2, 2998, 2999] {
        list.mark(1, all[n].offset);
        list.mark(1, all[n].offset);
    }
    let text = String::from_utf8(list.pieces().concat()).expect("text");
    for n in [2, 2998] {
        let line = format!("#EXTINF:2.000000,\n#EXT-X-BYTERANGE:4000@{}\n", all[n].offset);
        assert!(text.contains(&format!("\n#EXT-X-GAP\n{line}")), "{n}");
    }
    assert_eq!(text.replace("#EXT-X-GAP\n", ""), before);
    assert_eq!(count(&text, "#EXT-X-GAP"), 2);
    let kept: usize = list.pieces().iter().skip(1).map(|piece| piece.len()).sum();
    assert_eq!(list.bytes(), kept);
}

#[test]
fn a_growing_playlist_says_of_every_line_of_a_segment_that_it_is_lost_from_there_on() {
    let mut list = EventList::new(at(0));
    let all: Vec<FragmentEntry> = (0..3000).map(|n| fragment(n * 2, 2)).collect();
    let rows = [(1, &all[..1500]), (2, &all[1500..2990]), (12, &all[2990..])];
    let rows = rows.map(|(seq, part)| segment(seq, b"a", part.to_vec()));
    list.extend(&rows, &codecs());
    let before = String::from_utf8(list.pieces().concat()).expect("text");
    list.mark(2, all[1700].offset);
    list.mark_rest(2, all[1600].offset);
    list.mark_rest(2, all[1600].offset);
    let text = String::from_utf8(list.pieces().concat()).expect("text");
    assert_eq!(count(&text, "#EXT-X-GAP"), 1390, "from 1600 to 2989");
    assert_eq!(text.replace("#EXT-X-GAP\n", ""), before);
    for (n, is_lost) in [
        (1599, false),
        (1600, true),
        (1700, true),
        (2989, true),
        (2990, false),
    ] {
        let line = format!(
            "#EXT-X-GAP\n#EXTINF:2.000000,\n#EXT-X-BYTERANGE:4000@{}\n",
            all[n].offset
        );
        assert_eq!(text.contains(&line), is_lost, "{n}");
    }
    list.mark_rest(12, 0);
    let text = String::from_utf8(list.pieces().concat()).expect("text");
    assert_eq!(count(&text, "#EXT-X-GAP"), 1400);
}

/// What a player remembers of a live playlist: each fragment's number and its discontinuity number.
fn numbered(text: &str) -> BTreeMap<u64, (u64, String)> {
    let mut sequence: u64 = value(text, "#EXT-X-MEDIA-SEQUENCE:").parse().expect("number");
    let mut breaks: u64 = value(text, "#EXT-X-DISCONTINUITY-SEQUENCE:")
        .parse()
        .expect("number");
    let mut all = BTreeMap::new();
    let mut range = "";
    for line in text.lines() {
        if line == "#EXT-X-DISCONTINUITY" {
            breaks += 1;
        } else if let Some(bytes) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            range = bytes;
        } else if !line.starts_with('#') {
            all.insert(sequence, (breaks, format!("{line} {range}")));
            sequence += 1;
        }
    }
    all
}

#[test]
fn numbers_of_a_live_playlist_never_change_their_meaning() {
    let mut window = LiveWindow::default();
    let mut seen: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    let mut runs = 0;
    for n in 0..200i64 {
        let mut entry = fragment(n * 2, 2);
        entry.run_start = n % 17 == 0;
        entry.keyframe = n % 3 != 1 || entry.run_start;
        runs += usize::from(entry.run_start);
        window.extend(vec![segment(n.unsigned_abs() / 50, b"a", vec![entry])], &codecs());
        let Some(text) = window.text() else { continue };
        for (number, what) in numbered(&text) {
            assert_eq!(
                *seen.entry(number).or_insert_with(|| what.clone()),
                what,
                "number {number} at step {n}"
            );
        }
        let shown = count(&text, "#EXTINF");
        assert!(
            (n + 1).min(6) as usize <= shown && shown <= 9,
            "{shown} at step {n}"
        );
    }
    let numbers: Vec<u64> = seen.keys().copied().collect();
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1));
    let places: std::collections::HashSet<&String> = seen.values().map(|(_, place)| place).collect();
    assert_eq!((places.len(), seen.len(), runs), (200, 200, 12));
}

#[test]
fn a_restart_continues_above_what_was_counted_before() {
    let number = |window: &LiveWindow| {
        numbered(&window.text().expect("text"))
            .into_keys()
            .next()
            .expect("some")
    };
    let mut before = LiveWindow::default();
    (0..100).for_each(|n| before.extend(vec![segment(0, b"a", vec![fragment(n * 2, 2)])], &codecs()));
    let mut after = LiveWindow::default();
    (95..100).for_each(|n| after.extend(vec![segment(0, b"a", vec![fragment(n * 2, 2)])], &codecs()));
    assert!(number(&after) > number(&before));
}

#[test]
fn a_live_window_begins_with_a_keyframe() {
    let mut window = LiveWindow::default();
    let mut entry = fragment(0, 2);
    entry.keyframe = false;
    window.extend(vec![segment(0, b"a", vec![entry])], &codecs());
    assert!(window.text().is_none());
}

#[test]
fn variants_name_codecs_size_and_rates_best_first() {
    let variant = |name: &str, height, bps| Variant {
        name: name.to_owned(),
        uri: format!("{name}/media.m3u8?from=1&to=2"),
        codecs: vec!["avc1.4d401f".to_owned(), "mp4a.40.2".to_owned()],
        resolution: Some((height * 16 / 9, height)),
        peak_bps: bps,
        average_bps: bps / 2,
    };
    let text = multivariant(vec![
        variant("sub", 360, 500_000),
        variant("main", 1080, 4_000_000),
    ]);
    let main = "#EXT-X-STREAM-INF:BANDWIDTH=4000000,AVERAGE-BANDWIDTH=2000000,CODECS=\"avc1.4d401f,mp4a.40.2\",\
        RESOLUTION=1920x1080,NAME=\"main\"\nmain/media.m3u8?from=1&to=2\n";
    assert!(
        text.find(main).expect("main") < text.find("sub/media").expect("sub"),
        "{text}"
    );
}

#[test]
fn another_implementation_reads_the_playlists() {
    let rows = [segment(7, b"a", vec![fragment(0, 2), fragment(4, 2)])];
    let text = vod(&rows, &codecs(), 0);
    let (rest, playlist) = m3u8_rs::parse_media_playlist(text.as_bytes()).expect("a media playlist");
    assert!(rest.is_empty());
    assert_eq!(
        (
            playlist.segments.len(),
            playlist.end_list,
            playlist.target_duration
        ),
        (2, true, 2)
    );
    assert!(playlist.segments[1].discontinuity && playlist.segments[1].program_date_time.is_some());
    let range = playlist.segments[0].byte_range.as_ref().expect("a byte range");
    assert_eq!((range.length, range.offset), (4000, Some(4096)));
}
