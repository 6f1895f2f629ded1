//! Negative controls: with a bound taken out, its test must fail.

use libtest_mimic::Failed;

use crate::spawn;

/// A bound, and the case that must fail without it.
pub(crate) struct Control {
    pub(crate) name: &'static str,
    without: &'static str,
    case: &'static str,
    /// Memory grows by more than this meanwhile, in KiB.
    grows_kib: u64,
}

pub(crate) static ALL: [Control; 4] = [
    Control {
        name: "without_the_bound_on_access_units_memory_grows",
        without: "the bound on access units",
        case: "a_picture_without_end_is_cut_off",
        grows_kib: 16 << 10,
    },
    Control {
        name: "without_the_bound_on_access_units_a_large_picture_is_taken",
        without: "the bound on access units",
        case: "a_picture_beyond_the_bound_ends_the_session",
        grows_kib: 0,
    },
    Control {
        name: "without_the_stall_timer_a_stall_never_ends",
        without: "the stall timer",
        case: "a_stall_in_mid_frame_ends_as_no_data",
        grows_kib: 0,
    },
    Control {
        name: "without_the_keyframe_timer_nothing_is_recorded_for_ever",
        without: "the keyframe timer",
        case: "pictures_without_a_keyframe_are_no_data",
        grows_kib: 0,
    },
];

pub(crate) fn must_fail(control: &Control) -> Result<(), Failed> {
    let (passed, output) = spawn(control.case, Some(control.without));
    println!("{}: {output}", control.name);
    if passed {
        return Err("it passes without the bound".into());
    }
    let grown = output.lines().find_map(|line| line.strip_prefix("memory: "));
    let grown_kib = grown.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    match grown_kib {
        Some(kib) if kib >= control.grows_kib => Ok(()),
        _ => Err(format!("memory grew by {grown_kib:?} KiB without the bound").into()),
    }
}
