//! The light sweep: the copies of a stream against its files and objects, by their names and lengths.

use std::collections::HashMap;

use archive::layout::{segment_path, stream_dir};
use archive::store::Objects;
use archive::{StreamNo, Tier, WallTime};
use indexer::{CopyState, IndexError, ORPHANS_MAX, SegmentState, Sweep, SweepState};

use super::look::{Look, Subject};
use super::{PAGE_ROWS, Scrubber};

/// What a store lists of a stream, by name; `None` where there is no store or it does not answer.
type Listed = Option<HashMap<String, u64>>;

impl Scrubber {
    /// Looks for every copy of a stream.
    pub(super) fn glance(
        &mut self,
        stream: StreamNo,
        now: WallTime,
        monotonic_us: u64,
    ) -> Result<(), IndexError> {
        self.current = None;
        let Some(id) = self.index.stream_id(stream) else {
            return Ok(());
        };
        let folder = stream_dir(&id);
        let list = |tier: Tier| -> Listed {
            let objects = self.places.stores.of(tier)?;
            let mut there = HashMap::new();
            let told = objects.for_each(&folder, |name, len| {
                there.insert(name, len);
            });
            let failed = |error| tracing::warn!(%tier, %error, "a store cannot be listed now");
            told.map_err(failed).ok().map(|()| there)
        };
        let mut listed = [None, list(Tier::Warm), list(Tier::Cold)];
        let mut from = WallTime::MIN;
        loop {
            let rows = self.index.segments_from(stream, from, PAGE_ROWS)?;
            let is_last = rows.len() < PAGE_ROWS;
            for row in rows {
                from = row.wall_start.plus_micros(1);
                if let Some(thinning) = self.index.thinning(&row)? {
                    let former = segment_path(&id, &thinning.before.name());
                    listed.iter_mut().flatten().for_each(|there| {
                        there.remove(&former);
                    });
                }
                let (name, copies) = (segment_path(&id, &row.name()), self.index.copies(&row)?);
                let is_going = row.state == SegmentState::Deleting;
                for (tier, listed) in Tier::ALL.into_iter().zip(&mut listed) {
                    let known = is_going || copies.state(tier) != CopyState::Absent;
                    // What is left in the end is known to no row.
                    let expected = (listed.as_mut().filter(|_| known))
                        .map(|there| there.remove(&name) == Some(row.bytes));
                    if is_going {
                        continue;
                    }
                    let is_suspect = expected.map_or(tier == Tier::Hot, |is_right| !is_right);
                    if copies.state(tier) != CopyState::Whole || !is_suspect {
                        continue;
                    }
                    // A list may be stale: the copy itself is asked for.
                    let what = Subject::new(&id, row.clone(), Vec::new());
                    if let Look::Wrong(kind, why) = self.places.glance(&what, tier) {
                        self.found(&what, tier, kind, &why, now)?;
                    }
                }
            }
            if is_last {
                break;
            }
        }
        for (tier, listed) in Tier::ALL.into_iter().zip(&listed) {
            if let (Some(there), Some(objects)) = (listed, self.places.stores.of(tier)) {
                self.orphans(stream, tier, objects, there, now);
            }
        }
        // A store that did not answer was not looked at.
        let mut all = true;
        for (tier, listed) in Tier::ALL.into_iter().zip(&listed) {
            if listed.is_none() && self.places.stores.of(tier).is_some() {
                self.rest(tier, monotonic_us);
                all = false;
            }
        }
        if all {
            let state = SweepState {
                last: Some(now),
                ..SweepState::default()
            };
            self.states.insert((Sweep::Light, stream), state);
            self.index.set_sweep(Sweep::Light, stream, &state)?;
        }
        Ok(())
    }

    /// Tells of objects that no row knows. The list may be stale: each is asked for.
    fn orphans(
        &self,
        stream: StreamNo,
        tier: Tier,
        objects: &Objects,
        there: &HashMap<String, u64>,
        now: WallTime,
    ) {
        let mut names: Vec<_> = there.keys().collect();
        names.sort_unstable();
        let mut found = Vec::new();
        for name in names.into_iter().take(ORPHANS_MAX) {
            match objects.runtime.block_on(objects.store.stat(name)) {
                Ok(Some(stat)) => found.push((name.clone(), stat.len)),
                Ok(None) => {}
                // It is looked at again tomorrow.
                Err(_) => return,
            }
        }
        let (count, first) = (found.len(), found.first().map(|(name, _)| name.clone()));
        if self.index.orphans().found(stream, tier, found, now) {
            tracing::warn!(
                %tier, count, first,
                "objects of which the index knows nothing: if footage is missing run `tierline rebuild`, else remove them by hand"
            );
        }
    }
}
