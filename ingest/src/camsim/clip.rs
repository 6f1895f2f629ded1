//! A clip: the coded pictures that a simulated camera repeats for ever, already cut into RTP packets.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use super::annexb::{self, AccessUnit};
use super::codec::{Codec, Role};
use super::packetize::{self, Packets};
use super::{h264, mp4, order};

/// Ticks per second of the RTP clock of video, and of every time in this module.
pub(super) const TICKS_PER_SECOND: u64 = 90_000;

/// The largest clip file that is loaded, in bytes: a clip is held in memory whole.
pub(super) const CLIP_BYTES_MAX: u64 = 1 << 30;

/// Frames per second of a raw stream that does not state its rate.
pub(super) const DEFAULT_RATE: (u32, u32) = (30, 1);

static DEMO: &[u8] = include_bytes!("../../assets/demo.h264");

/// Why a clip cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    /// The file could not be read.
    #[error("cannot read clip {path}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file's content does not make a clip.
    #[error("clip {name}: {reason}")]
    Content {
        /// The clip's name.
        name: String,
        /// What is wrong with it, as a clause.
        reason: String,
    },
}

/// The parameter sets of a clip's beginning, as the session description announces them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ParameterSets {
    pub(super) vps: Vec<u8>,
    pub(super) sps: Vec<u8>,
    pub(super) pps: Vec<u8>,
}

/// One access unit with its times relative to the clip's beginning, in decoding order.
pub(super) struct Frame {
    /// When the frame leaves the encoder, in ticks.
    pub(super) send_ticks: u64,
    /// When the picture was captured, in ticks: never after `send_ticks`, out of order with B-frames.
    pub(super) capture_ticks: i64,
    pub(super) keyframe: bool,
    pub(super) packets: Packets,
    unit: AccessUnit,
    sha256: OnceLock<[u8; 32]>,
}

/// An access unit with times on the clip's own scale, before packetisation.
pub(super) struct TimedUnit {
    pub(super) decode_ticks: u64,
    pub(super) presentation_ticks: i64,
    pub(super) unit: AccessUnit,
}

/// The coded pictures that a simulated camera repeats for ever. Immutable and shared between cameras.
pub struct Clip {
    pub(super) name: String,
    pub(super) codec: Codec,
    pub(super) parameter_sets: ParameterSets,
    pub(super) frames: Vec<Frame>,
    /// Length of one repetition, in ticks; not 0.
    pub(super) duration_ticks: u64,
    /// How far capture lies behind sending at most, because of reordering.
    pub(super) reorder_ticks: u64,
}

impl Clip {
    /// The built-in clip: 10 s of H.264, 640×360 at 30 frames per second, with a running clock in it.
    ///
    /// # Errors
    /// Never for the clip as shipped.
    pub fn demo() -> Result<Arc<Self>, ClipError> {
        Self::from_bytes("demo", DEMO, None).map(Arc::new)
    }

    /// Loads a raw H.264 or H.265 stream (Annex B) or an MP4 file; the content decides which.
    ///
    /// `fps` overrides the rate of a raw stream; without it the stream's own rate holds (H.264 with timing
    /// in its parameter sets) or else 30.
    ///
    /// # Errors
    /// [`ClipError`] when the file cannot be read or holds no pictures that can be sent.
    pub fn load(path: &Path, fps: Option<u32>) -> Result<Arc<Self>, ClipError> {
        let name = path.display().to_string();
        let read = || {
            let bytes = std::fs::metadata(path)?.len();
            if bytes > CLIP_BYTES_MAX {
                return Err(std::io::Error::other(format!(
                    "{bytes} bytes; at most {CLIP_BYTES_MAX} are loaded"
                )));
            }
            std::fs::read(path)
        };
        let data = read().map_err(|source| ClipError::Read {
            path: name.clone(),
            source,
        })?;
        Self::from_bytes(&name, &data, fps).map(Arc::new)
    }

    pub(super) fn from_bytes(name: &str, data: &[u8], fps: Option<u32>) -> Result<Self, ClipError> {
        let made = if mp4::is_mp4(data) {
            mp4::demux(data).and_then(|(codec, units, duration)| Self::assemble(name, codec, units, duration))
        } else {
            Self::from_annexb(name, data, fps)
        };
        made.map_err(|reason| ClipError::Content {
            name: name.to_owned(),
            reason,
        })
    }

    fn from_annexb(name: &str, data: &[u8], fps: Option<u32>) -> Result<Self, String> {
        let nals = annexb::nal_units(data);
        let first = nals
            .first()
            .and_then(|nal| nal.first())
            .ok_or("it is neither MP4 nor Annex B")?;
        let codec = Codec::of_first_byte(*first);
        let mut units = annexb::access_units(codec, &nals);
        let begin = units
            .iter()
            .position(|unit| is_keyframe(codec, unit))
            .ok_or("it holds no keyframe")?;
        units.drain(..begin);
        let places = order::presentation(codec, &units)?;
        let stated = || match codec {
            Codec::H264 => {
                nals.iter()
                    .find(|nal| codec.role(nal) == Role::Sps)
                    .and_then(|nal| h264::parse_sps(nal))?
                    .rate
            }
            Codec::H265 => None,
        };
        let (num, den) = fps.map(|fps| (fps, 1)).or_else(stated).unwrap_or(DEFAULT_RATE);
        if num == 0 || u64::from(num) > TICKS_PER_SECOND * u64::from(den) {
            return Err(format!("a rate of {num}/{den} frames per second is out of range"));
        }
        let ticks = |frames: usize| frames as u64 * TICKS_PER_SECOND * u64::from(den) / u64::from(num);
        let duration = ticks(units.len());
        let timed = units
            .into_iter()
            .zip(places)
            .enumerate()
            .map(|(at, (unit, place))| TimedUnit {
                decode_ticks: ticks(at),
                presentation_ticks: ticks(place) as i64,
                unit,
            });
        Self::assemble(name, codec, timed.collect(), duration)
    }

    fn assemble(
        name: &str,
        codec: Codec,
        units: Vec<TimedUnit>,
        duration_ticks: u64,
    ) -> Result<Self, String> {
        let mut parameter_sets = ParameterSets::default();
        for nal in units.first().iter().flat_map(|first| &first.unit) {
            let slot = match codec.role(nal) {
                Role::Vps => &mut parameter_sets.vps,
                Role::Sps => &mut parameter_sets.sps,
                Role::Pps => &mut parameter_sets.pps,
                _ => continue,
            };
            if slot.is_empty() {
                slot.clone_from(nal);
            }
        }
        if parameter_sets.sps.len() < 4 || parameter_sets.pps.is_empty() {
            return Err("its first keyframe has no parameter sets".into());
        }
        if duration_ticks == 0 {
            return Err("it has no duration".into());
        }
        let ahead = units
            .iter()
            .map(|unit| unit.presentation_ticks - unit.decode_ticks as i64)
            .max();
        let delay = ahead.unwrap_or_default();
        let lag = |unit: &TimedUnit| unit.decode_ticks as i64 - (unit.presentation_ticks - delay);
        let reorder_ticks = units.iter().map(lag).max().unwrap_or_default().unsigned_abs();
        let frames = units
            .into_iter()
            .map(|timed| Frame {
                send_ticks: timed.decode_ticks,
                capture_ticks: timed.presentation_ticks - delay,
                keyframe: is_keyframe(codec, &timed.unit),
                packets: packetize::packetize(codec, &timed.unit),
                unit: timed.unit,
                sha256: OnceLock::new(),
            })
            .collect();
        Ok(Self {
            name: name.to_owned(),
            codec,
            parameter_sets,
            frames,
            duration_ticks,
            reorder_ticks,
        })
    }

    /// The clip's codec.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Number of frames in one repetition.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Always false: a clip has at least one frame.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Frame `index` in the form of an `avc1` or `hvc1` sample: NAL units with 4-byte lengths, without the
    /// parameter sets, which belong into the sample entry. `None` past the end.
    pub fn sample(&self, index: usize) -> Option<Vec<u8>> {
        Some(sample(self.codec, &self.frames.get(index)?.unit))
    }

    /// SHA-256 of [`Self::sample`], computed once.
    pub(super) fn sample_sha256(&self, index: usize) -> [u8; 32] {
        let Some(frame) = self.frames.get(index) else {
            return [0; 32];
        };
        *frame
            .sha256
            .get_or_init(|| Sha256::digest(sample(self.codec, &frame.unit)).into())
    }
}

impl std::fmt::Display for Clip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.duration_ticks as f64 / TICKS_PER_SECOND as f64;
        let bytes: usize = self
            .frames
            .iter()
            .map(|frame| frame.packets.payload_bytes())
            .sum();
        let keyframes = self.frames.iter().filter(|frame| frame.keyframe).count();
        write!(
            f,
            "clip {}: {:?}, {} frames, {keyframes} keyframes, {seconds:.1} s, {:.3} Mbit/s",
            self.name,
            self.codec,
            self.frames.len(),
            bytes as f64 * 8.0 / seconds / 1e6,
        )
    }
}

fn is_keyframe(codec: Codec, unit: &AccessUnit) -> bool {
    unit.iter()
        .any(|nal| matches!(codec.role(nal), Role::Slice { keyframe: true, .. }))
}

fn sample(codec: Codec, unit: &AccessUnit) -> Vec<u8> {
    let mut sample = Vec::with_capacity(unit.iter().map(|nal| nal.len() + 4).sum());
    for nal in unit.iter().filter(|nal| !codec.role(nal).is_parameter_set()) {
        sample.extend_from_slice(&(nal.len() as u32).to_be_bytes());
        sample.extend_from_slice(nal);
    }
    sample
}
