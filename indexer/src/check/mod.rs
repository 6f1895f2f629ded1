//! The invariants as code: reads the index and the hot tier and says what does not hold.

mod media;
mod places;
mod tables;

use std::collections::HashMap;
use std::fmt;

use archive::disk::Disk;
use archive::store::Stores;
use archive::{Tier, TimeRange};
use serde::Serialize;

use crate::certificates::verify_chain;
use crate::error::IndexError;
use crate::index::Index;
use crate::rebuild::list_segments;
use crate::rows::SegmentRow;

/// What is checked; the numbers are those of `docs/lifecycle.md`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Invariant {
    /// 1: what was acknowledged is readable and is what was written.
    Readable,
    /// 3: no row points at bytes that are not there.
    RowsHaveBytes,
    /// 9: missing time has a cause.
    TimeIsAccounted,
    /// 10: sequences have no holes and hashes link.
    ChainHolds,
    /// 11: every file is known.
    FilesAreKnown,
    /// 18: each deletion has one certificate, and certificates are one unbroken chain.
    DeletionsAreCertified,
    /// The tables agree with each other.
    TablesAgree,
}

/// Something that does not hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Which invariant is broken.
    pub invariant: Invariant,
    /// What breaks it: a stream, a segment, a file.
    pub object: String,
    /// How.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}: {}: {}; {}",
            self.invariant, self.object, self.what, self.remedy
        )
    }
}

/// How thorough, and beside what.
#[derive(Copy, Clone, Debug, Default)]
pub struct CheckOptions {
    /// Hash every byte of media, not only boxes and footers, and read every table of the index.
    pub deep: bool,
    /// A service is writing meanwhile: what is newer than the index that was opened is no finding.
    pub running: bool,
}

struct Checker<'a> {
    index: &'a Index,
    disk: &'a Disk,
    stores: &'a Stores,
    options: CheckOptions,
    findings: Vec<Finding>,
    /// Segments whose files are not there.
    missing: Vec<(String, SegmentRow)>,
}

/// Checks everything. `progress` is told how many segments were checked of how many.
pub fn check(
    index: &Index,
    disk: &Disk,
    stores: &Stores,
    options: CheckOptions,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<Finding>, IndexError> {
    let mut c = Checker {
        index,
        disk,
        stores,
        options,
        findings: Vec::new(),
        missing: Vec::new(),
    };
    if options.deep {
        index.read_every_table()?;
    }
    let (mut files, unknown) = list_segments(disk)?;
    for path in unknown {
        c.find(
            Invariant::FilesAreKnown,
            path,
            "not a segment".into(),
            "move it away; nothing here deletes it",
        );
    }
    let streams = index.streams();
    let mut total = 0;
    for (no, _) in &streams {
        total += index.count_segments(*no)?;
    }
    let mut done = 0;
    // One stream after the other: the rows of all would not fit into memory.
    for (no, stream) in streams {
        let rows = index.segments_all_states(no, TimeRange::ALL)?;
        c.stream(no, &stream, &rows)?;
        let known: HashMap<u64, &SegmentRow> = rows.iter().map(|r| (r.id.seq, r)).collect();
        // From here on a file is what a kill left on its way into the index, and the next start looks at it; or what
        // a service writes just now.
        let next_seq = index.end(no)?.map_or(0, |end| end.next_seq);
        for name in files.remove(&stream).unwrap_or_default() {
            c.file(&stream, &name, &known, next_seq)?;
        }
        for tier in [Tier::Warm, Tier::Cold] {
            c.objects(&stream, tier, &known)?;
        }
        let mut before = None;
        for row in &rows {
            c.segment(&stream, row, &mut before)?;
            done += 1;
            progress(done, total.max(done));
        }
    }
    // No start looks at a stream that the index does not know.
    let next_seq = if options.running { 0 } else { u64::MAX };
    for (stream, names) in files {
        for name in names {
            c.file(&stream, &name, &HashMap::new(), next_seq)?;
        }
    }
    c.missing()?;
    verify_chain(index, |object, what| {
        let remedy = "restore the file from `.certificates` of a store, then run `tierline rebuild`";
        c.find(Invariant::DeletionsAreCertified, object, what, remedy);
    })?;
    Ok(c.findings)
}

impl Checker<'_> {
    fn find(&mut self, invariant: Invariant, object: impl Into<String>, what: String, remedy: &'static str) {
        self.findings.push(Finding {
            invariant,
            object: object.into(),
            what,
            remedy,
        });
    }
}
