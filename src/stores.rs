//! Opens the object stores that a configuration names.

use anyhow::Context;
use archive::Tier;
use archive::store::{Cache, CacheConfig, Objects, Store, StoreError, Stores};
use tokio::runtime::Runtime;

use crate::config::Config;

/// Opens the stores for a service, with a cache in front of them. One that does not answer is logged and found again
/// later; one that refuses us is an error.
pub(crate) fn open(config: &Config, runtime: &Runtime) -> anyhow::Result<Stores> {
    if config.stores().next().is_none() {
        return Ok(Stores::default());
    }
    let sizes = &config.tiers.cache;
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    let cache = runtime.block_on(Cache::open(&CacheConfig {
        memory: bytes(sizes.memory),
        disk: bytes(sizes.disk),
        folder: config.data_dir.join("cache"),
    }))?;
    let stores = open_all(config, runtime, Some(&cache))?;
    for (tier, _) in config.stores() {
        let Some(objects) = stores.of(tier) else { continue };
        match runtime.block_on(objects.store.probe()) {
            Ok(()) => {}
            Err(error @ StoreError::Away { .. }) => tracing::error!(
                %tier, %error, "the store does not answer: footage stays on the tiers before it until it does"
            ),
            Err(error) => return Err(error).with_context(|| format!("[tiers.{tier}]")),
        }
    }
    Ok(stores)
}

/// Opens the stores for a command that reads what it reads once.
pub(crate) fn open_to_read(config: &Config) -> anyhow::Result<(Stores, Option<Runtime>)> {
    if config.stores().next().is_none() {
        return Ok((Stores::default(), None));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let stores = open_all(config, &runtime, None)?;
    Ok((stores, Some(runtime)))
}

fn open_all(config: &Config, runtime: &Runtime, cache: Option<&Cache>) -> anyhow::Result<Stores> {
    let mut stores = Stores::default();
    for (tier, config) in config.stores() {
        let objects = Objects {
            store: Store::open(config).with_context(|| format!("[tiers.{tier}]"))?,
            cache: cache.cloned(),
            runtime: runtime.handle().clone(),
        };
        match tier {
            Tier::Cold => stores.cold = Some(objects),
            _ => stores.warm = Some(objects),
        }
    }
    Ok(stores)
}
