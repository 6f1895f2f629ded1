//! What a service said that it has, and whether it still has it.

use std::collections::BTreeMap;
use std::time::Duration;

use archive::{Sha256, WallTime};

use super::api::{Api, Timeline};

/// Everything that was reported as durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    pub(crate) cameras: BTreeMap<String, Claim>,
    pub(crate) fragments: Vec<Remembered>,
    /// Reports that took back an earlier one.
    pub(crate) taken_back: Vec<String>,
}

/// What was reported of one camera.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim {
    /// The furthest that durability was reported.
    pub(crate) durable_until: Option<WallTime>,
    /// The spans that were reported as recorded.
    pub(crate) runs: Vec<(WallTime, WallTime)>,
}

/// A fragment that was read.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    pub(crate) camera: String,
    pub(crate) from: WallTime,
    pub(crate) to: WallTime,
    pub(crate) hash: Sha256,
}

/// Spans joined where they touch, in order.
pub(crate) fn joined(spans: impl IntoIterator<Item = (WallTime, WallTime)>) -> Vec<(WallTime, WallTime)> {
    let mut spans: Vec<_> = spans.into_iter().collect();
    spans.sort_unstable();
    let mut joined: Vec<(WallTime, WallTime)> = Vec::new();
    for (from, to) in spans {
        match joined.last_mut() {
            Some(last) if last.1 >= from => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

impl Claims {
    /// Takes in a report that a camera's footage is durable up to `until`.
    pub(crate) fn durable(&mut self, camera: &str, until: WallTime) {
        let claim = self.cameras.entry(camera.to_owned()).or_default();
        if let Some(before) = claim.durable_until.filter(|before| *before > until) {
            let what = format!("{camera} was durable until {before} and is now until {until}");
            self.taken_back.push(what);
        }
        claim.durable_until = claim.durable_until.max(Some(until));
    }

    /// Takes in a report of what a camera has.
    pub(crate) fn recorded(&mut self, camera: &str, timeline: &Timeline) {
        let claim = self.cameras.entry(camera.to_owned()).or_default();
        let reported = timeline.runs.iter().map(|run| (run.from, run.to));
        claim.runs = joined(claim.runs.drain(..).chain(reported));
    }

    /// The same reports as if each had promised `more`.
    pub(crate) fn exaggerated(&self, more: Duration) -> Self {
        let mut claims = self.clone();
        for claim in claims.cameras.values_mut() {
            claim.durable_until = claim.durable_until.map(|until| until.plus(more));
        }
        claims
    }

    /// What was reported and is not in the timelines of now.
    pub(crate) fn losses(&self, timelines: &BTreeMap<String, Timeline>) -> Vec<String> {
        let mut losses = self.taken_back.clone();
        for (camera, claim) in &self.cameras {
            let runs = timelines
                .get(camera)
                .map(|t| t.runs.as_slice())
                .unwrap_or_default();
            let runs = joined(runs.iter().map(|run| (run.from, run.to)));
            let has = |from, to| runs.iter().any(|run| run.0 <= from && run.1 >= to);
            for &(from, to) in claim.runs.iter().filter(|run| !has(run.0, run.1)) {
                losses.push(format!("{camera}: {from} to {to} was there; now: {runs:?}"));
            }
            if let Some(until) = claim.durable_until
                && !runs.iter().any(|run| run.0 < until && run.1 >= until)
            {
                losses.push(format!("{camera}: was durable until {until}; now: {runs:?}"));
            }
        }
        losses
    }
}

/// Which of the fragments are not there any more as they were read before.
pub(crate) fn changed(api: &Api, fragments: &[Remembered]) -> Vec<String> {
    let look = |known: &Remembered| {
        let found = api.seek(&known.camera, known.from)?;
        if (found.from, found.to) != (known.from, known.to) {
            return Err(format!("it is now {} to {}", found.from, found.to));
        }
        if api.hash(&found)? != known.hash {
            return Err("its bytes changed".to_owned());
        }
        Ok(())
    };
    fragments
        .iter()
        .filter_map(|known| {
            let what = look(known).err()?;
            Some(format!(
                "{}: fragment {} to {}: {what}",
                known.camera, known.from, known.to
            ))
        })
        .collect()
}
