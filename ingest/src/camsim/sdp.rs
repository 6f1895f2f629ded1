//! The session description of a camera (RFC 4566, RFC 6184 §8.2, RFC 7798 §7.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::clip::Clip;
use super::codec::Codec;
use super::packetize::PAYLOAD_TYPE;

/// The path of the one track under the camera's URL.
pub(super) const TRACK: &str = "trackID=0";

/// Describes `clip` as the one live video track of a camera.
pub(super) fn describe(clip: &Clip) -> String {
    let sets = &clip.parameter_sets;
    let (sps, pps) = (STANDARD.encode(&sets.sps), STANDARD.encode(&sets.pps));
    let (encoding, parameters) = match clip.codec {
        Codec::H264 => {
            let level: String = sets
                .sps
                .iter()
                .skip(1)
                .take(3)
                .map(|byte| format!("{byte:02X}"))
                .collect();
            (
                "H264",
                format!("packetization-mode=1;profile-level-id={level};sprop-parameter-sets={sps},{pps}"),
            )
        }
        Codec::H265 => {
            let vps = STANDARD.encode(&sets.vps);
            ("H265", format!("sprop-vps={vps};sprop-sps={sps};sprop-pps={pps}"))
        }
    };
    let lines = [
        "v=0".into(),
        "o=- 1 1 IN IP4 127.0.0.1".into(),
        "s=camera".into(),
        "c=IN IP4 0.0.0.0".into(),
        "t=0 0".into(),
        "a=control:*".into(),
        "a=range:npt=now-".into(),
        format!("m=video 0 RTP/AVP {PAYLOAD_TYPE}"),
        format!("a=rtpmap:{PAYLOAD_TYPE} {encoding}/90000"),
        format!("a=fmtp:{PAYLOAD_TYPE} {parameters}"),
        format!("a=control:{TRACK}"),
    ];
    lines.iter().flat_map(|line| [line.as_str(), "\r\n"]).collect()
}
