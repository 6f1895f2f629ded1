//! What must be true: a sorted map of fragments, one of gaps, and a few lines for each rule.

use std::collections::{BTreeMap, HashSet, VecDeque};

use archive::time::{HOUR_US, SECOND_US};
use archive::{Gap, GapCause, TimeRange, WallTime};

/// A stream may be this far ahead of the host by the camera's doing.
const AHEAD_US: i64 = 5 * SECOND_US;
/// And this far behind before a new run begins.
const LAG_US: i64 = SECOND_US;
/// Ticks and microseconds, and what a camera's clock drifts within a fragment.
const ROUNDING_US: i64 = 20_000;
/// A session's fragment ends at the next keyframe, or after this long.
const FRAGMENT_US: i64 = 10 * SECOND_US;
/// A gap in more pieces than this is told more roughly.
const PIECES_MAX: usize = 12;

pub(crate) type Check = Result<(), String>;

macro_rules! hold {
    ($truth:expr, $($what:tt)+) => {
        if !$truth {
            return Err(format!($($what)+));
        }
    };
}
pub(crate) use hold;

/// When something came: on the host's wall clock, and really.
#[derive(Copy, Clone, Debug)]
pub(crate) struct At {
    pub(crate) wall: WallTime,
    pub(crate) true_us: i64,
}

/// A durable fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fragment {
    pub(crate) end: WallTime,
    pub(crate) seq: u64,
    /// When its last picture came; for an imported one, when it was taken.
    pub(crate) born_us: i64,
}

/// A fragment that was handed in, and what is known of it before it is placed.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) pictures: Vec<u8>,
    first: At,
    last: At,
    /// The gap before it, by its causes in order; empty within a session.
    before: Vec<(WallTime, GapCause)>,
    /// Some of that gap was footage: where its pieces meet is not known here.
    rough: bool,
    session: Session,
    begins_session: bool,
}

/// What went wrong with the clocks of a session so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    /// Why wall time may be missing inside it.
    pub(crate) causes: HashSet<GapCause>,
    /// How far the host's clock went back since the last fragment.
    pub(crate) back_us: i64,
    /// The host's clock stood still, or media time moved without a word.
    pub(crate) nonsense: bool,
    /// Fragments that may still be behind since the host's clock moved.
    pub(crate) moved: u8,
    /// Its times are those of a file.
    pub(crate) imported: bool,
}

/// One stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Durable fragments by their beginning: they never overlap.
    pub(crate) media: BTreeMap<WallTime, Fragment>,
    /// Durable gaps by their beginning.
    pub(crate) gaps: BTreeMap<WallTime, Gap>,
    /// Where the stream ended, also when nothing of it is left; the next fragment begins there or later.
    pub(crate) end: Option<WallTime>,
    pub(crate) next_seq: u64,
    /// Handed in and not durable yet.
    pub(crate) waiting: VecDeque<Expected>,
    /// The gap in progress, by its causes.
    pub(crate) pieces: Vec<(WallTime, GapCause)>,
    pub(crate) rough: bool,
    pub(crate) session: Session,
    begins_session: bool,
    /// Time without media whose pieces are known only roughly: they are read from the archive, and must tile.
    roughly: Vec<(WallTime, WallTime)>,
    /// Gaps that had one of several causes: which one is read from the archive.
    one_of: BTreeMap<WallTime, HashSet<GapCause>>,
    /// The pictures of the fragment in progress, their first and last, and the first presentation time.
    open: Option<(Vec<u8>, At, At, i64)>,
    ahead_us: i64,
}

impl Stream {
    /// Rule: a session begins with what is known of the gap before it, and nothing known of clocks.
    pub(crate) fn begin_session(&mut self) {
        (self.session, self.begins_session, self.open) = (Session::default(), true, None);
    }

    /// Rule: a fragment is one GOP, or ten seconds of one. Returns whether one is complete.
    pub(crate) fn picture(&mut self, data: &[u8], keyframe: bool, pts_us: i64, at: At) -> bool {
        let mut complete = false;
        if let Some((_, _, _, first)) = self.open
            && (keyframe || pts_us - first >= FRAGMENT_US)
        {
            complete = self.close();
            self.open = Some((Vec::new(), at, at, pts_us));
        } else if self.open.is_none() && keyframe {
            self.open = Some((Vec::new(), at, at, pts_us));
        }
        if let Some((pictures, _, last, first)) = &mut self.open {
            pictures.extend_from_slice(data);
            (*last, *first) = (at, pts_us.min(*first));
        }
        complete
    }

    /// The fragment in progress is complete.
    pub(crate) fn close(&mut self) -> bool {
        let Some((pictures, first, last, _)) = self.open.take() else {
            return false;
        };
        self.waiting.push_back(Expected {
            pictures,
            first,
            last,
            before: std::mem::take(&mut self.pieces),
            rough: std::mem::take(&mut self.rough),
            session: self.session.clone(),
            begins_session: std::mem::take(&mut self.begins_session),
        });
        self.session.back_us = 0;
        self.session.moved = self.session.moved.saturating_sub(1);
        true
    }

    /// Rule: footage that gives way is a gap, with all that was missing before it.
    pub(crate) fn give_up_last(&mut self, end: Option<WallTime>) {
        if let Some(lost) = self.waiting.pop_back() {
            self.pieces = lost.before;
            self.rough = true;
            self.begins_session |= lost.begins_session;
            self.session.back_us += lost.session.back_us;
            self.session.causes.insert(GapCause::DiskFull);
            self.session.nonsense = true;
            let at = self.pieces.last().map(|p| p.0).or(end).unwrap_or(WallTime::MIN);
            self.pieces.push((at, GapCause::DiskFull));
        }
    }

    /// Rule: a gap begins where media ended, and from `now` on it may have another cause; a clock that goes
    /// back replaces the cause that it takes back.
    pub(crate) fn gap(&mut self, now: WallTime, media_end: WallTime, cause: GapCause) {
        let Some(&(from, _)) = self.pieces.last() else {
            self.pieces.push((media_end, cause));
            return;
        };
        if now <= from {
            self.pieces.pop();
        }
        if self.pieces.last().is_none_or(|p| p.1 != cause) {
            self.pieces.push((now.max(from), cause));
        }
        self.rough |= self.pieces.len() > PIECES_MAX;
    }

    /// Rule: a start knows what is durable, and what was not said to have ended was killed.
    pub(crate) fn resume(&mut self, now: WallTime) {
        self.waiting.clear();
        self.open = None;
        let base = self.end.unwrap_or(WallTime::MIN);
        let known: Vec<Gap> = (self.gaps.range(base..).map(|(_, gap)| *gap))
            .filter(|gap| gap.cause != GapCause::Retention)
            .collect();
        self.pieces = known.iter().map(|gap| (gap.from, gap.cause)).collect();
        match (known.last(), self.end) {
            (Some(Gap { to: None, .. }), _) | (None, None) => {}
            (Some(Gap { to: Some(to), .. }), _) => self.pieces.push((*to, GapCause::ServiceKilled)),
            (None, Some(end)) => self.pieces.push((end, GapCause::ServiceKilled)),
        }
        self.rough |= self.pieces.len() > PIECES_MAX;
        let from = self
            .end
            .or_else(|| known.first().map(|gap| gap.from))
            .unwrap_or(now);
        self.gap(now, from, GapCause::Connecting);
    }

    /// Rule: what stands before an imported file is what is known, and else that nothing was imported.
    pub(crate) fn resume_import(&mut self, start: WallTime) {
        self.begin_session();
        self.session.imported = true;
        self.pieces.clear();
        let base = self.end.unwrap_or(WallTime::MIN);
        if let Some(end) = self.end {
            self.pieces.push((end, GapCause::NotImported));
        }
        let known: Vec<_> = self
            .gaps
            .range(base..start.max(base))
            .map(|(_, gap)| *gap)
            .collect();
        for gap in known.iter().filter(|gap| gap.cause != GapCause::Retention) {
            self.gap(gap.from, gap.from, gap.cause);
        }
        self.rough |= self.pieces.len() > PIECES_MAX;
    }

    /// The next of the fragments that were handed in has become durable at `range`.
    ///
    /// Rules: it begins where the last ended, or a gap with its cause fills the time between; sequences go on;
    /// it stands where the host's clock says, as far as that clock told no nonsense.
    pub(crate) fn placed(&mut self, range: TimeRange, seq: u64, run_start: bool) -> Check {
        let e = self
            .waiting
            .pop_front()
            .ok_or("a fragment that nobody handed in")?;
        let (from, to) = (range.from(), range.to());
        hold!(from < to, "a fragment without length at {from}");
        hold!(
            seq == self.next_seq || seq + 1 == self.next_seq,
            "segment {seq} after {}",
            self.next_seq
        );
        self.next_seq = seq + 1;
        let begin = self.end.or(e.before.first().map(|p| p.0)).unwrap_or(from);
        hold!(begin <= from, "the fragment at {from} begins before {begin}");
        self.gaps
            .retain(|at, gap| *at < begin || gap.cause == GapCause::Retention);
        if begin < from {
            hold!(run_start || e.rough, "a hole before {from} without a new run");
            if e.before.is_empty() {
                let cause = *e
                    .session
                    .causes
                    .iter()
                    .next()
                    .ok_or(format!("a hole from {begin} to {from} for no reason"))?;
                self.gaps.insert(
                    begin,
                    Gap {
                        from: begin,
                        to: Some(from),
                        cause,
                    },
                );
                self.one_of.insert(begin, e.session.causes.clone());
            }
            if e.rough {
                self.roughly.push((begin, from));
            }
            let ends = e.before.iter().skip(1).map(|p| p.0).chain([from]);
            for (&(at, cause), end) in e.before.iter().zip(ends) {
                let gap = Gap {
                    from: at,
                    to: Some(end.min(from)),
                    cause,
                };
                if at < end.min(from) {
                    self.gaps.insert(at, gap);
                }
            }
        }
        self.near_the_host(&e, begin, range)?;
        let born_us = if e.session.imported {
            e.last.true_us + (to.micros_since(e.last.wall))
        } else {
            e.last.true_us
        };
        self.media.insert(
            from,
            Fragment {
                end: to,
                seq,
                born_us,
            },
        );
        self.end = Some(to);
        Ok(())
    }

    fn near_the_host(&mut self, e: &Expected, begin: WallTime, range: TimeRange) -> Check {
        let ahead_us = range.from().micros_since(e.first.wall);
        // The clock may have gone back behind the last picture.
        let ended_us = range.to().micros_since(e.last.wall) + e.session.back_us;
        let before_us = std::mem::replace(&mut self.ahead_us, ended_us);
        if e.session.imported || e.session.nonsense || e.rough {
            return Ok(());
        }
        let may_us = if e.begins_session {
            ROUNDING_US + begin.micros_since(e.first.wall).max(0)
        } else {
            (before_us + e.session.back_us).max(AHEAD_US + SECOND_US)
        };
        hold!(
            ahead_us <= may_us,
            "{} is {ahead_us} us ahead of the host; at most {may_us}",
            range.from()
        );
        let clear = e.session.moved == 0;
        hold!(
            !clear || ahead_us >= -LAG_US - SECOND_US,
            "{} is {ahead_us} us behind the host",
            range.from()
        );
        Ok(())
    }

    /// All that was told of the gap in progress is durable.
    pub(crate) fn gap_told(&mut self) {
        let Some(&(begin, _)) = self.pieces.first() else {
            return;
        };
        self.gaps
            .retain(|at, gap| *at < begin || gap.cause == GapCause::Retention);
        let ends = self.pieces.iter().skip(1).map(|p| Some(p.0)).chain([None]);
        for (&(from, cause), to) in self.pieces.iter().zip(ends) {
            self.gaps.insert(from, Gap { from, to, cause });
        }
        self.roughly.retain(|r| r.1 < WallTime::MAX);
        if self.rough {
            self.roughly.push((begin, WallTime::MAX));
        }
    }

    /// Reads from the archive what is not known here.
    pub(crate) fn learn(&mut self, told: &[Gap]) {
        for gap in told {
            let possible = self
                .one_of
                .get(&gap.from)
                .is_some_and(|causes| causes.contains(&gap.cause));
            if let Some(ours) = self.gaps.get_mut(&gap.from).filter(|_| possible) {
                ours.cause = gap.cause;
            }
        }
        for (from, to) in std::mem::take(&mut self.roughly) {
            let inside = |gap: &Gap| gap.from >= from && gap.from < to && gap.cause != GapCause::Retention;
            self.gaps.retain(|_, gap| !inside(gap));
            self.gaps
                .extend(told.iter().filter(|gap| inside(gap)).map(|gap| (gap.from, *gap)));
        }
        self.one_of.clear();
    }

    /// Rule: behind what was imported nothing was; what was refused was not imported. If that is all, nothing is
    /// told.
    pub(crate) fn imported(&mut self, fragments: usize) {
        let none = self.waiting.len() == fragments;
        if let Some(refused) = self.waiting.pop_front() {
            (self.pieces, self.rough) = (refused.before, true);
        }
        self.waiting.clear();
        if none {
            (self.pieces, self.rough) = (Vec::new(), false);
        } else if let Some(end) = self.end {
            self.gap(end, end, GapCause::NotImported);
        }
    }

    /// Rule: what was deleted is a gap of its own, joined to those before and behind it; gaps inside are part of it.
    pub(crate) fn deleted(&mut self, from: WallTime, to: WallTime) {
        self.media.retain(|at, _| *at < from || *at >= to);
        self.gaps.retain(|at, _| *at <= from || *at >= to);
        let joined = self.gaps.range(..from).next_back().map(|(_, gap)| *gap);
        let joined = joined.filter(|g| g.cause == GapCause::Retention && g.to == Some(from));
        let from = joined.map_or(from, |g| g.from);
        let behind = self
            .gaps
            .get(&to)
            .copied()
            .filter(|g| g.cause == GapCause::Retention);
        if let Some(behind) = behind {
            self.gaps.remove(&behind.from);
        }
        let to = behind.and_then(|g| g.to).unwrap_or(to);
        self.gaps.insert(
            from,
            Gap {
                from,
                to: Some(to),
                cause: GapCause::Retention,
            },
        );
    }

    /// Rule: from the first to the last instant every microsecond is recorded once, or is in one gap.
    pub(crate) fn tiles(&self) -> Check {
        let mut spans: Vec<(WallTime, WallTime)> = self.media.iter().map(|(at, f)| (*at, f.end)).collect();
        let last = spans.last().map(|s| s.1);
        spans.extend(
            self.gaps
                .values()
                .map(|g| (g.from, g.to.unwrap_or(WallTime::MAX))),
        );
        spans.sort_unstable();
        for pair in spans.windows(2) {
            let [(_, end), (next, _)] = pair else { continue };
            let behind = last.is_none_or(|last| *end > last);
            hold!(
                end == next || (behind && end < next),
                "time is not tiled: ..{end} is followed by {next}.."
            );
        }
        Ok(())
    }

    /// Rule: a timeline is what is recorded, in stretches without a hole.
    pub(crate) fn runs(&self, range: TimeRange) -> Vec<TimeRange> {
        let mut runs: Vec<(WallTime, WallTime)> = Vec::new();
        for (from, to) in self.media.iter().map(|(at, f)| (*at, f.end)) {
            match runs.last_mut() {
                Some(last) if last.1 == from => last.1 = to,
                _ => runs.push((from, to)),
            }
        }
        let clip = |(from, to)| TimeRange::new(from, to)?.intersect(range);
        runs.into_iter().filter_map(clip).collect()
    }

    /// Rule: a range is answered by the fragments that overlap it.
    pub(crate) fn overlapping(&self, range: TimeRange) -> Vec<(WallTime, WallTime)> {
        let spans = self.media.iter().map(|(at, f)| (*at, f.end));
        spans
            .filter(|(from, to)| !range.is_empty() && *from < range.to() && *to > range.from())
            .collect()
    }

    /// Rule: a seek finds the fragment that contains the time, or the first after it.
    pub(crate) fn seek(&self, at: WallTime) -> Option<WallTime> {
        self.media.iter().find(|(_, f)| f.end > at).map(|(from, _)| *from)
    }

    /// Rule: coverage counts what is recorded in each minute of an hour, in microseconds here.
    pub(crate) fn minutes(&self, hour: WallTime) -> [i64; 60] {
        let mut minutes = [0; 60];
        for (i, us) in (0_i64..).zip(&mut minutes) {
            let minute = TimeRange::starting(hour.plus_micros(i * HOUR_US / 60), HOUR_US.unsigned_abs() / 60);
            for (from, to) in self.overlapping(minute) {
                *us += to.min(minute.to()).micros_since(from.max(minute.from()));
            }
        }
        minutes
    }
}

/// A leap second, or slewing, moves a steady clock by less.
const STEADY_US: i64 = 60 * SECOND_US;

/// By how much the wall clock may have been believed wrongly so far, and whether it was ever doubted.
#[derive(Debug, Default)]
pub(crate) struct Age {
    /// Moves that no rule asks to be seen: up to a minute in an hour, an hour over a restart.
    excused_us: i64,
    /// Moves since the last pass of the reaper.
    fresh: Vec<i64>,
    /// When the clock moved last by more than one that runs steadily may, or a start came so late that it may have.
    upset_us: Option<i64>,
    /// Whether it ever moved at all.
    moved: bool,
    passed_us: i64,
    /// The wall clock less the truth: at the last pass, and at most so far when it was to be believed.
    offset_us: i64,
    believed_us: Option<i64>,
    is_return: bool,
    confirmed: bool,
}

impl Age {
    pub(crate) fn step(&mut self, by_us: i64, true_us: i64) {
        self.fresh.push(by_us);
        self.moved = true;
        if by_us.abs() > STEADY_US {
            self.upset_us = Some(true_us);
        }
    }

    /// A pass was made; `first` of its process.
    pub(crate) fn pass(&mut self, first: bool, at: At, confirm_us: i64) {
        let silent_us = at.true_us - std::mem::replace(&mut self.passed_us, at.true_us);
        if first && silent_us >= HOUR_US - 600 * SECOND_US {
            self.upset_us = Some(at.true_us);
        }
        // A start knows the time to ten minutes, and believes what is at most an hour ahead of that.
        let unseen_us = if first {
            HOUR_US + 600 * SECOND_US
        } else {
            STEADY_US
        };
        for by_us in self.fresh.drain(..).filter(|by_us| by_us.abs() <= unseen_us) {
            self.excused_us += by_us.abs();
        }
        self.offset_us = at.wall.micros() - at.true_us;
        let confirmed = self
            .upset_us
            .is_some_and(|upset| at.true_us - upset >= confirm_us);
        let best_us = *self.believed_us.get_or_insert(self.offset_us);
        self.is_return = self.offset_us <= best_us + self.excused_us;
        if self.is_return || confirmed {
            self.believed_us = Some(best_us.max(self.offset_us));
        }
        self.confirmed = confirmed;
    }

    /// Rule: what is deleted for its age has that age, or the clock ran steadily for the time to confirm. What
    /// was recorded while the clock was behind is as old as it says once the clock has returned.
    pub(crate) fn allows(&self, age_us: i64, hot_us: i64) -> bool {
        let excused_us = self.excused_us + AHEAD_US + 65 * SECOND_US;
        age_us + excused_us >= hot_us || self.confirmed || self.is_return
    }

    /// Whether nothing was ever wrong with the clock.
    pub(crate) fn is_steady(&self) -> bool {
        self.upset_us.is_none() && !self.moved
    }
}
