//! ISO base media boxes (ISO/IEC 14496-12): just those that our segments are made of.

mod init;
mod moof;
mod walk;

pub use init::{AUDIO_TRACK_ID, InitSegment, Track, TrackKind, VIDEO_TRACK_ID};
pub(crate) use moof::{SAMPLES_MAX, TrackRun, moof_bytes, parse_moof};
pub use moof::{SampleEntry, TrackSamples};
pub use walk::{BoxHeader, Boxes};

/// Appends boxes to a byte vector; sizes are filled in when a box is closed.
#[derive(Debug, Default)]
pub struct BoxWriter(pub Vec<u8>);

impl BoxWriter {
    /// A box whose content `content` writes.
    pub fn boxed(&mut self, kind: &[u8; 4], content: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        self.0.extend_from_slice(kind);
        content(self);
        let size = (self.0.len() - start) as u32;
        if let Some(field) = self.0.get_mut(start..start + 4) {
            field.copy_from_slice(&size.to_be_bytes());
        }
    }

    /// A box with version and flags.
    pub fn full(&mut self, kind: &[u8; 4], version: u8, flags: u32, content: impl FnOnce(&mut Self)) {
        self.boxed(kind, |w| {
            w.u32(u32::from(version) << 24 | flags & 0x00ff_ffff);
            content(w);
        });
    }

    /// One byte.
    pub fn u8(&mut self, v: u8) {
        self.0.push(v);
    }
    /// Two bytes.
    pub fn u16(&mut self, v: u16) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }
    /// Four bytes.
    pub fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }
    /// Eight bytes.
    pub fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }
    /// As it is.
    pub fn bytes(&mut self, v: &[u8]) {
        self.0.extend_from_slice(v);
    }
    /// `n` zero bytes.
    pub fn zeros(&mut self, n: usize) {
        self.0.resize(self.0.len() + n, 0);
    }
    /// The 36 bytes of an identity transformation.
    pub fn unity_matrix(&mut self) {
        for v in [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000] {
            self.u32(v);
        }
    }
}

#[cfg(test)]
pub(crate) use init::tests;
