//! Has segments restored that somebody wants to read and that lie in an archive class.
//!
//! Who wants one notes it in the index ([`Index::want_restores`]); this thread asks the store, looks how far it is, and
//! notes when it can be read. It changes nothing but those notes, so that it needs to know nothing of moving and
//! deleting. After a kill the notes say where it was.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use archive::layout::segment_path;
use archive::store::{Access, Objects, StoreError, Stores};
use archive::time::SECOND_US;
use archive::{Clock, SegmentId, Tier, WallTime};
use indexer::{Index, IndexError, Restore, RestoreState, SegmentState};

use crate::error::TieringError;

/// How often the notes are looked at; somebody waits.
const INTERVAL: Duration = Duration::from_secs(1);
/// A restore that is under way is looked at after a twentieth of the time that it has taken so far, within these.
const LOOK_AGAIN_US: (u64, u64) = (SECOND_US as u64, 300 * SECOND_US as u64);
const LOOK_AGAIN_SHARE: u64 = 20;
/// Looks in one pass.
const LOOKS_MAX: usize = 64;
const DAY_US: i64 = 24 * 3600 * SECOND_US;

/// Restores segments until it is stopped.
#[derive(Debug)]
pub struct Restorer {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Restorer {
    /// Starts the thread. `None` where no store has to be restored from.
    pub fn start(
        index: Arc<Index>,
        stores: &Stores,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, TieringError> {
        let Some(objects) = stores.cold.clone().filter(|o| o.store.restoring().is_some()) else {
            return Ok(None);
        };
        let (stop, stopped) = mpsc::channel::<()>();
        let mut passes = Passes {
            index,
            objects,
            looked: HashMap::new(),
        };
        let run = move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = passes.pass(clock.wall(), clock.monotonic_us()) {
                    tracing::error!(%error, "the index failed: restores are not looked after");
                }
            }
        };
        let thread = std::thread::Builder::new().name("restore".into()).spawn(run)?;
        Ok(Some(Self { stop, thread }))
    }

    /// Stops after the pass in progress.
    pub fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// What a note needs.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Step {
    /// Nothing now.
    Wait,
    /// The store is asked how far it is, or told to begin.
    Look,
    /// It cannot be read any more.
    Forget,
}

/// `looked_us_ago` is when the store was asked last, by this process.
fn step(restore: &Restore, now: WallTime, looked_us_ago: Option<u64>) -> Step {
    let lasted = now.micros_since(restore.requested).max(0).unsigned_abs();
    let again = (lasted / LOOK_AGAIN_SHARE).clamp(LOOK_AGAIN_US.0, LOOK_AGAIN_US.1);
    match restore.state {
        RestoreState::Ready if restore.is_over(now) => Step::Forget,
        RestoreState::Ready => Step::Wait,
        RestoreState::Wanted | RestoreState::Asked if looked_us_ago.is_none_or(|ago| ago >= again) => {
            Step::Look
        }
        RestoreState::Wanted | RestoreState::Asked => Step::Wait,
    }
}

/// What is known after the store has said that an object is `access`.
fn told(restore: &Restore, access: Access, now: WallTime, days: u32) -> Restore {
    let ready = |until| Restore {
        state: RestoreState::Ready,
        ready_at: now,
        until,
        ..*restore
    };
    let some_days = now.plus_micros(i64::from(days) * DAY_US);
    match access {
        // It needs no restore; that is looked at again some day.
        Access::AtOnce => ready(some_days),
        Access::Restored { until } => ready(until.unwrap_or(some_days)),
        Access::Archived | Access::Restoring => Restore {
            state: RestoreState::Asked,
            ..*restore
        },
    }
}

struct Passes {
    index: Arc<Index>,
    objects: Objects,
    looked: HashMap<SegmentId, u64>,
}

impl Passes {
    fn pass(&mut self, now: WallTime, monotonic_us: u64) -> Result<(), IndexError> {
        let all = self.index.all_restores()?;
        if all.is_empty() {
            self.looked.clear();
            return Ok(());
        }
        let mut looks = 0;
        for restore in all {
            let ago = self.looked.get(&restore.segment);
            match step(&restore, now, ago.map(|at| monotonic_us.saturating_sub(*at))) {
                Step::Wait => {}
                Step::Forget => self.forget(&restore)?,
                Step::Look if looks < LOOKS_MAX => {
                    looks += 1;
                    self.looked.insert(restore.segment, monotonic_us);
                    // Who does not answer one does not answer the next either.
                    if !self.look(&restore, now)? {
                        break;
                    }
                }
                Step::Look => break,
            }
        }
        Ok(())
    }

    fn forget(&mut self, restore: &Restore) -> Result<(), IndexError> {
        self.looked.remove(&restore.segment);
        self.index
            .forget_restore(restore.segment.stream, restore.range.from())
    }

    /// Whether the store answered.
    fn look(&mut self, restore: &Restore, now: WallTime) -> Result<bool, IndexError> {
        let id = restore.segment;
        let row = self.index.segment(id)?;
        let row = row.filter(|row| row.tier == Tier::Cold && row.state != SegmentState::Deleting);
        let (Some(row), Some(stream)) = (row, self.index.stream_id(id.stream)) else {
            // It has been deleted, or can be read from elsewhere.
            return self.forget(restore).map(|()| true);
        };
        let name = segment_path(&stream, &row.name());
        let access = match self.ask(&name) {
            Ok(access) => access,
            Err(error) => {
                tracing::warn!(%stream, segment = id.seq, %error, "cannot restore a segment: tried again");
                return Ok(!error.is_passing());
            }
        };
        let days = self.objects.store.restoring().map_or(1, |how| how.days);
        let after = told(restore, access, now, days);
        if after.state == RestoreState::Ready {
            self.looked.remove(&id);
            tracing::info!(%stream, segment = id.seq, until = %after.until, "a segment was restored");
        } else if restore.state == RestoreState::Wanted {
            tracing::info!(%stream, segment = id.seq, ready_at = %after.ready_at, "a segment is being restored");
        }
        if after != *restore {
            self.index.update_restore(&after)?;
        }
        Ok(true)
    }

    /// How far an object is; one that nobody has asked for is asked for.
    fn ask(&self, name: &str) -> Result<Access, StoreError> {
        let Objects { store, runtime, .. } = &self.objects;
        runtime.block_on(async {
            let stat = store.stat(name).await?;
            let stat = stat.ok_or_else(|| StoreError::Missing {
                name: name.to_owned(),
            })?;
            if stat.access == Access::Archived {
                store.restore(name).await?;
            }
            Ok(stat.access)
        })
    }
}

#[cfg(test)]
mod tests {
    use archive::{StreamNo, TimeRange};

    use super::*;

    fn t(s: i64) -> WallTime {
        WallTime::from_micros(s * SECOND_US)
    }

    fn restore(state: RestoreState) -> Restore {
        Restore {
            segment: SegmentId {
                stream: StreamNo(1),
                seq: 7,
            },
            range: TimeRange::starting(t(0), 600 * SECOND_US as u64),
            state,
            requested: t(1000),
            ready_at: t(19_000),
            until: t(90_000),
        }
    }

    #[test]
    fn the_store_is_asked_at_once_and_then_less_and_less_often() {
        for state in [RestoreState::Wanted, RestoreState::Asked] {
            assert_eq!(step(&restore(state), t(1000), None), Step::Look, "{state:?}");
        }
        let asked = restore(RestoreState::Asked);
        let ago = |s: u64| Some(s * SECOND_US as u64);
        assert_eq!(step(&asked, t(1002), ago(1)), Step::Look);
        assert_eq!(step(&asked, t(1600), ago(29)), Step::Wait);
        assert_eq!(step(&asked, t(1600), ago(30)), Step::Look);
        assert_eq!(step(&asked, t(90_000), ago(299)), Step::Wait);
        assert_eq!(step(&asked, t(90_000), ago(300)), Step::Look);
        // A clock that was set back does not stop it.
        assert_eq!(step(&asked, t(0), ago(1)), Step::Look);
    }

    #[test]
    fn what_can_be_read_is_left_alone_until_it_cannot() {
        let ready = restore(RestoreState::Ready);
        assert_eq!(step(&ready, t(89_999), None), Step::Wait);
        assert_eq!(step(&ready, t(90_000), None), Step::Forget);
    }

    #[test]
    fn only_what_the_store_says_makes_a_segment_readable() {
        let wanted = restore(RestoreState::Wanted);
        for (access, readable) in [
            (Access::Archived, false),
            (Access::Restoring, false),
            (
                Access::Restored {
                    until: Some(t(50_000)),
                },
                true,
            ),
            (Access::Restored { until: None }, true),
            (Access::AtOnce, true),
        ] {
            // However long ago it should have been over.
            let after = told(&wanted, access, t(30_000), 3);
            assert_eq!(after.is_readable(t(30_001)), readable, "{access:?}");
        }
        let until = told(
            &wanted,
            Access::Restored {
                until: Some(t(50_000)),
            },
            t(30_000),
            3,
        )
        .until;
        assert_eq!(until, t(50_000));
    }
}
