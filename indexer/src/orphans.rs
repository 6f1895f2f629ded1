//! Objects in a store that the index knows nothing of, as the last look found them. They are told, and never removed: it
//! may be footage whose rows were lost. In memory only; a daily look finds them anyhow.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use archive::{StreamNo, Tier, WallTime};

/// More of one stream and tier are not remembered.
pub const ORPHANS_MAX: usize = 1000;

/// An object that no row knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Orphan {
    /// What it is called in its store, below the prefix.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// When it was found first, by this process.
    pub found: WallTime,
}

type ByPlace = BTreeMap<(StreamNo, Tier), Vec<Orphan>>;

/// All of them.
#[derive(Debug, Default)]
pub struct Orphans(Mutex<ByPlace>);

impl Orphans {
    fn lock(&self) -> MutexGuard<'_, ByPlace> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A look at a stream's objects has found these, with their lengths. True when some are new.
    pub fn found(&self, stream: StreamNo, tier: Tier, names: Vec<(String, u64)>, now: WallTime) -> bool {
        let mut all = self.lock();
        let before = all.remove(&(stream, tier)).unwrap_or_default();
        let mut news = false;
        let mut here = Vec::new();
        for (name, bytes) in names.into_iter().take(ORPHANS_MAX) {
            let known = before.iter().find(|orphan| orphan.name == name);
            news |= known.is_none();
            let found = known.map_or(now, |orphan| orphan.found);
            here.push(Orphan { name, bytes, found });
        }
        if !here.is_empty() {
            all.insert((stream, tier), here);
        }
        news
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// The first `count` of them, in the order of streams.
    pub fn first(&self, count: usize) -> Vec<(Tier, Orphan)> {
        let all = self.lock();
        let each = all
            .iter()
            .flat_map(|((_, tier), orphans)| orphans.iter().map(|orphan| (*tier, orphan.clone())));
        each.take(count).collect()
    }
}
