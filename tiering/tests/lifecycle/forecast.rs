//! A look ahead counts the footage that is there, whatever has become of it, and says what it comes to.

use std::sync::Arc;
use std::time::Duration;

use archive::{StreamNo, Tier, WallTime};
use indexer::{Batch, Ends, Event, Forecast};
use tierline_tiering::{Below, Outlook, Progress, RetentionRule, Rules, TieringConfig};

use crate::archive_of_segments::{Archive, ample, keep_minutes, minute};
use crate::holds::hold;

struct Looking<'a> {
    archive: &'a Archive,
    outlook: Outlook,
    monotonic_us: u64,
}

impl<'a> Looking<'a> {
    fn new(archive: &'a Archive, rule: RetentionRule, below: Below) -> Self {
        let rules = Rules::with_tiers(vec![rule], below).expect("sound");
        let config = TieringConfig {
            interval: Duration::from_secs(1),
            ..ample()
        };
        Self {
            archive,
            outlook: Outlook::new(archive.index.clone(), rules, config),
            monotonic_us: 0,
        }
    }

    /// With a terabyte of disk, half of it free.
    fn at(&mut self, now: WallTime) -> Arc<Forecast> {
        self.monotonic_us += 60_000_000;
        let progress = Progress {
            total_bytes: 1_000_000_000_000,
            free_bytes: 500_000_000_000,
            archive_time: now,
            ..Progress::default()
        };
        self.outlook.look(&progress, self.monotonic_us).expect("look");
        self.archive.index.pulse().forecast().expect("a forecast")
    }
}

fn bytes(archive: &Archive, stream: StreamNo) -> u64 {
    archive.rows(stream).iter().map(|row| row.bytes).sum()
}

#[test]
fn it_counts_what_is_there_and_reckons_with_the_rate_of_the_last_day() {
    let archive = Archive::new();
    let stream = archive.camera("lobby", 5);
    archive.record_many(stream, 0..12);
    let mut looking = Looking::new(&archive, keep_minutes(180), Below::default());
    let told = looking.at(minute(120));
    let lobby = &told.streams[0];
    let all = bytes(&archive, stream);
    assert!(told.complete && lobby.recorded);
    assert_eq!((lobby.bytes.hot, lobby.bytes.warm, lobby.bytes.cold), (all, 0, 0));
    assert_eq!((told.disk.footage_bytes, lobby.oldest), (all, Some(minute(0))));
    // Two hours of it.
    assert_eq!(lobby.bitrate_bps, (all as f64 / 7200.0 * 8.0).round() as u64);
    assert_eq!(
        (lobby.days_held, lobby.days_will_hold),
        (Some(0.083), Some(0.125))
    );
    // The first segment goes three hours after its end.
    assert_eq!((told.next[0].until, told.next[0].at), (minute(10), minute(190)));
    assert_eq!(
        (told.next[0].reason, told.next[0].bytes),
        (Ends::Age, archive.rows(stream)[0].bytes)
    );

    // What is being recorded counts, and not twice when it is sealed.
    archive.begin(stream, minute(120), 10, 60_000);
    let open = bytes(&archive, stream);
    assert!(open > all);
    assert_eq!(looking.at(minute(130)).disk.footage_bytes, open);

    // What was deleted does not.
    let mut reaper = archive.reaper(keep_minutes(60), ample());
    reaper.pass(minute(120), 0).expect("pass");
    assert_eq!(archive.rows(stream).len(), 7);
    let told = looking.at(minute(131));
    assert_eq!(
        (told.disk.footage_bytes, told.streams[0].oldest),
        (bytes(&archive, stream), Some(minute(60)))
    );
}

#[test]
fn footage_counts_on_the_tiers_where_it_lies() {
    let archive = Archive::new();
    let stream = archive.camera("lobby", 5);
    archive.record_many(stream, 0..18);
    let below = Below {
        warm: true,
        cold: true,
    };
    let rule = RetentionRule {
        hot: Some(Duration::from_secs(3600)),
        warm: Some(Duration::from_secs(7200)),
        ..RetentionRule::default()
    };
    let mut looking = Looking::new(&archive, rule, below);
    // The first hour is on the cold tier, the second on the warm one, and the third is on the disk and the warm one.
    for (i, row) in archive.rows(stream).into_iter().enumerate() {
        let mut events = vec![Event::CopyBegun(Tier::Warm), Event::Copied(Tier::Warm)];
        if i < 12 {
            events.extend([Event::DeletionBegun(Tier::Hot), Event::Deleted(Tier::Hot)]);
        }
        if i < 6 {
            events.extend([Event::CopyBegun(Tier::Cold), Event::Copied(Tier::Cold)]);
            events.extend([Event::DeletionBegun(Tier::Warm), Event::Deleted(Tier::Warm)]);
        }
        let mut copies = archive.index.copies(&row).expect("copies");
        for event in events {
            copies = copies.after(event, minute(180)).expect("allowed");
        }
        let mut batch = Batch::default();
        batch.copies(&row, copies);
        archive.index.commit(batch).expect("commit");
    }
    let told = looking.at(minute(180));
    let of = |range: std::ops::Range<usize>| {
        archive.rows(stream)[range]
            .iter()
            .map(|row| row.bytes)
            .sum::<u64>()
    };
    let bytes = told.streams[0].bytes;
    assert_eq!(
        (bytes.hot, bytes.warm, bytes.cold),
        (of(12..18), of(6..18), of(0..6))
    );
    assert_eq!(
        told.tiers.iter().map(|t| t.bytes).collect::<Vec<_>>(),
        [of(6..18), of(0..6)]
    );
    assert_eq!(told.rules[0].bytes, of(0..18));
    // Two hours of it on the warm tier in the end, and on the cold one without end.
    let balance = told.tiers[0].balance_bytes.expect("an end");
    assert!(balance.abs_diff(of(0..12)) < 10, "{balance} is not {}", of(0..12));
    assert_eq!(told.tiers[1].balance_bytes, None);
}

#[test]
fn what_is_held_is_not_told_to_go_and_uses_no_quota() {
    let archive = Archive::new();
    let stream = archive.camera("lobby", 5);
    archive.record_many(stream, 0..12);
    let held = hold("case", "lobby", minute(0), minute(5));
    archive.index.put_hold(&held).expect("hold");
    let rows = archive.rows(stream);
    let rule = RetentionRule {
        quota: Some(bytes(&archive, stream) - rows[0].bytes),
        ..RetentionRule::default()
    };
    let mut looking = Looking::new(&archive, rule, Below::default());
    let told = looking.at(minute(120));
    // What is not held uses it up to the last byte.
    assert_eq!((told.next[0].until, told.next[0].at), (minute(20), minute(120)));
    assert_eq!(told.next[0].reason, Ends::Quota);
    let mut reaper = archive.reaper(keep_minutes(60), ample());
    while reaper.pass(minute(300), 0).expect("pass") {}
    assert_eq!(archive.rows(stream), rows[..1]);
    assert_eq!(looking.at(minute(300)).next, []);
}

#[test]
fn it_looks_when_it_is_time_to_and_not_before_there_is_something_to_say() {
    let archive = Archive::new();
    archive.camera("lobby", 5);
    let mut looking = Looking::new(&archive, keep_minutes(60), Below::default());
    looking.outlook.look(&Progress::default(), 0).expect("look");
    assert!(
        archive.index.pulse().forecast().is_none(),
        "no pass has been made"
    );
    assert_eq!(looking.at(minute(0)).at, minute(0));
    let soon = Progress {
        total_bytes: 1,
        archive_time: minute(1),
        ..Progress::default()
    };
    looking
        .outlook
        .look(&soon, looking.monotonic_us + 5_000_000)
        .expect("look");
    assert_eq!(
        archive.index.pulse().forecast().expect("the old one").at,
        minute(0)
    );
}
