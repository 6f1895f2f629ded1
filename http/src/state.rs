//! What the routes share.

use std::sync::Arc;
use std::time::Duration;

use archive::disk::Disk;
use archive::store::Stores;
use archive::{Clock, StreamId};
use indexer::Index;
use tokio::sync::{Semaphore, watch};
use url::Url;

use crate::auth::{Footage, HostRule, Keys};
use crate::config::HttpConfig;
use crate::desk::{Desk, Readers};
use crate::metrics::Metrics;
use crate::places::Places;
use crate::routes::{EventLists, LiveWindows};

/// Stills are decoded by this many processes at once: each takes a core for some hundred milliseconds.
const DECODERS: usize = 2;
/// Stills whose media is read from object stores at once.
const FAR_STILLS: usize = 4;

/// Whether a camera may have a URL; the error says why not.
pub type CameraUrlRule = Arc<dyn Fn(&Url) -> Result<(), String> + Send + Sync>;

/// Until which age footage of a stream is kept as an incident.
pub type IncidentAge = Arc<dyn Fn(&StreamId) -> Option<Duration> + Send + Sync>;

/// What the service is told about the rest of the program.
#[derive(Clone)]
pub struct HttpState {
    /// The index.
    pub index: Arc<Index>,
    /// Where the segments lie.
    pub disk: Disk,
    /// Where those lie that have left the disk.
    pub stores: Stores,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Whether everything runs: what `/readyz` answers.
    pub ready: watch::Receiver<bool>,
    /// Whether a camera may have this URL, which is an RTSP URL that points neither at link-local nor at
    /// metadata addresses; the error says why not. See [`crate::destination`].
    pub camera_url_allowed: CameraUrlRule,
    /// The age until which footage of a stream is kept as an incident; `None` where its rule has none.
    pub incident_age: IncidentAge,
}

/// Everything a route can reach.
pub(crate) struct Shared {
    pub(crate) footage: Footage,
    pub(crate) keys: Keys,
    pub(crate) hosts: HostRule,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) camera_url_allowed: CameraUrlRule,
    pub(crate) incident_age: IncidentAge,
    pub(crate) metrics: Metrics,
    pub(crate) places: Arc<Places>,
    pub(crate) desk: Desk,
    pub(crate) readers: Readers,
    pub(crate) decoders: Semaphore,
    pub(crate) far_stills: Semaphore,
    pub(crate) lives: LiveWindows,
    pub(crate) events: EventLists,
    pub(crate) body_timeout: Duration,
    pub(crate) redirect_lifetime: Duration,
}

/// How routes hold it.
pub(crate) type App = Arc<Shared>;

impl Shared {
    pub(crate) fn new(config: &HttpConfig, state: HttpState) -> Self {
        let keys = Keys::new(&config.api_keys);
        let places = Arc::new(Places::new(config.connections_max, config.per_client()));
        let share = |of| config.share(of);
        let footage = Footage::new(state.index, state.disk, state.stores, Arc::clone(&state.clock));
        Self {
            hosts: HostRule::new(&config.hosts, !keys.is_empty()),
            keys,
            clock: state.clock,
            ready: state.ready,
            camera_url_allowed: state.camera_url_allowed,
            incident_age: state.incident_age,
            metrics: Metrics::default(),
            desk: Desk::new(footage.clone(), Arc::clone(&places), share),
            footage,
            readers: Readers::new(Arc::clone(&places), share),
            places,
            decoders: Semaphore::new(DECODERS),
            far_stills: Semaphore::new(FAR_STILLS),
            lives: LiveWindows::default(),
            events: EventLists::default(),
            body_timeout: config.timeouts.body,
            redirect_lifetime: config.redirect_lifetime,
        }
    }
}
