//! Packets and parameter sets that no honest camera sends.

/// The fields of an RTP header that are changed or forged.
#[derive(Copy, Clone)]
pub(crate) struct Header {
    pub(crate) marker: bool,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
}

/// Bytes of an RTP header without extensions.
pub(crate) const HEADER_BYTES: usize = 12;

impl Header {
    pub(crate) fn of(packet: &[u8]) -> Self {
        let word =
            |at: usize| u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
        Self {
            marker: packet[1] & 0x80 != 0,
            sequence: u16::from_be_bytes([packet[2], packet[3]]),
            timestamp: word(4),
            ssrc: word(8),
        }
    }

    pub(crate) fn packet(self, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80, u8::from(self.marker) << 7 | 96];
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&self.timestamp.to_be_bytes());
        packet.extend_from_slice(&self.ssrc.to_be_bytes());
        packet.extend_from_slice(payload);
        packet
    }
}

/// The type of the H.264 NAL unit that a payload belongs to, and whether it is its beginning.
pub(crate) fn nal_type(payload: &[u8]) -> (u8, bool) {
    match payload {
        [first, fragment, ..] if first & 0x1f == 28 => (fragment & 0x1f, fragment & 0x80 != 0),
        [first, ..] => (first & 0x1f, true),
        [] => (0, true),
    }
}

/// Makes a slice of a keyframe one of another picture.
pub(crate) fn without_keyframe(payload: &mut [u8]) {
    let at = usize::from(payload.first().is_some_and(|first| first & 0x1f == 28));
    if let Some(byte) = payload.get_mut(at)
        && *byte & 0x1f == 5
    {
        *byte = *byte & 0xe0 | 1;
    }
}

/// An H.264 SPS of this many macroblocks each way.
pub(crate) fn sps(macroblocks: u32) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    // Baseline has no chroma format. Level 5.2.
    for byte in [66_u8, 0, 52] {
        bits.extend((0..8).rev().map(|i| byte >> i & 1 == 1));
    }
    // Id, frame number, picture order by type 2, one reference, then no gaps in frame numbers.
    for value in [0, 0, 2, 1] {
        exp_golomb(&mut bits, value);
    }
    bits.push(false);
    for _ in 0..2 {
        exp_golomb(&mut bits, macroblocks - 1);
    }
    // Frames only, direct inference, no cropping, no VUI, and the stop bit.
    bits.extend([true, true, false, false, true]);
    let mut nal = vec![0x67];
    for byte in bits.chunks(8) {
        let value = (0..8).fold(0, |v, i| v << 1 | u8::from(byte.get(i).copied().unwrap_or(false)));
        if nal.ends_with(&[0, 0]) && value <= 3 {
            nal.push(3);
        }
        nal.push(value);
    }
    nal
}

fn exp_golomb(bits: &mut Vec<bool>, value: u32) {
    let coded = u64::from(value) + 1;
    let length = 64 - coded.leading_zeros();
    bits.extend((1..length).map(|_| false));
    bits.extend((0..length).rev().map(|i| coded >> i & 1 == 1));
}
