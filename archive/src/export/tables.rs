//! The sample tables of one track while they grow, run-length encoded as they will stand in `stbl`.

use crate::mp4::SampleEntry;

/// The tables of one track. Times count from its first sample, in ticks of the track.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// `stts`: how many samples of which duration.
    pub(super) durations: Vec<(u32, u32)>,
    /// `ctts` before the common delay: how many samples of which offset.
    pub(super) compositions: Vec<(u32, i32)>,
    /// `stsz`.
    pub(super) sizes: Vec<u32>,
    /// `stss`: numbers of the keyframes, from 1.
    pub(super) keyframes: Vec<u32>,
    /// `stsc`: from which stretch on (counted from 1) there are how many samples of which sample entry.
    pub(super) per_stretch: Vec<(u32, u32, u32)>,
    /// `stco`: where each stretch begins in the content of the `mdat`.
    pub(super) stretches: Vec<u64>,
    /// All durations: the length of the track.
    pub(super) duration: u64,
    first: i64,
    last: Option<Last>,
    in_stretch: u32,
    sample_entry: u32,
}

#[derive(Copy, Clone, Debug)]
struct Last {
    dts: i64,
    duration: u32,
}

/// The durations of two samples cannot be brought in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unordered;

impl Tables {
    /// Begins a stretch of samples that follow each other in the file (a "chunk" in ISO/IEC 14496-12).
    pub(super) fn begin_stretch(&mut self, at: u64, sample_entry: u32) {
        self.end_stretch();
        self.sample_entry = sample_entry;
        self.stretches.push(at);
    }

    /// Appends a sample that is decoded at `dts` and shown at `pts`; `sample.duration` holds only where no
    /// other sample follows. Decode times must not run backwards.
    pub(super) fn push(&mut self, dts: i64, pts: i64, sample: &SampleEntry) -> Result<(), Unordered> {
        match self.last {
            Some(last) => self.push_duration(u32::try_from(dts - last.dts).map_err(|_| Unordered)?),
            None => self.first = dts,
        }
        self.last = Some(Last {
            dts,
            duration: sample.duration,
        });
        let composition = i32::try_from(pts - dts).map_err(|_| Unordered)?;
        count_run(&mut self.compositions, composition);
        self.sizes.push(sample.size);
        if sample.keyframe {
            self.keyframes.push(self.sizes.len() as u32);
        }
        self.in_stretch += 1;
        Ok(())
    }

    /// Ends the track with the last sample's own duration.
    pub(super) fn finish(&mut self) {
        if let Some(last) = self.last.take() {
            self.push_duration(last.duration);
        }
        self.end_stretch();
    }

    /// The decode time of the first sample as it was given.
    pub(super) fn first(&self) -> i64 {
        self.first
    }

    /// The decode time of the last sample as it was given, before [`finish`](Self::finish).
    pub(super) fn last(&self) -> Option<i64> {
        self.last.map(|l| l.dts)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// By how much all samples must be shown later so that none is shown before it is decoded.
    pub(super) fn delay(&self) -> i64 {
        self.compositions
            .iter()
            .map(|(_, offset)| -i64::from(*offset))
            .max()
            .unwrap_or(0)
            .max(0)
    }

    fn push_duration(&mut self, duration: u32) {
        count_run(&mut self.durations, duration);
        self.duration += u64::from(duration);
    }

    fn end_stretch(&mut self) {
        if self.in_stretch == 0 {
            return;
        }
        let row = (self.in_stretch, self.sample_entry);
        if self
            .per_stretch
            .last()
            .is_none_or(|(_, samples, entry)| (*samples, *entry) != row)
        {
            self.per_stretch.push((self.stretches.len() as u32, row.0, row.1));
        }
        self.in_stretch = 0;
    }
}

fn count_run<T: PartialEq>(runs: &mut Vec<(u32, T)>, value: T) {
    match runs.last_mut() {
        Some((count, last)) if *last == value => *count += 1,
        _ => runs.push((1, value)),
    }
}
