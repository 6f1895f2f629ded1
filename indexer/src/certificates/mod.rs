//! Deletion certificates: what was deleted, why, under which rule, and how it was seen to be gone.
//!
//! Invariants:
//! 1. A segment's row is forgotten only after its certificate is durable, and no segment has two.
//! 2. Certificates are numbered from 1 without holes, and each names the hash of the one before it.
//! 3. What is signed is the text of a certificate byte for byte, as it lies between the braces of its line.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod issue;
mod ledger;
mod restore;
mod text;
mod verify;

use archive::codec::{Decoder, Encoder};
use archive::{
    CameraId, Epoch, GapCause, HoldId, Malformed, Sha256, StreamId, StreamName, StreamNo, TenantId, Tier,
    TimeRange, WallTime,
};
use serde::{Deserialize, Serialize};

use crate::db::{CERTIFICATES, CERTIFIED, META};
use crate::error::IndexError;
use crate::index::Index;
use crate::keys;

pub use issue::Witness;
pub use ledger::{CERTIFICATES_FOLDER, Ledger, store_path};
pub(crate) use restore::restore;
pub use text::parse;
pub(crate) use verify::{is_certified, uncertified, verify_chain};

/// The form of certificates.
const FORMAT: u32 = 1;

/// One deletion: segments of one stream that went together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// Its place in the chain, from 1 on.
    pub number: u64,
    /// 1.
    pub format: u32,
    /// The SHA-256 of the whole line of the one before it.
    pub previous: Option<Sha256>,
    /// Whose footage.
    pub tenant: TenantId,
    /// Whose footage.
    pub camera: CameraId,
    /// Whose footage.
    pub stream: StreamName,
    /// When the first of the segments begins.
    pub from: WallTime,
    /// When the last of them ends.
    pub to: WallTime,
    /// Bytes of all of them.
    pub bytes: u64,
    /// `age`, `quota`, `space`.
    pub reason: String,
    /// The rule as it stood in the configuration.
    pub rule: String,
    /// Of the rule's text.
    pub rule_sha256: Sha256,
    /// Holds were looked at when the deletion began, under the lock under which they change.
    pub hold_check: HoldCheck,
    /// The time by which ages were judged when it began.
    pub begun: WallTime,
    /// The same when everything was seen to be gone.
    pub archive_time: WallTime,
    /// What the host's clock said then.
    pub wall: WallTime,
    /// Who deleted.
    pub actor: String,
    /// Where copies were, and how each was seen to be gone.
    pub places: Vec<Place>,
    /// The last hash of the segment before the first of these, where it is known.
    pub predecessor: Option<Sha256>,
    /// In order.
    pub segments: Vec<DeletedSegment>,
}

/// What holds said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HoldCheck {
    /// Which state of them.
    pub hold_epoch: u64,
    /// Holds of that state that cover any of it: none, or it would not have been deleted.
    pub overlaps: Vec<HoldId>,
}

/// A tier from which copies were removed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Which.
    pub tier: Tier,
    /// Its URL or folder.
    pub at: String,
    /// How the absence was verified.
    pub verified: String,
}

/// A segment that was deleted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeletedSegment {
    /// Its place in its stream.
    pub seq: u64,
    /// Which opening of the archive wrote it.
    pub epoch: Epoch,
    /// Its first instant.
    pub from: WallTime,
    /// The first instant after it.
    pub to: WallTime,
    /// Its length.
    pub bytes: u64,
    /// Its last hash, over all that came before it.
    pub head: Sha256,
    /// Its name, the same on every tier.
    pub name: String,
    /// Where it had copies.
    pub tiers: Vec<Tier>,
    /// What was missing before it, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps_before: Vec<GapBefore>,
}

/// Time before a segment without media.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GapBefore {
    /// The first instant without media.
    pub from: WallTime,
    /// The first instant after.
    pub to: WallTime,
    /// Why.
    pub cause: GapCause,
}

impl Certificate {
    /// The stream.
    pub fn stream(&self) -> StreamId {
        StreamId {
            tenant: self.tenant.clone(),
            camera: self.camera.clone(),
            stream: self.stream.clone(),
        }
    }

    /// Whether a certificate, and a segment behind each of these, can follow, and nothing ends before it begins: whoever
    /// has any key can sign what he likes.
    fn is_possible(&self) -> bool {
        let possible = |s: &DeletedSegment| {
            s.seq < u64::MAX && s.from <= s.to && s.gaps_before.iter().all(|gap| gap.from <= gap.to)
        };
        (1..u64::MAX).contains(&self.number) && self.segments.iter().all(possible)
    }

    /// Its segments in stretches without a hole in time or sequence: first and last sequence, and the time.
    fn stretches(&self) -> Vec<Stretch> {
        let mut found: Vec<Stretch> = Vec::new();
        for s in &self.segments {
            match found.last_mut() {
                Some(last) if last.seqs.1 + 1 == s.seq && last.to == s.from => {
                    (last.seqs.1, last.to) = (s.seq, s.to);
                }
                _ => found.push(Stretch {
                    from: s.from,
                    to: s.to,
                    seqs: (s.seq, s.seq),
                }),
            }
        }
        found
    }
}

/// Deleted time without a hole.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stretch {
    pub(crate) from: WallTime,
    pub(crate) to: WallTime,
    /// The first and the last sequence.
    pub(crate) seqs: (u64, u64),
}

/// The end of the chain.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct ChainEnd {
    pub(crate) number: u64,
    pub(crate) hash: Sha256,
}

impl ChainEnd {
    const KEY: &'static str = "certificates";

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut e = Encoder::default();
        e.u64(self.number);
        e.hash(&self.hash);
        e.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut d = Decoder(bytes);
        let end = Self {
            number: d.u64()?,
            hash: d.hash()?,
        };
        d.end()?;
        if end.number == u64::MAX {
            return Err(Malformed("a certificate that none can follow"));
        }
        Ok(end)
    }
}

impl Index {
    pub(crate) fn chain_end(&self) -> Result<Option<ChainEnd>, IndexError> {
        let row = self.db.get_cf(self.cf(META)?, ChainEnd::KEY)?;
        let end = row.map(|row| ChainEnd::decode(&row)).transpose();
        end.map_err(IndexError::bad_row(META))
    }

    /// The number of the last certificate; 0 when there is none.
    pub fn last_certificate(&self) -> Result<u64, IndexError> {
        Ok(self.chain_end()?.map_or(0, |end| end.number))
    }

    /// The line of a certificate: JSON, as it was signed.
    pub fn certificate(&self, number: u64) -> Result<Option<String>, IndexError> {
        let row = self.db.get_cf(self.cf(CERTIFICATES)?, number.to_be_bytes())?;
        row.map(|row| String::from_utf8(row).map_err(|e| bad(&e.to_string())))
            .transpose()
    }

    /// The numbers of the certificates for footage of a stream in `range`, in order.
    pub fn certificates_of(&self, stream: StreamNo, range: TimeRange) -> Result<Vec<u64>, IndexError> {
        let mut found: Vec<u64> = self
            .stretches(stream, range)?
            .into_iter()
            .map(|(number, _)| number)
            .collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The deleted stretches that overlap `range`, each with the number of its certificate.
    pub(crate) fn stretches(
        &self,
        stream: StreamNo,
        range: TimeRange,
    ) -> Result<Vec<(u64, Stretch)>, IndexError> {
        let o = Self::stream_bounds(stream);
        let mut it = self.db.raw_iterator_cf_opt(self.cf(CERTIFIED)?, o);
        let mut found = Vec::new();
        let key = keys::at(stream, range.from());
        it.seek_for_prev(key);
        if !it.valid() {
            it.status()?;
            it.seek_to_first();
        }
        while let Some((key, row)) = it.item() {
            let (number, stretch) = read_stretch(key, row).map_err(IndexError::bad_row(CERTIFIED))?;
            if stretch.from >= range.to() {
                break;
            }
            let span = TimeRange::new(stretch.from, stretch.to);
            if span.is_some_and(|span| span.intersect(range).is_some()) {
                found.push((number, stretch));
            }
            it.next();
        }
        it.status()?;
        Ok(found)
    }

    /// Up to which certificate a store has them.
    pub fn certificates_stored(&self, tier: Tier) -> Result<u64, IndexError> {
        let row = self.db.get_cf(self.cf(META)?, stored(tier))?.unwrap_or_default();
        Ok(row.try_into().map_or(0, u64::from_be_bytes))
    }

    /// Says that a store has all certificates up to `number`.
    pub fn set_certificates_stored(&self, tier: Tier, number: u64) -> Result<(), IndexError> {
        let mut out = rocksdb::WriteBatch::default();
        out.put_cf(self.cf(META)?, stored(tier), number.to_be_bytes());
        self.write(out)
    }
}

fn stored(tier: Tier) -> String {
    format!("certificates.{tier}")
}

pub(crate) fn stretch_row(stream: StreamNo, number: u64, stretch: &Stretch) -> (Vec<u8>, Vec<u8>) {
    let mut key = keys::at(stream, stretch.from).to_vec();
    key.extend(number.to_be_bytes());
    let mut e = Encoder::default();
    e.varint(stretch.to.micros_since(stretch.from).max(0).unsigned_abs());
    e.varint(stretch.seqs.0);
    e.varint(stretch.seqs.1 - stretch.seqs.0);
    (key, e.0)
}

pub(crate) fn read_stretch(key: &[u8], row: &[u8]) -> Result<(u64, Stretch), Malformed> {
    const KEY: Malformed = Malformed("key");
    let (at, number) = key.split_at_checked(12).ok_or(KEY)?;
    let (_, from) = keys::parse_at(at).ok_or(KEY)?;
    let number = u64::from_be_bytes(number.try_into().map_err(|_| KEY)?);
    let mut d = Decoder(row);
    let to = TimeRange::starting(from, d.varint()?).to();
    let first = d.varint()?;
    // A segment can follow.
    let last = first.checked_add(d.varint()?).filter(|last| *last < u64::MAX);
    let last = last.ok_or(Malformed("sequence"))?;
    d.end()?;
    let seqs = (first, last);
    Ok((number, Stretch { from, to, seqs }))
}

fn bad(what: &str) -> IndexError {
    IndexError::BadRow {
        table: CERTIFICATES,
        what: what.to_owned(),
    }
}
