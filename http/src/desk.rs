//! Work that takes turns, so that what is asked for at once never takes more than this machine has.
//!
//! Work that needs tables which have left the index with their footage says so, gives its turn back while they are
//! fetched, and is done again; and so does work that has to read from object stores, which has turns of its own. It
//! changes nothing before.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Response;
use http_body::Body as _;
use indexer::{Loan, SegmentRow};

use crate::auth::Footage;
use crate::media::Held;
use crate::places::Places;
use crate::problem::{Needs, Problem};
use crate::turns::{Scarce, Turn, Turns};

/// Answers that are computed at once; a few, since recording needs the cores too.
const TURNS: usize = 4;
/// Bodies of media that are under way at once. Each holds up to three pieces of a MiB.
const READERS: usize = 256;
/// Answers for which object stores are asked at once: others wait, and hold nothing that is needed for what lies on the
/// disk.
const FAR_TURNS: usize = 4;
/// Tables are fetched for so long, and what was fetched counts for who asks again.
const FETCH_MAX: Duration = Duration::from_secs(20);
/// Segments may be moved, thinned and deleted while their tables are fetched, but not so often.
const IDLE_ROUNDS_MAX: usize = 8;
/// Bytes of computed answers that are under way at once.
const BYTES: usize = 128 << 20;
/// What takes no more than this is sent without asking: every connection may have as much.
const SMALL_BYTES: usize = 64 << 10;

/// Answers that have to be computed: playlists, timelines, layouts of exports.
pub(crate) struct Desk {
    turns: Turns,
    far: Turns,
    bytes: Room,
    footage: Footage,
}

impl Desk {
    /// `share` says how many of so many one address may have.
    pub(crate) fn new(footage: Footage, places: Arc<Places>, share: impl Fn(usize) -> usize) -> Self {
        Self {
            turns: Turns::new(TURNS, share(TURNS)),
            far: Turns::new(FAR_TURNS, share(FAR_TURNS)),
            bytes: Room::new(BYTES, share(BYTES), places),
            footage,
        }
    }

    /// Does work that blocks, when it is its turn.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        client: IpAddr,
        work: impl Fn() -> Result<T, Problem> + Send + Sync + 'static,
    ) -> Result<T, Problem> {
        self.work_in(Place::Near, client, work).await
    }

    /// The same in a turn of this kind: far work reads footage from object stores.
    pub(crate) async fn work_in<T: Send + 'static>(
        &self,
        place: Place,
        client: IpAddr,
        work: impl Fn() -> Result<T, Problem> + Send + Sync + 'static,
    ) -> Result<T, Problem> {
        let (done, _) = self.done(client, place, move |_| work()).await?;
        Ok(done)
    }

    /// Does work whose outcome takes memory until it is sent, and gives leave to hold as much as `size` says.
    pub(crate) async fn work_to_send<T: Send + 'static>(
        &self,
        client: IpAddr,
        size: impl FnOnce(&T) -> u64,
        work: impl Fn(Place) -> Result<T, Problem> + Send + Sync + 'static,
    ) -> Result<(T, Option<Turn>), Problem> {
        // The turn lasts until there is room, so that no more wait for it than are computed at once.
        let (done, _turn) = self.done(client, Place::Near, work).await?;
        let leave = self.leave(client, size(&done)).await?;
        Ok((done, leave))
    }

    /// Computes an answer.
    pub(crate) async fn answer(
        &self,
        client: IpAddr,
        work: impl Fn() -> Result<Response<Body>, Problem> + Send + Sync + 'static,
    ) -> Result<Response<Body>, Problem> {
        let size = |answer: &Response<Body>| answer.body().size_hint().lower();
        let (answer, leave) = self.work_to_send(client, size, move |_| work()).await?;
        Ok(answer.map(|body| Body::new(Held::new(body, leave))))
    }

    /// Leave to hold `bytes` of an answer until they are sent; small ones need none.
    pub(crate) async fn leave(&self, client: IpAddr, bytes: u64) -> Result<Option<Turn>, Problem> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes <= SMALL_BYTES {
            return Ok(None);
        }
        self.bytes.take(client, bytes).await.map(Some)
    }

    /// The outcome of work and its turn, which ends with the work, also when nobody waits for it any more.
    async fn done<T: Send + 'static>(
        &self,
        client: IpAddr,
        mut place: Place,
        work: impl Fn(Place) -> Result<T, Problem> + Send + Sync + 'static,
    ) -> Result<(T, Turn), Problem> {
        let work = Arc::new(work);
        let (mut loans, mut idle) = (Vec::new(), 0);
        loop {
            let turns = match place {
                Place::Near => &self.turns,
                Place::Far => &self.far,
            };
            let turn = turns.take(client, 1).await?;
            let work = Arc::clone(&work);
            let done = blocking(move || work(place).map(|done| (done, turn))).await;
            match done {
                Err(problem) if idle < IDLE_ROUNDS_MAX => match problem.needs() {
                    Some(Needs::Tables(rows)) => {
                        let fetched = self.fetch(client, rows.clone()).await?;
                        idle += usize::from(fetched.is_empty());
                        loans.extend(fetched);
                    }
                    Some(Needs::Far) => (place, idle) = (Place::Far, idle + 1),
                    None => return Err(problem),
                },
                done => return done,
            }
        }
    }

    /// Has tables at hand. Ends soon after nobody waits for them any more.
    async fn fetch(&self, client: IpAddr, rows: Vec<SegmentRow>) -> Result<Vec<Loan>, Problem> {
        let turn = self.far.take(client, 1).await?;
        let footage = self.footage.clone();
        let waits = Arc::new(());
        let (is_waited_for, begun) = (Arc::downgrade(&waits), Instant::now());
        let go_on = move || is_waited_for.strong_count() > 0 && begun.elapsed() < FETCH_MAX;
        let fetched = blocking(move || {
            let _turn = turn;
            Ok(footage.fetch(&rows, go_on)?)
        })
        .await;
        drop(waits);
        fetched
    }
}

/// Which turn work has: one for what is on the disk, or one for who asks object stores.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Near,
    Far,
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Problem::internal(e)))
}

/// Bodies of media on their way to readers.
#[derive(Debug)]
pub(crate) struct Readers(Room);

impl Readers {
    pub(crate) fn new(places: Arc<Places>, share: impl Fn(usize) -> usize) -> Self {
        Self(Room::new(READERS, share(READERS), places))
    }

    /// Leave to send media while the turn is held.
    pub(crate) async fn turn(&self, client: IpAddr) -> Result<Turn, Problem> {
        self.0.take(client, 1).await
    }
}

/// Turns that last as long as readers take to read.
#[derive(Debug)]
struct Room {
    turns: Turns,
    places: Arc<Places>,
}

impl Room {
    fn new(count: usize, share: usize, places: Arc<Places>) -> Self {
        let turns = Turns::new(count, share);
        Self { turns, places }
    }

    /// When there is too little, the one whose reader takes nothing for the longest time is let go: of the same
    /// address when its share is used up.
    async fn take(&self, client: IpAddr, count: usize) -> Result<Turn, Problem> {
        let scarce = match self.turns.try_take(client, count) {
            Ok(turn) => return Ok(turn),
            Err(scarce) => scarce,
        };
        let _ = self
            .places
            .drop_a_stalled_reader(|reader| scarce == Scarce::All || reader == client);
        self.turns.take(client, count).await
    }
}
