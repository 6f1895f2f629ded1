//! A camera whose pictures a seed decides, and who remembers what it sent.

use archive::buffer::Pool;
use archive::time::SECOND_US;
use archive::{GapCause, Sha256, StreamId, StreamNo, Timescale, TrackKind, WallTime};
use indexer::Index;
use ingest::event::{Event, Sample, TrackParams};
use ingest::fragmenter::{Finished, Fragmenter};
use ingest::resume;

use crate::account::Sent;
use crate::dice::Dice;

const TICKS: i64 = 90_000;
/// Pictures of a second, the first of them a keyframe.
const PICTURES: i64 = 3;

pub(crate) struct Camera {
    pub(crate) name: String,
    pub(crate) no: StreamNo,
    pub(crate) fragmenter: Fragmenter,
    dice: Dice,
    /// When the session began, and how many seconds it has lasted.
    origin: WallTime,
    seconds: i64,
    /// The samples of the fragment in progress.
    samples: Vec<u8>,
}

pub(crate) fn stream_id(camera: &str) -> StreamId {
    StreamId {
        tenant: Default::default(),
        camera: camera.parse().expect("an id"),
        stream: "main".parse().expect("a name"),
    }
}

impl Camera {
    /// A camera whose stream goes on where the index says that it ended.
    pub(crate) fn resume(
        index: &Index,
        pool: &Pool,
        name: &str,
        now: WallTime,
        seed: u64,
    ) -> Result<Self, ingest::IngestError> {
        let no = index.ensure_stream(&stream_id(name))?;
        let mut camera = Self {
            name: name.to_owned(),
            no,
            fragmenter: resume(index, pool, no, now)?,
            dice: Dice(seed ^ now.micros().unsigned_abs() ^ u64::from(no.0) << 32),
            origin: now,
            seconds: 0,
            samples: Vec::new(),
        };
        camera.fragmenter.begin_gap(now, GapCause::Connecting);
        Ok(camera)
    }

    pub(crate) fn begin_session(&mut self, now: WallTime) {
        (self.origin, self.seconds) = (now, 0);
        self.samples.clear();
        self.fragmenter.begin_session();
        let tracks = vec![video()];
        let start = Event::Start {
            tracks,
            new_run: true,
        };
        assert!(self.push(start).is_none(), "nothing was sent yet");
    }

    /// A second passes. Returns the fragment that this completes: the one of the second before.
    pub(crate) fn second(&mut self) -> Option<(Finished, Sent)> {
        let mut finished = None;
        for picture in 0..PICTURES {
            let pts = self.seconds * TICKS + picture * TICKS / PICTURES;
            let wall = self.origin.plus_micros(pts * SECOND_US / TICKS);
            let most = if picture == 0 { 12_000 } else { 2_000 };
            let len = 200 + self.dice.below(most) as usize;
            let sample = Sample {
                track: TrackKind::Video,
                pts,
                keyframe: picture == 0,
                data: self.dice.bytes(len),
                arrival_wall: wall,
                arrival_mono_us: wall.micros().unsigned_abs(),
                packets_lost: 0,
            };
            finished = self.push(Event::Sample(sample)).or(finished);
        }
        self.seconds += 1;
        finished
    }

    /// Takes in what a source tells; remembers the samples of what that completes.
    pub(crate) fn push(&mut self, event: Event) -> Option<(Finished, Sent)> {
        let picture = match &event {
            Event::Sample(sample) => sample.data.clone(),
            _ => Vec::new(),
        };
        let finished = self.fragmenter.push(event);
        let finished = finished.map(|finished| self.remember(finished));
        self.samples.extend(picture);
        finished
    }

    /// The session ends, and a gap begins.
    pub(crate) fn end_session(&mut self, now: WallTime, cause: GapCause) -> Option<(Finished, Sent)> {
        let finished = self.fragmenter.end_session();
        let finished = finished.map(|finished| self.remember(finished));
        self.fragmenter.begin_gap(now, cause);
        finished
    }

    fn remember(&mut self, finished: Finished) -> (Finished, Sent) {
        let entry = finished.fragment.entry();
        let sent = Sent {
            camera: self.name.clone(),
            from: entry.wall_start,
            to: entry.wall_end(),
            hash: Sha256::of(&std::mem::take(&mut self.samples)).0,
        };
        (finished, sent)
    }
}

fn video() -> TrackParams {
    TrackParams {
        kind: TrackKind::Video,
        timescale: Timescale::new(TICKS as u32).expect("not 0"),
        codec: "avc1.4d401f".to_owned(),
        sample_entry: archive::fuzzing::h264_entry(640, 360),
        width: 640,
        height: 360,
        channels: 0,
        sample_rate: 0,
    }
}
