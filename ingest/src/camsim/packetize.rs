//! Cuts access units into RTP packets once, so that sending a frame is a copy and a patch.

use super::annexb::AccessUnit;
use super::codec::Codec;

/// Largest RTP payload, in bytes: an Ethernet frame less headers, as cameras choose it.
const PAYLOAD_BYTES_MAX: usize = 1400;

/// Interleaved framing (RFC 2326 §10.12) before each packet.
const FRAMING_BYTES: usize = 4;

/// RTP header without extensions (RFC 3550 §5.1).
const RTP_HEADER_BYTES: usize = 12;

/// Payload type of the one video track.
pub(super) const PAYLOAD_TYPE: u8 = 96;

/// The packets of one frame as they go onto the connection, interleaved framing included, with sequence
/// number, timestamp and source left 0.
#[derive(Debug)]
pub(super) struct Packets {
    bytes: Vec<u8>,
    /// Where each packet's framing starts in `bytes`.
    starts: Vec<u32>,
}

/// The fields of an RTP header that differ from camera to camera and from frame to frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Sequence number of the frame's first packet.
    pub(super) sequence: u16,
    /// RTP timestamp of the frame.
    pub(super) timestamp: u32,
    /// Synchronisation source.
    pub(super) ssrc: u32,
}

impl Packets {
    /// Number of packets.
    pub(super) fn count(&self) -> usize {
        self.starts.len()
    }

    /// Bytes of RTP payload, as sender reports count them.
    pub(super) fn payload_bytes(&self) -> usize {
        self.bytes.len() - self.starts.len() * (FRAMING_BYTES + RTP_HEADER_BYTES)
    }

    /// Appends the packets to `out` with `stamp` filled in.
    pub(super) fn stamp_into(&self, out: &mut Vec<u8>, stamp: Stamp) {
        let base = out.len();
        out.extend_from_slice(&self.bytes);
        let mut sequence = stamp.sequence;
        for &start in &self.starts {
            let at = base + start as usize + FRAMING_BYTES + 2;
            out[at..at + 2].copy_from_slice(&sequence.to_be_bytes());
            out[at + 2..at + 6].copy_from_slice(&stamp.timestamp.to_be_bytes());
            out[at + 6..at + 10].copy_from_slice(&stamp.ssrc.to_be_bytes());
            sequence = sequence.wrapping_add(1);
        }
    }

    fn push(&mut self, parts: &[&[u8]], marker: bool) {
        let payload: usize = parts.iter().map(|part| part.len()).sum();
        let packet_bytes = (RTP_HEADER_BYTES + payload) as u16;
        self.starts.push(self.bytes.len() as u32);
        self.bytes.extend_from_slice(&[b'$', 0]);
        self.bytes.extend_from_slice(&packet_bytes.to_be_bytes());
        self.bytes
            .extend_from_slice(&[0x80, u8::from(marker) << 7 | PAYLOAD_TYPE]);
        self.bytes.extend_from_slice(&[0; RTP_HEADER_BYTES - 2]);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }
}

/// Packetises one access unit: single NAL unit packets and fragmentation units (RFC 6184 §5.8,
/// RFC 7798 §4.4.3); the marker bit stands on the last packet.
pub(super) fn packetize(codec: Codec, unit: &AccessUnit) -> Packets {
    let mut packets = Packets {
        bytes: Vec::new(),
        starts: Vec::new(),
    };
    for (at, nal) in unit.iter().enumerate() {
        let last = at + 1 == unit.len();
        if nal.len() <= PAYLOAD_BYTES_MAX {
            packets.push(&[nal], last);
        } else {
            push_fragments(&mut packets, codec, nal, last);
        }
    }
    packets.bytes.shrink_to_fit();
    packets
}

fn push_fragments(packets: &mut Packets, codec: Codec, nal: &[u8], last: bool) {
    let (indicator, kind, header_bytes): (Vec<u8>, u8, usize) = match codec {
        Codec::H264 => (vec![nal[0] & 0xe0 | 28], nal[0] & 0x1f, 1),
        Codec::H265 => (vec![nal[0] & 0x81 | 49 << 1, nal[1]], nal[0] >> 1 & 0x3f, 2),
    };
    let body = &nal[header_bytes..];
    let pieces = body.chunks(PAYLOAD_BYTES_MAX - header_bytes - 1);
    let ends_at = pieces.len() - 1;
    for (at, piece) in pieces.enumerate() {
        let fragment = [u8::from(at == 0) << 7 | u8::from(at == ends_at) << 6 | kind];
        packets.push(&[&indicator, &fragment, piece], last && at == ends_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (sequence, timestamp, ssrc, marker, payload) of every packet.
    fn split(mut bytes: &[u8]) -> Vec<(u16, u32, u32, bool, Vec<u8>)> {
        let mut packets = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(bytes[..2], [b'$', 0]);
            let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
            let packet = &bytes[4..4 + length];
            let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().expect("4 bytes"));
            assert_eq!((packet[0], packet[1] & 0x7f), (0x80, PAYLOAD_TYPE));
            let sequence = u16::from_be_bytes([packet[2], packet[3]]);
            packets.push((
                sequence,
                word(4),
                word(8),
                packet[1] & 0x80 != 0,
                packet[12..].to_vec(),
            ));
            bytes = &bytes[4 + length..];
        }
        packets
    }

    #[test]
    fn a_large_nal_unit_comes_back_whole_from_its_fragments() {
        for (codec, header) in [(Codec::H264, &[0x65][..]), (Codec::H265, &[19 << 1, 1][..])] {
            let body: Vec<u8> = (0..5000_u32).map(|n| n as u8).collect();
            let nal = [header, &body].concat();
            let packets = packetize(codec, &vec![nal.clone()]);
            let mut out = vec![0xaa];
            packets.stamp_into(
                &mut out,
                Stamp {
                    sequence: u16::MAX,
                    timestamp: 7,
                    ssrc: 9,
                },
            );
            let split = split(&out[1..]);
            assert_eq!(split.len(), packets.count());
            let sequences: Vec<u16> = split.iter().map(|packet| packet.0).collect();
            assert_eq!(sequences, [u16::MAX, 0, 1, 2]);
            assert!(split.iter().all(|packet| packet.1 == 7 && packet.2 == 9));
            assert_eq!(
                split.iter().map(|packet| packet.3).collect::<Vec<_>>(),
                [false, false, false, true]
            );
            let skip = header.len() + 1;
            let joined: Vec<u8> = split
                .iter()
                .flat_map(|packet| packet.4[skip..].to_vec())
                .collect();
            assert_eq!(joined, body);
            let flags: Vec<u8> = split.iter().map(|packet| packet.4[skip - 1] >> 6).collect();
            assert_eq!(flags, [2, 0, 0, 1]);
            assert_eq!(
                packets.payload_bytes(),
                split.iter().map(|packet| packet.4.len()).sum::<usize>()
            );
        }
    }

    #[test]
    fn only_the_last_packet_of_a_frame_carries_the_marker() {
        let unit = vec![vec![9, 0xf0], vec![0x65; 10], vec![0x65; 10]];
        let mut out = Vec::new();
        packetize(Codec::H264, &unit).stamp_into(
            &mut out,
            Stamp {
                sequence: 1,
                timestamp: 2,
                ssrc: 3,
            },
        );
        assert_eq!(
            split(&out).iter().map(|packet| packet.3).collect::<Vec<_>>(),
            [false, false, true]
        );
    }
}
