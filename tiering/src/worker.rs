//! The thread that makes passes.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use archive::Clock;
use archive::disk::Disk;
use archive::site_key::SiteKey;
use archive::store::Stores;
use indexer::{Index, IndexError};
use tokio::runtime::Handle;

use crate::config::TieringConfig;
use crate::error::TieringError;
use crate::filing::Filing;
use crate::hands::Hands;
use crate::locking::Locking;
use crate::mover::Mover;
use crate::outlook::Outlook;
use crate::progress::Progress;
use crate::reaper::Reaper;
use crate::rules::Rules;
use crate::thinner::{Replaced, Thinner, ThinnerMoment, ThinnerParts};

/// Between two passes while there is more to delete, so that recording gets its turn at the disk.
const BREATH: Duration = Duration::from_millis(100);

/// How often is looked what came of copies that are being made or removed.
const TICK: Duration = Duration::from_millis(100);

/// Moves and deletes segments until it is stopped.
#[derive(Debug)]
pub struct Worker {
    stop: mpsc::Sender<()>,
    progress: Arc<Mutex<Progress>>,
    hands: Hands,
    thread: JoinHandle<Result<(), IndexError>>,
}

impl Worker {
    /// Starts the thread; its first pass finishes deletions that were left half way. Call it after recovery
    /// has sealed what was left open. While it runs, nobody else moves or deletes segments, but who has its
    /// [`hands`](Self::hands) may mend their copies. Copies are made on the runtime of `stores`, which must outlive it; without one all
    /// footage stays on the hot tier. `key` signs what is certified.
    pub fn start(
        index: Arc<Index>,
        disk: Disk,
        clock: Arc<dyn Clock>,
        rules: Rules,
        config: TieringConfig,
        key: SiteKey,
        stores: Option<(Stores, Handle)>,
    ) -> Result<Self, TieringError> {
        let (stop, stopped) = mpsc::channel::<()>();
        let hands = Hands::default();
        let shared_hands = hands.clone();
        let (interval, grace, settings) = (config.interval, config.grace, config.clone());
        let mut mover = stores.clone().map(|(stores, runtime)| {
            let (index, disk, rules) = (index.clone(), disk.clone(), rules.clone());
            Mover::new(index, disk, stores, rules, grace, runtime)
        });
        if let Some(mover) = &mut mover {
            mover.resume()?;
        }
        let mut thinner = Thinner::new(ThinnerParts {
            index: index.clone(),
            disk: disk.clone(),
            stores: stores.clone().map(|(stores, _)| stores).unwrap_or_default(),
            rules: rules.clone(),
            grace,
        });
        let board = index.clone();
        let mut outlook = Outlook::new(index.clone(), rules.clone(), config.clone());
        let places = stores
            .as_ref()
            .map(|(stores, _)| stores.clone())
            .unwrap_or_default();
        let mut filing = Filing::new(index.clone(), disk.clone(), places.clone());
        let mut locking = Locking::new(index.clone(), places);
        let reaper = Reaper::new(index, disk, rules, config, key)?;
        let mut reaper = reaper.with_stores(stores.map(|(stores, _)| stores).unwrap_or_default());
        let progress = Arc::new(Mutex::new(reaper.progress()));
        let shared = progress.clone();
        let run = move || loop {
            let more = pass(&mut reaper, mover.as_mut(), &settings, &hands, &*clock).and_then(|more| {
                thin(
                    &mut thinner,
                    &mut reaper,
                    mover.as_mut(),
                    &hands,
                    &*clock,
                    Thinner::pass,
                )?;
                let now = reaper.progress().archive_time;
                filing.pass(clock.monotonic_us())?;
                locking.pass(now, clock.monotonic_us())?;
                Ok(more)
            });
            let now = reaper.progress();
            let more = more.and_then(|more| outlook.look(&now, clock.monotonic_us()).map(|()| more));
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = now;
            let mut pause = match more {
                Ok(true) => BREATH,
                Ok(false) => interval,
                Err(e) if e.is_disk_full() => {
                    tracing::error!(error = %e, "the index cannot grow: nothing can be deleted until there is space");
                    interval
                }
                Err(e) => {
                    tracing::error!(error = %e, "the index failed: nothing is deleted any more");
                    return Err(e);
                }
            };
            loop {
                let moved = mover.as_ref().map(Mover::moved);
                board.pulse().set_moved(moved);
                let moves = moved.is_some_and(|moved| moved.under_way + moved.leaving > 0);
                let is_moving = moves || thinner.is_under_way() || reaper.is_under_way();
                let step = if is_moving { pause.min(TICK) } else { pause };
                if stopped.recv_timeout(step) != Err(RecvTimeoutError::Timeout) {
                    return Ok(());
                }
                pause = pause.saturating_sub(step);
                if pause.is_zero() {
                    break;
                }
                match reaper.take_in() {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(e) => {
                        tracing::error!(error = %e, "the index failed: nothing is deleted any more");
                        return Err(e);
                    }
                }
                match thin(
                    &mut thinner,
                    &mut reaper,
                    mover.as_mut(),
                    &hands,
                    &*clock,
                    Thinner::go_on,
                ) {
                    Err(e) if e.is_disk_full() => break,
                    Err(e) => {
                        tracing::error!(error = %e, "the index failed: nothing is thinned, moved or deleted any more");
                        return Err(e);
                    }
                    Ok(()) => {}
                }
                if let Some(mover) = &mut mover {
                    let mut turn = hands.turn();
                    mover.spare(turn.mending().clone());
                    let went_on = mover.go_on(now.archive_time, !now.clock_doubted, clock.monotonic_us());
                    turn.leave(mover.in_hand());
                    match went_on {
                        // The next pass tries again.
                        Err(e) if e.is_disk_full() => break,
                        Err(e) => {
                            tracing::error!(error = %e, "the index failed: nothing is moved or deleted any more");
                            return Err(e);
                        }
                        Ok(()) => {}
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("retention".into()).spawn(run)?;
        Ok(Self {
            stop,
            progress,
            hands: shared_hands,
            thread,
        })
    }

    /// Which segments it has in hand.
    pub fn hands(&self) -> Hands {
        self.hands.clone()
    }

    /// Counters and the state after the last pass.
    pub fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has ended by itself, which it does only when the index fails.
    pub fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops after the pass in progress.
    pub fn stop(self) -> Result<(), TieringError> {
        let _ = self.stop.send(());
        match self.thread.join() {
            Ok(result) => Ok(result?),
            // The panic was reported where it happened.
            Err(_) => Ok(()),
        }
    }
}

/// Thins, and tells the others.
fn thin(
    thinner: &mut Thinner,
    reaper: &mut Reaper,
    mover: Option<&mut Mover>,
    hands: &Hands,
    clock: &dyn Clock,
    step: fn(&mut Thinner, &ThinnerMoment<'_>) -> Result<Vec<Replaced>, IndexError>,
) -> Result<(), IndexError> {
    let turn = hands.turn();
    let mut busy = mover.as_ref().map(|mover| mover.busy()).unwrap_or_default();
    busy.extend(turn.mending());
    let found = reaper.progress();
    let at = ThinnerMoment {
        now: found.archive_time,
        clock_trusted: !found.clock_doubted,
        monotonic_us: clock.monotonic_us(),
        busy: &busy,
    };
    tell_replaced(&step(thinner, &at)?, reaper, mover)
}

/// Tells those who count and who move segments which of them have given way to thinner ones.
pub fn tell_replaced(
    replaced: &[Replaced],
    reaper: &mut Reaper,
    mut mover: Option<&mut Mover>,
) -> Result<(), IndexError> {
    for (before, after) in replaced {
        reaper.replaced(before, after);
        if let Some(mover) = &mut mover {
            mover.look_again(after.id.stream, after.wall_start)?;
        }
    }
    Ok(())
}

/// One pass of both; whether there is more to delete right now.
fn pass(
    reaper: &mut Reaper,
    mover: Option<&mut Mover>,
    config: &TieringConfig,
    hands: &Hands,
    clock: &dyn Clock,
) -> Result<bool, IndexError> {
    let mut turn = hands.turn();
    let Some(mover) = mover else {
        reaper.spare(turn.mending().clone());
        return reaper.pass(clock.wall(), clock.monotonic_us());
    };
    reaper.spare(mover.busy().union(turn.mending()).copied().collect());
    mover.spare(turn.mending().clone());
    let more = reaper.pass(clock.wall(), clock.monotonic_us())?;
    let found = reaper.progress();
    let short = mover.short(&found, config.interval);
    let moved = mover.pass(
        found.archive_time,
        !found.clock_doubted,
        short,
        clock.monotonic_us(),
    );
    // What was begun goes on whether or not the pass came to its end.
    turn.leave(mover.in_hand());
    moved?;
    let low = config.thresholds(found.total_bytes).low;
    mover.look_ahead(found.free_bytes.saturating_sub(low));
    Ok(more)
}
