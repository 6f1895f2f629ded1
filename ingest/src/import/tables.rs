//! The sample tables of a progressive file, walked sample by sample without being unfolded.
#![deny(clippy::indexing_slicing)]

use archive::Malformed;
use archive::mp4::BoxHeader;
use mp4_atom::{Co64, Ctts, Decode as _, Stco, Stsc, StscEntry, Stss, Stsz, StszSamples, Stts};

use super::{ImportError, Located};

/// Where each chunk begins.
enum Chunks {
    Short(Vec<u32>),
    Long(Vec<u64>),
}

/// A run-length coded value per sample.
struct Runs<T> {
    entries: std::vec::IntoIter<(u32, T)>,
    left: u32,
    value: Option<T>,
}

impl<T: Copy> Runs<T> {
    fn new(entries: Vec<(u32, T)>) -> Self {
        Self {
            entries: entries.into_iter(),
            left: 0,
            value: None,
        }
    }

    fn next(&mut self) -> Option<T> {
        while self.left == 0 {
            let (count, value) = self.entries.next()?;
            (self.left, self.value) = (count, Some(value));
        }
        self.left -= 1;
        self.value
    }
}

/// The samples of one track in `moov`.
pub(super) struct Tables {
    shift: i64,
    durations: Runs<u32>,
    /// `None` where presentation and decode time are the same.
    compositions: Option<Runs<i64>>,
    sizes: StszSamples,
    chunks: Chunks,
    per_chunk: Vec<StscEntry>,
    /// `None` where every sample is a keyframe.
    keyframes: Option<Vec<u32>>,
    // Where the walk is.
    sample: u32,
    dts: i64,
    chunk: usize,
    run: usize,
    left_in_chunk: u32,
    offset: u64,
    next_keyframe: usize,
}

impl Tables {
    /// Reads the tables in `stbl`. `shift` is added to all times.
    pub(super) fn parse(stbl: &BoxHeader<'_>, shift: i64) -> Result<Self, ImportError> {
        let find = |kind: &[u8; 4]| stbl.children().find(kind);
        let stts = Stts::decode(&mut &*find(b"stts")?.whole)?;
        let ctts = find(b"ctts")
            .ok()
            .map(|b| Ctts::decode(&mut &*b.whole))
            .transpose()?;
        let chunks = match find(b"stco") {
            Ok(b) => Chunks::Short(Stco::decode(&mut &*b.whole)?.entries),
            Err(_) => Chunks::Long(Co64::decode(&mut &*find(b"co64")?.whole)?.entries),
        };
        let per_chunk = Stsc::decode(&mut &*find(b"stsc")?.whole)?.entries;
        if per_chunk.iter().any(|e| e.sample_description_index != 1) {
            return Err(ImportError::Unsupported(
                "a file whose encoding changes in mid-track".into(),
            ));
        }
        let keyframes = find(b"stss")
            .ok()
            .map(|b| Stss::decode(&mut &*b.whole))
            .transpose()?;
        let compositions = |c: Ctts| {
            Runs::new(
                c.entries
                    .into_iter()
                    .map(|e| (e.sample_count, e.sample_offset))
                    .collect(),
            )
        };
        Ok(Self {
            shift,
            durations: Runs::new(
                stts.entries
                    .into_iter()
                    .map(|e| (e.sample_count, e.sample_delta))
                    .collect(),
            ),
            compositions: ctts.map(compositions),
            sizes: Stsz::decode(&mut &*find(b"stsz")?.whole)?.samples,
            chunks,
            per_chunk,
            keyframes: keyframes.map(|k| k.entries),
            sample: 0,
            dts: 0,
            chunk: 0,
            run: 0,
            left_in_chunk: 0,
            offset: 0,
            next_keyframe: 0,
        })
    }

    /// The next sample in decode order; `None` behind the last.
    pub(super) fn next_sample(&mut self) -> Result<Option<Located>, ImportError> {
        let size = match &self.sizes {
            StszSamples::Identical { count, size } => (self.sample < *count).then_some(*size),
            StszSamples::Different { sizes } => sizes.get(self.sample as usize).copied(),
        };
        let Some(size) = size else {
            return Ok(None);
        };
        if self.left_in_chunk == 0 {
            self.enter_chunk()?;
        }
        let offset = self.offset;
        self.offset = offset.saturating_add(size.into());
        self.left_in_chunk -= 1;
        self.sample += 1;
        let duration = self.durations.next().ok_or(Malformed("stts is too short"))?;
        let composition = match &mut self.compositions {
            Some(runs) => runs.next().ok_or(Malformed("ctts is too short"))?,
            None => 0,
        };
        let dts = self.dts.saturating_add(self.shift);
        self.dts = self.dts.saturating_add(duration.into());
        let keyframe = self.is_keyframe();
        Ok(Some(Located {
            offset,
            size,
            dts,
            pts: dts.saturating_add(composition),
            keyframe,
        }))
    }

    /// Goes to the next chunk that holds samples.
    fn enter_chunk(&mut self) -> Result<(), ImportError> {
        let run = self.per_chunk.get(self.run).ok_or(Malformed("stsc is empty"))?;
        let mut per_chunk = run.samples_per_chunk;
        if let Some(next) = self.per_chunk.get(self.run + 1)
            && u64::from(next.first_chunk) <= self.chunk as u64 + 1
        {
            self.run += 1;
            per_chunk = next.samples_per_chunk;
        }
        self.offset = match &self.chunks {
            Chunks::Short(offsets) => offsets.get(self.chunk).copied().map(u64::from),
            Chunks::Long(offsets) => offsets.get(self.chunk).copied(),
        }
        .ok_or(Malformed("stco is too short"))?;
        self.chunk += 1;
        self.left_in_chunk = per_chunk;
        if per_chunk == 0 {
            return Err(Malformed("a chunk without samples").into());
        }
        Ok(())
    }

    /// Whether the sample just passed (counting from 1) is a keyframe.
    fn is_keyframe(&mut self) -> bool {
        let Some(keyframes) = &self.keyframes else {
            return true;
        };
        while keyframes
            .get(self.next_keyframe)
            .is_some_and(|&k| k < self.sample)
        {
            self.next_keyframe += 1;
        }
        keyframes.get(self.next_keyframe) == Some(&self.sample)
    }
}
