//! Sending a client that the operator trusts to the object store, for bytes that the service would only pass on.

use std::ops::Range;
use std::time::Duration;

use archive::Tier;
use archive::layout::segment_path;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use indexer::{SegmentRow, SegmentState};

use super::access::StreamHandle;
use crate::auth::Principal;
use crate::problem::Problem;

/// Whether a request may be answered by the store itself: its key is marked, and what it sends on is a range that the
/// URL can be bound to, and no key. A header of ours goes wherever a client is sent.
pub(crate) fn may_be_sent(caller: &Principal, request: &HeaderMap, range: &Range<u64>) -> bool {
    let asked = request.get(header::RANGE).and_then(|value| value.to_str().ok());
    caller.is_sent_to_stores() && !request.contains_key("x-api-key") && asked == Some(&*in_words(range))
}

fn in_words(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
}

impl StreamHandle {
    /// The answer that sends `caller` to the store for `range` of a segment, within `lifetime`; `None` where it lies on
    /// the disk or in a folder.
    pub(crate) async fn send_to_store(
        &self,
        caller: &Principal,
        row: &SegmentRow,
        range: &Range<u64>,
        lifetime: Duration,
    ) -> Result<Option<Response<Body>>, Problem> {
        if row.state != SegmentState::Sealed || row.tier == Tier::Hot {
            return Ok(None);
        }
        let Some(objects) = self.stores().of(row.tier) else {
            return Ok(None);
        };
        let name = segment_path(self.id(), &row.name());
        let signed = objects.store.presign(&name, &in_words(range), lifetime).await;
        let Some(url) = signed.map_err(Problem::internal)? else {
            return Ok(None);
        };
        tracing::info!(
            key = caller.name(), stream = %self.id(), segment = row.id.seq, tier = %row.tier,
            from = range.start, to = range.end, until = %self.now().plus(lifetime),
            "a client was sent to the object store"
        );
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
        let location = HeaderValue::from_str(url.as_str()).map_err(|_| Problem::internal("no header"))?;
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, location);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Ok(Some(response))
    }
}
