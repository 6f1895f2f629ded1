//! The few fields of H.264 headers that give a raw stream its times: frame rate and picture order.
#![deny(clippy::indexing_slicing)]

use super::bits::Bits;
use super::codec::Role;
use super::order::{Lsb, Order};

/// What a sequence parameter set says about time and order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sps {
    separate_colour_plane: bool,
    frame_num_bits: u32,
    poc_type: u32,
    poc_lsb_bits: u32,
    frames_only: bool,
    /// Frames per second as a fraction, where the VUI has it.
    pub(super) rate: Option<(u32, u32)>,
}

/// Parses a sequence parameter set NAL unit; `None` if it is cut short or out of range.
pub(super) fn parse_sps(nal: &[u8]) -> Option<Sps> {
    let mut bits = Bits::new(nal.get(1..)?);
    let profile = bits.unsigned(8)?;
    bits.skip(16)?;
    bits.ue()?; // seq_parameter_set_id
    let mut separate_colour_plane = false;
    if matches!(
        profile,
        44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244
    ) {
        let chroma = bits.ue()?;
        if chroma == 3 {
            separate_colour_plane = bits.flag()?;
        }
        bits.ue()?;
        bits.ue()?;
        bits.skip(1)?;
        if bits.flag()? {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if bits.flag()? {
                    skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    let frame_num_bits = bits.ue()?.checked_add(4).filter(|&n| n <= 16)?;
    let poc_type = bits.ue()?;
    let mut poc_lsb_bits = 0;
    if poc_type == 0 {
        poc_lsb_bits = bits.ue()?.checked_add(4).filter(|&n| n <= 16)?;
    } else if poc_type == 1 {
        bits.skip(1)?;
        bits.se()?;
        bits.se()?;
        for _ in 0..bits.ue()?.min(255) {
            bits.se()?;
        }
    }
    bits.ue()?; // max_num_ref_frames
    bits.skip(1)?;
    bits.ue()?;
    bits.ue()?;
    let frames_only = bits.flag()?;
    if !frames_only {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    if bits.flag()? {
        for _ in 0..4 {
            bits.ue()?;
        }
    }
    let rate = if bits.flag()? {
        parse_rate(&mut bits).flatten()
    } else {
        None
    };
    Some(Sps {
        separate_colour_plane,
        frame_num_bits,
        poc_type,
        poc_lsb_bits,
        frames_only,
        rate,
    })
}

/// Reads the VUI up to its timing fields. One frame lasts two ticks.
fn parse_rate(bits: &mut Bits<'_>) -> Option<Option<(u32, u32)>> {
    const EXTENDED_SAR: u32 = 255;
    if bits.flag()? && bits.unsigned(8)? == EXTENDED_SAR {
        bits.skip(32)?;
    }
    if bits.flag()? {
        bits.skip(1)?;
    }
    if bits.flag()? {
        bits.skip(4)?;
        if bits.flag()? {
            bits.skip(24)?;
        }
    }
    if bits.flag()? {
        bits.ue()?;
        bits.ue()?;
    }
    if !bits.flag()? {
        return Some(None);
    }
    let (tick, scale) = (bits.unsigned(32)?, bits.unsigned(32)?);
    Some(
        tick.checked_mul(2)
            .filter(|&den| den > 0 && scale > 0)
            .map(|den| (scale, den)),
    )
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8_i64, 8_i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.se()?).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// Reads the order of pictures, one slice header each, under the parameter sets seen so far.
#[derive(Default)]
pub(super) struct Reader {
    sps: Option<Sps>,
}

impl Reader {
    /// Takes note of a parameter set.
    pub(super) fn parameter_set(&mut self, role: Role, nal: &[u8]) -> Result<(), String> {
        if role == Role::Sps {
            self.sps = Some(parse_sps(nal).ok_or("its H.264 sequence parameter set cannot be read")?);
        }
        Ok(())
    }

    /// The order of the picture that this slice starts.
    pub(super) fn order(&self, nal: &[u8]) -> Result<Order, String> {
        let sps = self
            .sps
            .ok_or("a picture comes before any sequence parameter set")?;
        let header = nal.first().copied().unwrap_or_default();
        let (resets, is_reference) = (header & 0x1f == 5, header & 0x60 != 0);
        match sps.poc_type {
            0 => {}
            2 => {
                return Ok(Order {
                    lsb: None,
                    resets,
                    is_reference,
                });
            }
            _ => return Err("it codes picture order as type 1, which is not supported".into()),
        }
        let value = Self::poc_lsb(sps, resets, nal).ok_or("a slice header is cut short or interlaced")?;
        Ok(Order {
            lsb: Some(Lsb {
                value,
                bits: sps.poc_lsb_bits,
            }),
            resets,
            is_reference,
        })
    }

    fn poc_lsb(sps: Sps, idr: bool, nal: &[u8]) -> Option<u32> {
        let mut bits = Bits::new(nal.get(1..)?);
        bits.ue()?; // first_mb_in_slice
        bits.ue()?; // slice_type
        bits.ue()?; // pic_parameter_set_id
        if sps.separate_colour_plane {
            bits.skip(2)?;
        }
        bits.skip(sps.frame_num_bits)?;
        if !sps.frames_only && bits.flag()? {
            return None; // a field: two of them make one frame
        }
        if idr {
            bits.ue()?;
        }
        bits.unsigned(sps.poc_lsb_bits)
    }
}
