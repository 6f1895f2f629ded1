//! Real disks that refuse a write, under real file systems: what the system makes of that, and what we make of it.

use std::fs;
use std::time::Duration;

use super::rig::{FileSystem, Rig, can_run};
use crate::account::{Account, Told};
use crate::child::{finish, start};
use crate::faults::{Fault, Plan};
use crate::judge::judge;
use crate::site::Site;
use crate::workload::{Job, Work};

/// Far more writes than there are: the power stays on.
const NEVER: u64 = 1 << 40;
/// By then a process has seen that its index failed.
const SEEN_MAX: Duration = Duration::from_secs(20);

fn site(rig: &Rig) -> Site {
    Site {
        index: rig.mount_point("index").join("index"),
        hot: rig.mount_point("hot").join("hot"),
        account: rig.account(),
    }
}

/// After a failed sync the system calls the pages clean that it could not write: they read as if they were
/// on the disk, and the next sync says that they are.
#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_not_believed() {
    if !can_run() {
        return;
    }
    for (file_system, at) in [(FileSystem::Ext4, 40), (FileSystem::Xfs, 70)] {
        let mut rig = Rig::new(file_system, &["hot", "index"], 1, NEVER);
        let site = site(&rig);
        let real = Plan {
            reserve: true,
            buffered: true,
            ..Plan::default()
        };
        let ended = finish(&Job {
            site: site.clone(),
            work: Work::Everything,
            plan: Plan {
                fault: Some((Fault::Sick, at)),
                ..real
            },
            run: 0,
            seed: 1,
            clip: None,
        });
        assert!(
            !ended.is_done() && ended.failure().is_none(),
            "it was not killed: {ended:?}"
        );
        fs::remove_file(site.account.with_file_name("hot.sick")).expect("a disk that was sick");
        let now = judge(&site, 1, real);
        rig.remount();
        let later = judge(&site, 2, real);
        let findings = [now.findings, later.findings].concat();
        assert!(findings.is_empty(), "{file_system:?}: {findings:#?}");
        assert!(later.acked > 0, "nothing was recorded");
    }
}

/// The files of the index are RocksDB's own, past our seam.
#[test]
fn an_index_whose_disk_fails_ends_recording_and_starts_again() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new(FileSystem::Ext4, &["hot", "index"], 1, NEVER);
    let site = site(&rig);
    let real = Plan {
        reserve: true,
        ..Plan::default()
    };
    let mut child = start(&Job {
        site: site.clone(),
        work: Work::Until(rig.cut()),
        plan: real,
        run: 0,
        seed: 1,
        clip: None,
    });
    let acked = || {
        Account::read(&site.account)
            .iter()
            .filter(|t| matches!(t, Told::Acked(_)))
            .count()
    };
    rig.wait_for("recording", || site.account.exists() && acked() > 20);
    let sick = site.account.with_file_name("index.sick");
    fs::write(&sick, "").expect("a mark");
    let begun = std::time::Instant::now();
    while child.try_wait().expect("a child").is_none() {
        assert!(begun.elapsed() < SEEN_MAX, "it records without an index");
        std::thread::sleep(Duration::from_millis(10));
    }
    let told = Account::read(&site.account);
    assert!(
        matches!(told.last(), Some(Told::Failed(_))),
        "it says nothing: {:?}",
        told.last()
    );
    fs::remove_file(&sick).expect("a disk that was sick");
    rig.remount();
    let verdict = judge(&site, 1, real);
    assert!(verdict.findings.is_empty(), "{:#?}", verdict.findings);
    assert!(verdict.acked > 0, "nothing was recorded");
}
