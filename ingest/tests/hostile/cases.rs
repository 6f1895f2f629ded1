//! All misbehaviours, as sentences.

use archive::GapCause::{NoData, Refused, SessionLost, Unreachable, Unsupported};

use crate::case::Case;
use crate::misbehaviour::Misbehaviour as M;

pub(crate) fn all() -> Vec<Case> {
    [
        answers(),
        credentials(),
        destinations(),
        sessions(),
        packets(),
        pictures(),
        datagrams(),
    ]
    .concat()
}

fn answers() -> Vec<Case> {
    let (ends, records) = (Case::ends, Case::records);
    vec![
        records("an_honest_camera_is_recorded_through_this_server", M::Honest),
        ends(
            "a_camera_that_never_answers_is_unreachable",
            M::NeverAnswers,
            Unreachable,
            "no answer within",
        ),
        ends(
            "a_camera_that_closes_at_once_is_unreachable_and_not_hammered",
            M::ClosesAtOnce,
            Unreachable,
            "asking what it offers",
        ),
        ends(
            "headers_without_end_are_cut_off",
            M::EndlessHeaders,
            Unreachable,
            "head-too-large",
        ),
        ends(
            "a_header_line_without_end_is_cut_off",
            M::EndlessHeaderLine,
            Unreachable,
            "head-too-large",
        ),
        ends(
            "a_byte_a_second_is_no_answer",
            M::TricklesHeaders,
            Unreachable,
            "no answer within",
        ),
        ends(
            "a_description_without_end_is_cut_off",
            M::EndlessDescription,
            Unreachable,
            "message-too-large",
        ),
        ends(
            "a_huge_content_length_is_refused",
            M::LengthHuge,
            Unreachable,
            "message-too-large",
        ),
        ends(
            "a_negative_content_length_is_refused",
            M::LengthNegative,
            Unreachable,
            "Content-Length",
        ),
        ends(
            "a_content_length_that_is_too_short_ends_the_attempt",
            M::LengthShort,
            SessionLost,
            "Invalid RTSP message",
        ),
        ends(
            "a_content_length_that_is_too_long_is_waited_for_in_vain",
            M::LengthLong,
            Unreachable,
            "no answer within",
        ),
        ends(
            "sixty_five_thousand_tracks_are_not_read",
            M::Tracks(65_535),
            Unreachable,
            "message-too-large",
        ),
        ends(
            "a_thousand_tracks_are_refused",
            M::Tracks(1000),
            Unsupported,
            "streams described",
        ),
        ends(
            "a_session_timeout_of_zero_is_refused",
            M::SessionTimeout(0),
            SessionLost,
            "timeout=0",
        ),
        records(
            "a_session_timeout_of_a_century_is_recorded",
            M::SessionTimeout(u32::MAX),
        ),
    ]
}

fn credentials() -> Vec<Case> {
    let (ends, records) = (Case::ends, Case::records);
    vec![
        ends(
            "refused_credentials_are_a_refusal",
            M::RefusesCredentials,
            Refused,
            "401",
        ),
        records("a_challenge_for_every_request_is_answered", M::OneTimeNonces),
        ends(
            "credentials_that_change_at_the_camera_are_a_refusal",
            M::ChangesCredentials,
            Refused,
            "401",
        ),
        Case::recovers(
            "a_camera_for_one_session_is_recorded_when_its_place_is_free",
            M::OneSession,
            Refused,
            "453",
        ),
    ]
}

fn destinations() -> Vec<Case> {
    let (ends, records) = (Case::ends, Case::records);
    vec![
        ends(
            "a_redirect_to_itself_is_followed_thrice",
            M::RedirectsToItself,
            Refused,
            "redirected too often",
        )
        .connecting(20),
        ends(
            "a_redirect_to_the_metadata_address_is_not_followed",
            M::RedirectsToMetadata,
            Refused,
            "no camera may lead",
        ),
        records("a_redirect_is_followed", M::RedirectsOnce),
        ends(
            "packets_are_not_sent_where_the_camera_points",
            M::UdpSourceElsewhere,
            SessionLost,
            "must not be sent",
        )
        .over_udp(),
        Case {
            host: "0x7f.1",
            loopback_allowed: false,
            ..ends(
                "a_name_that_resolves_to_this_machine_is_not_connected_to",
                M::Honest,
                Unreachable,
                "must not be connected to",
            )
            .connecting(0)
        },
    ]
}

fn sessions() -> Vec<Case> {
    let (ends, records) = (Case::ends, Case::records);
    vec![
        ends(
            "a_stall_in_mid_frame_ends_as_no_data",
            M::StallsMidFrame,
            NoData,
            "no picture for",
        ),
        ends(
            "a_camera_that_plays_and_sends_nothing_has_no_data",
            M::SendsNothing,
            NoData,
            "no picture that can be decoded",
        ),
        ends(
            "a_connection_closed_on_one_side_is_a_lost_session",
            M::HalfCloses,
            SessionLost,
            "closed the connection",
        ),
        records("a_request_from_the_camera_changes_nothing", M::TearsDown),
        ends(
            "a_camera_that_tears_down_has_no_data",
            M::TearsDownAndStops,
            NoData,
            "no picture for",
        ),
        ends(
            "keepalives_without_an_answer_end_the_session",
            M::IgnoresKeepalives,
            SessionLost,
            "keepalive",
        ),
        Case::recovers(
            "a_camera_that_becomes_h265_is_recorded_as_that",
            M::BecomesH265,
            SessionLost,
            "closed the connection",
        ),
        records("goodbyes_that_are_not_meant_change_nothing", M::Goodbye),
        ends(
            "garbage_for_reports_ends_the_session",
            M::GarbageReports,
            SessionLost,
            "",
        ),
        ends(
            "a_flood_on_an_unknown_channel_ends_the_session",
            M::FloodsUnknownChannel,
            SessionLost,
            "not asked for",
        ),
        ends(
            "a_flood_of_reports_is_silence",
            M::FloodsReports,
            NoData,
            "no picture for",
        ),
        ends(
            "a_flood_in_mid_picture_is_cut_off",
            M::FloodsInPicture,
            SessionLost,
            "access unit longer than",
        ),
        ends(
            "a_camera_that_keeps_its_sessions_is_not_hammered",
            M::KeepsSessions,
            SessionLost,
            "",
        )
        .over_udp()
        .connecting(12),
    ]
}

fn packets() -> Vec<Case> {
    let (ends, records) = (Case::ends, Case::records);
    vec![
        ends(
            "a_wrong_length_of_a_frame_ends_the_session",
            M::LengthOfFrameWrong,
            SessionLost,
            "",
        ),
        ends(
            "garbage_between_frames_ends_the_session",
            M::GarbageBetweenFrames,
            SessionLost,
            "",
        ),
        records("frames_on_unknown_channels_are_passed_over", M::UnknownChannels),
        ends(
            "padding_longer_than_its_packet_ends_the_session",
            M::PaddingWrong,
            SessionLost,
            "corrupt RTP header",
        ),
        ends(
            "an_extension_longer_than_its_packet_ends_the_session",
            M::ExtensionWrong,
            SessionLost,
            "corrupt RTP header",
        ),
        ends(
            "more_sources_than_a_packet_holds_end_the_session",
            M::SourcesWrong,
            SessionLost,
            "corrupt RTP header",
        ),
        ends(
            "another_source_ends_the_session",
            M::ChangesSource,
            SessionLost,
            "wrong ssrc",
        ),
        records("a_jump_of_sequence_numbers_is_lost_packets", M::SequenceJumps),
        ends(
            "sequence_numbers_that_go_back_end_the_session",
            M::SequenceGoesBack,
            SessionLost,
            "Out-of-order",
        ),
        records("timestamps_that_jump_begin_a_run", M::TimestampsJump),
        records("timestamps_that_go_back_begin_a_run", M::TimestampsGoBack),
        records("timestamps_that_stop_make_nobody_give_way", M::TimestampsStop).for_seconds(25),
        records("timestamps_that_crawl_make_nobody_give_way", M::TimestampsCrawl).for_seconds(25),
    ]
}

fn pictures() -> Vec<Case> {
    let (ends, records) = (Case::ends, Case::records);
    vec![
        ends(
            "a_picture_without_end_is_cut_off",
            M::EndlessPicture,
            SessionLost,
            "access unit longer than",
        ),
        ends(
            "nal_units_without_end_are_cut_off",
            M::EndlessNals,
            SessionLost,
            "NAL units",
        ),
        ends(
            "a_picture_beyond_the_bound_ends_the_session",
            M::LargePictures(3),
            SessionLost,
            "access unit longer than",
        ),
        records("pictures_below_the_bound_are_recorded", M::LargePictures(1)),
        ends(
            "an_empty_nal_unit_ends_the_session",
            M::EmptyPacket,
            SessionLost,
            "Empty NAL",
        ),
        ends(
            "an_empty_nal_unit_among_others_ends_the_session",
            M::EmptyAggregate,
            SessionLost,
            "zero length",
        ),
        ends(
            "a_truncated_fragment_ends_the_session",
            M::TruncatedFragment,
            SessionLost,
            "too short",
        ),
        ends(
            "a_fragment_without_an_end_ends_the_session",
            M::FragmentWithoutEnd,
            SessionLost,
            "fragment",
        ),
        ends(
            "a_parameter_set_of_10_kb_ends_the_session",
            M::ParametersHuge,
            SessionLost,
            "parameter set of",
        ),
        ends(
            "a_picture_of_65536_pixels_each_way_ends_the_session",
            M::PictureTooLarge,
            SessionLost,
            "pixel dimensions",
        ),
        records(
            "a_new_parameter_set_with_every_keyframe_is_recorded",
            M::ParametersEverySecond,
        ),
        ends(
            "pictures_without_a_keyframe_are_no_data",
            M::NoKeyframe,
            NoData,
            "no keyframe",
        ),
        records("one_keyframe_is_enough", M::OneKeyframe),
        Case {
            access_unit_bytes: 16 << 20,
            growth_mib: 128,
            ..records(
                "pictures_of_15_mib_are_recorded_within_bounds",
                M::LargePictures(15),
            )
        },
    ]
}

fn datagrams() -> Vec<Case> {
    let (ends, records) = (Case::ends, Case::records);
    vec![
        records("datagrams_are_recorded", M::Honest).over_udp(),
        records("lost_datagrams_cost_their_pictures", M::Loses).over_udp(),
        records("datagrams_out_of_order_cost_their_pictures", M::Reorders).over_udp(),
        records("datagrams_that_come_twice_are_taken_once", M::Duplicates).over_udp(),
        ends(
            "datagrams_that_do_not_come_are_no_data",
            M::SendsNothing,
            NoData,
            "no picture that can be decoded",
        )
        .over_udp(),
        ends(
            "garbage_in_datagrams_ends_the_session",
            M::GarbageDatagrams,
            SessionLost,
            "",
        )
        .over_udp(),
        ends(
            "a_source_that_changes_in_datagrams_ends_the_session",
            M::ChangesSource,
            SessionLost,
            "wrong ssrc",
        )
        .over_udp(),
        ends(
            "a_picture_without_end_in_datagrams_is_cut_off",
            M::EndlessPicture,
            SessionLost,
            "access unit longer than",
        )
        .over_udp(),
    ]
}
