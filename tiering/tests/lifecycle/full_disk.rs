//! A small file system that fills up. Needs root, to mount one; says so when it cannot.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use archive::StreamNo;
use tierline_tiering::{Reaper, RetentionRule, TieringConfig};

use crate::archive_of_segments::{Archive, MINUTE_US, minute};

const MIB: u64 = 1 << 20;

/// A mounted tmpfs, unmounted when it is dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(at: &Path, size: u64) -> Option<Self> {
        std::fs::create_dir_all(at).expect("folder");
        let made = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tierline-test"])
            .arg(at)
            .output();
        match made {
            Ok(out) if out.status.success() => Some(Self(at.to_owned())),
            Ok(out) => Self::skipped(&String::from_utf8_lossy(&out.stderr)),
            Err(e) => Self::skipped(&e.to_string()),
        }
    }

    fn skipped(why: &str) -> Option<Self> {
        assert!(std::env::var_os("TIERLINE_REQUIRE_RIGS").is_none(), "{why}");
        eprintln!("SKIPPED: no file system to fill: {}", why.trim());
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// 96 MiB: the reserve and what a segment reserves while it is written leave room for about 56 MiB.
const DISK: u64 = 96 * MIB;
const MIN: i64 = 10;

struct Site {
    archive: Archive,
    reaper: Reaper,
    yard: StreamNo,
    vault: StreamNo,
    minute: i64,
    _disk: SmallDisk,
}

fn site() -> Option<Site> {
    let dir = tempfile::tempdir().expect("temporary folder");
    let media = dir.path().join("media");
    let disk = SmallDisk::mount(&media, DISK)?;
    let archive = Archive::on(dir, &media);
    let (yard, vault) = (archive.camera("yard", 2), archive.camera("vault", 8));
    let rule = RetentionRule {
        min: Some(Duration::from_secs(600)),
        ..RetentionRule::default()
    };
    let config = TieringConfig {
        reserve: Some(40 * MIB),
        low: Some(28 * MIB),
        floor: Some(18 * MIB),
        ..TieringConfig::default()
    };
    let reaper = archive.reaper(rule, config);
    Some(Site {
        archive,
        reaper,
        yard,
        vault,
        minute: 0,
        _disk: disk,
    })
}

impl Site {
    /// Records a minute of both cameras at `bytes` a minute, as far as they are recorded, and makes a pass.
    /// Returns which were recorded: yard, vault.
    fn minute(&mut self, bytes: u64) -> (bool, bool) {
        let from = minute(self.minute);
        self.minute += 1;
        let recorded = [(self.yard, 2), (self.vault, 8)].map(|(stream, priority)| {
            let on = priority >= self.archive.index.shed_below();
            if on {
                self.archive.record(stream, from, 1, bytes as usize);
            }
            on
        });
        self.pass();
        (recorded[0], recorded[1])
    }

    /// Makes a pass, in which nothing may go that does not have its minimum behind it.
    fn pass(&mut self) {
        let now = minute(self.minute);
        let rows = |site: &Self| {
            [site.yard, site.vault]
                .map(|stream| site.archive.rows(stream))
                .concat()
        };
        let before = rows(self);
        self.reaper
            .pass(now, (self.minute * MINUTE_US).unsigned_abs())
            .expect("pass");
        let after = rows(self);
        for row in before.iter().filter(|row| !after.contains(row)) {
            assert!(
                now.micros_since(row.wall_end) >= MIN * MINUTE_US,
                "at {now}: {row:?}"
            );
        }
    }

    /// The minute from which on a stream's footage is kept.
    fn oldest(&self, stream: StreamNo) -> i64 {
        let first = self.archive.rows(stream).first().map(|row| row.wall_start);
        first.map_or(i64::MIN, |at| at.micros_since(minute(0)) / MINUTE_US)
    }
}

#[test]
fn old_footage_past_its_minimum_goes_first_then_the_lowest_priority_is_not_recorded_and_then_is_again() {
    let Some(mut site) = site() else { return };
    // The minimum of both cameras takes 40 MiB: nobody has to give way, however long it goes on.
    for _ in 0..40 {
        assert_eq!(site.minute(2 * MIB), (true, true));
    }
    let p = site.reaper.progress();
    assert!(p.space.segments >= 40, "{p:?}");
    assert_eq!((p.shed_below, p.age.segments, p.failed), (0, 0, 0));
    assert!(site.oldest(site.yard) >= 20 && site.oldest(site.vault) >= 20);
    site.archive.assert_clean();

    // Now it would take 80 MiB: the yard gives way, the vault never does.
    let mut yard = 0;
    for _ in 0..30 {
        let (y, v) = site.minute(4 * MIB - MIB / 2);
        assert!(v, "minute {}: {:?}", site.minute, site.reaper.progress());
        yard += u64::from(y);
        let free = site.archive.disk.space().expect("space").0;
        assert!(free >= 18 * MIB, "{free} bytes free");
    }
    assert!(
        (1..30).contains(&yard),
        "the yard was recorded in {yard} of 30 minutes"
    );
    site.archive.assert_clean();

    // And back: once there is space, the yard is recorded again, for good.
    let mut recorded: Vec<bool> = (0..30).map(|_| site.minute(MIB).0).collect();
    assert!(recorded.split_off(20).into_iter().all(|y| y), "{recorded:?}");
    assert_eq!(site.reaper.progress().shed_below, 0);
    site.archive.assert_clean();
}

#[test]
fn when_something_else_fills_the_disk_recording_stops_before_it_is_full_and_nothing_young_goes() {
    let Some(mut site) = site() else { return };
    for _ in 0..8 {
        site.minute(2 * MIB);
    }
    let (free, _) = site.archive.disk.space().expect("space");
    let other = site.archive.disk.path("someone-elses-file");
    std::fs::write(&other, vec![1; (free - 12 * MIB) as usize]).expect("write");
    site.pass();
    assert_eq!(site.reaper.progress().shed_below, 10);
    assert_eq!(site.minute(MIB), (false, false));
    assert_eq!(site.archive.rows(site.vault).len(), 8);

    std::fs::remove_file(&other).expect("remove");
    let back: Vec<_> = (0..5).map(|_| site.minute(MIB)).collect();
    assert_eq!((back[0], back[4]), ((false, false), (true, true)), "{back:?}");
    site.archive.assert_clean();
}
