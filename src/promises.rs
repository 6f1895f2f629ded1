//! Holds what a configuration promises against what there is, before it is in force.
//!
//! A change that is seen to break a promise is refused. What was in force before is not, whatever cameras have come to
//! send since: recording matters more than rules, and a promise that breaks meanwhile is told by forecast, log and metrics.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use archive::disk::Disk;
use archive::units::optional_size;
use indexer::{CameraRow, Index};
use serde::{Deserialize, Serialize};
use tiering::forecast::{Capacity, Contradiction, contradictions};
use tiering::{Below, RetentionRule, Rules, rates};

use crate::config::Config;

/// What was in force last, in the data directory.
const FILE: &str = "retention-in-force.toml";

/// What promises rest on in a configuration.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct InForce {
    warm: bool,
    cold: bool,
    #[serde(with = "optional_size", skip_serializing_if = "Option::is_none")]
    warm_capacity: Option<u64>,
    #[serde(with = "optional_size", skip_serializing_if = "Option::is_none")]
    cold_capacity: Option<u64>,
    rules: Vec<RetentionRule>,
}

impl InForce {
    fn of(config: &Config) -> Self {
        let (below, capacity) = (config.below(), config.retention().capacity);
        Self {
            warm: below.warm,
            cold: below.cold,
            warm_capacity: capacity.warm,
            cold_capacity: capacity.cold,
            rules: config.rules.clone(),
        }
    }

    fn below(&self) -> Below {
        Below {
            warm: self.warm,
            cold: self.cold,
        }
    }

    fn capacity(&self) -> Capacity {
        Capacity {
            warm: self.warm_capacity,
            cold: self.cold_capacity,
        }
    }

    /// What was written last; nothing where that cannot be read: then nothing is refused.
    fn read(file: &Path) -> Option<Self> {
        toml::from_str(&fs::read_to_string(file).ok()?).ok()
    }
}

/// What is known of an archive and of its configuration.
pub(crate) struct Promises {
    file: PathBuf,
    wanted: InForce,
    before: Option<InForce>,
    /// What the change breaks.
    broken: Vec<Contradiction>,
    /// What was broken before, or cannot be laid to a change.
    told: Vec<Contradiction>,
}

impl Promises {
    /// Looks at the footage of the last day of `cameras`, which are those that will be recorded.
    pub(crate) fn look(
        config: &Config,
        index: &Index,
        disk: &Disk,
        cameras: &[CameraRow],
    ) -> anyhow::Result<Self> {
        let file = config.data_dir.join(FILE);
        let (wanted, before) = (InForce::of(config), InForce::read(&file));
        let (_, total) = disk.space()?;
        // What no setting can take from footage.
        let room = total.saturating_sub(config.retention.thresholds(total).low);
        let of = |what: &InForce| -> anyhow::Result<Vec<Contradiction>> {
            let rules = Rules::with_tiers(what.rules.clone(), what.below())?;
            let streams = rates(index, &rules, cameras)?;
            Ok(contradictions(&rules, &streams, room, what.capacity()))
        };
        let found = of(&wanted)?;
        let known = match &before {
            Some(before) if *before != wanted => of(before).unwrap_or_default(),
            // Without a change, or with nothing to compare with, there is nobody to refuse.
            _ => found.clone(),
        };
        let (told, broken) = found
            .into_iter()
            .partition(|one| known.iter().any(|known| known.bound == one.bound));
        Ok(Self {
            file,
            wanted,
            before,
            broken,
            told,
        })
    }

    /// Fails if the change of the configuration breaks a promise.
    pub(crate) fn refuse(&self) -> anyhow::Result<()> {
        if self.broken.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = self.broken.iter().map(|one| format!("\n  {one}")).collect();
        bail!(
            "the change of retention since the last start promises what cannot be kept:{}\n  with the rules as they were \
             the service starts; {} has them",
            lines.concat(),
            self.file.display()
        )
    }

    /// What is broken and yet no reason to refuse, in words.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        self.told.iter().map(ToString::to_string)
    }

    /// Keeps for the next start what is in force from now on.
    pub(crate) fn keep(&self) -> anyhow::Result<()> {
        if self.before.as_ref() == Some(&self.wanted) {
            return Ok(());
        }
        let text = toml::to_string(&self.wanted).context("writing rules")?;
        let partial = self.file.with_added_extension("partial");
        fs::write(&partial, text)
            .and_then(|()| fs::rename(&partial, &self.file))
            .with_context(|| format!("writing {}", self.file.display()))
    }
}
