//! Plays a story on the real archive and on its model, and holds them against each other after each operation.

use archive::layout::segment_path;
use archive::time::{HOUR_US, SECOND_US};
use archive::{GapCause, HoldId, TimeRange, TrackKind, WallTime};
use indexer::{Hold, HoldKind, Release, SegmentRow, SegmentState};
use ingest::event::{Event, Sample, SenderReport};

use crate::clip;
use crate::model::{Age, At, Check, Stream, hold};
use crate::operation::{Op, Story};
use crate::real::{Real, STREAMS};
use crate::world::{Camera, Host};

/// A session without pictures lasts this long.
const NO_DATA_US: i64 = 10 * SECOND_US;
/// Borders of fragments that are looked for in each range.
const BORDERS: usize = 9;
/// Why time may be missing after pictures did not come; a timestamp that wrapped unseen ends the session.
const SILENCE: [GapCause; 3] = [GapCause::PacketsLost, GapCause::NoData, GapCause::SessionLost];

pub(crate) fn play(story: &Story) -> Check {
    let mut p = Play {
        story,
        host: Host::new(story.begin_us),
        cameras: (0..STREAMS).map(Camera::new).collect(),
        model: (0..STREAMS).map(|_| Stream::default()).collect(),
        real: Real::new(story),
        age: Age::default(),
        shed: false,
        holds: Vec::new(),
        held: 0,
    };
    p.start(Before::Nothing)?;
    p.real.enrol();
    for (i, op) in story.ops.iter().enumerate() {
        p.one(op)
            .and_then(|()| p.verify())
            .map_err(|e| format!("operation {i}, {op:?}: {e}"))?;
    }
    p.commit()
        .and_then(|()| p.verify())
        .map_err(|e| format!("at the end: {e}"))?;
    p.clean(true).map_err(|e| format!("at the end: {e}"))
}

struct Play<'a> {
    story: &'a Story,
    host: Host,
    cameras: Vec<Camera>,
    model: Vec<Stream>,
    real: Real,
    age: Age,
    shed: bool,
    /// Footage that must stay.
    holds: Vec<(usize, TimeRange, HoldId)>,
    /// How often something was held.
    held: usize,
}

/// What came before a start.
#[derive(Copy, Clone, PartialEq)]
enum Before {
    Nothing,
    Killed,
    KilledBeforeRows,
    Stopped,
    /// So many fragments, all of which were taken or not.
    Imported {
        stream: usize,
        fragments: usize,
        all: bool,
    },
}

impl Play<'_> {
    fn at(&self) -> At {
        At {
            wall: self.host.wall(),
            true_us: self.host.true_us,
        }
    }

    fn one(&mut self, op: &Op) -> Check {
        match *op {
            Op::Record {
                stream,
                gops,
                pictures,
                gop_us,
            } => self.record(stream, gops, pictures, gop_us),
            Op::Wait(us) => {
                // A session ends when nothing comes.
                let patience_us = us.min(NO_DATA_US);
                self.host.pass(patience_us);
                if us > NO_DATA_US {
                    (0..STREAMS).for_each(|stream| self.disconnect(stream, GapCause::NoData));
                }
                self.host.pass(us - patience_us);
                if self.host.is_frozen() {
                    self.age.step(-us, self.host.true_us);
                    self.upset(-us, true);
                } else if us > SECOND_US / 2 {
                    // Pictures that did not come leave a hole.
                    self.model.iter_mut().for_each(|s| {
                        s.session.causes.extend(SILENCE);
                    });
                }
            }
            Op::Disconnect { stream, cause } => self.disconnect(stream, cause),
            Op::Refused { stream, cause } => {
                if !self.cameras[stream].connected {
                    self.gap(stream, cause);
                }
            }
            Op::MediaJump { stream, by_us } => {
                self.cameras[stream].jump(by_us);
                self.media_upset(stream);
            }
            Op::MediaJumpUntold { stream, by_us } => {
                self.cameras[stream].jump(by_us);
                self.media_upset(stream);
                if self.cameras[stream].connected {
                    self.record_untold(stream);
                }
            }
            Op::Drift { stream, ppm } => self.cameras[stream].ppm = ppm,
            Op::NewParameters { stream } => self.new_parameters(stream),
            Op::SenderReport { stream, says_us } => self.sender_report(stream, says_us),
            Op::HostStep(by) => self.step(by),
            Op::HostFreeze(frozen) => {
                self.host.freeze(frozen);
                self.upset(0, frozen);
            }
            Op::HostSmear(us) => {
                self.host.smear(us);
                self.age.step(us, self.host.true_us);
            }
            Op::Commit => return self.commit(),
            Op::Shed(shed) => {
                self.shed = shed;
                self.set_shed();
            }
            Op::Kill { step_us } => {
                self.real.kill();
                self.step(step_us);
                return self.start(Before::Killed);
            }
            Op::KillBeforeRows => {
                self.real.kill_before_rows();
                return self.start(Before::KilledBeforeRows);
            }
            Op::Restart { down_us } => {
                self.stop();
                self.host.pass(down_us);
                return self.start(Before::Stopped);
            }
            Op::Reap => return self.reap(false),
            Op::Import {
                stream,
                after_us,
                gops,
            } => return self.import(stream, after_us, gops),
            Op::Rebuild => {
                self.commit()?;
                return self.clean(true);
            }
            Op::Hold { stream, from, to } => self.hold(stream, from, to)?,
            Op::Release => self.release()?,
            Op::Query { stream, from, to } => return self.query(stream, from, to),
        }
        Ok(())
    }

    /// The host's clock told nonsense, or moved by `by_us`.
    fn upset(&mut self, by_us: i64, nonsense: bool) {
        for s in &mut self.model {
            s.session.nonsense |= nonsense;
            s.session.moved = 2;
            s.session.back_us += (-by_us).max(0);
            if by_us > 0 {
                s.session.causes.insert(GapCause::ClockStep);
            }
        }
    }

    fn media_upset(&mut self, stream: usize) {
        let session = &mut self.model[stream].session;
        session.nonsense = true;
        session.causes.extend([
            GapCause::SessionLost,
            GapCause::PacketsLost,
            GapCause::NoData,
            GapCause::ClockStep,
        ]);
    }

    fn step(&mut self, by_us: i64) {
        let moved = self.host.step(by_us);
        if moved != 0 {
            self.age.step(moved, self.host.true_us);
            self.upset(moved, false);
        }
    }

    fn set_shed(&self) {
        self.real.index().set_shed_below(if self.shed { 6 } else { 0 });
    }

    fn connect(&mut self, stream: usize) {
        self.cameras[stream].connect(&self.host);
        self.real.recording(stream).begin_session();
        let s = &mut self.model[stream];
        s.begin_session();
        s.session.nonsense = self.host.is_frozen();
        self.tell(stream, true);
    }

    /// Announces tracks: what is in progress is complete.
    fn tell(&mut self, stream: usize, new_run: bool) {
        let tracks = vec![clip::params(self.cameras[stream].parameters)];
        if self.model[stream].close() {
            self.handed_in(stream, |r, now| r.push(Event::Start { tracks, new_run }, now, 0));
        } else {
            let now = self.host.wall();
            assert!(
                !self
                    .real
                    .recording(stream)
                    .push(Event::Start { tracks, new_run }, now, 0)
            );
        }
    }

    /// The real archive completes a fragment too, which may have to give way.
    fn handed_in(&mut self, stream: usize, does: impl FnOnce(&mut ingest::Recording, WallTime) -> bool) {
        let end = self.media_end(stream);
        let now = self.host.wall();
        assert!(
            does(self.real.recording(stream), now),
            "no fragment where the model has one"
        );
        if self.shed {
            self.model[stream].give_up_last(end);
        }
    }

    /// Where the last fragment handed in ended, as the status shows it.
    fn media_end(&self, stream: usize) -> Option<WallTime> {
        let status = self.real.index().status(self.real.no(stream));
        status.provisional_until.or(self.model[stream].end)
    }

    fn record(&mut self, stream: usize, gops: u8, pictures: u8, gop_us: i64) {
        if !self.cameras[stream].connected {
            self.connect(stream);
        }
        let interval_us = gop_us / i64::from(pictures);
        for _ in 0..gops {
            for i in 0..pictures {
                self.picture(stream, i == 0, false);
                self.host.pass(interval_us);
                if self.host.is_frozen() {
                    self.upset(-interval_us, true);
                    self.age.step(-interval_us, self.host.true_us);
                }
            }
        }
        if interval_us > SECOND_US / 2 {
            // The other stream's pictures were as far apart.
            self.model.iter_mut().for_each(|s| {
                s.session.causes.extend(SILENCE);
            });
        }
        let us = gop_us * i64::from(gops);
        let other = &mut self.model[1 - stream].session;
        if us > SECOND_US / 2 {
            other.causes.extend(SILENCE);
        }
        // Its session would have ended.
        other.nonsense |= us > NO_DATA_US;
    }

    /// A keyframe, whose time nobody looks at.
    fn record_untold(&mut self, stream: usize) {
        self.picture(stream, true, true);
        self.host.pass(SECOND_US / 25);
    }

    fn picture(&mut self, stream: usize, keyframe: bool, untold: bool) {
        let picture = self.cameras[stream].picture(&self.host, untold);
        if picture.jumped {
            self.tell(stream, true);
        }
        self.cameras[stream].pictures += 1;
        let data = clip::picture(self.cameras[stream].pictures * 2 + stream as u64);
        let pts_us = (i128::from(picture.pts) * 100).div_euclid(9) as i64;
        let at = self.at();
        let sample = Event::Sample(Sample {
            track: TrackKind::Video,
            pts: picture.pts,
            keyframe,
            data: data.clone(),
            arrival_wall: at.wall,
            arrival_mono_us: self.host.mono_us(),
            packets_lost: 0,
        });
        if self.model[stream].picture(&data, keyframe, pts_us, at) {
            self.handed_in(stream, |r, now| r.push(sample, now, 0));
        } else {
            assert!(
                !self.real.recording(stream).push(sample, at.wall, 0),
                "a fragment where the model has none"
            );
        }
    }

    fn gap(&mut self, stream: usize, cause: GapCause) {
        let now = self.host.wall();
        self.real.recording(stream).begin_gap(now, cause);
        let end = self.media_end(stream).unwrap_or(now);
        self.model[stream].gap(now, end, cause);
    }

    fn disconnect(&mut self, stream: usize, cause: GapCause) {
        if !self.cameras[stream].connected {
            return;
        }
        self.cameras[stream].connected = false;
        let (before, now) = (self.media_end(stream), self.host.wall());
        self.real.recording(stream).end_session(now, cause);
        if self.model[stream].close() && self.shed {
            self.model[stream].give_up_last(before);
        }
        let end = self.media_end(stream).unwrap_or(now);
        self.model[stream].gap(now, end, cause);
    }

    fn new_parameters(&mut self, stream: usize) {
        self.cameras[stream].parameters += 1;
        if self.cameras[stream].connected {
            self.tell(stream, false);
        }
    }

    fn sender_report(&mut self, stream: usize, says_us: i64) {
        if self.cameras[stream].connected {
            let now = self.host.wall();
            let report = SenderReport {
                track: TrackKind::Video,
                camera_wall: WallTime::from_micros(says_us),
                pts: self.cameras[stream].now(),
                arrival_wall: now,
                arrival_mono_us: self.host.mono_us(),
            };
            assert!(
                !self
                    .real
                    .recording(stream)
                    .push(Event::SenderReport(report), now, 0)
            );
        }
    }

    fn commit(&mut self) -> Check {
        self.real.commit();
        // Rows of what was sealed go with the next group.
        self.real.commit();
        self.absorb(true)?;
        self.model.iter_mut().for_each(Stream::gap_told);
        (0..STREAMS).try_for_each(|stream| self.learn(stream))
    }

    /// Reads what is durable now and was not before: all that was handed in, unless something got in between.
    fn absorb(&mut self, all: bool) -> Check {
        for stream in 0..STREAMS {
            let no = self.real.no(stream);
            let known = self.model[stream].media.last_key_value().map(|(at, _)| *at);
            let id = clip::stream_id(stream);
            for s in self
                .real
                .index()
                .fragments(no, TimeRange::ALL)
                .map_err(|e| e.to_string())?
            {
                let path = self.real.disk.path(&segment_path(&id, &s.segment.name()));
                let mut file = None;
                for f in s
                    .fragments
                    .iter()
                    .filter(|f| known.is_none_or(|known| f.wall_start > known))
                {
                    let m = &mut self.model[stream];
                    let pictures = m
                        .waiting
                        .front()
                        .map(|e| e.pictures.clone())
                        .ok_or("an unknown fragment")?;
                    m.placed(f.range(), s.segment.id.seq, f.run_start)?;
                    let bytes = file.get_or_insert_with(|| std::fs::read(&path).expect("read"));
                    let end = f.offset as usize + f.len as usize;
                    let there = bytes.get(end - pictures.len()..end) == Some(&pictures[..]);
                    hold!(
                        there,
                        "the pictures at {} are not those that were sent",
                        f.wall_start
                    );
                }
            }
            let left = self.model[stream].waiting.len();
            hold!(
                !all || left == 0,
                "{left} fragments of stream {stream} were not recorded"
            );
            self.learn(stream)?;
        }
        Ok(())
    }

    fn learn(&mut self, stream: usize) -> Check {
        let told = self.real.index().gaps(self.real.no(stream), TimeRange::ALL);
        self.model[stream].learn(&told.map_err(|e| e.to_string())?);
        Ok(())
    }

    fn start(&mut self, before: Before) -> Check {
        self.host.process();
        let now = self.host.wall();
        if before == Before::Killed {
            self.model.iter_mut().for_each(|s| s.waiting.clear());
        }
        self.real.start(now);
        self.absorb(!matches!(before, Before::Imported { all: false, .. }))?;
        match before {
            Before::Stopped => self.model.iter_mut().for_each(Stream::gap_told),
            Before::Imported {
                stream, fragments, ..
            } => {
                self.model[stream].imported(fragments);
                self.model[stream].gap_told();
            }
            _ => {}
        }
        (0..STREAMS).try_for_each(|stream| self.learn(stream))?;
        for (s, camera) in self.model.iter_mut().zip(&mut self.cameras) {
            s.resume(now);
            camera.connected = false;
        }
        self.shed = false;
        self.commit()?;
        self.reap(true)?;
        self.verify()?;
        self.clean(false)
    }

    fn stop(&mut self) {
        let now = self.host.wall();
        let index = self.real.index().clone();
        let before: Vec<_> = (0..STREAMS).map(|i| self.media_end(i)).collect();
        let nos: Vec<_> = (0..STREAMS).map(|i| self.real.no(i)).collect();
        self.real.stop(now);
        for (i, s) in self.model.iter_mut().enumerate() {
            if s.close() && self.shed {
                s.give_up_last(before[i]);
            }
            let end = index.status(nos[i]).provisional_until.or(s.end).unwrap_or(now);
            s.gap(now, end, GapCause::ServiceStopped);
        }
    }

    fn hold(&mut self, stream: usize, from: u16, to: u16) -> Check {
        let Some(range) = self
            .part_of_span(stream, from, to)?
            .filter(|range| !range.is_empty())
        else {
            return Ok(());
        };
        self.held += 1;
        let hold = Hold {
            id: format!("h{}", self.held).parse().expect("id"),
            version: 1,
            kind: HoldKind::Legal,
            camera: clip::stream_id(stream).camera,
            streams: Vec::new(),
            from: range.from(),
            to: range.to(),
            reason: "a story".into(),
            author: "the model".into(),
            created: WallTime::MIN,
            until: None,
            released: None,
        };
        self.real.index().put_hold(&hold).map_err(|e| e.to_string())?;
        self.holds.push((stream, range, hold.id));
        Ok(())
    }

    fn release(&mut self) -> Check {
        for (.., id) in std::mem::take(&mut self.holds) {
            let release = Release {
                at: WallTime::MIN,
                by: "the model".into(),
                reason: "over".into(),
            };
            let released = self.real.index().release_hold(&id, &release);
            hold!(released.is_ok_and(|hold| hold.is_some()), "there is no hold {id}");
        }
        Ok(())
    }

    /// Rule: the oldest segments of a stream that nothing holds go, whole and in order, none of them too young, and
    /// exactly those that are due when no clock was ever wrong.
    fn reap(&mut self, first: bool) -> Check {
        let (wall, true_us) = (self.host.wall(), self.host.true_us);
        self.age.pass(first, self.at(), self.story.confirm_us);
        let rows = |p: &Self, i| {
            p.real
                .index()
                .segments_all_states(p.real.no(i), TimeRange::ALL)
                .expect("rows")
        };
        let before: Vec<_> = (0..STREAMS).map(|i| rows(self, i)).collect();
        self.real.reap(wall, self.host.mono_us());
        // This disk is not full: the reaper took it back.
        self.set_shed();
        for (stream, before) in before.into_iter().enumerate() {
            let left = rows(self, stream);
            let is_left = |row: &&SegmentRow| left.iter().any(|left| left == *row);
            let gone: Vec<_> = before.iter().filter(|row| !is_left(row)).cloned().collect();
            let held = |row: &&SegmentRow| {
                let mut holds = self.holds.iter().filter(|(of, ..)| *of == stream);
                holds.any(|(_, range, _)| range.intersect(row.range()).is_some())
            };
            let free: Vec<_> = before.iter().filter(|row| !held(row)).cloned().collect();
            hold!(before.len() == left.len() + gone.len(), "a segment has changed");
            hold!(
                free[..gone.len().min(free.len())] == gone[..],
                "not the oldest segments went"
            );
            let gone_count = gone.len();
            let due = free.iter().take_while(|row| {
                let age_us = wall.micros_since(row.wall_end);
                row.state != SegmentState::Open && age_us >= self.story.hot_us
            });
            let due = due.count();
            hold!(
                !self.age.is_steady() || due == gone_count,
                "{gone_count} segments went where {due} were due"
            );
            for row in &gone {
                let born = self.model[stream].media.range(..row.wall_end).next_back();
                let age_us = true_us - born.map_or(true_us, |(_, f)| f.born_us);
                let allowed = self.age.allows(age_us, self.story.hot_us);
                hold!(
                    allowed,
                    "segment {} went at an age of {} s",
                    row.id.seq,
                    age_us / SECOND_US
                );
                let path = segment_path(&clip::stream_id(stream), &row.name());
                hold!(!self.real.disk.path(&path).exists(), "{path} is still there");
                self.model[stream].deleted(row.wall_start, row.wall_end);
            }
        }
        Ok(())
    }

    fn import(&mut self, stream: usize, after_us: i64, gops: u8) -> Check {
        self.commit()?;
        self.real.kill();
        let now = self.host.wall();
        let m = &mut self.model[stream];
        let start = m
            .end
            .map_or(now.plus_micros(-HOUR_US), |end| end.plus_micros(after_us));
        m.resume_import(start);
        for gop in 0..u64::from(gops) {
            for i in 0..2 {
                let taken_us = (2 * gop + i).cast_signed() * SECOND_US;
                let wall = start.plus_micros(taken_us);
                let at = At {
                    wall,
                    true_us: self.host.true_us - now.micros_since(wall),
                };
                m.picture(&clip::imported_picture(2 * gop + i), i == 0, taken_us, at);
            }
        }
        m.close();
        let all = self.real.import(stream, start, clip::file(gops), now);
        let fragments = gops.into();
        self.start(Before::Imported {
            stream,
            fragments,
            all,
        })
    }

    fn clean(&self, rebuild: bool) -> Check {
        let found = self.real.findings(rebuild);
        hold!(found.is_empty(), "{found:#?}");
        Ok(())
    }

    /// The archive's answers are those that follow from the model.
    fn verify(&self) -> Check {
        for stream in 0..STREAMS {
            let (m, no, index) = (&self.model[stream], self.real.no(stream), self.real.index());
            m.tiles()?;
            let all = index.fragments(no, TimeRange::ALL).map_err(|e| e.to_string())?;
            let there: Vec<_> = (all.iter())
                .flat_map(|s| {
                    s.fragments
                        .iter()
                        .map(|f| (f.wall_start, f.wall_end(), s.segment.id.seq))
                })
                .collect();
            let known: Vec<_> = m.media.iter().map(|(at, f)| (*at, f.end, f.seq)).collect();
            hold!(
                there == known,
                "stream {stream}: fragments {there:?}, not {known:?}"
            );
            let gaps = index.gaps(no, TimeRange::ALL).map_err(|e| e.to_string())?;
            let known: Vec<_> = m.gaps.values().copied().collect();
            hold!(gaps == known, "stream {stream}: gaps {gaps:?}, not {known:?}");
            let live = index.live(no).borrow().durable_until;
            let end = m.media.last_key_value().map(|(_, f)| f.end);
            // What follows footage that is held may have gone since the start.
            hold!(
                end.is_none() || live == end || live == m.end,
                "stream {stream}: live until {live:?}, not {end:?}"
            );
            if let Some(span) = index.span(no).map_err(|e| e.to_string())? {
                self.range(stream, span)?;
            }
        }
        Ok(())
    }

    fn query(&self, stream: usize, from: u16, to: u16) -> Check {
        let range = self.part_of_span(stream, from, to)?;
        range.map_or(Ok(()), |range| self.range(stream, range))
    }

    /// A part of what is recorded, in 1,000.
    fn part_of_span(&self, stream: usize, from: u16, to: u16) -> Result<Option<TimeRange>, String> {
        let span = self.real.index().span(self.real.no(stream));
        let Some(span) = span.map_err(|e| e.to_string())? else {
            return Ok(None);
        };
        let part = |n: u16| {
            span.from()
                .plus_micros((i128::from(span.micros()) * i128::from(n) / 1000) as i64)
        };
        Ok(TimeRange::new(part(from.min(to)), part(to.max(from))))
    }

    fn range(&self, stream: usize, range: TimeRange) -> Check {
        let (m, no, index) = (&self.model[stream], self.real.no(stream), self.real.index());
        let err = |e: indexer::IndexError| e.to_string();
        let found = index.fragments(no, range).map_err(err)?;
        let found: Vec<_> = found
            .iter()
            .flat_map(|s| &s.fragments)
            .map(|f| (f.wall_start, f.wall_end()))
            .collect();
        hold!(found == m.overlapping(range), "fragments of {range:?}: {found:?}");
        let runs = index.timeline(no, range).map_err(err)?.runs;
        let runs: Vec<_> = runs.iter().map(|r| r.range).collect();
        hold!(
            runs == m.runs(range),
            "runs of {range:?}: {runs:?}, not {:?}",
            m.runs(range)
        );
        let borders = m.overlapping(range).into_iter().flat_map(|(from, to)| [from, to]);
        let ends = [range.from(), range.to(), range.to().plus_micros(-1)];
        for at in ends.into_iter().chain(borders.take(BORDERS)) {
            let found = index.seek(no, at).map_err(err)?.map(|f| f.entry.wall_start);
            hold!(
                found == m.seek(at),
                "a seek to {at} finds {found:?}, not {:?}",
                m.seek(at)
            );
            let nearest = index.nearest(no, at).map_err(err)?;
            let after = m.seek(at).map(|start| start.max(at));
            let before = m.media.range(..=at).next_back().map(|(_, f)| f.end.min(at));
            hold!(
                (nearest.before, nearest.after) == (before, after),
                "nearest to {at}: {nearest:?}"
            );
        }
        self.coverage(stream, range)
    }

    /// To a millisecond for each segment that has a part in a minute.
    fn coverage(&self, stream: usize, range: TimeRange) -> Check {
        let (m, no, index) = (&self.model[stream], self.real.no(stream), self.real.index());
        let rows = index.coverage(no, range).map_err(|e| e.to_string())?;
        let segments = index
            .segments(no, TimeRange::ALL)
            .map_err(|e| e.to_string())?
            .len() as i64;
        let mut covered = std::collections::BTreeSet::new();
        for row in rows {
            covered.insert(row.hour);
            for (i, (us, ms)) in m.minutes(row.hour).into_iter().zip(row.recorded_ms).enumerate() {
                let differ = us / 1000 - i64::from(ms);
                hold!(
                    (0..=segments).contains(&differ),
                    "coverage of minute {i} of {}: {ms} ms, not {us} us",
                    row.hour
                );
            }
        }
        let hours: Vec<_> = m.overlapping(range).iter().map(|(from, _)| from.hour()).collect();
        let lacks = hours
            .into_iter()
            .find(|hour| *hour >= range.from().hour() && !covered.contains(hour));
        hold!(lacks.is_none(), "coverage lacks {lacks:?}");
        Ok(())
    }
}
