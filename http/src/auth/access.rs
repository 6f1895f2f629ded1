//! The one place that lets callers at cameras.
//!
//! Invariant: [`Footage`] keeps index and disk to itself. Handlers reach them only through the handles that
//! [`Footage::authorize`] gives out, so that a route that forgets to ask cannot be written. A camera that is
//! unknown and one that the caller may not see give the same answer.

mod copies;

use std::collections::BTreeMap;
use std::sync::Arc;

use archive::disk::Disk;
use archive::store::Stores;
use archive::time::SECOND_US;
use archive::{
    ArchiveError, CameraId, Clock, FragmentEntry, FragmentRef, Gap, InitSegment, SegmentId, Sha256, StreamId,
    StreamName, StreamNo, TenantId, Tier, TimeRange, WallTime,
};
use indexer::{
    Batch, CameraRow, Damage, Fault, Forecast, HourCoverage, Index, IndexError, IndexMemory, Live, Loan,
    Orphan, Pulse, SegmentFragments, SegmentRow, SegmentState, StreamStatus, Timeline, fetch_tables,
    with_tables,
};
use tokio::sync::watch;

use crate::auth::Principal;
use crate::auth::next::Readied;
use crate::config::Action;
use crate::problem::{Code, NearestTimes, Problem};

/// All footage. Gives out handles and nothing else.
#[derive(Clone)]
pub(crate) struct Footage {
    index: Arc<Index>,
    disk: Disk,
    stores: Stores,
    clock: Arc<dyn Clock>,
    readied: Arc<Readied>,
}

/// What is known of a camera: how it is set up, and the streams that ever recorded.
type Known = (Option<CameraRow>, Vec<(StreamNo, StreamId)>);

/// One camera, for a caller who may do what was asked.
pub(crate) struct CameraHandle {
    footage: Footage,
    id: CameraId,
    row: Option<CameraRow>,
    /// Where they are known already.
    recorded: Option<Vec<(StreamNo, StreamId)>>,
}

/// One stream of a camera, for a caller who may do what was asked.
#[derive(Clone)]
pub(crate) struct StreamHandle {
    footage: Footage,
    no: StreamNo,
    id: StreamId,
}

impl Footage {
    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(super) fn stores(&self) -> &Stores {
        &self.stores
    }

    pub(super) fn readied(&self) -> &Readied {
        &self.readied
    }

    /// How recording keeps up.
    pub(crate) fn pulse(&self) -> &Pulse {
        self.index.pulse()
    }

    /// Bytes that the hot tier's disk has left, and bytes in all.
    pub(crate) fn space(&self) -> Result<(u64, u64), ArchiveError> {
        self.disk.space()
    }

    /// Cameras of a priority below this are not recorded, because the disk is full.
    pub(crate) fn shed_below(&self) -> u8 {
        self.index.shed_below()
    }

    /// What the index takes in memory.
    pub(crate) fn index_memory(&self) -> Result<IndexMemory, IndexError> {
        self.index.memory()
    }

    pub(crate) fn new(index: Arc<Index>, disk: Disk, stores: Stores, clock: Arc<dyn Clock>) -> Self {
        Self {
            index,
            disk,
            stores,
            clock,
            readied: Arc::default(),
        }
    }

    /// Has the tables of segments at hand. Blocks while stores are asked; gives up when `go_on` says so.
    pub(crate) fn fetch(
        &self,
        rows: &[SegmentRow],
        go_on: impl Fn() -> bool + Sync,
    ) -> Result<Vec<Loan>, IndexError> {
        fetch_tables(&self.index, &self.disk, &self.stores, rows, go_on)
    }

    /// All fragments of a segment, wherever they are told. Blocks while stores are asked.
    pub(super) fn table(&self, row: &SegmentRow) -> Result<Vec<FragmentEntry>, IndexError> {
        with_tables(&self.index, &self.disk, &self.stores, || self.index.table(row))
    }

    /// Lets `principal` do `action` with `camera`, or says why not.
    pub(crate) fn authorize(
        &self,
        principal: &Principal,
        action: Action,
        camera: &str,
    ) -> Result<CameraHandle, Problem> {
        let id: CameraId = camera.parse().map_err(|_| Problem::not_found())?;
        if !principal.sees(&id) {
            tracing::info!(caller = principal.name(), camera = %id, ?action, "refused: outside the key's cameras");
            return Err(Problem::not_found());
        }
        let row = self.index.camera(&id)?;
        if row.is_none() && self.index.streams_of(&id).is_empty() {
            return Err(Problem::not_found());
        }
        if !principal.may(action) {
            return Err(forbidden(action));
        }
        Ok(CameraHandle {
            footage: self.clone(),
            id,
            row,
            recorded: None,
        })
    }

    /// The cameras that exist for `principal`, by id.
    pub(crate) fn cameras(&self, principal: &Principal) -> Result<Vec<CameraHandle>, Problem> {
        if !principal.may(Action::View) {
            return Err(forbidden(Action::View));
        }
        let mut cameras: BTreeMap<CameraId, Known> = BTreeMap::new();
        for row in self.index.cameras()? {
            let id = row.id.clone();
            cameras.entry(id).or_default().0 = Some(row);
        }
        for (no, id) in self.index.streams() {
            cameras.entry(id.camera.clone()).or_default().1.push((no, id));
        }
        let seen = cameras.into_iter().filter(|(id, _)| principal.sees(id));
        Ok(seen
            .map(|(id, (row, recorded))| CameraHandle {
                footage: self.clone(),
                id,
                row,
                recorded: Some(recorded),
            })
            .collect())
    }

    /// Adds a camera. Fails when there is one with this id.
    pub(crate) fn add(&self, principal: &Principal, row: &CameraRow) -> Result<CameraHandle, Problem> {
        // Nothing is looked up before both are clear: the answer must not tell whether the camera exists.
        if !principal.may(Action::Admin) || !principal.sees(&row.id) {
            return Err(forbidden(Action::Admin));
        }
        if self
            .index
            .camera(&row.id)?
            .is_some_and(|old| old.removed.is_none())
        {
            return Err(Problem::new(
                Code::Exists,
                format!("There is a camera `{}`. PATCH changes it.", row.id),
            ));
        }
        self.index.put_camera(row)?;
        self.authorize(principal, Action::Admin, row.id.as_str())
    }

    /// Copies that are wrong, each with its segment, for who may see all of them.
    pub(crate) fn faults(
        &self,
        principal: &Principal,
        count: usize,
    ) -> Result<Vec<(Fault, StreamId, SegmentRow)>, Problem> {
        self.survey(principal)?;
        let mut found = Vec::new();
        for fault in self.index.faults(count)? {
            let row = self.index.segment(fault.segment)?;
            let stream = self.index.stream_id(fault.segment.stream);
            found.extend(stream.zip(row).map(|(stream, row)| (fault, stream, row)));
        }
        Ok(found)
    }

    /// How many objects there are of which the index knows nothing, and the first of them.
    pub(crate) fn orphans(
        &self,
        principal: &Principal,
        count: usize,
    ) -> Result<(usize, Vec<(Tier, Orphan)>), Problem> {
        self.survey(principal)?;
        let all = self.index.orphans();
        Ok((all.count(), all.first(count)))
    }

    /// What becomes of the footage of the whole service; `None` until that was looked at.
    pub(crate) fn forecast(&self, principal: &Principal) -> Result<Option<Arc<Forecast>>, Problem> {
        sees_all(principal)?;
        Ok(self.index.pulse().forecast())
    }

    /// Every stream, for figures about the whole service.
    pub(crate) fn survey(&self, principal: &Principal) -> Result<Vec<StreamHandle>, Problem> {
        sees_all(principal)?;
        let handle = |(no, id)| StreamHandle {
            footage: self.clone(),
            no,
            id,
        };
        Ok(self.index.streams().into_iter().map(handle).collect())
    }
}

/// Fails unless the caller may look at all cameras.
fn sees_all(principal: &Principal) -> Result<(), Problem> {
    if principal.may(Action::View) && principal.sees_everything() {
        return Ok(());
    }
    let detail = "Figures of the whole service need a key for all cameras.";
    Err(Problem::new(Code::Forbidden, detail))
}

pub(super) fn forbidden(action: Action) -> Problem {
    Problem::new(
        Code::Forbidden,
        format!("This needs a key with the action {action:?} for the camera.").to_lowercase(),
    )
}

impl CameraHandle {
    pub(super) fn footage(&self) -> &Footage {
        &self.footage
    }

    pub(crate) fn id(&self) -> &CameraId {
        &self.id
    }

    /// How it is set up; `None` for footage without a camera, such as imports.
    pub(crate) fn row(&self) -> Option<&CameraRow> {
        self.row.as_ref()
    }

    /// The streams that ever recorded, the configured order first.
    pub(crate) fn streams(&self) -> Vec<StreamHandle> {
        let configured = |name: &StreamName| {
            self.row
                .as_ref()
                .and_then(|row| row.streams.iter().position(|s| s.name == *name))
                .unwrap_or(usize::MAX)
        };
        let recorded = self.recorded.clone();
        let mut streams = recorded.unwrap_or_else(|| self.footage.index.streams_of(&self.id));
        streams.sort_by_key(|(_, id)| configured(&id.stream));
        let handle = |(no, id)| StreamHandle {
            footage: self.footage.clone(),
            no,
            id,
        };
        streams.into_iter().map(handle).collect()
    }

    /// The streams that it has by its setup, and those that ever recorded.
    pub(crate) fn stream_names(&self) -> Vec<StreamName> {
        let configured = self.row.iter().flat_map(|row| &row.streams);
        let mut names: Vec<StreamName> = configured.map(|stream| stream.name.clone()).collect();
        names.extend(self.streams().into_iter().map(|stream| stream.id.stream));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The stream `name`, if it ever recorded.
    fn named(&self, name: &str) -> Result<Option<StreamHandle>, Problem> {
        let Ok(stream) = name.parse() else { return Ok(None) };
        let id = StreamId {
            tenant: TenantId::default(),
            camera: self.id.clone(),
            stream,
        };
        let no = self.footage.index.stream_no(&id)?;
        Ok(no.map(|no| StreamHandle {
            footage: self.footage.clone(),
            no,
            id,
        }))
    }

    /// The named stream, or the first one. A stream that is set up and has not recorded yet has no media.
    pub(crate) fn stream(&self, name: Option<&str>) -> Result<StreamHandle, Problem> {
        let found = match name {
            Some(name) => self.named(name)?,
            None => self.streams().into_iter().next(),
        };
        let configured = |name: Option<&str>| {
            let mut streams = self.row.iter().flat_map(|row| &row.streams);
            streams.any(|s| name.is_none_or(|name| s.name.as_str() == name))
        };
        found.ok_or_else(|| {
            if configured(name) {
                Problem::new(Code::NoMedia, "This stream has not recorded anything yet.").with_nearest(
                    NearestTimes {
                        before: None,
                        after: None,
                    },
                )
            } else {
                Problem::not_found()
            }
        })
    }

    /// Puts another setup in place.
    pub(crate) fn change(&self, row: &CameraRow) -> Result<(), Problem> {
        Ok(self.footage.index.put_camera(row)?)
    }

    /// Takes the camera out of the registry; its footage stays. False when there was none.
    ///
    /// As long as there may be footage, when it was removed is kept, because that ends its grace; where it was recorded
    /// from is not, for the sake of its credentials.
    pub(crate) fn remove(&self) -> Result<bool, Problem> {
        let index = &self.footage.index;
        let Some(row) = self
            .row
            .as_ref()
            .filter(|_| !index.streams_of(&self.id).is_empty())
        else {
            return Ok(index.delete_camera(&self.id)?);
        };
        index.put_camera(&CameraRow {
            removed: Some(self.footage.clock.wall()),
            streams: Vec::new(),
            ..row.clone()
        })?;
        Ok(true)
    }
}

impl StreamHandle {
    pub(super) fn footage(&self) -> &Footage {
        &self.footage
    }

    pub(crate) fn no(&self) -> StreamNo {
        self.no
    }

    pub(crate) fn id(&self) -> &StreamId {
        &self.id
    }

    /// See [`Index::fragments`].
    pub(crate) fn fragments(&self, range: TimeRange) -> Result<Vec<SegmentFragments>, Problem> {
        Ok(self.footage.index.fragments(self.no, range)?)
    }

    /// See [`Index::damage`].
    pub(crate) fn damage(&self, range: TimeRange) -> Result<Vec<Damage>, Problem> {
        Ok(self.footage.index.damage(self.no, range)?)
    }

    pub(crate) fn segments(&self, range: TimeRange) -> Result<Vec<SegmentRow>, Problem> {
        Ok(self.footage.index.segments(self.no, range)?)
    }

    /// The segment with this sequence number, while it may be read.
    pub(crate) fn segment(&self, seq: u64) -> Result<SegmentRow, Problem> {
        let row = self.footage.index.segment(SegmentId { stream: self.no, seq })?;
        row.filter(|row| row.state != SegmentState::Deleting)
            .ok_or_else(Problem::not_found)
    }

    /// The same of a generation, while that may be read: what was thinned can be read as it was until its copies go.
    pub(crate) fn version(&self, seq: u64, generation: u8) -> Result<SegmentRow, Problem> {
        let row = self.segment(seq)?;
        if row.generation == generation {
            return Ok(row);
        }
        let former = self.former(&row, generation)?;
        former.ok_or_else(Problem::not_found)
    }

    /// What a segment was in an earlier generation, if there are copies of that still.
    fn former(&self, now: &SegmentRow, generation: u8) -> Result<Option<SegmentRow>, IndexError> {
        let thinning = self.footage.index.thinning(now)?;
        let thinning = thinning.filter(|t| t.before.generation == generation);
        Ok(thinning.and_then(|t| {
            let tier = t.former()?.nearest();
            Some(SegmentRow { tier, ..t.before })
        }))
    }

    pub(crate) fn seek(&self, at: WallTime) -> Result<Option<FragmentRef>, Problem> {
        Ok(self.footage.index.seek(self.no, at)?)
    }

    /// The recorded times around `at`.
    pub(crate) fn nearest(&self, at: WallTime) -> Result<NearestTimes, Problem> {
        let nearest = self.footage.index.nearest(self.no, at)?;
        Ok(NearestTimes {
            before: nearest.before,
            after: nearest.after,
        })
    }

    /// The answer to a request for footage that is not there.
    pub(crate) fn no_media(&self, at: WallTime) -> Problem {
        let problem = Problem::new(
            Code::NoMedia,
            "No footage is recorded there; `nearest` says where there is some.",
        );
        match self.nearest(at) {
            Ok(nearest) => problem.with_nearest(nearest),
            Err(error) => error,
        }
    }

    pub(crate) fn gaps(&self, range: TimeRange) -> Result<Vec<Gap>, Problem> {
        Ok(self.footage.index.gaps(self.no, range)?)
    }

    pub(crate) fn coverage(&self, range: TimeRange) -> Result<Vec<HourCoverage>, Problem> {
        Ok(self.footage.index.coverage(self.no, range)?)
    }

    pub(crate) fn timeline(&self, range: TimeRange) -> Result<Timeline, Problem> {
        Ok(self.footage.index.timeline(self.no, range)?)
    }

    /// The init segment that a row of this stream names.
    pub(crate) fn init(&self, hash: &Sha256) -> Result<Arc<InitSegment>, Problem> {
        self.footage.index.init(hash)?.ok_or_else(Problem::not_found)
    }

    pub(crate) fn status(&self) -> StreamStatus {
        self.footage.index.status(self.no)
    }

    pub(crate) fn live(&self) -> watch::Receiver<Live> {
        self.footage.index.live(self.no)
    }

    /// Whether a segment is still of the generation that `row` tells.
    pub(super) fn is_current(&self, row: &SegmentRow) -> Result<bool, IndexError> {
        let now = self.footage.index.segment(row.id)?;
        Ok(now.is_none_or(|now| now.generation == row.generation))
    }

    /// See [`Index::replaced_until`].
    pub(crate) fn replaced_until(&self) -> Option<WallTime> {
        self.footage.index.replaced_until(self.no)
    }

    /// How old the oldest sealed footage of this stream is that lies on the disk alone, 0 where none does; `None` where
    /// there is no other tier.
    pub(crate) fn unreplicated_s(&self, now: WallTime) -> Option<u64> {
        let pulse = self.footage.index.pulse();
        pulse.moved()?;
        let since = pulse.unreplicated(self.no);
        let age_us = since.map_or(0, |since| now.micros_since(since).max(0));
        Some((age_us / SECOND_US).unsigned_abs())
    }

    pub(super) fn index(&self) -> &Index {
        &self.footage.index
    }

    pub(super) fn stores(&self) -> &Stores {
        &self.footage.stores
    }

    pub(super) fn now(&self) -> WallTime {
        self.footage.clock.wall()
    }

    pub(super) fn note(&self, batch: Batch) -> Result<(), IndexError> {
        self.footage.index.commit(batch)
    }
}
