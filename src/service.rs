//! The one place where components are started and stopped, in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use archive::buffer::Pool;

use archive::disk::Disk;
use archive::site_key::SiteKey;
use archive::store::Stores;
use archive::{Clock, SystemClock};
use http_api::{Destination, HttpState, IncidentAge, Server, destination};
use indexer::{Index, SegmentRow};
use ingest::{Ingest, IngestConfig};
use tiering::checkpoint::{CheckpointConfig, Checkpointing};
use tiering::scrub::{ScrubConfig, Scrubbing};
use tiering::{Restorer, Rules, TieringConfig, Worker};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use url::Url;

use crate::config::Config;
use crate::descriptors;
use crate::enrol::{enrol, enrolled};
use crate::promises::Promises;
use crate::{store, stores};

/// Requests are short or wait for readers; recording has threads of its own.
const HTTP_THREADS: usize = 2;
/// Reads of footage and computed answers that may be under way at once: enough to keep a disk busy beside the 32 that read
/// from object stores, and whatever else waits for these.
const BLOCKING_THREADS: usize = 96;
/// Whatever is asked for, recording gets the cores first.
const HTTP_NICE: i32 = 10;
/// Scrubs and checkpoints come after everything else.
const BACKGROUND_NICE: i32 = 19;
/// The file in the data directory with the key that signs deletion certificates.
const SITE_KEY: &str = "site-key";
/// For sealing what a crash left open: one segment at a time.
const SEAL_SLABS: usize = 32;

/// A stop waits so long for those who look after footage, and looks as often.
const CARE_STOP_MAX: Duration = Duration::from_secs(4);
const CARE_STOP_LOOK: Duration = Duration::from_millis(10);

/// Everything that runs.
pub(crate) struct Service {
    runtime: Runtime,
    http: Server,
    ingest: Ingest,
    retention: Mutex<Retaining>,
    /// Where something has to be restored before it can be read.
    restorer: Option<Restorer>,
    ready: watch::Sender<bool>,
    /// Where connections to object stores live; it outlives those who wait for them.
    stores: Option<Runtime>,
    // Dropped last: gives the archive to the next process.
    index: Arc<Index>,
}

impl Service {
    /// Opens the archive, mends what a crash left, records, serves. When it returns `/readyz` answers 200.
    pub(crate) fn start(config: &Config) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let rules = config.rules()?;
        let store::Store { index, disk, id } = store::open(config)?;
        let cameras = enrolled(&index.cameras()?, &config.cameras, clock.wall());
        let promises = Promises::look(config, &index, &disk, &cameras)?;
        promises.refuse()?;
        for why in promises.warnings() {
            tracing::warn!(why, "the minimum retention of a rule will not be kept");
        }
        let key_file = config.data_dir.join(SITE_KEY);
        let key =
            SiteKey::open(&key_file).with_context(|| format!("the site's key {}", key_file.display()))?;
        tracing::info!(
            public = key.public(),
            "deletion certificates are signed with the site's key"
        );
        enrol(&index, &config.cameras, clock.wall())
            .context("writing the configured cameras into the index")?;
        promises.keep()?;
        let recovered = ingest::recover(&disk, &index).context("finding the ends of what was recorded")?;
        tracing::info!(
            fragments = recovered.fragments,
            adopted = recovered.adopted,
            damaged = recovered.damaged,
            set_aside = recovered.set_aside,
            unsealed = recovered.unsealed.len(),
            "recovered"
        );
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(HTTP_THREADS)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("http")
            // On Linux this is about the calling thread alone; a thread that may not be nice is not.
            .on_thread_start(|| {
                let _ = rustix::process::nice(HTTP_NICE);
            })
            .enable_all()
            .build()
            .context("starting threads")?;
        let (stores, stores_runtime) = stores::open(config, &id, &index)?.unzip();
        let (ready, is_ready) = watch::channel(false);
        let state = HttpState {
            index: index.clone(),
            disk: disk.clone(),
            stores: stores.clone().unwrap_or_default(),
            clock: clock.clone(),
            ready: is_ready,
            camera_url_allowed: camera_rule(config.allows_loopback()),
            incident_age: incident_age(rules.clone()),
        };
        let mut http = config.http.clone();
        http.connections_max = descriptors::connections(http.connections_max, streams(&index)?);
        let http = {
            let _within = runtime.enter();
            http_api::start(&http, state)?
        };
        let ingest = Ingest::start(
            IngestConfig {
                loopback_allowed: config.allows_loopback(),
                ..config.recording.ingest()
            },
            index.clone(),
            disk.clone(),
            clock.clone(),
        )?;
        let restorer = match &stores {
            Some(stores) => Restorer::start(index.clone(), stores, clock.clone())?,
            None => None,
        };
        let retention = Retention {
            index: index.clone(),
            disk,
            clock,
            rules,
            config: config.retention(),
            scrub: config.scrub.clone(),
            checkpoint: config.checkpoint.clone(),
            checkpoint_dir: config.data_dir.join("checkpoint"),
            key,
            stores: stores.zip(stores_runtime.as_ref().map(|runtime| runtime.handle().clone())),
            unsealed: recovered.unsealed,
        };
        let retention = std::thread::Builder::new()
            .name("seal".into())
            .spawn(move || retention.start())?;
        let retention = Mutex::new(Retaining::Sealing(retention));
        let _ = ready.send(true);
        Ok(Self {
            runtime,
            http,
            ingest,
            retention,
            restorer,
            ready,
            stores: stores_runtime,
            index,
        })
    }

    /// Where the page and the API are.
    pub(crate) fn address(&self) -> SocketAddr {
        self.http.local_addr()
    }

    /// The runtime that requests are served on.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Whether recording or retention has ended by itself: the index failed, and only a new start recovers.
    pub(crate) fn has_failed(&self) -> bool {
        let mut retention = self.retention.lock().unwrap_or_else(PoisonError::into_inner);
        self.ingest.has_failed() || retention.has_failed()
    }

    /// Stops everything: requests in progress may end, what is open is sealed.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        let Self {
            runtime,
            http,
            ingest,
            retention,
            restorer,
            ready,
            stores,
            index,
        } = self;
        let _ = ready.send(false);
        // Readers of live streams would otherwise hold up the sealing.
        let sealing = std::thread::Builder::new()
            .name("stop".into())
            .spawn(move || ingest.stop())?;
        let caring = std::thread::Builder::new()
            .name("stop-care".into())
            .spawn(move || {
                let retention = retention.into_inner();
                let reaped = retention.unwrap_or_else(PoisonError::into_inner).stop();
                if let Some(restorer) = restorer {
                    restorer.stop();
                }
                reaped
            })?;
        runtime.block_on(http.shutdown());
        let sealed = sealing
            .join()
            .map_err(|_| anyhow!("stopping the recording panicked"))?;
        let reaped = ended(caring);
        runtime.shutdown_background();
        if let Some(stores) = stores {
            stores.shutdown_background();
        }
        drop(index);
        sealed.context("sealing what was open")?;
        reaped.context("stopping retention")
    }
}

/// What came of stopping those who look after footage. One that waits for a store that does not answer is left behind:
/// whatever it does can be cut off at any point, and the next start goes on from there.
fn ended(caring: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    let began = Instant::now();
    while !caring.is_finished() {
        if began.elapsed() > CARE_STOP_MAX {
            tracing::warn!("retention still waits for a store: the next start goes on from here");
            return Ok(());
        }
        std::thread::sleep(CARE_STOP_LOOK);
    }
    caring
        .join()
        .map_err(|_| anyhow!("stopping retention panicked"))?
}

/// What looks after footage that was recorded.
struct Caring {
    worker: Worker,
    scrubbing: Scrubbing,
    checkpointing: Option<Checkpointing>,
}

impl Caring {
    fn has_failed(&self) -> bool {
        self.worker.has_failed() || self.scrubbing.has_failed()
    }

    fn stop(self) -> anyhow::Result<()> {
        if let Some(checkpointing) = self.checkpointing {
            checkpointing.stop();
        }
        let scrubbed = self.scrubbing.stop();
        self.worker.stop()?;
        Ok(scrubbed?)
    }
}

/// How far retention is.
enum Retaining {
    /// What a crash left open is being sealed.
    Sealing(JoinHandle<anyhow::Result<Caring>>),
    Deleting(Caring),
    Failed(anyhow::Error),
}

impl Retaining {
    /// Sealing over, or failed.
    fn sealed(sealing: JoinHandle<anyhow::Result<Caring>>) -> Self {
        match sealing.join() {
            Ok(Ok(caring)) => Self::Deleting(caring),
            Ok(Err(e)) => Self::Failed(e),
            Err(_) => Self::Failed(anyhow!("sealing what was left open panicked")),
        }
    }

    fn has_failed(&mut self) -> bool {
        if matches!(self, Self::Sealing(thread) if thread.is_finished()) {
            let nothing = Self::Failed(anyhow!("sealing is over"));
            if let Self::Sealing(thread) = std::mem::replace(self, nothing) {
                *self = Self::sealed(thread);
            }
            if let Self::Failed(e) = self {
                tracing::error!(error = format!("{e:#}"), "retention cannot begin");
            }
        }
        match self {
            Self::Sealing(_) => false,
            Self::Deleting(caring) => caring.has_failed(),
            Self::Failed(_) => true,
        }
    }

    fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Sealing(thread) => Self::sealed(thread).stop(),
            Self::Deleting(caring) => caring.stop(),
            Self::Failed(e) => Err(e),
        }
    }
}

/// How many streams are recorded.
fn streams(index: &Index) -> anyhow::Result<usize> {
    let cameras = index
        .cameras()?
        .into_iter()
        .filter(|camera| camera.removed.is_none());
    Ok(cameras
        .flat_map(|camera| camera.streams)
        .filter(|stream| stream.enabled)
        .count())
}

/// What retention needs: it begins when everything that a crash left open is sealed.
struct Retention {
    index: Arc<Index>,
    disk: Disk,
    clock: Arc<dyn Clock>,
    rules: Rules,
    config: TieringConfig,
    scrub: ScrubConfig,
    checkpoint: CheckpointConfig,
    /// Where a checkpoint stands while it is copied.
    checkpoint_dir: PathBuf,
    key: SiteKey,
    stores: Option<(Stores, Handle)>,
    unsealed: Vec<SegmentRow>,
}

impl Retention {
    fn start(self) -> anyhow::Result<Caring> {
        let pool = Pool::new(SEAL_SLABS);
        ingest::seal_left_open(&self.disk, &self.index, &pool, &self.unsealed)?;
        let stores = self.stores.clone().map(|(stores, _)| stores).unwrap_or_default();
        let worker = Worker::start(
            self.index.clone(),
            self.disk.clone(),
            self.clock.clone(),
            self.rules,
            self.config,
            self.key,
            self.stores,
        )?;
        let scrubbing = Scrubbing::start(
            self.index.clone(),
            self.disk,
            stores.clone(),
            self.clock.clone(),
            self.scrub,
            worker.hands(),
            in_the_background,
        )?;
        let first = stores.warm.or(stores.cold);
        let checkpointing = first.filter(|_| !self.checkpoint.every.is_zero()).map(|objects| {
            Checkpointing::start(
                self.index,
                self.checkpoint_dir,
                objects,
                self.clock,
                self.checkpoint,
                in_the_background,
            )
        });
        Ok(Caring {
            worker,
            scrubbing,
            checkpointing: checkpointing.transpose()?,
        })
    }
}

/// Whatever there is to do, this thread comes last.
fn in_the_background() {
    let _ = rustix::process::nice(BACKGROUND_NICE);
}

fn incident_age(rules: Rules) -> IncidentAge {
    Arc::new(move |stream| rules.rule_for(stream)?.incident)
}

/// Says whether a camera with this URL may be added over the API, and if not, why.
type CameraRule = Arc<dyn Fn(&Url) -> Result<(), String> + Send + Sync>;

fn camera_rule(allow_loopback: bool) -> CameraRule {
    Arc::new(move |url| match destination(url) {
        Destination::Network => Ok(()),
        Destination::Loopback if allow_loopback => Ok(()),
        Destination::Loopback => Err(
            "this address is the service's own machine, which cameras added over the API may \
                                      not be on: put the camera into the configuration file, or set \
                                      ingest.allow_loopback there"
                .to_owned(),
        ),
        Destination::Forbidden => Err("this address is never a camera's".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealing(outcome: impl FnOnce() -> anyhow::Result<Caring> + Send + 'static) -> Retaining {
        let thread = std::thread::spawn(outcome);
        while !thread.is_finished() {
            std::thread::yield_now();
        }
        Retaining::Sealing(thread)
    }

    #[test]
    fn retention_that_cannot_begin_is_a_failure_of_the_service() {
        let mut retaining = sealing(|| Err(anyhow!("the index failed")));
        assert!(retaining.has_failed());
        assert!(retaining.stop().is_err());
        assert!(sealing(|| panic!("a defect")).has_failed());
    }
}
