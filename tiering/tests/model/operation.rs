//! What may happen to an archive.

use archive::GapCause;
use archive::time::{HOUR_US, SECOND_US};
use proptest::prelude::*;
use proptest::sample::select;

pub(crate) const DAY_US: i64 = 24 * HOUR_US;
pub(crate) const YEAR_US: i64 = 365 * DAY_US;

/// One thing that happens. Streams are 0 and 1; times are microseconds.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Op {
    /// The camera sends so many GOPs of `pictures` pictures over `gop_us` each; it is connected if it was not.
    Record {
        stream: usize,
        gops: u8,
        pictures: u8,
        gop_us: i64,
    },
    /// Nothing happens for a while.
    Wait(i64),
    /// The session ends.
    Disconnect { stream: usize, cause: GapCause },
    /// An attempt to connect fails.
    Refused { stream: usize, cause: GapCause },
    /// The camera's media time moves by this against what passes; the session tells when it sees a jump.
    MediaJump { stream: usize, by_us: i64 },
    /// The same, but nobody tells.
    MediaJumpUntold { stream: usize, by_us: i64 },
    /// The camera's oscillator.
    Drift { stream: usize, ppm: i64 },
    /// New parameter sets.
    NewParameters { stream: usize },
    /// A sender report in which the camera's clock says this, in microseconds since 1970.
    SenderReport { stream: usize, says_us: i64 },
    /// The host's wall clock is set by this much.
    HostStep(i64),
    /// The host's wall clock stands still from now on, or runs again from where it stood.
    HostFreeze(bool),
    /// The wall clock gains this over the time it takes a second to be smeared.
    HostSmear(i64),
    /// The committer takes what waits.
    Commit,
    /// The disk is full: new footage of all cameras gives way, or no longer.
    Shed(bool),
    /// The process is killed and started again, the wall clock having been set by this in between.
    Kill { step_us: i64 },
    /// The same in the middle of a commit: files are written, rows are not.
    KillBeforeRows,
    /// The service is stopped in order and started again.
    Restart { down_us: i64 },
    /// A pass of the reaper.
    Reap,
    /// Stopped, a file is imported so long after the end of the stream, and the service started.
    Import { stream: usize, after_us: i64, gops: u8 },
    /// The index is made anew from the media and compared.
    Rebuild,
    /// Footage is held, by parts in 1,000 of the recorded span.
    Hold { stream: usize, from: u16, to: u16 },
    /// All holds are released.
    Release,
    /// A range is asked for, by parts in 1,000 of the recorded span.
    Query { stream: usize, from: u16, to: u16 },
}

/// A whole case.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Story {
    /// Where the host's clock stands at first.
    pub(crate) begin_us: i64,
    pub(crate) segment_us: i64,
    pub(crate) segment_bytes: u64,
    /// How long footage is kept.
    pub(crate) hot_us: i64,
    pub(crate) confirm_us: i64,
    pub(crate) ops: Vec<Op>,
}

/// Instants at which clocks have gone wrong before, or will.
const BEGINNINGS: [i64; 7] = [
    // 2026-11-20T08:30:00Z
    1_795_163_400 * SECOND_US,
    // Ten seconds before the leap second of 2016.
    1_483_228_790 * SECOND_US,
    // Before NTP's second era, before 2^31 seconds, before the year 2100.
    2_085_978_486 * SECOND_US,
    2_147_483_637 * SECOND_US,
    4_102_444_790 * SECOND_US,
    // A host without a clock of its own.
    0,
    // Before the end of daylight saving, which UTC does not know.
    1_792_886_395 * SECOND_US,
];

impl Story {
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let begin = prop_oneof![3 => Just(BEGINNINGS[0]), 4 => select(&BEGINNINGS[..])];
        (
            begin,
            select(&[20 * SECOND_US, 60 * SECOND_US, 600 * SECOND_US][..]),
            select(&[40_960_u64, 1 << 20][..]),
            select(&[600 * SECOND_US, HOUR_US, 30 * DAY_US][..]),
            select(&[6 * HOUR_US, DAY_US][..]),
            prop::collection::vec(op(), 1..28),
        )
            .prop_map(
                |(begin_us, segment_us, segment_bytes, hot_us, confirm_us, ops)| Self {
                    begin_us,
                    segment_us,
                    segment_bytes,
                    hot_us,
                    confirm_us,
                    ops,
                },
            )
    }
}

fn stream() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0_usize), 1 => Just(1_usize)]
}

fn cause() -> impl Strategy<Value = GapCause> {
    use GapCause::{NoData, Refused, SessionLost, Unreachable, Unsupported};
    select(&[SessionLost, NoData, Unreachable, Refused, Unsupported][..])
}

fn signed(us: impl Strategy<Value = i64>) -> impl Strategy<Value = i64> {
    (us, any::<bool>()).prop_map(|(us, back)| if back { -us } else { us })
}

/// Steps of a wall clock.
fn step() -> impl Strategy<Value = i64> {
    let known = [SECOND_US, 59 * SECOND_US, HOUR_US, 30 * DAY_US, 12 * YEAR_US];
    prop_oneof![
        4 => signed(select(known.to_vec())),
        1 => signed(0..3 * SECOND_US),
        1 => signed(Just(56 * YEAR_US)),
    ]
}

fn wait() -> impl Strategy<Value = i64> {
    prop_oneof![
        3 => 0..20 * SECOND_US,
        2 => 20 * SECOND_US..2 * HOUR_US,
        1 => HOUR_US..3 * DAY_US,
        1 => 20 * DAY_US..3 * YEAR_US,
    ]
}

fn jump() -> impl Strategy<Value = i64> {
    prop_oneof![
        signed(0..3 * SECOND_US),
        signed(select(vec![HOUR_US, (1 << 32) * 100 / 9, 60 * YEAR_US])),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let gop = prop_oneof![4 => Just(2 * SECOND_US), 1 => 40_000..9 * SECOND_US, 1 => Just(25 * SECOND_US)];
    let camera_says = select(vec![
        0,
        -2_208_988_800 * SECOND_US,
        BEGINNINGS[0],
        BEGINNINGS[2],
        99 * YEAR_US,
    ]);
    prop_oneof![
        12 => (stream(), 1..12_u8, 1..6_u8, gop)
            .prop_map(|(stream, gops, pictures, gop_us)| Op::Record { stream, gops, pictures, gop_us }),
        4 => wait().prop_map(Op::Wait),
        3 => (stream(), cause()).prop_map(|(stream, cause)| Op::Disconnect { stream, cause }),
        2 => (stream(), cause()).prop_map(|(stream, cause)| Op::Refused { stream, cause }),
        2 => (stream(), jump()).prop_map(|(stream, by_us)| Op::MediaJump { stream, by_us }),
        1 => (stream(), jump()).prop_map(|(stream, by_us)| Op::MediaJumpUntold { stream, by_us }),
        1 => (stream(), -300..300_i64).prop_map(|(stream, ppm)| Op::Drift { stream, ppm }),
        2 => stream().prop_map(|stream| Op::NewParameters { stream }),
        1 => (stream(), camera_says).prop_map(|(stream, says_us)| Op::SenderReport { stream, says_us }),
        5 => step().prop_map(Op::HostStep),
        1 => any::<bool>().prop_map(Op::HostFreeze),
        1 => signed(Just(SECOND_US)).prop_map(Op::HostSmear),
        7 => Just(Op::Commit),
        1 => any::<bool>().prop_map(Op::Shed),
        4 => prop_oneof![2 => Just(0), 1 => step()].prop_map(|step_us| Op::Kill { step_us }),
        3 => Just(Op::KillBeforeRows),
        2 => (0..HOUR_US).prop_map(|down_us| Op::Restart { down_us }),
        6 => Just(Op::Reap),
        2 => (stream(), prop_oneof![Just(0), 0..HOUR_US], 1..4_u8)
            .prop_map(|(stream, after_us, gops)| Op::Import { stream, after_us, gops }),
        1 => Just(Op::Rebuild),
        2 => (stream(), 0..1000_u16, 0..1000_u16).prop_map(|(stream, from, to)| Op::Hold { stream, from, to }),
        1 => Just(Op::Release),
        3 => (stream(), 0..1000_u16, 0..1100_u16).prop_map(|(stream, from, to)| Op::Query { stream, from, to }),
    ]
}
