//! What ffmpeg and ffprobe make of a file.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::rig::lines;

/// A sample as ffprobe reads it, in the form that the file holds.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    /// When it is shown, in seconds after the edit list.
    pub(crate) pts_s: f64,
    pub(crate) hash: String,
    /// Whether the edit list hides it.
    pub(crate) hidden: bool,
}

#[derive(Deserialize)]
struct Shown {
    packets: Vec<ShownPacket>,
}

#[derive(Deserialize)]
struct ShownPacket {
    pts_time: Option<String>,
    flags: String,
    data_hash: String,
}

/// The samples of a track, `v` or `a`, in the order of the file.
pub(crate) fn packets(file: &Path, track: &str) -> Vec<Packet> {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-select_streams", track, "-show_packets"]);
    ffprobe
        .args(["-show_data_hash", "sha256", "-of", "json"])
        .arg(file);
    let output = ffprobe.output().expect("ffprobe");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaint.is_empty(),
        "{}: {complaint}",
        file.display()
    );
    let shown: Shown = serde_json::from_slice(&output.stdout).expect("ffprobe's packets");
    let packet = |p: ShownPacket| Packet {
        pts_s: p.pts_time.map_or(f64::NAN, |time| time.parse().expect("a time")),
        hash: p.data_hash.trim_start_matches("SHA256:").to_owned(),
        hidden: p.flags.contains('D'),
    };
    shown.packets.into_iter().map(packet).collect()
}

/// Fails unless ffmpeg decodes all of `file` without a word.
pub(crate) fn assert_decodes(file: &Path) {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg
        .args(["-nostdin", "-v", "error", "-xerror", "-i"])
        .arg(file);
    let output = ffmpeg.args(["-f", "null", "-"]).output().expect("ffmpeg");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{} does not decode: {}",
        file.display(),
        lines(&output)
    );
}

/// The MD5 of every picture that ffmpeg decodes from `file`, in the order of showing. `format` is for files
/// that do not tell theirs.
pub(crate) fn picture_hashes(file: &Path, format: Option<&str>) -> Vec<String> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error"]);
    if let Some(format) = format {
        ffmpeg.args(["-f", format]);
    }
    ffmpeg.arg("-i").arg(file);
    ffmpeg.args(["-map", "0:v:0", "-vsync", "passthrough", "-f", "framemd5", "-"]);
    let output = ffmpeg.output().expect("ffmpeg");
    assert!(output.status.success(), "{}: {}", file.display(), lines(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    let hash = |row: &str| row.rsplit(',').next().expect("a hash").trim().to_owned();
    rows.map(hash).collect()
}
