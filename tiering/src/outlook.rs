//! Looks ahead now and then: counts what there is, puts the forecast on the index's board, and warns.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use archive::time::{HOUR_US, SECOND_US};
use archive::{CameraId, StreamId, StreamNo, Tier, WallTime};
use indexer::{CameraRow, Forecast, Index, IndexError, RiskCause, SegmentRow, SegmentState};

use crate::config::TieringConfig;
use crate::forecast::{DiskNow, Held, Input, StreamNow, forecast};
use crate::gather;
use crate::ledger::Ledger;
use crate::policy::Candidate;
use crate::progress::Progress;
use crate::rules::Rules;

/// A look ahead every so many intervals of retention, and every minute at least.
const INTERVALS: u32 = 6;
const EVERY_MAX: Duration = Duration::from_secs(60);
/// Rows that are counted in one go: deletion waits for it.
const ROWS_MAX: usize = 60_000;
/// Rows read at once.
const PAGE_ROWS: usize = 1024;
/// The rate of a stream is that of so long.
const RATE_US: i64 = 24 * HOUR_US;
/// Segments of which is told that they go next, and how far each stream is looked at for them.
const NEXT_MAX: usize = 20;
const OLDEST_MAX: usize = 4;
/// What was counted so long ago is counted anew: footage may have become smaller, or have gone out of turn.
const RECOUNT_AFTER_US: i64 = HOUR_US;
/// A break that comes nearer or moves away by less than this share of its distance is no news.
const NEWS_SHARE: f64 = 0.25;

/// What is known of one stream. Everything before `until` was counted.
#[derive(Default)]
struct Book {
    ledger: Ledger,
    rows: usize,
    until: WallTime,
    /// Where the first segment begins that is read from the disk, and the first that is not on the cold tier alone.
    hot_from: WallTime,
    warm_from: WallTime,
    /// What no one has closed yet.
    growing: u64,
    begun: Option<WallTime>,
    whole: bool,
}

impl Book {
    /// Counts on, and at most `budget` rows; what is left of it.
    fn read(
        &mut self,
        index: &Index,
        no: StreamNo,
        now: WallTime,
        mut budget: usize,
    ) -> Result<usize, IndexError> {
        self.begun.get_or_insert(now);
        self.growing = 0;
        self.whole = false;
        let mut from = self.until;
        while budget > 0 {
            let rows = index.segments_from(no, from, PAGE_ROWS.min(budget))?;
            let read = rows.len();
            for row in &rows {
                from = row.wall_start.plus_micros(1);
                self.take(row);
                if self.growing == 0 {
                    self.until = from;
                }
            }
            if read < PAGE_ROWS.min(budget) {
                self.whole = true;
                return Ok(budget - read);
            }
            budget -= read;
        }
        Ok(0)
    }

    fn take(&mut self, row: &SegmentRow) {
        if self.growing > 0 || row.state == SegmentState::Open {
            self.growing = self.growing.saturating_add(row.bytes.max(1));
            return;
        }
        self.ledger.add(row.wall_start, row.wall_end, row.bytes);
        self.rows += 1;
    }

    /// Follows the borders between the tiers: they only move on, since the oldest footage moves first.
    fn follow(&mut self, index: &Index, no: StreamNo) -> Result<(), IndexError> {
        let on = |border: &mut WallTime, stays: fn(Tier) -> bool| {
            // Mostly nothing has moved since.
            let mut page = 2;
            loop {
                let rows = index.segments_from(no, *border, page)?;
                if let Some(row) = rows.iter().take_while(|row| !stays(row.tier)).last() {
                    *border = row.wall_end.max(row.wall_start.plus_micros(1));
                }
                if rows.len() < page || rows.last().is_none_or(|row| stays(row.tier)) {
                    return Ok::<(), IndexError>(());
                }
                page = PAGE_ROWS;
            }
        };
        on(&mut self.warm_from, |tier| tier < Tier::Cold)?;
        self.hot_from = self.hot_from.max(self.warm_from);
        on(&mut self.hot_from, |tier| tier == Tier::Hot)
    }
}

/// What was last said of a rule.
#[derive(Copy, Clone, PartialEq, Debug)]
struct Said {
    cause: RiskCause,
    at: WallTime,
    days: f64,
}

/// Makes forecasts for as long as the worker runs.
pub struct Outlook {
    index: Arc<Index>,
    rules: Rules,
    config: TieringConfig,
    books: HashMap<StreamNo, Book>,
    said: HashMap<usize, Said>,
    due_us: u64,
}

impl Outlook {
    /// The first look counts all footage, some at a time.
    pub fn new(index: Arc<Index>, rules: Rules, config: TieringConfig) -> Self {
        Self {
            index,
            rules,
            config,
            books: HashMap::new(),
            said: HashMap::new(),
            due_us: 0,
        }
    }

    /// Looks ahead if it is time to, after a pass that ended so.
    pub fn look(&mut self, progress: &Progress, monotonic_us: u64) -> Result<(), IndexError> {
        if monotonic_us < self.due_us || progress.total_bytes == 0 {
            return Ok(());
        }
        let every = (self.config.interval * INTERVALS).min(EVERY_MAX);
        let now = progress.archive_time;
        let complete = self.count(now)?;
        let streams = self.streams(now)?;
        let at = self.config.thresholds(progress.total_bytes);
        let forecast = forecast(&Input {
            now,
            rules: &self.rules,
            streams: &streams,
            complete,
            disk: DiskNow {
                total: progress.total_bytes,
                free: progress.free_bytes,
                reserve: at.reserve,
                low: at.low,
            },
            capacity: self.config.capacity,
            warn_before: self.config.warn_before,
            next_max: NEXT_MAX,
        });
        if complete {
            self.warn(&forecast);
        }
        self.index.pulse().set_forecast(forecast);
        // What is not counted yet goes on in the next pass.
        self.due_us = if complete {
            monotonic_us + every.as_micros() as u64
        } else {
            0
        };
        Ok(())
    }

    /// Brings the books up to date; whether they are whole.
    fn count(&mut self, now: WallTime) -> Result<bool, IndexError> {
        let mut budget = ROWS_MAX;
        let mut whole = true;
        for (no, _) in self.index.streams() {
            let book = self.books.entry(no).or_default();
            budget = book.read(&self.index, no, now, budget)?;
            whole &= book.whole;
        }
        let old = |book: &Book| {
            book.begun
                .is_none_or(|begun| now.micros_since(begun).abs() > RECOUNT_AFTER_US)
        };
        while let Some((no, book)) = (self.books.iter_mut())
            .filter(|(_, book)| book.whole && old(book) && book.rows < budget)
            .min_by_key(|(_, book)| book.begun)
        {
            *book = Book::default();
            budget = book.read(&self.index, *no, now, budget)?;
        }
        Ok(whole)
    }

    fn streams(&mut self, now: WallTime) -> Result<Vec<StreamNow>, IndexError> {
        let cameras: HashMap<CameraId, CameraRow> = self
            .index
            .cameras()?
            .into_iter()
            .map(|row| (row.id.clone(), row))
            .collect();
        let mut streams = Vec::new();
        for (no, id) in self.index.streams() {
            if let Some(book) = self.books.get_mut(&no) {
                let camera = cameras.get(&id.camera);
                streams.push(stream(&self.index, &self.rules, book, no, id, camera, now)?);
            }
        }
        Ok(streams)
    }

    /// Says in the log what a rule will run into, when it comes near, when that changes, and when it is over.
    fn warn(&mut self, forecast: &Forecast) {
        for rule in &forecast.rules {
            let Some(number) = rule.rule else { continue };
            let near = rule.breaks().filter(|_| rule.at_risk);
            let before = self.said.get(&number).copied();
            match near {
                Some(risk) if is_news(before, risk.cause, risk.at, risk.days) => {
                    tracing::warn!(
                        rule = number, at = %risk.at, days = risk.days, why = risk.why,
                        "the minimum retention of a rule will not be kept"
                    );
                    let (cause, at, days) = (risk.cause, risk.at, risk.days);
                    self.said.insert(number, Said { cause, at, days });
                }
                None if before.is_some() => {
                    tracing::info!(
                        rule = number,
                        "the minimum retention of the rule will be kept again"
                    );
                    self.said.remove(&number);
                }
                _ => {}
            }
        }
    }
}

/// Whether a break is something else than what was said of it.
fn is_news(before: Option<Said>, cause: RiskCause, at: WallTime, days: f64) -> bool {
    before.is_none_or(|said| {
        let moved_days = at.micros_since(said.at).abs() as f64 / (RATE_US as f64);
        let arrived = days <= 0.0 && said.days > 0.0;
        said.cause != cause || arrived || moved_days > (said.days * NEWS_SHARE).max(0.5)
    })
}

fn stream(
    index: &Index,
    rules: &Rules,
    book: &mut Book,
    no: StreamNo,
    id: StreamId,
    camera: Option<&CameraRow>,
    now: WallTime,
) -> Result<StreamNow, IndexError> {
    book.follow(index, no)?;
    let first = index.segments_from(no, WallTime::MIN, 1)?;
    let since = first.first().map(|row| row.wall_start);
    book.ledger.forget_before(since.unwrap_or(WallTime::MAX));
    let rule = rules.place_for(&id);
    let has_quota = rules.at(rule).is_some_and(|rule| rule.quota.is_some());
    let first_below = rules.at(rule).and_then(|rule| rule.first_below(rules.below()));
    let from = |at: WallTime| book.ledger.bytes_from(at.max(since.unwrap_or(at)));
    let held = |bytes: u64, at: WallTime| Held {
        bytes,
        since: since.map(|since| at.max(since)).filter(|_| bytes > 0),
    };
    let (all, warm, hot) = (from(WallTime::MIN), from(book.warm_from), from(book.hot_from));
    let growing = book.growing;
    let on = [
        held(hot + growing, book.hot_from),
        // A segment is copied as soon as it is sealed, and stays on the disk.
        held(
            if first_below == Some(Tier::Warm) {
                warm
            } else {
                warm - hot.min(warm)
            },
            book.warm_from,
        ),
        held(
            if first_below == Some(Tier::Cold) {
                all
            } else {
                all - warm.min(all)
            },
            WallTime::MIN,
        ),
    ];
    let removed = camera.and_then(|camera| camera.removed);
    let is_set_up = |camera: &CameraRow| camera.streams.iter().any(|s| s.enabled && s.name == id.stream);
    let recorded = removed.is_none() && camera.is_some_and(is_set_up);
    let window = now.plus_micros(-RATE_US).max(since.unwrap_or(now));
    let window_s = now.micros_since(window).max(SECOND_US) as f64 / SECOND_US as f64;
    let recent = (book.ledger.bytes_from(window) + growing) as f64;
    Ok(StreamNow {
        rule,
        priority: camera.map_or(0, |camera| camera.priority),
        recorded,
        removed,
        rate: if recorded && since.is_some() {
            recent / window_s
        } else {
            0.0
        },
        all: held(all + growing, WallTime::MIN),
        held_fast: if has_quota {
            gather::held_bytes(index, no, now)?
        } else {
            0
        },
        on,
        oldest: oldest(index, no, now)?,
        id,
    })
}

/// What of a stream goes next, as far as holds and its state go.
fn oldest(index: &Index, no: StreamNo, now: WallTime) -> Result<Vec<Candidate>, IndexError> {
    let stays = |row: &SegmentRow| row.state == SegmentState::Open;
    let (rows, _) = gather::oldest(index, no, OLDEST_MAX, now, stays)?;
    let candidate = |row: &SegmentRow| Candidate {
        id: row.id,
        wall_end: row.wall_end,
        bytes: row.bytes,
    };
    // What is going already goes now, not next.
    let next = rows.iter().filter(|row| row.state != SegmentState::Deleting);
    Ok(next.map(candidate).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: i64 = 24 * HOUR_US;

    #[test]
    fn a_break_is_told_once_and_again_when_it_changes() {
        let at = |days: f64| WallTime::from_micros(1_800_000_000 * SECOND_US + (days * DAY_US as f64) as i64);
        let said = Said {
            cause: RiskCause::Disk,
            at: at(6.0),
            days: 6.0,
        };
        let news = |cause, when: f64, days| is_news(Some(said), cause, at(when), days);
        assert!(is_news(None, RiskCause::Disk, at(6.0), 6.0));
        // A day later it is a day nearer, which is no news.
        assert!(!news(RiskCause::Disk, 6.0, 5.0));
        assert!(!news(RiskCause::Disk, 7.0, 6.0));
        assert!(news(RiskCause::Disk, 4.0, 3.0));
        assert!(news(RiskCause::Tier, 6.0, 6.0));
        assert!(news(RiskCause::Disk, 6.0, 0.0));
    }
}
