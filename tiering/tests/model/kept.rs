//! The smallest stories that once failed, by what was wrong.

use archive::GapCause;
use archive::time::{HOUR_US, SECOND_US};

use crate::operation::{DAY_US, Op, Story, YEAR_US};
use crate::play::play;

fn holds(ops: Vec<Op>) {
    holds_from(1_795_163_400 * SECOND_US, ops);
}

fn holds_from(begin_us: i64, ops: Vec<Op>) {
    let story = Story {
        begin_us,
        segment_us: 20 * SECOND_US,
        segment_bytes: 40_960,
        hot_us: 600 * SECOND_US,
        confirm_us: 6 * HOUR_US,
        ops,
    };
    if let Err(e) = play(&story) {
        panic!("{e}\n{story:?}");
    }
}

fn record(stream: usize, gops: u8, pictures: u8, gop_us: i64) -> Op {
    Op::Record {
        stream,
        gops,
        pictures,
        gop_us,
    }
}

fn import(after_us: i64) -> Op {
    Op::Import {
        stream: 0,
        after_us,
        gops: 1,
    }
}

#[test]
fn an_import_ends_the_gap_of_a_stream_that_was_never_recorded() {
    holds(vec![Op::HostStep(30 * DAY_US), import(0)]);
}

#[test]
fn an_import_into_the_future_leaves_the_gap_as_it_was() {
    holds(vec![
        record(0, 1, 2, 25 * SECOND_US),
        Op::KillBeforeRows,
        import(12_500_001),
    ]);
    holds_from(
        1_483_228_790 * SECOND_US,
        vec![Op::HostStep(-56 * YEAR_US), import(0)],
    );
}

#[test]
fn an_import_into_a_stream_of_which_all_was_deleted_begins_behind_that() {
    holds(vec![
        record(0, 3, 2, 2 * SECOND_US),
        Op::Restart { down_us: SECOND_US },
        Op::Wait(1800 * SECOND_US),
        Op::Reap,
        import(60 * SECOND_US),
    ]);
}

#[test]
fn a_cause_that_a_clock_took_back_leaves_no_row() {
    holds(vec![
        record(0, 2, 2, 2 * SECOND_US),
        Op::Disconnect {
            stream: 0,
            cause: GapCause::SessionLost,
        },
        Op::Wait(20 * SECOND_US),
        Op::Refused {
            stream: 0,
            cause: GapCause::Unreachable,
        },
        Op::Commit,
        Op::HostStep(-HOUR_US),
        Op::Refused {
            stream: 0,
            cause: GapCause::SessionLost,
        },
        Op::Commit,
    ]);
}

#[test]
fn a_gap_of_many_causes_is_told_without_overlaps() {
    let mut ops = vec![record(0, 2, 2, 2 * SECOND_US)];
    for i in 0..30 {
        let cause = if i % 2 == 0 {
            GapCause::Refused
        } else {
            GapCause::Unreachable
        };
        ops.extend([
            Op::Disconnect { stream: 0, cause },
            Op::Wait((i + 1) * SECOND_US),
            Op::Refused { stream: 0, cause },
            Op::Commit,
        ]);
    }
    ops.push(record(0, 2, 2, 2 * SECOND_US));
    holds(ops);
}

#[test]
fn a_picture_that_lasts_a_minute_is_no_step_of_the_clock() {
    holds(vec![
        record(1, 1, 1, 2 * SECOND_US),
        record(0, 7, 1, 8_285_716),
        record(1, 2, 1, 2 * SECOND_US),
    ]);
}

#[test]
fn coverage_counts_the_open_segment_in_all_of_an_hour() {
    let query = Op::Query {
        stream: 0,
        from: 0,
        to: 0,
    };
    holds(vec![record(0, 5, 1, 4_120_226), Op::Commit, query]);
}

#[test]
fn a_restart_does_not_forgive_a_clock_that_was_doubted() {
    let story = Story {
        begin_us: 1_795_163_400 * SECOND_US,
        segment_us: 20 * SECOND_US,
        segment_bytes: 40_960,
        hot_us: HOUR_US,
        confirm_us: 6 * HOUR_US,
        ops: vec![
            record(0, 1, 1, 2 * SECOND_US),
            Op::Restart {
                down_us: 598 * SECOND_US,
            },
            Op::HostStep(HOUR_US),
            Op::Reap,
            Op::Kill { step_us: 0 },
        ],
    };
    assert_eq!(play(&story), Ok(()));
}

#[test]
fn a_leap_second_does_not_begin_the_time_to_confirm_a_clock_anew() {
    let story = Story {
        begin_us: 1_795_163_400 * SECOND_US,
        segment_us: 20 * SECOND_US,
        segment_bytes: 40_960,
        hot_us: 30 * DAY_US,
        confirm_us: 6 * HOUR_US,
        ops: vec![
            record(0, 2, 2, 25 * SECOND_US),
            Op::Commit,
            Op::HostStep(56 * YEAR_US),
            Op::Kill { step_us: 0 },
            Op::Wait(6 * HOUR_US),
            Op::HostSmear(SECOND_US),
            Op::Reap,
        ],
    };
    assert_eq!(play(&story), Ok(()));
}

#[test]
fn what_follows_held_footage_goes_and_recording_goes_on_behind_all_of_it() {
    let hold = |from, to| Op::Hold { stream: 0, from, to };
    holds(vec![
        record(0, 30, 2, 4 * SECOND_US),
        Op::Commit,
        hold(400, 500),
        Op::Restart { down_us: SECOND_US },
        Op::Wait(700 * SECOND_US),
        Op::Reap,
        Op::Rebuild,
        Op::Kill { step_us: 0 },
        record(0, 30, 2, 4 * SECOND_US),
        Op::Disconnect {
            stream: 0,
            cause: GapCause::SessionLost,
        },
        Op::Restart { down_us: SECOND_US },
        Op::Wait(700 * SECOND_US),
        Op::Reap,
        import(0),
        Op::Release,
        Op::Reap,
        Op::Rebuild,
    ]);
}
