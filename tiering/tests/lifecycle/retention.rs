use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::{GapCause, TimeRange};
use indexer::{Batch, Incident, IncidentKind, SegmentState};
use tierline_tiering::{RetentionRule, Rules, TieringConfig, Worker};

use crate::archive_of_segments::{Archive, MINUTE_US, TestClock, ample, keep_minutes, key, minute, noon};

#[test]
fn what_is_too_old_goes_with_its_file_and_its_empty_folders_and_leaves_a_gap_that_says_so() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    let rows: Vec<_> = (0..30)
        .map(|i| a.record(lobby, minute(10 * i), 10, 60_000))
        .collect();
    let mut reaper = a.reaper(keep_minutes(60), ample());

    // The last instant of the 24th segment is an hour old.
    assert!(!reaper.pass(minute(300), 0).expect("pass"));
    assert_eq!(a.sequences(lobby), [24, 25, 26, 27, 28, 29]);
    assert!(rows[..24].iter().all(|row| !a.file(row).exists()));
    assert!(rows[24..].iter().all(|row| a.file(row).exists()));
    let day = a.disk.list("default/lobby/main/20261120").expect("list");
    assert_eq!(day, ["16"]);

    let gaps = a.index.gaps(lobby, TimeRange::ALL).expect("gaps");
    let told: Vec<_> = gaps.iter().map(|g| (g.from, g.to, g.cause)).collect();
    assert_eq!(told, [(noon(), Some(minute(240)), GapCause::Retention)]);
    let p = reaper.progress();
    assert_eq!(
        (p.age.segments, p.space.segments, p.failed, p.passes),
        (24, 0, 0, 1)
    );
    assert_eq!(p.age.bytes, rows[..24].iter().map(|row| row.bytes).sum::<u64>());
    a.assert_clean();
}

#[test]
fn incidents_go_with_the_footage_that_they_explain_and_no_sooner() {
    let a = Archive::new();
    let (lobby, yard) = (a.camera("lobby", 5), a.camera("yard", 5));
    a.record_many(lobby, 0..6);
    let lost = |at| Incident {
        at,
        kind: IncidentKind::PacketsLost { packets: 1 },
    };
    let mut batch = Batch::default();
    for at in [-5, 0, 9, 15, 19, 20, 25, 59, 60].map(minute) {
        batch.incident(lobby, lost(at));
        batch.incident(yard, lost(at));
    }
    a.index.commit(batch).expect("commit");
    // Two segments end an hour ago or more.
    a.reaper(keep_minutes(60), ample())
        .pass(minute(80), 0)
        .expect("pass");
    assert_eq!(a.sequences(lobby), [2, 3, 4, 5]);
    let told = a.index.incidents(lobby, TimeRange::ALL).expect("incidents");
    assert_eq!(told, [20, 25, 59, 60].map(|m| lost(minute(m))));
    let others = a.index.incidents(yard, TimeRange::ALL).expect("incidents");
    assert_eq!(others.len(), 9);
}

#[test]
fn an_open_segment_stays_however_old_and_one_that_could_not_be_sealed_goes_like_the_others() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    a.record(lobby, minute(0), 10, 60_000);
    let (_, writer) = a.begin(lobby, minute(10), 10, 60_000);
    a.reaper(keep_minutes(60), ample())
        .pass(minute(500), 0)
        .expect("pass");
    assert_eq!(a.sequences(lobby), [1]);

    drop(writer);
    let a = a.reopen();
    a.record(lobby, minute(450), 10, 60_000);
    a.reaper(keep_minutes(60), ample())
        .pass(minute(500), 0)
        .expect("pass");
    assert_eq!(a.sequences(lobby), [2]);
    assert!(a.index.unsealed().expect("unsealed").is_empty());
}

#[test]
fn a_stream_of_which_everything_is_deleted_goes_on_with_the_next_sequence() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    a.record_many(lobby, 0..3);
    a.reaper(keep_minutes(60), ample())
        .pass(minute(1000), 0)
        .expect("pass");
    assert_eq!(a.sequences(lobby), [0; 0]);
    a.assert_clean();
    assert_eq!(a.record(lobby, minute(1000), 10, 60_000).id.seq, 3);
}

#[test]
fn a_camera_keeps_to_its_quota_while_it_records() {
    let a = Archive::new();
    let (lobby, yard) = (a.camera("lobby", 5), a.camera("yard", 5));
    let quota = RetentionRule {
        cameras: vec!["lobby".into()],
        quota: Some(1_000_000),
        ..RetentionRule::default()
    };
    let mut reaper = a.reaper(quota, ample());
    for i in 0..40 {
        a.record(lobby, minute(10 * i), 10, 100_000);
        a.record(yard, minute(10 * i), 10, 100_000);
        reaper
            .pass(minute(10 * (i + 1)), (i * 10 * MINUTE_US) as u64)
            .expect("pass");
        let used: u64 = a.rows(lobby).iter().map(|row| row.bytes).sum();
        assert!(used <= 1_000_000, "{used} bytes");
    }
    let left = a.rows(lobby);
    assert!(left.len() >= 3 && left[0].id.seq + left.len() as u64 == 40);
    assert_eq!(a.rows(yard).len(), 40);
    assert_eq!(reaper.progress().quota.segments, left[0].id.seq);
    a.assert_clean();
}

#[test]
fn a_backlog_goes_in_bounded_passes_oldest_first() {
    let a = Archive::new();
    let (lobby, yard) = (a.camera("lobby", 5), a.camera("yard", 5));
    for i in 0..20 {
        a.record(lobby, minute(10 * i), 10, 60_000);
        a.record(yard, minute(10 * i), 10, 60_000);
    }
    let config = TieringConfig {
        deletions_max: 16,
        ..ample()
    };
    let mut reaper = a.reaper(keep_minutes(60), config);
    let more: Vec<bool> = (0..4)
        .map(|_| reaper.pass(minute(1000), 0).expect("pass"))
        .collect();
    assert_eq!(more, [true, true, false, false]);
    assert_eq!(reaper.progress().age.segments, 40);
    a.assert_clean();
}

#[test]
fn who_reads_a_segment_reads_it_to_its_end() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    let row = a.record(lobby, minute(0), 10, 300_000);
    let mut open = std::fs::File::open(a.file(&row)).expect("open");
    a.reaper(keep_minutes(60), ample())
        .pass(minute(1000), 0)
        .expect("pass");
    assert!(!a.file(&row).exists());
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).expect("read");
    assert_eq!(bytes.len() as u64, row.bytes);
}

#[test]
fn a_file_that_resists_holds_up_its_stream_alone_and_goes_when_it_can() {
    let a = Archive::new();
    let (lobby, yard) = (a.camera("lobby", 5), a.camera("yard", 5));
    for i in 0..12 {
        a.record(lobby, minute(10 * i), 10, 60_000);
        a.record(yard, minute(10 * i), 10, 60_000);
    }
    // A folder in the place of a file cannot be removed like one, not even by root.
    let file = a.file(&a.rows(lobby)[3]);
    let aside = file.with_extension("aside");
    std::fs::rename(&file, &aside).expect("move");
    std::fs::create_dir(&file).expect("folder");
    let mut reaper = a.reaper(keep_minutes(60), ample());
    reaper.pass(minute(1000), 0).expect("pass");
    assert_eq!(a.rows(yard).len(), 0);
    assert!(
        a.rows(lobby)
            .iter()
            .all(|row| row.state == SegmentState::Deleting)
    );
    assert_eq!((a.rows(lobby).len(), reaper.progress().failed), (12, 6));

    std::fs::remove_dir(&file).expect("folder");
    std::fs::rename(&aside, &file).expect("move");
    reaper.pass(minute(1000), 0).expect("pass");
    assert_eq!(a.rows(lobby).len(), 0);
    a.assert_clean();
}

#[test]
fn the_worker_deletes_while_it_runs_and_stops_when_it_is_told() {
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    a.record_many(lobby, 0..4);
    let clock = Arc::new(TestClock::default());
    let rules = Rules::new(vec![keep_minutes(60)]).expect("sound");
    let config = TieringConfig {
        interval: Duration::from_millis(5),
        ..ample()
    };
    let worker = Worker::start(
        a.index.clone(),
        a.disk.clone(),
        clock.clone(),
        rules,
        config,
        key(),
        None,
    )
    .expect("worker");
    clock.set(81);
    let started = Instant::now();
    while worker.progress().age.segments < 2 && started.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(worker.progress().age.segments, 2);
    assert!(!worker.has_failed());
    worker.stop().expect("stop");
    assert_eq!(a.sequences(lobby), [2, 3]);
    a.assert_clean();
}
