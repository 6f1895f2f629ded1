//! An observer outside the service, which remembers what the service told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::api::{Api, Timeline};
use super::chance::Chance;
use super::claims::{Claims, Remembered, changed};
use super::service::Service;

/// How often every camera is asked.
const INTERVAL: Duration = Duration::from_millis(100);
/// Fragments that are read again in one comparison, besides the last of every camera.
const READ_AGAIN: usize = 24;

#[derive(Default)]
struct Shared {
    /// The service to ask, while one runs.
    api: Mutex<Option<Api>>,
    claims: Mutex<Claims>,
    stop: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks a service ten times a second how far each camera is durable, and reads fragments as they become so.
pub(crate) struct Oracle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Oracle {
    /// Watches `cameras` of whatever service it is pointed at.
    pub(crate) fn new(cameras: Vec<String>) -> Self {
        let shared = Arc::<Shared>::default();
        let theirs = shared.clone();
        let thread = thread::spawn(move || watch(&theirs, &cameras));
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Watches this service from now on.
    pub(crate) fn watch(&self, service: &Service) {
        *locked(&self.shared.api) = Some(service.api());
    }

    /// Asks nobody any more until it is told whom.
    pub(crate) fn rest(&self) {
        *locked(&self.shared.api) = None;
    }

    /// What was told up to now.
    pub(crate) fn claims(&self) -> Claims {
        locked(&self.shared.claims).clone()
    }

    /// The timelines of all cameras that were ever reported to have something.
    pub(crate) fn timelines(&self, api: &Api) -> BTreeMap<String, Timeline> {
        let timeline = |id: &String| (id.clone(), api.timeline(id).expect("a timeline"));
        self.claims().cameras.keys().map(timeline).collect()
    }

    /// Fails unless everything that was told up to now is still there; fragments are read again by sample.
    pub(crate) fn assert_kept(&self, service: &Service, chance: &mut Chance) {
        let claims = self.claims();
        let api = service.api();
        let losses = claims.losses(&self.timelines(&api));
        assert!(losses.is_empty(), "lost: {losses:#?}");
        let mut last = BTreeMap::new();
        for fragment in &claims.fragments {
            last.insert(fragment.camera.clone(), fragment.clone());
        }
        let mut sample: Vec<Remembered> = last.into_values().collect();
        sample.extend(chance.some_of(&claims.fragments, READ_AGAIN));
        let changed = changed(&api, &sample);
        assert!(changed.is_empty(), "not what it was: {changed:#?}");
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn watch(shared: &Shared, cameras: &[String]) {
    for turn in 0.. {
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        let api = locked(&shared.api).clone();
        if let Some(api) = api {
            look(shared, &api, cameras, turn);
        }
        thread::sleep(INTERVAL);
    }
}

/// One look at everything. A service that was killed meanwhile gives no answer, which claims nothing.
fn look(shared: &Shared, api: &Api, cameras: &[String], turn: usize) {
    for camera in cameras {
        if let Ok(status) = api.status(camera)
            && let Some(until) = status.durable_until
        {
            locked(&shared.claims).durable(camera, until);
        }
    }
    let Some(camera) = cameras.get(turn % cameras.len().max(1)) else {
        return;
    };
    let until = locked(&shared.claims)
        .cameras
        .get(camera)
        .and_then(|claim| claim.durable_until);
    if let Some(until) = until
        && let Ok(fragment) = api.seek(camera, until.minus(Duration::from_micros(1)))
        && let Ok(hash) = api.hash(&fragment)
    {
        let mut claims = locked(&shared.claims);
        let is_known = |known: &Remembered| known.camera == *camera && known.from == fragment.from;
        if !claims.fragments.iter().any(is_known) {
            claims.fragments.push(Remembered {
                camera: camera.clone(),
                from: fragment.from,
                to: fragment.to,
                hash,
            });
        }
    }
    if turn.is_multiple_of(5)
        && let Ok(timeline) = api.timeline(camera)
    {
        locked(&shared.claims).recorded(camera, &timeline);
    }
}
