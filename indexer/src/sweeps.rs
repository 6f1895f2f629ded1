//! How far each stream's copies were scrubbed.

use archive::codec::{Decoder, Encoder};
use archive::{Malformed, StreamNo, Tier, WallTime};
use rocksdb::WriteBatch;

use crate::db::META;
use crate::error::IndexError;
use crate::index::Index;

/// What is looked at.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Sweep {
    /// Whether every copy is there, with its length.
    Light,
    /// Every byte of the copies on a tier.
    Deep(Tier),
}

impl Sweep {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Light,
        Self::Deep(Tier::Hot),
        Self::Deep(Tier::Warm),
        Self::Deep(Tier::Cold),
    ];

    fn key(self, stream: StreamNo) -> String {
        let what = match self {
            Self::Light => "light",
            Self::Deep(tier) => tier.as_str(),
        };
        format!("scrub.{what}.{}", stream.0)
    }
}

/// How far a sweep over a stream is.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct SweepState {
    /// When the last one that came to its end began: no copy was looked at longer ago.
    pub last: Option<WallTime>,
    /// When the one in progress began.
    pub begun: Option<WallTime>,
    /// It is through with segments that begin before.
    pub through: WallTime,
}

impl SweepState {
    fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::default();
        e.i64(self.last.map_or(i64::MIN, WallTime::micros));
        e.i64(self.begun.map_or(i64::MIN, WallTime::micros));
        e.i64(self.through.micros());
        e.0
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut d = Decoder(bytes);
        let mut time = || -> Result<_, Malformed> {
            let us = d.i64()?;
            Ok((us != i64::MIN).then(|| WallTime::from_micros(us)))
        };
        let (last, begun, through) = (time()?, time()?, time()?);
        d.end()?;
        Ok(Self {
            last,
            begun,
            through: through.unwrap_or(WallTime::MIN),
        })
    }
}

impl Index {
    /// How far a sweep over a stream is.
    pub fn sweep(&self, sweep: Sweep, stream: StreamNo) -> Result<SweepState, IndexError> {
        let bytes = self.db.get_pinned_cf(self.cf(META)?, sweep.key(stream))?;
        let state = bytes.map_or(Ok(SweepState::default()), |bytes| SweepState::decode(&bytes));
        state.map_err(IndexError::bad_row(META))
    }

    /// Keeps how far a sweep over a stream is; durable when it returns.
    pub fn set_sweep(&self, sweep: Sweep, stream: StreamNo, state: &SweepState) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.cf(META)?, sweep.key(stream), state.encode());
        self.write(batch)
    }
}
