//! Turns of which no single address takes all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::http::{HeaderValue, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::{Code, Problem};

/// How long a request waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// A number of turns, of which one address has its share at most.
#[derive(Debug)]
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    share: usize,
    /// What is left of the shares of those that have or await turns.
    shares: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// A turn, or several, until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// Of what there is too little left.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Scarce {
    /// Of the share of the address that asks.
    Share,
    /// Of all.
    All,
}

impl Turns {
    pub(crate) fn new(count: usize, share: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(count)),
            share,
            shares: Mutex::default(),
        }
    }

    fn share(&self, client: IpAddr) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(&client).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.share));
        shares.insert(client, Arc::downgrade(&share));
        share
    }

    /// Nobody needs more than a share: who asks for more would wait for ever.
    fn at_most_a_share(&self, count: usize) -> u32 {
        u32::try_from(count.min(self.share)).unwrap_or(u32::MAX)
    }

    /// `count` turns at once, if they are there.
    pub(crate) fn try_take(&self, client: IpAddr, count: usize) -> Result<Turn, Scarce> {
        let count = self.at_most_a_share(count);
        let own = self.share(client).try_acquire_many_owned(count);
        let all = Arc::clone(&self.all);
        Ok(Turn {
            _own: own.map_err(|_| Scarce::Share)?,
            _all: all.try_acquire_many_owned(count).map_err(|_| Scarce::All)?,
        })
    }

    /// `count` turns, waited for for a moment.
    pub(crate) async fn take(&self, client: IpAddr, count: usize) -> Result<Turn, Problem> {
        let count = self.at_most_a_share(count);
        let share = self.share(client);
        let both = async {
            let own = share.acquire_many_owned(count).await?;
            let all = Arc::clone(&self.all).acquire_many_owned(count).await?;
            Ok(Turn { _own: own, _all: all })
        };
        let taken = tokio::time::timeout(WAIT_MAX, both).await;
        taken
            .map_err(|_| overloaded())?
            .map_err(|closed: tokio::sync::AcquireError| Problem::internal(closed))
    }
}

fn overloaded() -> Problem {
    Problem::new(
        Code::Overloaded,
        "Too much is asked for at once: try again in a moment.",
    )
    .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn one_address_takes_its_share_and_leaves_the_rest_to_others() {
        let turns = Turns::new(4, 2);
        let held: Vec<Turn> = (0..2).map(|_| turns.try_take(A, 1).expect("a turn")).collect();
        assert_eq!(turns.try_take(A, 1).err(), Some(Scarce::Share));
        let all = turns
            .try_take(B, 100)
            .expect("a whole share, however much is asked for");
        drop(held);
        assert!(turns.try_take(A, 2).is_ok());
        drop(all);
        assert_eq!(turns.all.available_permits(), 4);
    }

    #[test]
    fn those_that_have_no_turn_are_forgotten() {
        let turns = Turns::new(4, 2);
        for n in 0..100 {
            let client = IpAddr::from([10, 0, 1, n]);
            assert!(turns.try_take(client, 1).is_ok());
        }
        assert_eq!(turns.shares.lock().expect("lock").len(), 1);
    }
}
