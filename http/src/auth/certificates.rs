//! Deletion certificates, behind the same door as footage.

use archive::TimeRange;

use super::access::CameraHandle;
use crate::problem::Problem;

impl CameraHandle {
    /// The certificates for footage of this camera in `range` whose numbers come after `after`, at most `count`; and
    /// after which number the next page begins.
    pub(crate) fn certificates(
        &self,
        range: TimeRange,
        after: u64,
        count: usize,
    ) -> Result<(Vec<String>, Option<u64>), Problem> {
        let index = self.footage().index();
        let mut numbers = Vec::new();
        for stream in self.streams() {
            numbers.extend(index.certificates_of(stream.no(), range)?);
        }
        numbers.sort_unstable();
        numbers.retain(|number| *number > after);
        let more = numbers.len() > count;
        numbers.truncate(count);
        let mut lines = Vec::with_capacity(numbers.len());
        for number in &numbers {
            lines.extend(index.certificate(*number)?);
        }
        Ok((lines, numbers.last().copied().filter(|_| more)))
    }
}
