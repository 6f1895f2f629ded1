//! RTCP sender reports (RFC 3550 §6.4.1), which tie the RTP clock to the camera's wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds from the NTP epoch (1900) to the Unix epoch.
const NTP_TO_UNIX_SECONDS: i128 = 2_208_988_800;

/// The content of a sender report without reception blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct SenderReport {
    pub(super) ssrc: u32,
    /// The host's wall time now.
    pub(super) wall: SystemTime,
    /// How far the camera's wall clock is ahead of the host's, in microseconds.
    pub(super) wall_offset_us: i64,
    /// The RTP clock now.
    pub(super) timestamp: u32,
    pub(super) packets: u32,
    pub(super) octets: u32,
}

impl SenderReport {
    /// Appends the report, framed for interleaved channel 1.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let unix_us = self
            .wall
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros() as i128;
        let ntp_us = unix_us + i128::from(self.wall_offset_us) + NTP_TO_UNIX_SECONDS * 1_000_000;
        // 32.32 fixed point; the seconds wrap in 2036 as the format has it.
        let ntp = ((ntp_us << 32) / 1_000_000) as u64;
        out.extend_from_slice(&[b'$', 1, 0, 28, 0x80, 200, 0, 6]);
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&ntp.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.packets.to_be_bytes());
        out.extend_from_slice(&self.octets.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_camera_clock_is_stated_in_ntp_format() {
        let report = SenderReport {
            ssrc: 1,
            wall: UNIX_EPOCH + Duration::from_millis(1500),
            wall_offset_us: -1_250_000,
            timestamp: 2,
            packets: 3,
            octets: 4,
        };
        let mut out = Vec::new();
        report.write(&mut out);
        assert_eq!(out.len(), 4 + 28);
        assert_eq!(out[12..16], 2_208_988_800_u32.to_be_bytes());
        assert_eq!(out[16..20], (1_u32 << 30).to_be_bytes());
    }
}
