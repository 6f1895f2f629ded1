//! Copies that are not what they should be, kept until they are put right.

use archive::codec::{Decoder, Encoder};
use archive::{Malformed, SegmentId, StreamNo, Tier, WallTime};
use rocksdb::WriteBatch;

use crate::db::META;
use crate::error::IndexError;
use crate::index::Index;

const PREFIX: &[u8] = b"fault.";

/// What is wrong with a copy.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FaultKind {
    /// Its file or object is not there.
    Missing,
    /// Its bytes are not what was recorded.
    Damaged,
    /// Its store answers, and does not give it out.
    Unreadable,
}

impl FaultKind {
    /// The word in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A copy that is wrong.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fault {
    /// Of which segment.
    pub segment: SegmentId,
    /// On which tier.
    pub tier: Tier,
    /// What is wrong with it.
    pub kind: FaultKind,
    /// When that was found.
    pub found: WallTime,
    /// Whether some of the segment can be read from none of its copies.
    pub lost: bool,
}

impl Fault {
    pub(crate) fn key(segment: SegmentId, tier: Tier) -> Vec<u8> {
        let mut e = Encoder(PREFIX.to_vec());
        e.u32(segment.stream.0);
        e.u64(segment.seq);
        e.u8(tier as u8);
        e.0
    }

    pub(crate) fn put(&self, index: &Index, out: &mut WriteBatch) -> Result<(), IndexError> {
        out.put_cf(index.cf(META)?, Self::key(self.segment, self.tier), self.encode());
        Ok(())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::default();
        e.u8(self.kind as u8);
        e.u8(self.lost.into());
        e.wall(self.found);
        e.0
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, Malformed> {
        let mut k = Decoder(key.strip_prefix(PREFIX).ok_or(Malformed("key"))?);
        let segment = SegmentId {
            stream: StreamNo(k.u32()?),
            seq: k.u64()?,
        };
        let tier = Tier::ALL.get(usize::from(k.u8()?)).copied();
        k.end()?;
        let mut d = Decoder(value);
        let kind = match d.u8()? {
            0 => FaultKind::Missing,
            1 => FaultKind::Damaged,
            2 => FaultKind::Unreadable,
            _ => return Err(Malformed("unknown fault")),
        };
        let lost = d.u8()? != 0;
        let found = d.wall()?;
        d.end()?;
        Ok(Self {
            segment,
            tier: tier.ok_or(Malformed("unknown tier"))?,
            kind,
            found,
            lost,
        })
    }
}

impl Index {
    /// Copies that are known to be wrong: the first `count`, by stream and sequence.
    pub fn faults(&self, count: usize) -> Result<Vec<Fault>, IndexError> {
        self.faults_behind(None, count)
    }

    /// The same behind the one of `last`, whether or not that is known any more.
    pub fn faults_behind(
        &self,
        last: Option<(SegmentId, Tier)>,
        count: usize,
    ) -> Result<Vec<Fault>, IndexError> {
        let mut it = self.db.raw_iterator_cf(self.cf(META)?);
        match last {
            Some((segment, tier)) => {
                // The first key that is higher.
                let mut key = Fault::key(segment, tier);
                key.push(0);
                it.seek(key);
            }
            None => it.seek(PREFIX),
        }
        let mut found = Vec::new();
        while found.len() < count
            && let Some((key, value)) = it.item().filter(|(key, _)| key.starts_with(PREFIX))
        {
            found.push(Fault::decode(key, value).map_err(IndexError::bad_row(META))?);
            it.next();
        }
        it.status()?;
        Ok(found)
    }

    /// What is known to be wrong with a copy.
    pub fn fault(&self, segment: SegmentId, tier: Tier) -> Result<Option<Fault>, IndexError> {
        let key = Fault::key(segment, tier);
        let value = self.db.get_pinned_cf(self.cf(META)?, &key)?;
        let fault = value.map(|value| Fault::decode(&key, &value)).transpose();
        fault.map_err(IndexError::bad_row(META))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, IndexOptions};

    #[test]
    fn what_is_wrong_is_known_until_it_was_put_right() {
        let dir = tempfile::tempdir().expect("folder");
        let index = Index::open(dir.path(), &IndexOptions::default()).expect("index");
        let fault = |seq, tier| Fault {
            segment: SegmentId {
                stream: StreamNo(7),
                seq,
            },
            tier,
            kind: FaultKind::Damaged,
            found: WallTime::from_micros(1_800_000_000_000_000),
            lost: seq == 2,
        };
        let all = [
            fault(1, Tier::Hot),
            fault(1, Tier::Cold),
            fault(2, Tier::Warm),
            fault(300, Tier::Hot),
        ];
        let mut batch = Batch::default();
        all.iter().rev().for_each(|fault| batch.fault(*fault));
        index.commit(batch).expect("commit");
        assert_eq!(index.faults(10).expect("faults"), all);
        assert_eq!(index.faults(2).expect("faults"), all[..2]);
        let behind = |last: &Fault| index.faults_behind(Some((last.segment, last.tier)), 2);
        assert_eq!(behind(&all[0]).expect("faults"), all[1..3]);
        assert_eq!(behind(&all[2]).expect("faults"), all[3..]);
        assert_eq!(behind(&all[3]).expect("faults"), []);
        let mut batch = Batch::default();
        batch.fault_gone(all[1].segment, all[1].tier);
        index.commit(batch).expect("commit");
        assert_eq!(
            index.fault(all[1].segment, Tier::Hot).expect("fault"),
            Some(all[0])
        );
        assert_eq!(index.fault(all[1].segment, Tier::Cold).expect("fault"), None);
        assert_eq!(index.faults(10).expect("faults").len(), 3);
    }
}
