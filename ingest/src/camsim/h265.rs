//! The few fields of H.265 headers that give the pictures of a raw stream their order.
#![deny(clippy::indexing_slicing)]

use super::bits::Bits;
use super::codec::Role;
use super::order::{Lsb, Order};

#[derive(Debug, Clone, Copy)]
struct Sps {
    separate_colour_plane: bool,
    poc_lsb_bits: u32,
}

#[derive(Debug, Clone, Copy)]
struct Pps {
    output_flag_present: bool,
    extra_slice_bits: u32,
}

/// Reads the order of pictures, one slice header each, under the parameter sets seen so far.
#[derive(Default)]
pub(super) struct Reader {
    sps: Option<Sps>,
    pps: Option<Pps>,
}

fn parse_sps(nal: &[u8]) -> Option<Sps> {
    let mut bits = Bits::new(nal.get(2..)?);
    bits.skip(4)?;
    let sub_layers = bits.unsigned(3)?;
    bits.skip(1 + 88 + 8)?; // nesting flag, general profile, tier and level
    let mut present = Vec::new();
    for _ in 0..sub_layers {
        present.push((bits.flag()?, bits.flag()?));
    }
    if sub_layers > 0 {
        bits.skip(2 * (8 - sub_layers))?;
    }
    for (profile, level) in present {
        bits.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    bits.ue()?; // sps_seq_parameter_set_id
    let separate_colour_plane = bits.ue()? == 3 && bits.flag()?;
    bits.ue()?;
    bits.ue()?;
    if bits.flag()? {
        for _ in 0..4 {
            bits.ue()?;
        }
    }
    bits.ue()?;
    bits.ue()?;
    let poc_lsb_bits = bits.ue()?.checked_add(4).filter(|&n| n <= 16)?;
    Some(Sps {
        separate_colour_plane,
        poc_lsb_bits,
    })
}

fn parse_pps(nal: &[u8]) -> Option<Pps> {
    let mut bits = Bits::new(nal.get(2..)?);
    bits.ue()?;
    bits.ue()?;
    bits.skip(1)?; // dependent_slice_segments_enabled_flag: the first segment never is one
    Some(Pps {
        output_flag_present: bits.flag()?,
        extra_slice_bits: bits.unsigned(3)?,
    })
}

impl Reader {
    /// Takes note of a parameter set.
    pub(super) fn parameter_set(&mut self, role: Role, nal: &[u8]) -> Result<(), String> {
        match role {
            Role::Sps => {
                self.sps = Some(parse_sps(nal).ok_or("its H.265 sequence parameter set cannot be read")?);
            }
            Role::Pps => {
                self.pps = Some(parse_pps(nal).ok_or("its H.265 picture parameter set cannot be read")?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The order of the picture that this slice segment starts.
    pub(super) fn order(&self, nal: &[u8]) -> Result<Order, String> {
        let (Some(sps), Some(pps)) = (self.sps, self.pps) else {
            return Err("a picture comes before its parameter sets".into());
        };
        let kind = nal.first().map_or(0, |b| b >> 1 & 0x3f);
        let temporal_id = nal.get(1).map_or(1, |b| (b & 7).saturating_sub(1));
        let idr = matches!(kind, 19 | 20);
        // Leading pictures (6 to 9) and sub-layer non-reference pictures (even, below 16) anchor nothing.
        let anchors = !(6..=9).contains(&kind) && (kind >= 16 || kind % 2 == 1);
        let value = if idr {
            Some(0)
        } else {
            Self::poc_lsb(sps, pps, kind, nal)
        };
        let value = value.ok_or("a slice header is cut short")?;
        Ok(Order {
            lsb: Some(Lsb {
                value,
                bits: sps.poc_lsb_bits,
            }),
            resets: (16..=20).contains(&kind),
            is_reference: temporal_id == 0 && anchors,
        })
    }

    fn poc_lsb(sps: Sps, pps: Pps, kind: u8, nal: &[u8]) -> Option<u32> {
        let mut bits = Bits::new(nal.get(2..)?);
        bits.skip(1)?; // first_slice_segment_in_pic_flag
        if (16..=23).contains(&kind) {
            bits.skip(1)?;
        }
        bits.ue()?;
        bits.skip(pps.extra_slice_bits)?;
        bits.ue()?; // slice_type
        bits.skip(u32::from(pps.output_flag_present))?;
        bits.skip(if sps.separate_colour_plane { 2 } else { 0 })?;
        bits.unsigned(sps.poc_lsb_bits)
    }
}
