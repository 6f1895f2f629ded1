//! A store whose lists are old: whatever they leave out or still tell, nobody is blamed and nothing is touched for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use archive::TimeRange;
use archive::layout::{MARKER, stream_dir};
use indexer::{Scrubbed, rebuild};
use tierline_tiering::{Below, Reaper, RetentionRule, Rules};

use crate::archive_of_segments::{Archive, MINUTE_US, key, minute, quick, wait_until};
use crate::proxy::Fault;
use crate::real_servers::{Site, days, settle};
use crate::servers::{BUCKET, Kind};

/// All that the server has on its own disk of a bucket, and when it wrote that.
fn written(site: &Site) -> BTreeMap<PathBuf, SystemTime> {
    fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, SystemTime>) {
        for entry in std::fs::read_dir(folder).expect("folder") {
            let (path, about) = entry.and_then(|e| Ok((e.path(), e.metadata()?))).expect("entry");
            match about.is_dir() {
                true => walk(&path, found),
                false => drop(found.insert(path, about.modified().expect("time"))),
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&site.folder.path().join("minio").join(BUCKET), &mut found);
    found
}

/// Deletes what is so many minutes old when it is `now` minutes past noon, until the segments of `left` are left.
fn delete(site: &Site, older: u64, now: i64, left: &[u64]) {
    let rule = RetentionRule {
        max: Some(Duration::from_secs(older * 60)),
        ..RetentionRule::default()
    };
    let below = Below {
        warm: true,
        cold: false,
    };
    let rules = Rules::with_tiers(vec![rule], below).expect("sound");
    let (index, disk) = (site.archive.index.clone(), site.archive.disk.clone());
    let reaper = Reaper::new(index, disk, rules, quick(), key()).expect("reaper");
    let mut reaper = reaper.with_stores(site.stores.clone());
    wait_until("deletions", || {
        reaper
            .pass(minute(now), (now * MINUTE_US).unsigned_abs())
            .expect("pass");
        site.archive.sequences(site.stream) == left
    });
}

/// Whether every copy was looked for today.
fn is_over(told: Scrubbed) -> bool {
    told.looked_s.is_some_and(|s| s < 24 * 3600)
}

#[test]
fn a_look_at_an_old_list_finds_nothing_wrong_and_one_at_a_new_list_what_is() {
    let site = Site::new(Kind::Minio);
    let index = &site.archive.index;
    let mut mover = site.mover();
    site.settle(&mut mover, 0..1);
    let warm = site.stores.warm.as_ref().expect("warm");
    let folder = stream_dir(&index.stream_id(site.stream).expect("stream"));
    let mut listed = 0;
    warm.for_each(&folder, |_, _| listed += 1).expect("list");
    assert_eq!(listed, 8);
    // From here on this is what is told, whatever comes and goes.
    site.proxy.set(Some(Fault::StaleList));
    delete(&site, 85, 110, &[2, 3, 4, 5, 6, 7]);
    site.archive.record_many(site.stream, 8..10);
    site.settle(&mut mover, 1..2);
    assert_eq!(site.whole(), 8);
    let before = written(&site);
    let mut scrubber = site.scrubber();
    settle(&site, &mut scrubber, days(2), |told, _| is_over(told));
    assert!(site.proxy.happened() > 0);
    let told = scrubber.scrubbed();
    assert_eq!((told.found, told.repaired, told.lost), (0, 0, 0), "{told:?}");
    assert_eq!(index.faults(10).expect("faults"), []);
    assert_eq!(index.damage(site.stream, TimeRange::ALL).expect("damage"), []);
    assert_eq!(
        index.incidents(site.stream, TimeRange::ALL).expect("incidents"),
        []
    );
    assert_eq!(index.orphans().first(10), []);
    assert!(written(&site) == before, "nothing is put and nothing is removed");

    // Two are gone, of which the old list tells one, and there is one of which nobody knows.
    let rows = site.archive.rows(site.stream);
    let gone = [&rows[2], &rows[7]];
    let sound = gone.map(|row| site.object(row).expect("there"));
    let strange = format!("{folder}/20261120/13/59-59Z.77.1.mp4");
    site.runtime.block_on(async {
        for row in gone {
            site.warm().delete(&site.name(row)).await.expect("delete");
        }
        let put = site.warm().put_bytes(&strange, b"what is this".to_vec());
        assert!(put.await.expect("put"));
    });
    site.proxy.set(None);
    settle(&site, &mut scrubber, days(4), |told, faults| {
        is_over(told) && told.repaired == 2 && faults == 0
    });
    assert_eq!(scrubber.scrubbed().found, 2);
    assert!(gone.map(|row| site.object(row).expect("made anew")) == sound);
    let orphans = index.orphans().first(10);
    assert_eq!(orphans.len(), 1, "{orphans:?}");
    assert_eq!(orphans[0].1.name, strange);
}

#[test]
fn what_an_old_list_keeps_from_a_rebuild_stays_and_is_told_by_the_next_look() {
    let mut site = Site::new(Kind::Minio);
    let mut mover = site.mover();
    site.settle(&mut mover, 0..1);
    // Somebody looked then.
    let looked = Archive::new();
    rebuild(&looked.disk, &site.stores, &looked.index, |_| {}).expect("rebuild");
    assert_eq!(looked.sequences(site.stream), [0, 1, 2, 3, 4, 5, 6, 7]);
    site.archive.record_many(site.stream, 8..10);
    site.settle(&mut mover, 1..2);
    let rows = site.archive.rows(site.stream);
    let first = site.name(&rows[0]);
    site.runtime.block_on(site.warm().delete(&first)).expect("delete");

    // The machine is lost, and what is told is what was told then.
    site.proxy.set(Some(Fault::StaleList));
    site.archive = Archive::new();
    std::fs::write(site.archive.disk.path(MARKER), "ours").expect("marker");
    let (index, disk) = (&site.archive.index, &site.archive.disk);
    let rebuilt = rebuild(disk, &site.stores, index, |_| {}).expect("rebuild");
    assert!(site.proxy.happened() > 0);
    let left_out: Vec<_> = rebuilt.left_out.iter().map(|(name, _)| name).collect();
    assert_eq!(left_out, [&first], "listed, and not there");
    assert_eq!(site.archive.sequences(site.stream), [1, 2, 3, 4, 5, 6, 7]);
    delete(&site, 75, 150, &[7]);
    let mut scrubber = site.scrubber();
    settle(&site, &mut scrubber, days(2), |told, _| is_over(told));
    assert_eq!(
        index.orphans().count(),
        0,
        "what is told is gone, and the rest is not told"
    );

    site.proxy.set(None);
    settle(&site, &mut scrubber, days(4), |told, _| is_over(told));
    let orphans = index.orphans().first(10).into_iter();
    let orphans: Vec<_> = orphans.map(|(_, orphan)| orphan.name).collect();
    assert_eq!(orphans, [site.name(&rows[8]), site.name(&rows[9])]);
    let told = scrubber.scrubbed();
    assert_eq!((told.found, told.repaired, told.lost), (0, 0, 0), "{told:?}");
    let again = Archive::new();
    let rebuilt = rebuild(&again.disk, &site.stores, &again.index, |_| {}).expect("rebuild");
    assert_eq!(rebuilt.left_out, []);
    assert_eq!(again.sequences(site.stream), [7, 8, 9], "it is footage again");
}
