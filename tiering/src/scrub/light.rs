//! The light sweep: the copies of a stream against its files and objects, by their names and lengths.

use std::collections::HashMap;

use archive::layout::{segment_path, stream_dir};
use archive::{StreamNo, Tier, WallTime};
use indexer::{CopyState, IndexError, SegmentState, Sweep, SweepState};

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
        let listed = [None, list(Tier::Warm), list(Tier::Cold)];
        let mut from = WallTime::MIN;
        loop {
            let rows = self.index.segments_from(stream, from, PAGE_ROWS)?;
            let is_last = rows.len() < PAGE_ROWS;
            for row in rows {
                from = row.wall_start.plus_micros(1);
                if row.state == SegmentState::Deleting {
                    continue;
                }
                let (name, copies) = (segment_path(&id, &row.name()), self.index.copies(&row)?);
                for (tier, listed) in Tier::ALL.into_iter().zip(&listed) {
                    let expected = match tier {
                        Tier::Hot => None,
                        _ => listed.as_ref().map(|there| there.get(&name) == Some(&row.bytes)),
                    };
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
}
