//! File descriptors: as many as the system gives, and a share of them that no client can take from recording.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The index has so many files open at most, with those of its log.
const INDEX: u64 = 512 + 64;
/// Standard streams, timers, pipes to decoders, deletion.
const REST: u64 = 128;
/// A stream has its sockets, with UDP two for each track, and one open segment; when that ends, for a moment two.
const PER_STREAM: u64 = 8;
/// A connection has its socket and a file that it reads.
const PER_CONNECTION: u64 = 2;
/// More is not asked for: some systems allow a billion, and the kernel has to keep a table.
const MOST: u64 = 1 << 20;

/// Raises the limit as far as the system allows. Returns it.
fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let now = current.unwrap_or(u64::MAX);
    let most = maximum.unwrap_or(u64::MAX).min(MOST);
    let wanted = Rlimit {
        current: Some(most),
        maximum,
    };
    if most > now && setrlimit(Resource::Nofile, wanted).is_ok() {
        return most;
    }
    now
}

/// How many connections can be served beside `streams` streams, at most `wanted`. Twice as many streams can be
/// added while the service runs.
pub(crate) fn connections(wanted: usize, streams: usize) -> usize {
    let limit = raise();
    let connections = fit(limit, wanted as u64, streams as u64);
    if connections < wanted as u64 {
        tracing::warn!(
            limit,
            streams,
            connections,
            wanted,
            "few file descriptors: fewer connections are served; raise the limit (LimitNOFILE= of systemd)"
        );
    }
    usize::try_from(connections).unwrap_or(wanted)
}

fn fit(limit: u64, wanted: u64, streams: u64) -> u64 {
    let reserved = INDEX + REST + 2 * PER_STREAM * streams;
    (limit.saturating_sub(reserved) / PER_CONNECTION)
        .clamp(8, wanted.max(8))
        .min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recording_has_its_share_before_any_client() {
        assert_eq!(fit(20_000, 1024, 40), 1024);
        assert_eq!(fit(1024, 1024, 10), 80);
        assert_eq!((fit(1024, 1024, 1000), fit(1024, 2, 1000)), (8, 2));
        assert_eq!(fit(u64::MAX, 5000, 3000), 5000);
    }
}
