//! How much moves, told from the sizes of coded pictures against the stream's own recent past.

/// The activity of a fragment like those before it.
const USUAL: f32 = 64.0;
/// How quickly the usual size follows: one part in this many a fragment.
const FOLLOW_PARTS: f32 = 64.0;

/// What is usual for a stream.
#[derive(Copy, Clone, Debug, Default)]
pub struct Activity {
    /// Bytes of pictures that are no keyframes, per second; 0 before the first.
    usual: f32,
}

impl Activity {
    /// The activity of a fragment with `delta_bytes` in pictures that are no keyframes over `seconds`:
    /// 0 when there were none, 64 as usual, 255 from about fifteen times the usual.
    pub fn level(&mut self, delta_bytes: u64, seconds: f32) -> u8 {
        let rate = delta_bytes as f32 / seconds.max(0.001);
        if self.usual <= 0.0 {
            self.usual = rate;
        }
        if self.usual <= 0.0 {
            return 0;
        }
        let ratio = rate / self.usual;
        // What lasts becomes usual; a burst hardly does.
        self.usual += (rate.min(self.usual * 4.0) - self.usual) / FOLLOW_PARTS;
        ((1.0 + ratio).log2() * USUAL).clamp(0.0, 255.0) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_more_than_usual_stands_out() {
        let mut a = Activity::default();
        for _ in 0..50 {
            assert_eq!(a.level(100_000, 2.0), 64);
        }
        assert!(a.level(500_000, 2.0) > 150);
        assert!(a.level(20_000, 2.0) < 20);
        assert_eq!(a.level(0, 2.0), 0);
    }
}
