//! The fragments of a fragmented file, one `moof` at a time.
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::io::{Read, Seek};

use archive::mp4::{BoxHeader, Boxes};
use mp4_atom::{Decode as _, Tfdt, Tfhd, Trex, Trun};

use super::movie::Movie;
use super::{BOXES_MAX, ImportError, Input, Located};

/// Larger `moof` boxes are refused.
const MOOF_BYTES_MAX: u64 = 16 << 20;
/// Samples of one `moof`.
const SAMPLES_MAX: usize = 1 << 20;
/// The bit of sample flags that says that decoding cannot begin here.
const NOT_SYNC: u32 = 0x1_0000;

/// Walks over the `moof` boxes of a file.
pub(super) struct Fragments {
    at: u64,
    boxes: usize,
    defaults: Vec<Trex>,
    /// What the edit list adds to the times of each track that is imported.
    shifts: HashMap<u32, i64>,
    /// Where each track's decode time is, without the edit list.
    clocks: HashMap<u32, i64>,
}

/// The samples of one track in one `moof`.
pub(super) struct TrackRun {
    pub(super) track_id: u32,
    pub(super) samples: Vec<Located>,
}

impl Fragments {
    /// Begins at the box at `at`.
    pub(super) fn new(at: u64, movie: &Movie) -> Self {
        let shifts = [Some(&movie.video), movie.audio.as_ref()]
            .into_iter()
            .flatten()
            .map(|t| (t.id, t.shift));
        Self {
            at,
            boxes: 0,
            defaults: movie.defaults.clone(),
            shifts: shifts.collect(),
            clocks: HashMap::new(),
        }
    }

    /// The samples of the next `moof`; `None` at the end of the file.
    pub(super) fn next_moof<R: Read + Seek>(
        &mut self,
        input: &mut Input<R>,
    ) -> Result<Option<Vec<TrackRun>>, ImportError> {
        while let Some(b) = input.box_at(self.at)? {
            self.boxes += 1;
            if self.boxes > BOXES_MAX {
                return Err(ImportError::Malformed("too many boxes".into()));
            }
            self.at = b.end;
            if &b.kind == b"moof" {
                let moof = input.content(&b, MOOF_BYTES_MAX)?;
                return self.moof(&moof, b.start).map(Some);
            }
        }
        Ok(None)
    }

    fn moof(&mut self, moof: &[u8], moof_at: u64) -> Result<Vec<TrackRun>, ImportError> {
        let mut runs = Vec::new();
        let mut samples_left = SAMPLES_MAX;
        // Where the data of the next track begins if it does not say so.
        let mut data_at = moof_at;
        for traf in Boxes(moof) {
            let traf = traf?;
            if &traf.kind == b"traf" {
                runs.push(self.traf(&traf, moof_at, &mut data_at, &mut samples_left)?);
            }
        }
        Ok(runs)
    }

    fn traf(
        &mut self,
        traf: &BoxHeader<'_>,
        moof_at: u64,
        data_at: &mut u64,
        samples_left: &mut usize,
    ) -> Result<TrackRun, ImportError> {
        let tfhd = Tfhd::decode(&mut &*traf.children().find(b"tfhd")?.whole)?;
        let track_id = tfhd.track_id;
        let default = self
            .defaults
            .iter()
            .find(|d| d.track_id == track_id)
            .cloned()
            .unwrap_or_default();
        let clock = self.clocks.entry(track_id).or_default();
        if let Ok(b) = traf.children().find(b"tfdt") {
            let base = Tfdt::decode(&mut &*b.whole)?.base_media_decode_time;
            *clock = i64::try_from(base).map_err(|_| ImportError::Malformed("a time out of range".into()))?;
        }
        let described = tfhd
            .sample_description_index
            .unwrap_or(default.default_sample_description_index);
        let shift = self.shifts.get(&track_id).copied();
        if shift.is_some() && described > 1 {
            return Err(ImportError::Unsupported(
                "a file whose encoding changes in mid-track".into(),
            ));
        }
        let base = match (tfhd.base_data_offset, tfhd.default_base_is_moof) {
            (Some(base), _) => base,
            (None, true) => moof_at,
            (None, false) => *data_at,
        };
        *data_at = base;
        let mut samples = Vec::new();
        for trun in traf.children() {
            let trun = trun?;
            if &trun.kind != b"trun" {
                continue;
            }
            let trun = Trun::decode(&mut &*trun.whole)?;
            if let Some(offset) = trun.data_offset {
                *data_at = base.saturating_add_signed(offset.into());
            }
            *samples_left = (samples_left.checked_sub(trun.samples.len()))
                .ok_or_else(|| ImportError::Malformed("too many samples in a fragment".into()))?;
            for s in &trun.samples {
                let size = s
                    .size
                    .or(tfhd.default_sample_size)
                    .unwrap_or(default.default_sample_size);
                let duration = s
                    .duration
                    .or(tfhd.default_sample_duration)
                    .unwrap_or(default.default_sample_duration);
                let flags = s
                    .flags
                    .or(tfhd.default_sample_flags)
                    .unwrap_or(default.default_sample_flags);
                if let Some(shift) = shift {
                    let dts = clock.saturating_add(shift);
                    let pts = dts.saturating_add(s.cts.unwrap_or(0));
                    samples.push(Located {
                        offset: *data_at,
                        size,
                        dts,
                        pts,
                        keyframe: flags & NOT_SYNC == 0,
                    });
                }
                *clock = clock.saturating_add(duration.into());
                *data_at = data_at.saturating_add(size.into());
            }
        }
        Ok(TrackRun { track_id, samples })
    }
}
