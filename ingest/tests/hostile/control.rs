//! Negative controls: with a bound taken out, its test must fail.

use libtest_mimic::Failed;

use crate::spawn;

/// A bound, and the case that must fail without it.
pub(crate) struct Control {
    pub(crate) name: &'static str,
    without: &'static str,
    case: &'static str,
}

pub(crate) static ALL: [Control; 4] = [
    Control {
        name: "without_the_bound_on_access_units_memory_grows",
        without: "the bound on access units",
        case: "a_picture_without_end_is_cut_off",
    },
    Control {
        name: "without_the_bound_on_access_units_a_large_picture_is_taken",
        without: "the bound on access units",
        case: "a_picture_beyond_the_bound_ends_the_session",
    },
    Control {
        name: "without_the_stall_timer_a_stall_never_ends",
        without: "the stall timer",
        case: "a_stall_in_mid_frame_ends_as_no_data",
    },
    Control {
        name: "without_the_keyframe_timer_nothing_is_recorded_for_ever",
        without: "the keyframe timer",
        case: "pictures_without_a_keyframe_are_no_data",
    },
];

pub(crate) fn must_fail(control: &Control) -> Result<(), Failed> {
    let (passed, output) = spawn(control.case, Some(control.without));
    println!("{}: {output}", control.name);
    if passed {
        return Err("it passes without the bound".into());
    }
    Ok(())
}
