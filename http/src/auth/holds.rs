//! Holds, behind the same door as footage: who may not see a camera does not see its holds.

use archive::{HoldId, TimeRange, WallTime};
use indexer::{Gone, Hold, Release, hold_path};

use super::access::{CameraHandle, Footage, StreamHandle, forbidden};
use crate::auth::Principal;
use crate::config::Action;
use crate::problem::{Code, Problem};

/// Holds that are kept, ended ones too.
const HOLDS_MAX: usize = 10_000;

impl Footage {
    /// The holds of the cameras that exist for `principal`, the oldest first.
    pub(crate) fn holds(&self, principal: &Principal) -> Result<Vec<Hold>, Problem> {
        if !principal.may(Action::View) {
            return Err(forbidden(Action::View));
        }
        let mut holds = self.index().holds()?;
        holds.retain(|hold| principal.sees(&hold.camera));
        Ok(holds)
    }

    /// Ends a hold, and says so in the archive itself. One that ended before stays as it is.
    pub(crate) fn release(
        &self,
        principal: &Principal,
        id: &str,
        release: &Release,
    ) -> Result<Hold, Problem> {
        let id: HoldId = id.parse().map_err(|_| Problem::not_found())?;
        let hold = self.index().hold(&id)?.ok_or_else(Problem::not_found)?;
        if !principal.sees(&hold.camera) {
            return Err(Problem::not_found());
        }
        if !principal.may(Action::Hold) {
            return Err(forbidden(Action::Hold));
        }
        let released = self.index().release_hold(&id, release)?;
        let hold = released.ok_or_else(Problem::not_found)?;
        self.file(&hold)?;
        Ok(hold)
    }

    /// Writes a hold beside the footage. The index has it already: it is in force, and what cannot be written now is
    /// written later.
    fn file(&self, hold: &Hold) -> Result<(), Problem> {
        let written = self.disk().put_small(&hold_path(hold), &hold.to_json());
        written.map_err(|e| {
            tracing::error!(hold = %hold.id, error = %e, "a hold is in force and not stored beside the footage yet");
            Problem::internal(e)
        })
    }
}

impl CameraHandle {
    /// Puts a hold on this camera, durably, in the index and beside the footage. Tells what it comes too late for; when
    /// that is all there ever was, there is no hold.
    pub(crate) fn hold(&self, hold: &Hold, now: WallTime) -> Result<Vec<Gone>, Problem> {
        let index = self.footage().index();
        if index.holds()?.iter().filter(|hold| hold.is_active(now)).count() >= HOLDS_MAX {
            let detail = format!(
                "There are {HOLDS_MAX} holds in force, which is as many as there may be: release some."
            );
            return Err(Problem::new(Code::TooManyRequests, detail));
        }
        if hold.to <= now && self.is_all_gone(hold)? {
            return Err(Problem::new(
                Code::AlreadyDeleted,
                "Nothing is left of the footage that this would hold: rules had it deleted before.",
            ));
        }
        let gone = index.put_hold(hold)?;
        self.footage().file(hold)?;
        Ok(gone)
    }

    /// Whether footage was deleted in the time of a hold, and nothing is left in it.
    fn is_all_gone(&self, hold: &Hold) -> Result<bool, Problem> {
        let mut deleted = false;
        for stream in self.streams() {
            if hold.covers(stream.id()) {
                if !stream.segments(hold.range())?.is_empty() {
                    return Ok(false);
                }
                let gaps = stream.gaps(hold.range())?;
                deleted |= gaps.iter().any(|gap| gap.cause == archive::GapCause::Retention);
            }
        }
        Ok(deleted)
    }
}

impl StreamHandle {
    /// The holds that keep footage of this stream in `range` at `now`.
    pub(crate) fn holds(&self, range: TimeRange, now: WallTime) -> Vec<Hold> {
        self.footage().index().holds_on(self.id(), range, now)
    }
}
