//! What a NAL unit is, as far as splitting a stream into access units and packets needs to know.

/// The codec of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// H.264 / AVC.
    H264,
    /// H.265 / HEVC.
    H265,
}

/// The role of one NAL unit within its access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Coded picture data.
    Slice {
        /// The picture starts here.
        first: bool,
        /// The picture is a random access point.
        keyframe: bool,
    },
    /// Video parameter set (H.265 only).
    Vps,
    /// Sequence parameter set.
    Sps,
    /// Picture parameter set.
    Pps,
    /// Stands before the first slice of its access unit (delimiter, SEI, …).
    Leading,
    /// Stands after the slices (filler, suffix SEI, end of sequence, …).
    Trailing,
}

impl Codec {
    /// Classifies a NAL unit without its start code. An empty one counts as trailing.
    pub(super) fn role(self, nal: &[u8]) -> Role {
        let Some(&header) = nal.first() else {
            return Role::Trailing;
        };
        match self {
            Self::H264 => match header & 0x1f {
                kind @ (1 | 2 | 5) => Role::Slice {
                    // first_mb_in_slice = 0 is the single bit 1.
                    first: kind != 2 && nal.get(1).is_some_and(|b| b & 0x80 != 0),
                    keyframe: kind == 5,
                },
                3 | 4 => Role::Slice {
                    first: false,
                    keyframe: false,
                },
                7 => Role::Sps,
                8 => Role::Pps,
                6 | 9 | 14..=18 => Role::Leading,
                _ => Role::Trailing,
            },
            Self::H265 => match (header >> 1) & 0x3f {
                kind @ 0..=31 => Role::Slice {
                    first: nal.get(2).is_some_and(|b| b & 0x80 != 0),
                    keyframe: (16..=23).contains(&kind),
                },
                32 => Role::Vps,
                33 => Role::Sps,
                34 => Role::Pps,
                35 | 39 | 41..=44 | 48..=55 => Role::Leading,
                _ => Role::Trailing,
            },
        }
    }

    /// Tells the codec of an Annex B stream from its first NAL unit's first byte.
    ///
    /// A stream opens with a delimiter, a parameter set or an SEI; in H.265 these have types 32 to 39, so
    /// their first byte is even and in `0x40..=0x4e`, which no H.264 stream may open with.
    pub(super) fn of_first_byte(byte: u8) -> Self {
        if byte & 1 == 0 && (0x40..=0x4e).contains(&byte) {
            Self::H265
        } else {
            Self::H264
        }
    }
}

impl Role {
    /// Whether this is a VPS, SPS or PPS.
    pub(super) fn is_parameter_set(self) -> bool {
        matches!(self, Self::Vps | Self::Sps | Self::Pps)
    }
}
