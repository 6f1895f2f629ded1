//! Who is being served, and who gives way to whom when there is no room.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A reader that takes nothing for so long gives way when its place is needed.
const STALLED: Duration = Duration::from_secs(2);

/// What a connection is doing.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Nothing was asked.
    Idle,
    /// The rest of a request's head is missing.
    Head,
    /// A request is being answered.
    Busy,
}

/// The place of one connection.
#[derive(Debug)]
pub(crate) struct Seat {
    client: IpAddr,
    origin: Instant,
    phase: AtomicU8,
    /// Since when, in milliseconds after `origin`.
    since_ms: AtomicU64,
    /// Since when its reader takes nothing, in the same way; [`READS`] while it does.
    stalled_ms: AtomicU64,
    leave: Notify,
}

/// A reader that reads.
const READS: u64 = u64::MAX;

impl Seat {
    fn new(client: IpAddr, origin: Instant) -> Self {
        let seat = Self {
            client,
            origin,
            phase: AtomicU8::new(Phase::Idle as u8),
            since_ms: AtomicU64::new(0),
            stalled_ms: AtomicU64::new(READS),
            leave: Notify::new(),
        };
        seat.set(Phase::Head);
        seat
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn set(&self, phase: Phase) {
        self.since_ms.store(self.now_ms(), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(crate) fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    /// What is sent waits for the reader, or no longer.
    pub(crate) fn set_stalled(&self, stalled: bool) {
        let since = if stalled { self.now_ms() } else { READS };
        self.stalled_ms.store(since, Ordering::Relaxed);
    }

    fn stalled_since(&self) -> Option<u64> {
        Some(self.stalled_ms.load(Ordering::Relaxed)).filter(|ms| *ms != READS)
    }

    /// Waits until the place is needed for someone else.
    pub(crate) async fn asked_to_leave(&self) {
        self.leave.notified().await;
    }

    /// How readily it gives way: a lower number goes first. `None`: it does not.
    fn reluctance(&self, now: Instant) -> Option<(u8, u64)> {
        if let Some(since) = self.stalled_since() {
            let until = self.origin + Duration::from_millis(since) + STALLED;
            return (until <= now).then_some((1, since));
        }
        (!self.is(Phase::Busy)).then(|| (0, self.since_ms.load(Ordering::Relaxed)))
    }
}

/// No place, and nobody gives way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Debug, Default)]
struct Seats {
    taken: HashMap<u64, Arc<Seat>>,
    clients: HashMap<IpAddr, usize>,
    next: u64,
}

impl Seats {
    fn remove(&mut self, number: u64) -> Option<Arc<Seat>> {
        let seat = self.taken.remove(&number)?;
        if let Some(count) = self.clients.get_mut(&seat.client) {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&seat.client);
            }
        }
        Some(seat)
    }

    /// Lets the one of `among` go that gives way first.
    fn make_room(&mut self, now: Instant, among: impl Fn(&Seat) -> bool) -> Result<(), Full> {
        let seats = self.taken.iter().filter(|(_, seat)| among(seat));
        let first = seats.filter_map(|(number, seat)| Some((seat.reluctance(now)?, *number)));
        let (_, number) = first.min().ok_or(Full)?;
        if let Some(seat) = self.remove(number) {
            seat.leave.notify_one();
        }
        Ok(())
    }
}

/// All places. When they are taken a newcomer gets that of the connection that has asked for nothing for the
/// longest time, or else that of the reader that has not read for the longest time; requests in progress and
/// readers that read are left alone.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    max_per_client: usize,
    origin: Instant,
    seats: Mutex<Seats>,
}

impl Places {
    /// `max` places, of which one address gets at most `max_per_client`.
    pub(crate) fn new(max: usize, max_per_client: usize) -> Self {
        Self {
            max,
            max_per_client,
            origin: Instant::now(),
            seats: Mutex::default(),
        }
    }

    /// How many there are.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `client`. Whoever has to make room for it is told.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr) -> Result<Taken, Full> {
        let now = Instant::now();
        let mut seats = self.seats();
        if seats
            .clients
            .get(&client)
            .is_some_and(|count| *count >= self.max_per_client)
        {
            seats.make_room(now, |seat| seat.client == client)?;
        } else if seats.taken.len() >= self.max {
            seats.make_room(now, |_| true)?;
        }
        let seat = Arc::new(Seat::new(client, self.origin));
        let number = seats.next;
        seats.next += 1;
        seats.taken.insert(number, Arc::clone(&seat));
        *seats.clients.entry(client).or_default() += 1;
        Ok(Taken {
            places: Arc::clone(self),
            number,
            seat,
        })
    }

    /// Lets the reader go that has not read for the longest time, if one `of` these clients stalls.
    pub(crate) fn drop_a_stalled_reader(&self, of: impl Fn(IpAddr) -> bool) -> Result<(), Full> {
        self.seats().make_room(Instant::now(), |seat| {
            seat.stalled_since().is_some() && of(seat.client)
        })
    }
}

/// A place that is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    places: Arc<Places>,
    number: u64,
    pub(crate) seat: Arc<Seat>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.places.seats().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn was_asked_to_leave(taken: &Taken) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(taken.seat.asked_to_leave())
            .poll(&mut context)
            .is_ready()
    }

    fn at(taken: &Taken, phase: Phase, since_ms: u64) {
        taken.seat.set(phase);
        taken.seat.since_ms.store(since_ms, Ordering::Relaxed);
    }

    #[test]
    fn the_longest_idle_connection_gives_way_and_requests_in_progress_do_not() {
        let places = Arc::new(Places::new(3, 3));
        let held: Vec<Taken> = (0..3).map(|_| places.take(A).expect("room")).collect();
        at(&held[0], Phase::Busy, 1);
        at(&held[1], Phase::Head, 3);
        at(&held[2], Phase::Idle, 2);
        let more = places.take(B).expect("room is made");
        at(&more, Phase::Busy, 4);
        assert_eq!(
            [0, 1, 2].map(|n| was_asked_to_leave(&held[n])),
            [false, false, true]
        );
        at(&held[1], Phase::Busy, 5);
        assert_eq!(places.take(B).err(), Some(Full));
        drop(more);
        assert!(places.take(B).is_ok());
    }

    #[test]
    fn a_reader_that_stalls_gives_way_after_those_that_ask_for_nothing() {
        let mut places = Places::new(2, 2);
        places.origin = Instant::now()
            .checked_sub(Duration::from_secs(60))
            .expect("a clock that runs");
        let places = Arc::new(places);
        let (stalled, idle) = (places.take(A).expect("room"), places.take(A).expect("room"));
        stalled.seat.set(Phase::Busy);
        stalled.seat.stalled_ms.store(1000, Ordering::Relaxed);
        at(&idle, Phase::Idle, 2000);
        let _third = places.take(B).expect("room");
        assert!(was_asked_to_leave(&idle) && !was_asked_to_leave(&stalled));
        assert_eq!(places.drop_a_stalled_reader(|of| of == B), Err(Full));
        assert_eq!(places.drop_a_stalled_reader(|_| true), Ok(()));
        assert!(was_asked_to_leave(&stalled));
        let fourth = places.take(B).expect("room");
        fourth.seat.set_stalled(true);
        assert_eq!(
            places.drop_a_stalled_reader(|_| true),
            Err(Full),
            "it has only begun to stall"
        );
    }

    #[test]
    fn one_address_has_its_share_and_makes_room_for_itself() {
        let places = Arc::new(Places::new(10, 2));
        let held: Vec<Taken> = (0..2).map(|_| places.take(A).expect("room")).collect();
        held.iter().for_each(|taken| taken.seat.set(Phase::Busy));
        assert_eq!(places.take(A).err(), Some(Full));
        assert!(places.take(B).is_ok());
        held[1].seat.set(Phase::Idle);
        assert!(places.take(A).is_ok() && was_asked_to_leave(&held[1]));
    }
}
