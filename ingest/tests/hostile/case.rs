//! What is expected of one misbehaviour.

use std::time::Duration;

use archive::GapCause;
use indexer::Transport;

use crate::misbehaviour::Misbehaviour;

/// Memory may grow by so much while a camera misbehaves, in MiB.
const GROWTH_MIB: u64 = 16;
/// A camera is connected to at most so often in the first seconds.
const CONNECTIONS: usize = 6;
/// A camera misbehaves at least so long.
const WATCHED: Duration = Duration::from_secs(4);

/// One misbehaviour and what becomes of it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// A sentence.
    pub(crate) name: &'static str,
    pub(crate) does: Misbehaviour,
    pub(crate) transport: Transport,
    pub(crate) expected: Expected,
    pub(crate) growth_mib: u64,
    pub(crate) connections: usize,
    /// How long it misbehaves at least.
    pub(crate) watched: Duration,
    /// The longest access unit; the product's own bound unless told.
    pub(crate) access_unit_bytes: u64,
    /// The camera's host as its URL writes it.
    pub(crate) host: &'static str,
    pub(crate) loopback_allowed: bool,
}

/// How a session with such a camera goes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Expected {
    /// It ends with this cause, and the status says this among other things.
    Ends(GapCause, &'static str),
    /// It ends so, and a later one is recorded.
    EndsThenRecords(GapCause, &'static str),
    /// It is recorded and does not end.
    Records,
}

impl Case {
    fn new(name: &'static str, does: Misbehaviour, expected: Expected) -> Self {
        Self {
            name,
            does,
            transport: Transport::Tcp,
            expected,
            growth_mib: GROWTH_MIB,
            connections: CONNECTIONS,
            watched: WATCHED,
            access_unit_bytes: 2 << 20,
            host: "127.0.0.1",
            loopback_allowed: true,
        }
    }

    pub(crate) fn ends(name: &'static str, does: Misbehaviour, cause: GapCause, text: &'static str) -> Self {
        Self::new(name, does, Expected::Ends(cause, text))
    }

    pub(crate) fn recovers(
        name: &'static str,
        does: Misbehaviour,
        cause: GapCause,
        text: &'static str,
    ) -> Self {
        Self::new(name, does, Expected::EndsThenRecords(cause, text))
    }

    pub(crate) fn records(name: &'static str, does: Misbehaviour) -> Self {
        Self::new(name, does, Expected::Records)
    }

    pub(crate) fn over_udp(self) -> Self {
        Self {
            transport: Transport::Udp,
            ..self
        }
    }

    /// Long enough for what others would have to give way to.
    pub(crate) fn for_seconds(self, seconds: u64) -> Self {
        Self {
            watched: Duration::from_secs(seconds),
            ..self
        }
    }

    pub(crate) fn connecting(self, connections: usize) -> Self {
        Self { connections, ..self }
    }
}
