//! What a start without faults makes of an archive, held against what was told.

use std::collections::BTreeMap;
use std::sync::Arc;

use archive::buffer::Pool;
use archive::disk::Disk;
use archive::layout::segment_path;
use archive::segment::SegmentReader;
use archive::{FragmentEntry, GapCause, Sha256, TimeRange, WallTime};
use indexer::check::{CheckOptions, Invariant, check};
use indexer::{Index, SegmentRow};
use ingest::{recover, seal_left_open};

use crate::account::{Account, Sent, Told};
use crate::camera::{Camera, stream_id};
use crate::faults::{Plan, Planned};
use crate::site::{Site, start_of};
use crate::workload::{KEPT, Recording, reaper};

/// What was found wrong with an archive.
#[derive(Clone, Default, Debug)]
pub(crate) struct Verdict {
    /// Fragments that were reported durable and not allowed to be deleted.
    pub(crate) acked: usize,
    /// Of these, those without a row.
    pub(crate) lost: usize,
    /// Of these, those with a row and other bytes.
    pub(crate) bad: usize,
    /// Rows that point at bytes that are not there.
    pub(crate) dangling: usize,
    /// Everything, in words.
    pub(crate) findings: Vec<String>,
}

impl Verdict {
    pub(crate) fn add(&mut self, other: &Self) {
        self.acked += other.acked;
        self.lost += other.lost;
        self.bad += other.bad;
        self.dangling += other.dangling;
        self.findings.extend(other.findings.iter().cloned());
    }

    fn find(&mut self, what: impl Into<String>) {
        self.findings.push(what.into());
    }
}

/// Starts the archive, checks every byte, compares it with its account, records a little, and checks again.
/// `plan` has no faults; `run` counts the processes that were there before.
pub(crate) fn judge(site: &Site, run: i64, plan: Plan) -> Verdict {
    let mut verdict = Verdict::default();
    let told = Account::read(&site.account);
    if let Err(e) = start(site, &told, run, plan, &mut verdict) {
        verdict.find(format!("the archive does not start: {e}"));
    }
    verdict
}

fn start(
    site: &Site,
    told: &[Told],
    run: i64,
    plan: Plan,
    verdict: &mut Verdict,
) -> Result<(), Box<dyn std::error::Error>> {
    let index = Arc::new(site.open_index(None)?);
    let account = Account::append_to(&site.account);
    let seam = Planned::new(plan, site);
    let disk = site.open_disk(Some(Arc::new(seam)))?;
    let pool = Pool::new(16);
    let found = recover(&disk, &index)?;
    if found.damaged > 0 {
        verdict.find(format!("{} segments are damaged", found.damaged));
    }
    let again = recover(&disk, &index)?;
    if (again.fragments, again.adopted, again.set_aside) != (0, 0, 0) {
        verdict.find(format!("recovery is not done after it ended: {again:?}"));
    }
    seal_left_open(&disk, &index, &pool, &found.unsealed)?;
    checked(&index, &disk, verdict)?;
    // Deletions that were begun are finished, and no more than was allowed before.
    let may_go = told.iter().rev().find_map(|t| match t {
        Told::MayGo(until) => Some(until.plus(KEPT)),
        _ => None,
    });
    let now = may_go.unwrap_or(start_of(0));
    reaper(&index, &disk)?.pass(now, now.micros().unsigned_abs())?;
    compare(&index, &disk, told, verdict)?;

    let mut recording = Recording::start(index.clone(), &disk, &pool, account)?;
    let mut now = start_of(run);
    for name in ["lobby", "yard"] {
        let camera = Camera::resume(&index, &pool, name, now, 0)?;
        recording.cameras.push(camera);
    }
    recording.session(&mut now, 2)?;
    recording.stop()?;
    let told = Account::read(&site.account);
    let missing = told
        .iter()
        .rev()
        .take(4)
        .filter(|t| matches!(t, Told::Missing(..)));
    if missing.count() > 0 {
        verdict.find("recording does not go on");
    }
    checked(&index, &disk, verdict)
}

fn checked(index: &Index, disk: &Disk, verdict: &mut Verdict) -> Result<(), Box<dyn std::error::Error>> {
    let options = CheckOptions {
        deep: true,
        running: false,
    };
    for finding in check(index, disk, &Default::default(), options, |_, _| {})? {
        if matches!(finding.invariant, Invariant::RowsHaveBytes | Invariant::Readable) {
            verdict.dangling += 1;
        }
        verdict.find(finding.to_string());
    }
    Ok(())
}

/// Every fragment that was reported durable is there, byte for byte, or was allowed to go.
fn compare(
    index: &Index,
    disk: &Disk,
    told: &[Told],
    verdict: &mut Verdict,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut may_go = WallTime::MIN;
    let mut acked: BTreeMap<(&str, WallTime), &Sent> = BTreeMap::new();
    for line in told {
        match line {
            Told::MayGo(until) => may_go = may_go.max(*until),
            Told::Acked(sent) => drop(acked.insert((&sent.camera, sent.from), sent)),
            _ => {}
        }
    }
    for sent in acked.into_values() {
        let Some(no) = index.stream_no(&stream_id(&sent.camera))? else {
            verdict.acked += 1;
            verdict.lost += 1;
            verdict.find(format!("lost with its stream: {sent:?}"));
            continue;
        };
        let range = TimeRange::new(sent.from, sent.to).ok_or("no time")?;
        let found = index.fragments(no, range)?;
        let found = found
            .iter()
            .flat_map(|s| s.fragments.iter().map(|f| (&s.segment, f)));
        let Some((segment, entry)) = found.clone().find(|(_, f)| f.wall_start == sent.from) else {
            let gaps = index.gaps(no, range)?;
            let deleted = gaps.iter().any(|g| g.cause == GapCause::Retention);
            if sent.to > may_go || !deleted {
                verdict.acked += 1;
                verdict.lost += 1;
                verdict.find(format!("lost: {sent:?}, with {gaps:?} in its place"));
            }
            continue;
        };
        verdict.acked += 1;
        match samples(disk, &sent.camera, segment, entry) {
            Ok(hash) if hash.0 == sent.hash => {}
            Ok(_) => {
                verdict.bad += 1;
                verdict.find(format!("other bytes: {sent:?}"));
            }
            Err(e) => {
                verdict.bad += 1;
                verdict.find(format!("{e}: {sent:?}"));
            }
        }
    }
    Ok(())
}

/// The hash of a fragment's samples, as a player reads them.
fn samples(
    disk: &Disk,
    camera: &str,
    segment: &SegmentRow,
    entry: &FragmentEntry,
) -> Result<Sha256, archive::ArchiveError> {
    let reader = SegmentReader::open(disk, &segment_path(&stream_id(camera), &segment.name()))?;
    let mut bytes = Vec::new();
    for track in reader.samples(entry)? {
        let len: usize = track.samples.iter().map(|s| s.size as usize).sum();
        bytes.extend_from_slice(&reader.read(track.data_offset, len)?);
    }
    Ok(Sha256::of(&bytes))
}
