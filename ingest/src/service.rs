//! Recording as a whole: started and stopped in one place.

use std::sync::Arc;
use std::thread::JoinHandle;

use archive::Clock;
use archive::buffer::{Pool, SLAB_BYTES};
use archive::disk::Disk;
use indexer::Index;
use tokio::sync::watch;

use crate::beat::Beat;
use crate::committer::Committer;
use crate::config::IngestConfig;
use crate::error::IngestError;
use crate::supervisor::{Shared, supervise};

/// Memory kept for the next fragments when nobody needs it.
const POOL_BYTES: usize = 32 << 20;

/// Records every enabled stream of the registry.
pub struct Ingest {
    committer: Committer,
    stop: watch::Sender<bool>,
    sessions: JoinHandle<Result<(), IngestError>>,
}

impl Ingest {
    /// Starts two threads: one for all sessions, which wakes up every poll interval and drains every
    /// socket, and one that commits. [`recover`](crate::recover) must have run before.
    pub fn start(
        config: IngestConfig,
        index: Arc<Index>,
        disk: Disk,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, IngestError> {
        let pool = Pool::new(POOL_BYTES / SLAB_BYTES);
        let committer = Committer::start(config.clone(), index.clone(), disk, pool.clone())?;
        let pause = config.poll_interval;
        let beat = Arc::<Beat>::default();
        let shared = Shared {
            config,
            index,
            clock,
            pool,
            submit: committer.submit(),
            beat: beat.clone(),
        };
        let (stop, stopped) = watch::channel(false);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        // Sessions cost wake-ups, not bytes: when there is nothing to do, let more arrive first.
        let resting = beat.clone();
        builder
            .enable_all()
            .on_thread_park(move || resting.rest(pause))
            .on_thread_unpark(move || beat.work());
        let runtime = builder.build()?;
        let sessions = std::thread::Builder::new()
            .name("sessions".into())
            .spawn(move || runtime.block_on(supervise(shared, stopped)))?;
        Ok(Self {
            committer,
            stop,
            sessions,
        })
    }

    /// Whether recording has ended by itself, which it does only when the index fails.
    pub fn has_failed(&self) -> bool {
        self.committer.has_failed() || self.sessions.is_finished()
    }

    /// Ends all sessions, makes what is complete durable and seals what is open. Blocks for about a second.
    pub fn stop(self) -> Result<(), IngestError> {
        let _ = self.stop.send(true);
        let ended = self.sessions.join();
        self.committer.stop()?;
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").finish_non_exhaustive()
    }
}
