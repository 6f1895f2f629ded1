//! Tells who waits that something new of a stream is durable.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use archive::{StreamNo, WallTime};
use tokio::sync::watch;

/// How far a stream is durable.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Live {
    /// The end of the last durable fragment; never ahead of the truth.
    pub durable_until: Option<WallTime>,
    /// Counts durable commits of this stream since the index was opened.
    pub commits: u64,
}

#[derive(Default)]
pub(crate) struct LiveBoard {
    streams: RwLock<HashMap<StreamNo, watch::Sender<Live>>>,
}

impl LiveBoard {
    pub(crate) fn subscribe(&self, stream: StreamNo) -> watch::Receiver<Live> {
        if let Some(tx) = self
            .streams
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&stream)
        {
            return tx.subscribe();
        }
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        streams.entry(stream).or_default().subscribe()
    }

    pub(crate) fn publish(&self, stream: StreamNo, durable_until: WallTime) {
        let advance = |live: &mut Live| {
            live.durable_until = live.durable_until.max(Some(durable_until));
            live.commits += 1;
        };
        if let Some(tx) = self
            .streams
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&stream)
        {
            return tx.send_modify(advance);
        }
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        streams.entry(stream).or_default().send_modify(advance);
    }
}
