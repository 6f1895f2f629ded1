//! Playlists that begin in the past and grow into live, kept between reloads.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use archive::time::SECOND_US;
use archive::{StreamNo, TimeRange, WallTime};
use axum::body::Body;
use axum::http::Response;
use bytes::Bytes;

use super::hls::{codecs, playlist};
use crate::auth::StreamHandle;
use crate::hls::EventList;
use crate::keyframe::begin;
use crate::media::{Job, ReadAhead};
use crate::problem::Problem;
use crate::state::App;

/// Playlists kept at most; one more pushes out the one that was not asked for the longest.
const LISTS_MAX: usize = 256;
/// Bytes of text kept at most.
const BYTES_MAX: usize = 64 << 20;
/// Who asks for footage from a moment ago on gets the newest there is.
const EDGE_US: i64 = 15 * SECOND_US;

/// No playlist begins further before the time that was asked for.
const LOOK_BACK_US: i64 = 1200 * SECOND_US;

type Key = (StreamNo, WallTime);

/// The playlists that someone is watching.
#[derive(Debug, Default)]
pub(crate) struct EventLists(Mutex<HashMap<Key, Kept>>);

#[derive(Debug)]
struct Kept {
    list: Arc<Mutex<EventList>>,
    used: Instant,
    bytes: usize,
}

impl EventLists {
    fn all(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: Key) -> Arc<Mutex<EventList>> {
        match self.all().get_mut(&key) {
            Some(kept) => {
                kept.used = Instant::now();
                Arc::clone(&kept.list)
            }
            None => Arc::new(Mutex::new(EventList::new(key.1))),
        }
    }

    /// Keeps `list`, which has `bytes` of text, and lets go of what is too much.
    fn keep(&self, key: Key, list: Arc<Mutex<EventList>>, bytes: usize) {
        let mut all = self.all();
        let kept = all.entry(key).or_insert(Kept {
            list,
            used: Instant::now(),
            bytes,
        });
        kept.bytes = bytes;
        while all.len() > LISTS_MAX || all.values().map(|kept| kept.bytes).sum::<usize>() > BYTES_MAX {
            let Some(oldest) = all.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| *key) else {
                break;
            };
            all.remove(&oldest);
        }
    }
}

/// Where a playlist for footage from `from` on begins.
pub(super) fn first(stream: &StreamHandle, from: WallTime) -> Result<Option<WallTime>, Problem> {
    let found = begin(stream, from)?;
    if found.is_some() {
        return Ok(found);
    }
    let until = stream.live().borrow().durable_until;
    match until.filter(|until| from.micros_since(*until) <= EDGE_US) {
        Some(until) => begin(stream, until.plus_micros(-1)),
        None => Ok(None),
    }
}

pub(super) async fn media(
    app: App,
    client: IpAddr,
    stream: StreamHandle,
    from: WallTime,
) -> Result<Response<Body>, Problem> {
    let lists = app.clone();
    let size = |pieces: &Vec<Bytes>| pieces.iter().map(|piece| piece.len() as u64).sum();
    let work = move |_| pieces(&lists.events, &stream, from);
    let (pieces, leave) = app.desk.work_to_send(client, size, work).await?;
    let len = size(&pieces);
    let body = ReadAhead::begin(pieces.into_iter().map(Job::Ready), len).await?;
    Ok(playlist(Body::new(body.holding(leave))))
}

fn pieces(lists: &EventLists, stream: &StreamHandle, from: WallTime) -> Result<Vec<Bytes>, Problem> {
    let key = (stream.no(), from);
    let shared = lists.get(key);
    let mut list = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(all) = TimeRange::new(from.plus_micros(-LOOK_BACK_US), WallTime::MAX) {
        for damage in stream.damage(all)? {
            match damage.rest {
                true => list.mark_rest(damage.segment.seq, damage.offset),
                false => list.mark(damage.segment.seq, damage.offset),
            }
        }
    }
    // Segments that it names were thinned: their lines name files that are about to go.
    let replaced = stream.replaced_until();
    if list.replaced != replaced && replaced > Some(from.plus_micros(-LOOK_BACK_US)) {
        *list = EventList::new(from);
    }
    list.replaced = replaced;
    let start = if list.is_empty() {
        let start = first(stream, from)?.ok_or_else(|| stream.no_media(from))?;
        list.start_at(from.micros_since(start));
        start
    } else {
        list.end()
    };
    if let Some(range) = TimeRange::new(start, WallTime::MAX) {
        let rows = stream.fragments(range)?;
        list.extend(&rows, &codecs(stream, &rows)?);
    }
    let (pieces, bytes) = (list.pieces(), list.bytes());
    drop(list);
    lists.keep(key, shared, bytes);
    Ok(pieces)
}
