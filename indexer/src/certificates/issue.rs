//! Issues certificates: when all copies of segments were seen to be gone, and before their rows are forgotten.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use archive::layout::segment_path;
use archive::site_key::SiteKey;
use archive::{GapCause, Sha256, StreamId, Tier, WallTime};
use rocksdb::WriteBatch;

use super::{
    Certificate, ChainEnd, DeletedSegment, FORMAT, GapBefore, HoldCheck, Place, bad, stretch_row, text,
};
use crate::db::{CERTIFICATES, CERTIFIED, META};
use crate::deletions::Deletion;
use crate::error::IndexError;
use crate::index::Index;
use crate::rows::SegmentRow;

/// Pieces of a gap before a segment that are told at most.
const GAP_PIECES_MAX: usize = 16;

/// Who certifies.
#[derive(Debug)]
pub struct Witness<'a> {
    /// With what it is signed.
    pub key: &'a SiteKey,
    /// The tiers, and how a copy is seen to be gone from each.
    pub places: &'a [Place],
    /// The time by which ages are judged.
    pub archive_time: WallTime,
    /// What the host's clock says.
    pub wall: WallTime,
    /// Who deleted.
    pub actor: &'a str,
}

impl Index {
    /// Certifies that every copy of segments is gone whose deletion was begun; durable when it returns. One that was
    /// certified before is passed over. `gone` comes in the order of time for each stream, each with the tiers on which
    /// it had copies.
    pub fn certify(&self, gone: &[(SegmentRow, Vec<Tier>)], witness: &Witness<'_>) -> Result<(), IndexError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut groups: BTreeMap<_, Vec<(&SegmentRow, &[Tier], Deletion)>> = BTreeMap::new();
        for (row, tiers) in gone {
            let Some(deletion) = self.deletion(row)?.filter(|d| d.certificate.is_none()) else {
                continue;
            };
            let cause = (deletion.cause.reason.clone(), deletion.cause.rule.clone());
            let key = (row.id.stream, deletion.begun, deletion.hold_epoch, cause);
            groups
                .entry(key)
                .or_default()
                .push((row, tiers.as_slice(), deletion));
        }
        let mut end = self.chain_end()?;
        let mut out = WriteBatch::default();
        for group in groups.into_values() {
            let Some(stream) = group.first().map(|(row, ..)| row.id.stream) else {
                continue;
            };
            let Some(certificate) = self.draw_up(&group, end, witness)? else {
                continue;
            };
            let number = certificate.number;
            let line = text::sign(&certificate, witness.key)?;
            end = Some(ChainEnd {
                number,
                hash: text::hash(&line),
            });
            out.put_cf(self.cf(CERTIFICATES)?, number.to_be_bytes(), line);
            for (row, _, deletion) in &group {
                let certified = Deletion {
                    certificate: Some(number),
                    ..deletion.clone()
                };
                self.put_deletion(&mut out, row, &certified)?;
            }
            for stretch in certificate.stretches() {
                let (key, row) = stretch_row(stream, number, &stretch);
                out.put_cf(self.cf(CERTIFIED)?, key, row);
            }
        }
        let Some(end) = end.filter(|_| !out.is_empty()) else {
            return Ok(());
        };
        out.put_cf(self.cf(META)?, ChainEnd::KEY, end.encode());
        self.write(out)
    }

    /// The certificate of a group that was begun together.
    fn draw_up(
        &self,
        group: &[(&SegmentRow, &[Tier], Deletion)],
        end: Option<ChainEnd>,
        witness: &Witness<'_>,
    ) -> Result<Option<Certificate>, IndexError> {
        let (Some((first, _, deletion)), Some((last, ..))) = (group.first(), group.last()) else {
            return Ok(None);
        };
        let stream = self
            .stream_id(first.id.stream)
            .ok_or_else(|| bad("a stream has no name"))?;
        let segments = group.iter().map(|(row, tiers, _)| self.tell(&stream, row, tiers));
        let segments = segments.collect::<Result<Vec<_>, _>>()?;
        let had = |place: &&Place| segments.iter().any(|s| s.tiers.contains(&place.tier));
        Ok(Some(Certificate {
            number: end.map_or(1, |end| end.number + 1),
            format: FORMAT,
            previous: end.map(|end| end.hash),
            from: first.wall_start,
            to: last.wall_end,
            bytes: segments.iter().map(|s| s.bytes).sum(),
            reason: deletion.cause.reason.clone(),
            rule_sha256: Sha256::of(deletion.cause.rule.as_bytes()),
            rule: deletion.cause.rule.clone(),
            hold_check: HoldCheck {
                hold_epoch: deletion.hold_epoch,
                overlaps: Vec::new(),
            },
            begun: deletion.begun,
            archive_time: witness.archive_time,
            wall: witness.wall,
            actor: witness.actor.to_owned(),
            places: witness.places.iter().filter(had).cloned().collect(),
            predecessor: self.predecessor(first)?,
            segments,
            tenant: stream.tenant,
            camera: stream.camera,
            stream: stream.stream,
        }))
    }

    fn tell(
        &self,
        stream: &StreamId,
        row: &SegmentRow,
        tiers: &[Tier],
    ) -> Result<DeletedSegment, IndexError> {
        let mut gaps_before = Vec::new();
        let mut to = row.wall_start;
        while gaps_before.len() < GAP_PIECES_MAX
            && let Some(gap) = self.gap_before(row.id.stream, to)?
            && gap.to == Some(to)
            && gap.cause != GapCause::Retention
        {
            gaps_before.insert(
                0,
                GapBefore {
                    from: gap.from,
                    to,
                    cause: gap.cause,
                },
            );
            to = gap.from;
        }
        Ok(DeletedSegment {
            seq: row.id.seq,
            epoch: row.epoch,
            from: row.wall_start,
            to: row.wall_end,
            bytes: row.bytes,
            head: row.head,
            name: segment_path(stream, &row.name()),
            tiers: tiers.to_vec(),
            gaps_before,
        })
    }

    /// The last hash of the segment before this one.
    fn predecessor(&self, row: &SegmentRow) -> Result<Option<Sha256>, IndexError> {
        let before = self.segment_before(row.id.stream, row.wall_start)?;
        if let Some(before) = before.filter(|before| before.id.seq + 1 == row.id.seq) {
            return Ok(Some(before.head));
        }
        let ended = self.ended(row.id.stream)?;
        Ok(ended
            .filter(|ended| ended.next_seq == row.id.seq)
            .map(|ended| ended.head))
    }
}
