//! Opens the object stores that a configuration names, and sees that they are the archive's own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use archive::Tier;
use archive::layout::MARKER;
use archive::store::{Cache, CacheConfig, Claim, Marker, Objects, Store, StoreError, Stores};
use indexer::Index;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::config::Config;

/// A start does not wait longer for a store.
const PROBE_MAX: Duration = Duration::from_secs(3);
/// Objects that are read at a time, so that threads are left for what lies on the disk.
const READS_MAX: usize = 16;
/// Connections, copies and the cache live on threads of their own.
const THREADS: usize = 2;

/// Opens the stores for a service, with a cache in front of them. `archive` is the id of the archive. One that does not
/// answer is logged and found again later.
pub(crate) fn open(
    config: &Config,
    archive: &str,
    index: &Index,
) -> anyhow::Result<Option<(Stores, Runtime)>> {
    for tier in [Tier::Warm, Tier::Cold] {
        if config.stores().all(|(configured, _)| configured != tier) && index.has_copies_on(tier)? {
            bail!(
                "copies of footage lie on the {tier} tier, and [tiers.{tier}] is not configured any more: put it back; \
                 what lies there alone would count as lost"
            );
        }
    }
    if config.stores().next().is_none() {
        return Ok(None);
    }
    let runtime = runtime(THREADS)?;
    let sizes = &config.tiers.cache;
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    let cache = runtime.block_on(Cache::open(&CacheConfig {
        memory: bytes(sizes.memory),
        disk: bytes(sizes.disk),
        folder: config.data_dir.join("cache"),
    }))?;
    let mut stores = open_all(config, &runtime, Some(&cache))?;
    for (tier, objects) in [(Tier::Warm, &mut stores.warm), (Tier::Cold, &mut stores.cold)] {
        let Some(objects) = objects else { continue };
        // A folder that is not mounted, another bucket and one place for two tiers are found by it.
        let marker = Marker {
            text: format!("{archive} {tier}\n"),
            may_be_new: !index.has_copies_on(tier)?,
        };
        objects.store = objects.store.clone().belonging_to(marker);
        let claimed = objects.store.claim();
        let claimed = runtime.block_on(async { tokio::time::timeout(PROBE_MAX, claimed).await });
        match claimed {
            Ok(Ok(())) => {}
            Ok(Err(Claim::Foreign(why))) => bail!("[tiers.{tier}]: {why}"),
            // Recording matters more than copies: it begins, and the log says what has to be mended. It is looked at
            // again before anything is asked of it.
            Ok(Err(error)) => tracing::error!(
                %tier, %error, "the store cannot be used: footage stays on the tiers before it until it can"
            ),
            Err(_) => tracing::error!(
                %tier, "the store does not answer: footage stays on the tiers before it until it does"
            ),
        }
    }
    Ok(Some((stores, runtime)))
}

/// The id of the archive that the stores belong to, as the first of them tells it; `None` when none does.
pub(crate) fn archive_of(stores: &Stores) -> Result<Option<String>, StoreError> {
    for objects in [&stores.warm, &stores.cold].into_iter().flatten() {
        let found = objects.runtime.block_on(async {
            let Some(stat) = objects.store.stat(MARKER).await? else {
                return Ok(None);
            };
            objects.store.read(MARKER, 0..stat.len.min(256)).await.map(Some)
        })?;
        let text = found.as_deref().map(String::from_utf8_lossy);
        let id = text.as_deref().and_then(|text| text.split_whitespace().next());
        if let Some(id) = id {
            return Ok(Some(id.to_owned()));
        }
    }
    Ok(None)
}

/// Opens the stores for a command that reads what it reads once.
pub(crate) fn open_to_read(config: &Config) -> anyhow::Result<(Stores, Option<Runtime>)> {
    if config.stores().next().is_none() {
        return Ok((Stores::default(), None));
    }
    let runtime = runtime(1)?;
    let stores = open_all(config, &runtime, None)?;
    Ok((stores, Some(runtime)))
}

fn runtime(threads: usize) -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("stores")
        .enable_all()
        .build()
        .context("starting threads")
}

fn open_all(config: &Config, runtime: &Runtime, cache: Option<&Cache>) -> anyhow::Result<Stores> {
    let mut stores = Stores::default();
    for (tier, config) in config.stores() {
        let objects = Objects {
            store: Store::open(config).with_context(|| format!("[tiers.{tier}]"))?,
            cache: cache.cloned(),
            runtime: runtime.handle().clone(),
            turns: Arc::new(Semaphore::new(READS_MAX)),
        };
        match tier {
            Tier::Cold => stores.cold = Some(objects),
            _ => stores.warm = Some(objects),
        }
    }
    Ok(stores)
}
