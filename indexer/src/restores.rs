//! Segments that somebody wants to read and that lie in an archive class: wanted, asked for, readable for some days.
//!
//! A row is written before anything is asked of the store, so that who restarts goes on where somebody stopped. It is
//! no more than a note: whether a segment can be read the store says, whatever stands here.

use std::sync::PoisonError;
use std::time::Duration;

use archive::codec::{Decoder, Encoder};
use archive::{Malformed, SegmentId, StreamNo, TimeRange, WallTime};
use rocksdb::WriteBatch;

use crate::db::RESTORES;
use crate::error::IndexError;
use crate::index::Index;
use crate::keys;
use crate::rows::SegmentRow;

/// Restores under way at a time: each costs money, and whoever may watch may ask.
pub const RESTORES_MAX: usize = 2000;
/// Rows at a time, with those of what can be read: each who asks reads all of them.
const ROWS_MAX: usize = 10 * RESTORES_MAX;

/// How far a restore is.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum RestoreState {
    /// The store has not been asked yet.
    Wanted,
    /// The store is at it.
    Asked,
    /// It can be read.
    Ready,
}

/// A segment that is being restored, or was.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Restore {
    /// Which.
    pub segment: SegmentId,
    /// Its wall time.
    pub range: TimeRange,
    /// How far it is.
    pub state: RestoreState,
    /// Since when it is wanted.
    pub requested: WallTime,
    /// When it can be read, as far as one can tell.
    pub ready_at: WallTime,
    /// Until when it can be read, once it can.
    pub until: WallTime,
}

impl Restore {
    /// One that nobody has told the store about, and that will take so long.
    fn wanted(row: &SegmentRow, now: WallTime, takes: Duration) -> Self {
        Self {
            segment: row.id,
            range: row.range(),
            state: RestoreState::Wanted,
            requested: now,
            ready_at: now.plus(takes),
            until: WallTime::MAX,
        }
    }

    /// Whether the segment can be read at `now`.
    pub fn is_readable(&self, now: WallTime) -> bool {
        self.state == RestoreState::Ready && now < self.until
    }

    /// Whether it could be read, and cannot any more.
    pub fn is_over(&self, now: WallTime) -> bool {
        self.state == RestoreState::Ready && now >= self.until
    }

    fn key(&self) -> [u8; 12] {
        keys::at(self.segment.stream, self.range.from())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::default();
        e.varint(self.segment.seq);
        e.varint(self.range.micros());
        e.u8(self.state as u8);
        e.wall(self.requested);
        e.wall(self.ready_at);
        e.wall(self.until);
        e.0
    }

    pub(crate) fn decode(stream: StreamNo, at: WallTime, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut d = Decoder(bytes);
        let seq = d.varint()?;
        let restore = Self {
            segment: SegmentId { stream, seq },
            range: TimeRange::starting(at, d.varint()?),
            state: match d.u8()? {
                0 => RestoreState::Wanted,
                1 => RestoreState::Asked,
                2 => RestoreState::Ready,
                _ => return Err(Malformed("unknown state of a restore")),
            },
            requested: d.wall()?,
            ready_at: d.wall()?,
            until: d.wall()?,
        };
        d.end()?;
        Ok(restore)
    }
}

impl Index {
    /// Notes that `rows` are wanted, each once however many ask, and says when the last of them can be read; `None`
    /// where so many are under way already that not all were noted.
    pub fn want_restores(
        &self,
        rows: &[SegmentRow],
        now: WallTime,
        takes: Duration,
    ) -> Result<Option<WallTime>, IndexError> {
        // Recording does not wait while all of them are read.
        let _restoring = self.restoring.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.all_restores()?;
        let under_way = all.iter().filter(|restore| restore.state != RestoreState::Ready);
        let mut room = RESTORES_MAX.saturating_sub(under_way.count());
        room = room.min(ROWS_MAX.saturating_sub(all.len()));
        let mut out = WriteBatch::default();
        let (mut ready_at, mut all_noted) = (now, true);
        for row in rows {
            let known = self.restore_of(row)?.filter(|known| !known.is_over(now));
            let restore = match known {
                Some(known) => known,
                None => {
                    let restore = Restore::wanted(row, now, takes);
                    if room == 0 {
                        all_noted = false;
                        continue;
                    }
                    room -= 1;
                    out.put_cf(self.cf(RESTORES)?, restore.key(), restore.encode());
                    restore
                }
            };
            if restore.state != RestoreState::Ready {
                ready_at = ready_at.max(restore.ready_at);
            }
        }
        if !out.is_empty() {
            let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            self.write(out)?;
        }
        Ok(all_noted.then_some(ready_at))
    }

    /// What is known of the restore of a segment.
    pub fn restore_of(&self, row: &SegmentRow) -> Result<Option<Restore>, IndexError> {
        let (stream, at) = (row.id.stream, row.wall_start);
        let bytes = self.db.get_pinned_cf(self.cf(RESTORES)?, keys::at(stream, at))?;
        let decoded = bytes.map(|bytes| Restore::decode(stream, at, &bytes)).transpose();
        decoded.map_err(IndexError::bad_row(RESTORES))
    }

    /// The restores of segments that overlap `range`, in order.
    pub fn restores(&self, stream: StreamNo, range: TimeRange) -> Result<Vec<Restore>, IndexError> {
        self.scan(RESTORES, stream, range, |at, value| {
            let restore = Restore::decode(stream, at, value)?;
            Ok(restore.range.intersect(range).is_some().then_some(restore))
        })
    }

    /// All of them.
    pub fn all_restores(&self) -> Result<Vec<Restore>, IndexError> {
        let bad = IndexError::bad_row(RESTORES);
        let mut found = Vec::new();
        let mut it = self.db.raw_iterator_cf(self.cf(RESTORES)?);
        it.seek_to_first();
        while let Some((key, value)) = it.item() {
            let (stream, at) = keys::parse_at(key).ok_or_else(|| bad(Malformed("key")))?;
            found.push(Restore::decode(stream, at, value).map_err(&bad)?);
            it.next();
        }
        it.status()?;
        Ok(found)
    }

    /// Puts `restore` in the place of what was known, unless it has been forgotten since.
    pub fn update_restore(&self, restore: &Restore) -> Result<(), IndexError> {
        let _restoring = self.restoring.lock().unwrap_or_else(PoisonError::into_inner);
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self
            .db
            .get_pinned_cf(self.cf(RESTORES)?, restore.key())?
            .is_none()
        {
            return Ok(());
        }
        let mut out = WriteBatch::default();
        out.put_cf(self.cf(RESTORES)?, restore.key(), restore.encode());
        self.write(out)
    }

    /// Forgets what is known: the next who wants to read it asks anew.
    pub fn forget_restore(&self, stream: StreamNo, wall_start: WallTime) -> Result<(), IndexError> {
        let _restoring = self.restoring.lock().unwrap_or_else(PoisonError::into_inner);
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = WriteBatch::default();
        out.delete_cf(self.cf(RESTORES)?, keys::at(stream, wall_start));
        self.write(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::IndexOptions;
    use crate::rows::SegmentState;
    use archive::{Epoch, Tier};

    fn t(s: i64) -> WallTime {
        WallTime::from_micros(s * 1_000_000)
    }

    fn row(seq: u64) -> SegmentRow {
        SegmentRow {
            id: SegmentId {
                stream: StreamNo(1),
                seq,
            },
            epoch: Epoch(1),
            wall_start: t(600 * seq as i64),
            wall_end: t(600 * (seq as i64 + 1)),
            bytes: 0,
            state: SegmentState::Sealed,
            tier: Tier::Cold,
            init: Default::default(),
            head: Default::default(),
            fragments: 1,
            generation: 0,
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_segment_that_several_want_is_noted_once_and_still_is_after_a_restart() {
        let folder = tempfile::tempdir().expect("folder");
        let index = Index::open(folder.path(), &IndexOptions::default()).expect("index");
        let rows = [row(0), row(1)];
        let ready_at = index.want_restores(&rows, t(10_000), HOUR).expect("noted");
        assert_eq!(ready_at, Some(t(13_600)));
        let later = index.want_restores(&rows, t(10_500), HOUR).expect("noted");
        assert_eq!(later, ready_at, "who asks later waits no longer");
        drop(index);
        let index = Index::open(folder.path(), &IndexOptions::default()).expect("index");
        let all = index.all_restores().expect("rows");
        assert_eq!(all.len(), 2);
        assert!(
            all.iter()
                .all(|r| r.state == RestoreState::Wanted && r.requested == t(10_000))
        );
        let middle = TimeRange::new(t(700), t(800)).expect("forwards");
        assert_eq!(index.restores(StreamNo(1), middle).expect("rows"), all[1..]);
    }

    #[test]
    fn what_was_readable_and_is_not_any_more_is_wanted_anew() {
        let folder = tempfile::tempdir().expect("folder");
        let index = Index::open(folder.path(), &IndexOptions::default()).expect("index");
        index.want_restores(&[row(0)], t(0), HOUR).expect("noted");
        let ready = Restore {
            state: RestoreState::Ready,
            ready_at: t(100),
            until: t(5000),
            ..index.restore_of(&row(0)).expect("row").expect("noted")
        };
        index.update_restore(&ready).expect("updated");
        assert!(ready.is_readable(t(4999)) && !ready.is_readable(t(5000)));
        assert_eq!(
            index.want_restores(&[row(0)], t(4000), HOUR).expect("known"),
            Some(t(4000))
        );
        assert_eq!(
            index.want_restores(&[row(0)], t(6000), HOUR).expect("noted"),
            Some(t(9600))
        );
        let anew = index.restore_of(&row(0)).expect("row").expect("noted");
        assert_eq!(anew.state, RestoreState::Wanted);
        index
            .forget_restore(StreamNo(1), row(0).wall_start)
            .expect("forgotten");
        index.update_restore(&ready).expect("nothing");
        assert_eq!(
            index.restore_of(&row(0)).expect("row"),
            None,
            "what was forgotten stays so"
        );
    }

    #[test]
    fn no_more_than_the_bound_are_noted() {
        let folder = tempfile::tempdir().expect("folder");
        let index = Index::open(folder.path(), &IndexOptions::default()).expect("index");
        let many: Vec<_> = (0..RESTORES_MAX as u64 + 50).map(row).collect();
        let noted = index.want_restores(&many, t(0), HOUR).expect("noted");
        assert_eq!(noted, None, "it is not said that all of them are on their way");
        assert_eq!(index.all_restores().expect("rows").len(), RESTORES_MAX);
    }

    #[test]
    fn neither_is_more_kept_of_what_can_be_read_than_everybody_can_look_through() {
        let folder = tempfile::tempdir().expect("folder");
        let index = Index::open(folder.path(), &IndexOptions::default()).expect("index");
        let mut next = 0..;
        for _ in 0..ROWS_MAX / RESTORES_MAX {
            let some: Vec<_> = next.by_ref().take(RESTORES_MAX).map(row).collect();
            assert!(index.want_restores(&some, t(0), HOUR).expect("noted").is_some());
            let mut ready = WriteBatch::default();
            for row in &some {
                let wanted = index.restore_of(row).expect("row").expect("noted");
                let state = RestoreState::Ready;
                let restore = Restore { state, ..wanted };
                ready.put_cf(
                    index.cf(RESTORES).expect("table"),
                    restore.key(),
                    restore.encode(),
                );
            }
            index.write(ready).expect("written");
        }
        let one: Vec<_> = next.take(1).map(row).collect();
        assert_eq!(index.want_restores(&one, t(0), HOUR).expect("full"), None);
    }

    #[test]
    fn who_commits_does_not_wait_while_restores_are_looked_through() {
        let folder = tempfile::tempdir().expect("folder");
        let index = Index::open(folder.path(), &IndexOptions::default()).expect("index");
        index.want_restores(&[row(0)], t(0), HOUR).expect("noted");
        // Somebody commits, and takes long over it.
        let writing = index.writing.lock().expect("a lock");
        std::thread::scope(|s| {
            let asked = s.spawn(|| index.want_restores(&[row(0)], t(1), HOUR));
            for _ in 0..1000 {
                if asked.is_finished() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            let is_told = asked.is_finished();
            drop(writing);
            assert_eq!(asked.join().expect("no panic").expect("told"), Some(t(3600)));
            assert!(
                is_told,
                "who wants what is on its way waits for no commit, nor the other way round"
            );
        });
    }
}
