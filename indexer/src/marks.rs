//! Times that are kept over restarts, and what a rebuilt index knows of the time.

use archive::WallTime;

use crate::certificates::parse;
use crate::error::IndexError;
use crate::index::Index;

/// The last time at which the clock was believed.
pub const ARCHIVE_TIME: &str = "archive_time";
/// Later than never while the clock is doubted.
pub const CLOCK_DOUBT: &str = "clock_doubt";

/// Tells a rebuilt index what time it was at least: without that it would believe whatever clock its machine has, and
/// delete by it. Where the time was carried over it stays. `before` is a checkpoint of the index that was lost.
pub(crate) fn keep_time(index: &Index, before: Option<&Index>) -> Result<(), IndexError> {
    if index.mark(ARCHIVE_TIME)?.is_some() {
        return Ok(());
    }
    let mut known = before
        .map(|before| before.mark(ARCHIVE_TIME))
        .transpose()?
        .flatten();
    for (no, _) in index.streams() {
        known = known.max(index.end(no)?.map(|end| end.wall_end));
    }
    let last = index.certificate(index.last_certificate()?)?;
    let certified = last.and_then(|line| parse(&line).ok());
    known = known.max(certified.map(|(certificate, _)| certificate.archive_time));
    known.map_or(Ok(()), |known: WallTime| index.set_mark(ARCHIVE_TIME, known))
}
